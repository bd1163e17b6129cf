"""Runs what is worth running on a GPU, in order, in as many calls as it takes: tests, benchmarks, `paper` variants.

    TFDS_DATA_DIR=... python -m experiments.gpu_queue --minutes 9 --out DIR
    python -m experiments.gpu_queue --out DIR --list

Run it from the repository's root. A call stops in time, and the next one with the same DIR goes on: what is done or
failed is not run again, and a `paper` variant continues from its last checkpoint. DIR gets the logs, the results, and
queue.md, which says what is done, failed and left. Benchmarks also overwrite benchmarks/results/ where they run.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.work_queue import ROOT, Item, forget, run_queue, text

TESTS = ("layers", "models", "train", "population", "ensemble", "resume")
BENCHMARKS = ("step", "population", "epoch", "optimizers", "layers", "averaging")
FLAGS = {"step": ("--batch", "128", "1024", "--bfloat16", "--resnet50")}
MOST = 300.0
"""Seconds for a test or a benchmark: one that hangs must not take the time of the others."""


def queue(out: Path) -> list[Item]:
    """All items, the most worth first."""
    # Plain pytest: what pyproject.toml asks of its plugins is left out. Tests start processes of their own, for which
    # there must be memory left, and they compare numbers more closely than TF32 computes them.
    pytest = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-W", "ignore::pytest.PytestConfigWarning"]
    pytest += ["-W", "ignore::pytest.PytestUnknownMarkWarning"]
    environment = {
        "JAXDL_TEST_OPTIMIZED": "1",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    tests = [
        Item(f"test_{name}", [*pytest, "-m", "not slow", f"tests/test_{name}.py"], most=MOST, environment=environment)
        for name in TESTS
    ]
    benchmarks = [
        Item(f"benchmark_{name}", [sys.executable, "-m", f"benchmarks.{name}", *FLAGS.get(name, ())], most=MOST)
        for name in BENCHMARKS
    ]
    runs = [sys.executable, "-m", "experiments.all", "--variant", "paper", "--checkpoints", "--publish"]
    papers = [
        Item(f"paper_{name}", [*runs, "--out", str(out / "runs"), "--only", name], continues=True)
        for name in with_paper_variant()
    ]
    return [*tests, *benchmarks, *papers]


def with_paper_variant() -> list[str]:
    """The experiments that have a variant "paper"."""
    # In a process of its own: this one must not take the GPU's memory.
    code = (
        "from experiments.published import ablations as a; print(*(n for n, x in a().items() if 'paper' in x.variants))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the queue, or lists it."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.gpu_queue", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="for this call, in all (default: 9)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for markers, logs, runs and results")
    parser.add_argument("--only", nargs="+", metavar="ITEM", help="only these items, in this order")
    parser.add_argument("--again", nargs="+", metavar="ITEM", default=[], help="run these once more, done or failed")
    parser.add_argument("--list", action="store_true", help="run nothing, show the items")
    asked = parser.parse_args(arguments)
    start, out = time.monotonic(), asked.out.resolve()
    items = {item.name: item for item in queue(out)}
    for name in [*(asked.only or ()), *asked.again]:
        if name not in items:
            parser.error(f"there is no item {name!r}; there are {', '.join(items)}")
    chosen = [items[name] for name in asked.only or items]
    if not asked.list:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the item ends too, and queue.md is written
        for name in asked.again:
            forget(items[name], out)
        run_queue(chosen, out, 60 * asked.minutes - (time.monotonic() - start))
    print(text(chosen, out))


if __name__ == "__main__":
    main()
