"""The rooms of the house: imports run downwards only, and `import jaxdl` stays light."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Lower rooms may not import higher ones; rooms on one floor may not import each other.
FLOORS = [
    {"jaxdl.typing", "jaxdl.arguments", "jaxdl.progress", "jaxdl.identity", "jaxdl.native"},
    {"jaxdl.tree", "jaxdl.program_cache", "jaxdl.loops"},
    {"jaxdl.modules", "jaxdl.mesh"},
    {"jaxdl.views"},
    {"jaxdl.optim", "jaxdl.models", "jaxdl.data"},
    {"jaxdl.transfer"},
    {"jaxdl.ensemble"},
    {"jaxdl.train"},
    {"jaxdl.report"},
    {"jaxdl.practice"},
    {"jaxdl"},
    {"experiments"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for package in ("jaxdl", "experiments") for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The room a module lies in: its first two names, or `experiments`, or `jaxdl` itself."""
    parts = module.split(".")
    return parts[0] if parts[0] == "experiments" else ".".join(parts[:2])


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            rooms |= {room(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "jaxdl":
                rooms |= {f"jaxdl.{alias.name}" for alias in node.names}
            else:
                rooms.add(room(node.module))
    return {name for name in rooms if name.split(".")[0] in ("jaxdl", "experiments")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_imports_run_one_way(path):
    here = room(module_name(path))
    assert here in FLOOR, f"{here} has no floor: add it to FLOORS"
    for other in imported(path) - {here}:
        assert other in FLOOR, f"{other} has no floor: add it to FLOORS"
        assert FLOOR[other] < FLOOR[here], f"{path}: {here} may not import {other}"


def test_the_test_above_sees_an_arrow_that_runs_up(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from jaxdl import train\n    import jaxdl.report.plots\n")
    assert imported(file) == {"jaxdl.train", "jaxdl.report"}


@pytest.mark.parametrize("package", sorted({path.parent for path in FILES if path.name == "__init__.py"}), ids=str)
def test_no_public_name_hides_a_module(package):
    """`jaxdl.train.population` would be the function or the module, as the imports before happened to be."""
    package_name = module_name(package / "__init__.py")
    public = getattr(importlib.import_module(package_name), "__all__", [])
    assert not {path.stem for path in package.glob("*.py")} & set(public)


def test_import_is_light():
    heavy = "{'tensorflow', 'tensorflow_datasets', 'matplotlib', 'tyro', 'sklearn', 'PIL'}"
    code = f"import sys, jaxdl; found = {heavy} & set(sys.modules); sys.exit(f'imported: {{found}}' if found else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
