"""A population of ResNets, killed in one process and ended in another: the same bits."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import started

from jaxdl import train

CHILD = Path(__file__).parent / "children" / "train_population.py"
STEPS = 12


def run(folder, via, *, updates=None, number=None):
    """Runs the child, and sends a signal once so many updates, of all members, are known to be made."""
    command = [sys.executable, str(CHILD), str(folder / "run"), str(folder / "out"), str(STEPS), via]
    with started(command) as child:
        if updates is not None:
            for line in child.stdout:
                if int(line.split()[1]) >= updates:
                    break
            child.send_signal(number)
        _, errors = child.communicate()
    return child.returncode, errors


def result(folder):
    with np.load(folder / "out.npz") as file:
        return [file[name] for name in file.files]


@pytest.mark.parametrize("via", ["map", pytest.param("vmap", marks=pytest.mark.slow), "loop"])
def test_killed_and_rerun_it_ends_with_the_same_bits(via, tmp_path):
    """One member diverges and one is stopped, before the second signal; both stay so."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    code, errors = run(undisturbed, via)
    assert code == 0, errors
    expected = result(undisturbed)
    code, errors = run(disturbed, via, updates=10, number=signal.SIGKILL)
    assert code == -signal.SIGKILL, errors
    code, errors = run(disturbed, via, updates=20, number=signal.SIGTERM)
    assert code == train.PREEMPTED, errors
    code, errors = run(disturbed, via)
    assert code == 0, errors
    found = result(disturbed)
    assert "the loss is" in str(expected[0][2])
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, wanted)
