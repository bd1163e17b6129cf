"""oneDNN's convolutions as functions that XLA calls on the CPU. `jaxdl` uses them where this package is installed.

Importing the package registers them with JAX, and makes the process keep memory that it frees (src/memory.cc).
`jaxdl.native` calls them; this package only holds the compiled part.
"""

import ctypes
from pathlib import Path

import jax

__version__ = "0.1.0"
INTERFACE = 2  # what `jaxdl.native` expects; both change it together

_library = ctypes.CDLL(str(Path(__file__).with_name("libjaxdl_native.so")))
_library.jaxdl_onednn_version.restype = ctypes.c_char_p

ONEDNN_VERSION: str = _library.jaxdl_onednn_version().decode()
"""Version of the oneDNN library that computes."""

TARGETS = {
    f"jaxdl_native.{name}": getattr(_library, f"jaxdl_{name}")
    for name in (
        "convolution",
        "convolution_input_gradient",
        "convolution_weight_gradient",
        "max_pool",
        "max_pool_pick",
        "max_pool_place",
        "avg_pool",
        "avg_pool_spread",
    )
}
"""Names of the functions in compiled programs, and the functions."""

# Before JAX starts its threads, or they have heaps of their own.
_library.jaxdl_keep_freed_memory()

for _name, _function in TARGETS.items():
    jax.ffi.register_ffi_target(_name, jax.ffi.pycapsule(_function), platform="cpu")
