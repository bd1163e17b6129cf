"""Runs stopped in one process and ended in another: the same bits. The slow tests do so with nets that people use."""

import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import started

from jaxdl import train

CHILD = Path(__file__).parent / "children" / "train_flagship.py"
STEPS = 18


def start(net, folder, *options, steps=STEPS):
    command = [sys.executable, str(CHILD), net, str(folder / "run"), str(folder / "out"), str(steps), *options]
    return started(command)


def stopped_after(net, folder, update, number, *options, steps=STEPS):
    """Sends a signal once so many updates are known to be made; returns the exit code and what went to stderr."""
    with start(net, folder, *options, steps=steps) as child:
        for line in child.stdout:
            if int(line.split()[1]) >= update:
                break
        child.send_signal(number)
        _, errors = child.communicate()
    return child.returncode, errors


def to_the_end(net, folder, *options, steps=STEPS):
    with start(net, folder, *options, steps=steps) as child:
        _, errors = child.communicate()
    assert child.returncode == 0, errors
    return arrays(folder)


def arrays(folder):
    with np.load(folder / "out.npz") as file:
        return [file[name] for name in file.files]


def in_this_process(net, folder, monkeypatch):
    """The same run without a process of its own, which would import everything anew."""
    monkeypatch.setattr(sys, "argv", [str(CHILD), net, str(folder / "run"), str(folder / "out"), str(STEPS)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(CHILD))
    return arrays(folder)


def saved_steps(folder):
    return sorted(int(path.name) for path in (folder / "run").iterdir() if path.name.isdigit())


@pytest.mark.parametrize(
    ("net", "terminated"),
    [
        ("small_resnet", False),
        pytest.param("resnet8", False, marks=pytest.mark.slow),
        *(
            pytest.param(net, True, marks=pytest.mark.slow)
            for net in ("resnet8", "alexnet", "cuda_convnet", "resnet20")
        ),
    ],
)
def test_killed_and_rerun_it_ends_with_the_same_bits(net, terminated, tmp_path, monkeypatch):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    expected = in_this_process(net, undisturbed, monkeypatch)
    code, errors = stopped_after(net, disturbed, 8, signal.SIGKILL)
    assert code == -signal.SIGKILL, errors
    assert saved_steps(disturbed)[-1] < STEPS
    if terminated:
        code, errors = stopped_after(net, disturbed, 12, signal.SIGTERM)
        assert code == train.PREEMPTED, errors
        assert 12 <= saved_steps(disturbed)[-1] < STEPS
    for found, wanted in zip(to_the_end(net, disturbed), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("scan",)], ids=["single steps", "scanned"])
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_and_the_same_call_goes_on(options, tmp_path):
    """Scanned blocks are cut wherever the signal finds them, within an epoch; the bits do not depend on where."""
    steps = 1200  # four epochs
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    expected = to_the_end("mlp", undisturbed, *options, steps=steps)
    code, errors = stopped_after("mlp", disturbed, 400, signal.SIGINT, *options, steps=steps)
    assert code != 0
    assert "TrainingInterruptedError: fit: interrupted after" in errors
    assert "the same call goes on" in errors
    assert 400 <= saved_steps(disturbed)[-1] < steps
    for found, wanted in zip(to_the_end("mlp", disturbed, *options, steps=steps), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
