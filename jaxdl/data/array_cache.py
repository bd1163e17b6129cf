"""Decoded arrays on disk, so that images are decoded once.

One folder holds one data set: a `.npy` file for each array (opened memory-mapped), and `contents.json` with the shapes,
dtypes and CRC-32 of the arrays and further facts. A folder is written under another name and renamed when it is
complete, so that there is never half a folder. The arrays are checked each time they are opened.
"""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_CONTENTS = "contents.json"
_CHUNK = 1 << 24


class DamagedCacheError(Exception):
    """The files in the cache are not those that were written there."""


def default_directory() -> Path:
    """`$JAXDL_CACHE`, or `jaxdl` in the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`)."""
    if chosen := os.environ.get("JAXDL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxdl"


def write(folder: Path, arrays: Mapping[str, np.ndarray], extra: Mapping[str, Any]) -> None:
    """Writes arrays and JSON-able facts; replaces the folder if there is one.

    Raises:
      OSError: the place cannot be written to, or is full; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(draft / f"{name}.npy", array)
        listed = {n: {"dtype": str(a.dtype), "shape": a.shape, "crc32": _crc32(a)} for n, a in arrays.items()}
        (draft / _CONTENTS).write_text(json.dumps({"arrays": listed, "extra": extra}, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was first, with the same numbers
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Opens what `write` wrote: read-only memory-mapped arrays, checked, and the facts.

    Raises:
      FileNotFoundError: there is no such folder.
      DamagedCacheError: a file is missing, cut short or altered; the message says which.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        contents = json.loads((folder / _CONTENTS).read_text())
        arrays = {}
        for name, expected in contents["arrays"].items():
            array = np.load(folder / f"{name}.npy", mmap_mode="r")
            found = {"dtype": str(array.dtype), "shape": list(array.shape), "crc32": _crc32(array)}
            if found != expected:
                raise DamagedCacheError(f"{folder / name}.npy: expected {expected}, found {found}")
            arrays[name] = array
        return arrays, contents["extra"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DamagedCacheError(f"{folder}: {error}") from error


def _crc32(array: np.ndarray) -> int:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    crc = 0
    for start in range(0, len(flat), _CHUNK):
        crc = zlib.crc32(flat[start : start + _CHUNK].data, crc)
    return crc
