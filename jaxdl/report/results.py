"""Result files: what was run, where, and what came out."""

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl import native
from jaxdl.arguments import require


def environment() -> dict[str, Any]:
    """The circumstances of a result: date, command, commit, versions, machine, and what computes convolutions.

    "convolutions" is "XLA", or "oneDNN 3.2.0" for example where `jaxdl-native` computes those of the CPU.
    """
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("jaxdl", "jax", "jaxlib", "flax", "optax", "numpy")
        },
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": f"{jax.device_count()} x {device.platform} ({device.device_kind})",
        "convolutions": native.convolutions(),
    }


def new_run_directory(out: Path, experiment: str) -> Path:
    """Makes `out/experiment/<date and time>/`; if it exists already, a number is appended to the name."""
    require(
        isinstance(experiment, str) and bool(experiment) and "/" not in experiment,
        "new_run_directory: experiment must be the name of a folder, without /, got "
        f'experiment={experiment!r}; pass "optimizers" for example',
    )
    out = Path(out)
    stamp = datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = out / experiment / (stamp + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"new_run_directory: {out / experiment / stamp} and 998 others exist already")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically. Dataclasses and NamedTuples become objects, arrays lists, and paths strings.

    Floats keep six digits; NaN and infinities, which JSON lacks, become null.

    Raises:
      ValueError: a value in `content` has no form in JSON.
    """
    path = Path(path)
    try:
        text = json.dumps(_plain(content), indent=1) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"write_json: content must hold only what JSON can store, but {path} cannot be written: {error}; convert "
            "it to numbers, strings, lists or dicts"
        ) from error
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and (as_dict := getattr(value, "columns", getattr(value, "_asdict", None))):
        return _plain(as_dict())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _commit() -> str | None:
    """The commit of the checkout with the package, with "+changes" if files other than results differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ":/", ":(top,exclude)*/results/*")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
