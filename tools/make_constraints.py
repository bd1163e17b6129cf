"""Writes constraints.txt: one version of every dependency for each supported Python.

    python tools/make_constraints.py python3.11 python3.12 python3.13

For each interpreter it makes a fresh virtual environment, installs the package with its dev extra without
constraints, and notes what came in. Versions that differ between interpreters get a marker.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def resolved(interpreter: str) -> tuple[str, dict[str, str]]:
    """The interpreter's version ("3.11") and the distributions that an installation brings in."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        python = f"{folder}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-e", f"{ROOT}[dev]"], check=True)
        ask = [python, "-m", "pip", "freeze", "--exclude-editable"]
        frozen = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
        version = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    return version, dict(line.split("==") for line in frozen.splitlines() if "==" in line)


def main() -> None:
    """Writes the file."""
    pins = dict(resolved(interpreter) for interpreter in sys.argv[1:])
    lines = ["# Made by tools/make_constraints.py; versions the tests pass with on Python " + ", ".join(pins) + "."]
    for name in sorted({name for found in pins.values() for name in found}, key=str.lower):
        versions = {python: found.get(name) for python, found in pins.items()}
        if len(set(versions.values())) == 1:
            lines.append(f"{name}=={versions.popitem()[1]}")
        else:
            lines += [f'{name}=={v}; python_version == "{python}"' for python, v in versions.items() if v]
    (ROOT / "constraints.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
