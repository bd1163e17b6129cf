"""Several processes that train together."""

import contextlib
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import started
from PIL import Image

from jaxdl import train

CHILD = Path(__file__).parent / "children" / "train_together.py"


@contextlib.contextmanager
def start(processes, out, parallel, *steps, **environment):
    """Starts the processes; they find each other at a free port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
    environment = os.environ | {"XLA_FLAGS": " ".join(flags)} | environment
    with contextlib.ExitStack() as children:
        yield [
            children.enter_context(
                started(
                    [sys.executable, str(CHILD), address, str(processes), str(number), str(out), parallel]
                    + [str(count) for count in steps],
                    env=environment,
                )
            )
            for number in range(processes)
        ]


def run(processes, out, parallel, **environment):
    """What each process wrote to its file, to stderr, and as the number of images that it decoded."""
    with start(processes, out, parallel, **environment) as children:
        told, errors = zip(*(child.communicate(timeout=300) for child in children), strict=True)
    for child, error in zip(children, errors, strict=True):
        assert child.returncode == 0, error
    files = []
    for number in range(processes):
        with np.load(f"{out}.{number}.npz") as file:
            files.append([file[name] for name in file.files])
    return files, errors, [int(output.rpartition("decoded ")[2]) for output in told]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with all four devices."""
    return run(1, tmp_path_factory.mktemp("alone") / "out", "sharded")[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["sharded", "pmap"])
def test_two_processes_are_one(parallel, alone, tmp_path):
    """Two with two devices each: the same training, and only process 0 shows its progress and writes checkpoints."""
    (first, second), errors, _ = run(2, tmp_path / "out", parallel)
    for a, b, expected in zip(first, second, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, expected, rtol=1e-5, atol=1e-5 * np.max(np.abs(expected), initial=0))
    assert "20/20" in errors[0]
    assert "20/20" not in errors[1]
    assert sorted(int(path.name) for path in (tmp_path / "out.checkpoints").iterdir()) == [10, 20]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["sharded", "pmap"])
def test_two_processes_share_a_stream(parallel, tmp_path):
    """Each decodes its part of every batch, also in evaluation, which counts every image once."""
    rng = np.random.default_rng(0)
    for number in range(157):
        path = tmp_path / "pictures" / ("train" if number < 120 else "val") / f"{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    pictures = str(tmp_path / "pictures")
    (alone,), _, whole = run(1, tmp_path / "alone", parallel, STREAM=pictures)
    (first, second), _, shares = run(2, tmp_path / "out", parallel, STREAM=pictures)
    # 20 batches of 16 images, and 5 evaluations of 37 images: on four devices 10, 10, 10 and 7.
    assert whole == [20 * 16 + 5 * 37]
    assert shares == [20 * 8 + 5 * 20, 20 * 8 + 5 * 17]
    for a, b, expected in zip(first, second, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, expected, rtol=1e-5, atol=1e-5 * np.max(np.abs(expected), initial=0))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
def test_a_dead_process_ends_the_others(victim, tmp_path):
    """Killed in the middle of a long training; the other ends by itself and says why."""
    with start(2, tmp_path / "out", "sharded", 10**6) as children:
        for child in children:
            while not child.stdout.readline().startswith("training"):
                assert child.poll() is None, child.stderr.read()
        while not list((tmp_path).glob("out.checkpoints/*0")):
            time.sleep(0.1)
        children[victim].kill()
        children[victim].communicate()
        _, errors = children[1 - victim].communicate(timeout=60)  # 10 seconds are allowed for signs of life
    assert children[1 - victim].returncode != 0
    assert "ProcessLostError" in errors or "This most likely indicates that another task died" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", 2, None), "process is missing; pass all three, or none under SLURM, Kubernetes or Open MPI"),
        ((None, 2, 0), "coordinator is missing"),
        (("host:1", 2, 2), "process=2 must be below processes=2; count from 0"),
        (("host:1", 0, 0), "processes must be an integer >= 1"),
    ],
)
def test_bad_arguments(arguments, message, monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    with pytest.raises(ValueError, match=message):
        train.join_processes(*arguments)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match=r"\$JAX_NUM_PROCESSES must be a number, got 'two'"):
        train.join_processes()
