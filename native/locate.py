"""Prints where CMake finds what Python packages hold: XLA's headers, and oneDNN's library and headers or nothing."""

import importlib.metadata
import importlib.util
from pathlib import Path


def installed(package: str, name: str) -> str:
    """The path of an installed package's file, or nothing."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    return next((str(Path(file.locate()).resolve()) for file in files if str(file).endswith(name)), "")


jaxlib = importlib.util.find_spec("jaxlib")
print(Path(jaxlib.origin).parent / "include" if jaxlib else "")
print(installed("onednn-cpu-gomp", "libdnnl.so.3"))
print(installed("onednn-devel-cpu-gomp", "oneapi/dnnl/dnnl.hpp"))
