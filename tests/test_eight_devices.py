"""Runs the tests in tests/eight_devices, in a process that has eight devices on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "eight_devices"


@pytest.mark.timeout(1800)  # a suite of its own
@pytest.mark.parametrize("marked", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_eight_devices(marked):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
    environment["XLA_FLAGS"] = " ".join([*flags, "--xla_force_host_platform_device_count=8"])
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", marked, "-p", "no:cacheprovider", str(FOLDER)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
