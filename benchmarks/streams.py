"""Reading JPEG files: a stream against decoding alone, and against a torch DataLoader with Pillow.

    python -m benchmarks.streams                              # without torch
    python -m benchmarks.streams --torch /path/to/python      # by the Python that has torch and Pillow
    python -m benchmarks.streams --memory                     # memory over 10,000 batches

400 JPEG files of about 400 x 300 pixels, CIFAR-10's images enlarged, in batches of 32 with random resized crops to 224
pixels. "decoding alone" is a loop in one thread over files in memory: the least processor time that a stream could
take. Besides seconds each contestant tells the processor time of an image, of all its threads and processes.
"""

import argparse
import os
import resource
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.timing import RESULTS, alternate, publish, summarise
from jaxdl import data, report

PEER = "decoding alone"
FILES, BATCH, EPOCHS, ROUNDS = 400, 32, 3, 5
STEPS = EPOCHS * FILES // BATCH
SHARED = Path(__file__).parents[2] / "shared" / "data" / "tfds"


def write_files(root: Path, data_dir: str | None) -> None:
    """The JPEG files, in class folders, for training and for validation."""
    train_set, _ = data.load("cifar10", data_dir=data_dir)
    for number in range(FILES):
        for split in ("train", "val"):
            path = root / split / train_set.class_names[train_set.labels[number]] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(train_set.images[number]).resize((400, 300), Image.Resampling.BICUBIC).save(
                path, quality=90
            )


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
               for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))  # fmt: skip


class Contestant:
    """Reads all batches; keeps the processor time of an image and the seconds to the first batch of each round."""

    def __init__(self, read):
        self.read = read
        self.processor: list[float] = []
        self.first: list[float] = []

    def __call__(self) -> None:
        """Reads all batches."""
        start, before = time.perf_counter(), processor_seconds()
        count = 0
        for images in self.read():
            if not count:
                self.first.append(time.perf_counter() - start)
            count += len(images)
        self.processor.append((processor_seconds() - before) / count)


def alone(root: Path, view):
    """Decoding in one thread, without a pipeline."""
    encoded = [path.read_bytes() for path in sorted((root / "train").rglob("*.jpg"))]
    generator = np.random.default_rng(0)

    def read():
        for step in range(STEPS):
            yield [view(encoded[(step * BATCH + i) % FILES], generator) for i in range(BATCH)]

    return read


def streamed(root: Path, view, workers: int):
    """A stream."""
    stream, _ = data.folder(root, train_view=view, workers=workers)

    def read():
        for batch in data.batches(stream, jax.random.key(0), BATCH, steps=STEPS):
            yield batch.inputs

    return read


def by_torch(python: str, root: Path, workers: int):
    """A torch DataLoader, in its own Python, which prints its seconds and the processor time of an image."""

    def run():
        script = Path(__file__).parent / "torch_streams.py"
        command = [python, str(script), str(root), str(BATCH), str(STEPS), str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, processor, first = map(float, done.stdout.split())
        run.processor.append(processor)
        run.first.append(first)
        return seconds

    run.processor, run.first = [], []
    return run


def memory(root: Path) -> None:
    """Memory over 10,000 batches."""
    stream, _ = data.folder(root, train_view=data.DecodeRandomResizedCrop(32), workers=0)
    found = []
    for number, _ in enumerate(data.batches(stream, jax.random.key(0), 8, steps=10_000), 1):
        if number % 1000 == 0:
            with open("/proc/self/status") as file:
                kilobytes = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
            found.append({"batches": number, "megabytes": round(kilobytes / 1024, 1)})
            print(found[-1], flush=True)
    about = "Memory of the process that reads a stream in threads, batches of 8 images"
    content = {"benchmark": "streams_memory", "about": about, "environment": report.environment(), "memory": found}
    report.write_json(RESULTS / "streams_memory.json", content)


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--torch", help="the Python of an environment with torch and Pillow")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--data_dir", default=str(SHARED) if SHARED.is_dir() else None, help="where CIFAR-10 is")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root, arguments.data_dir)
        if arguments.memory:
            memory(root)
            return
        view, cores = data.DecodeRandomResizedCrop(224), len(os.sched_getaffinity(0))
        contestants: dict[str, Any] = {
            PEER: Contestant(alone(root, view)),
            "stream, threads": Contestant(streamed(root, view, 0)),
            f"stream, {cores} processes": Contestant(streamed(root, view, cores)),
        }
        if arguments.torch:
            contestants[f"torch DataLoader, {cores} processes"] = by_torch(arguments.torch, root, cores)
            contestants["torch DataLoader, this process"] = by_torch(arguments.torch, root, 0)
        case = summarise(alternate(contestants, ROUNDS), PEER)
        for name, contestant in contestants.items():
            times = contestant.processor[1:]
            case[name]["processor_milliseconds_an_image"] = 1000 * float(np.median(times))
            case[name]["floor_over_processor_time"] = float(
                np.median(contestants[PEER].processor[1:]) / np.median(times)
            )
            case[name]["seconds_to_first_batch"] = float(np.median(contestant.first[1:]))
            print(name, {k: v if isinstance(v, list) else round(v, 3) for k, v in case[name].items() if k != "seconds"})
    publish("streams", f"Reading {STEPS * BATCH} JPEG images, {cores} cores", PEER, {"random resized crops": case})


if __name__ == "__main__":
    main()
