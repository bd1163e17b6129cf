"""Data sets prepared by tensorflow-datasets, read without TensorFlow.

Reading needs array_record files, the format in which `python -m jaxdl.data.prepare NAME` prepares them.
"""

import dataclasses
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.arguments import require
from jaxdl.progress import progress_bar

_HOSTS = {  # where each data set is downloaded from
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "svhn_cropped": "http://ufldl.stanford.edu/housenumbers/",
}
NAMES = tuple(_HOSTS)
_SPLITS = ("train", "test")
_TIMEOUT = 5.0  # seconds to find out whether there is a network


class DatasetNotFoundError(FileNotFoundError):
    """A data set is not where it was looked for, and could not be downloaded."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A prepared data set on disk."""

    name: str
    folder: Path  # <data_dir>/<name>/<version>
    key: str  # <name>/<version>-<digest of its description>: its folder in the cache


def locate(name: str, data_dir: str | os.PathLike | None, *, download: bool, function: str = "load") -> Source:
    """Finds the newest prepared version of a data set; if there is none and `download`, downloads and prepares it.

    Raises:
      ValueError: the directory to look in is a file.
      DatasetNotFoundError: the data set is missing. It is raised within seconds if there is no network; the message
        has the directory and the command that prepares the data set elsewhere.
    """
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().absolute()
    require(
        not root.is_file(),
        f"{function}: data_dir must be a folder, got the file {root}; pass the folder that holds {name}/<version>/",
    )
    source = _newest(name, root)
    if source is None:
        if not download:
            reason = (
                "and download=False forbids fetching it" if function == "load" else "and streams are not downloaded"
            )
            raise _missing(name, root, reason, function)
        if importlib.util.find_spec("tensorflow") is None:
            raise _missing(name, root, "and preparing it here needs TensorFlow, which is not installed")
        if not _reachable(_HOSTS[name]):
            raise _missing(name, root, f"and {_HOSTS[name]} cannot be reached from here")
        # In a process of its own, so that TensorFlow never enters this one.
        command = [sys.executable, "-m", "jaxdl.data.prepare", name, "--data-dir", str(root)]
        if subprocess.run(command, check=False).returncode != 0:
            raise _missing(name, root, "and preparing it failed (its messages are above)")
        source = _newest(name, root)
        if source is None:
            raise _missing(name, root, "even though preparing it reported success")
    return source


def decode(source: Source) -> tuple[dict[str, np.ndarray], list[str]]:
    """Decodes every image, with a progress bar.

    Returns:
      `train_images` uint8 [n, height, width, channels], `train_labels` int32 [n], the same for test; class names.
    """
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(builder_dir=source.folder)
    features, info = builder.info.features, builder.info.splits
    arrays, done = {}, 0
    with progress_bar(f"decoding {source.name}", sum(info[split].num_examples for split in _SPLITS)) as update:
        for split in _SPLITS:
            records = builder.as_data_source(split)
            images = np.empty((len(records), *features["image"].shape), np.uint8)
            labels = np.empty(len(records), np.int32)
            for row in range(len(records)):
                record = records[row]
                images[row], labels[row] = record["image"], record["label"]
                done += 1
                if done % 100 == 0:
                    update(done, split)
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels
    return arrays, list(features["label"].names)


def _newest(name: str, root: Path) -> Source | None:
    """The newest readable version below `root`, without importing tensorflow_datasets (which takes a while)."""
    found = []
    for info in (root / name).glob("*.*.*/dataset_info.json"):
        text = info.read_bytes()
        version = info.parent.name
        if json.loads(text).get("fileFormat") == "array_record" and all(part.isdigit() for part in version.split(".")):
            key = f"{name}/{version}-{hashlib.sha256(text).hexdigest()[:12]}"
            found.append((tuple(map(int, version.split("."))), Source(name, info.parent, key)))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _missing(name: str, root: Path, reason: str, function: str = "load") -> DatasetNotFoundError:
    absent = "" if root.is_dir() else ", a folder that does not exist"
    command = f"python -m jaxdl.data.prepare {name} --data-dir DIR"
    if name not in NAMES:
        prepare = f'tfds.builder("{name}", data_dir="DIR", file_format="array_record").download_and_prepare()'
        command = f"python -c 'import tensorflow_datasets as tfds; {prepare}'"
    return DatasetNotFoundError(
        f"{function}: {name!r} was not found in {root}{absent} (as {name}/<version>/ in array_record format), "
        f"{reason}. "
        f"Prepare it where there is a network:\n"
        f'    pip install "jaxdl[prepare]" && {command}\n'
        f"then copy DIR here and pass data_dir=DIR or set TFDS_DATA_DIR=DIR."
    )


def _reachable(url: str) -> bool:
    """Whether a server answers at `url` within `_TIMEOUT` seconds, name look-up included."""
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT):
                answered.set()
        except urllib.error.HTTPError:  # the server answered
            answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_TIMEOUT)
    return answered.is_set()
