"""The fast tests compile without optimisation. Here those that compare numbers or bits run with it, as users do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Against torch, NumPy, other libraries and other programs of ours; the same bits after a kill; several devices.
NAMES = [
    "adaptive",
    "architectures",
    "augment",
    "augment_geometry",
    "averaging",
    "eight_devices",
    "engine",
    "ensemble",
    "layer_loops",
    "layers",
    "momentum",
    "optim_contract",
    "population",
    "resume",
    "second_order",
    "torch",
    "torch_layers",
    "train",
    "transfer",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_numbers_with_optimisation(name):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment["JAXDL_TEST_OPTIMIZED"] = "1"
    file = TESTS / f"test_{name}.py"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "not slow", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
