"""The package `jaxdl-native`: whether it is there, for which arrays, and how its functions become JAX's primitives."""

import functools
import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir, xla
from jax.sharding import AxisType

# Counted before the package is loaded: OpenMP may bind this thread to one core then.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

INTERFACE = 2
"""Number of the interface between this module and the package; both change it together."""


def _load() -> str | None:
    if os.environ.get("JAXDL_NATIVE", "1") == "0":
        return None
    remedy = "so XLA computes everything; build it again with pip install ./native, or set JAXDL_NATIVE=0"
    try:
        package = importlib.import_module("jaxdl_native")
    except ModuleNotFoundError as error:
        if error.name != "jaxdl_native":
            raise
        return None
    except (OSError, AttributeError, RuntimeError) as error:
        warnings.warn(f"jaxdl-native is installed but does not load ({error}), {remedy}", stacklevel=2)
        return None
    if getattr(package, "INTERFACE", None) != INTERFACE:
        warnings.warn(f"jaxdl-native is for another version of jaxdl, {remedy}", stacklevel=2)
        return None
    return package.ONEDNN_VERSION


LARGEST = 2**28
"""The largest stride, padding and dilation that the package takes."""

VERSION = _load()
"""Version of the oneDNN library that `jaxdl-native` brings; None without the package.

Loaded when jaxdl is imported, before JAX has started its threads: they then share one heap (native/src/memory.cc).
"""


def convolutions() -> str:
    """What computes convolutions on the default device: "oneDNN 3.2.0" for example, or "XLA"."""
    return f"oneDNN {VERSION}" if VERSION and jax.default_backend() == "cpu" else "XLA"


def takes(*arrays: jax.Array) -> bool:
    """Whether the package computes with these arrays here: float32 on the CPU, and none of them empty."""
    return (
        VERSION is not None
        and jax.default_backend() == "cpu"
        and all(x.dtype == jnp.float32 and x.size > 0 and not _explicitly_sharded(x) for x in arrays)
    )


def _explicitly_sharded(x: jax.Array) -> bool:
    """Whether the array's type says how it is spread over devices: then JAX's own operations have the rules for it."""
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


class Settings(Protocol):
    """The static settings of a primitive: hashable."""

    def attributes(self) -> dict[str, Any]:
        """What the package's function is given."""
        ...


def primitive(
    name: str,
    results: Callable[..., Any],
    of_xla: Callable[..., Any],
    members: Callable[..., Any],
    *,
    multiple_results: bool = False,
) -> Primitive:
    """A function of the package as a primitive of JAX, with a keyword `settings`. Its derivatives are up to the caller.

    Args:
      name: of the function in the package.
      results: the types of what it computes, from those of its arrays.
      of_xla: the same by JAX's own operations, for other platforms.
      members: its rule under `jax.vmap`, as in `jax.interpreters.batching`.
      multiple_results: whether it computes a list of arrays.
    """
    made = Primitive(f"jaxdl_{name}")
    made.multiple_results = multiple_results

    def lowered(context, *arrays, settings):
        lower = jax.ffi.ffi_lowering(f"jaxdl_native.{name}")
        return lower(context, *arrays, threads=np.int64(threads()), **settings.attributes())

    made.def_impl(functools.partial(xla.apply_primitive, made))
    made.def_abstract_eval(results)
    batching.primitive_batchers[made] = members
    mlir.register_lowering(made, mlir.lower_fun(of_xla, multiple_results=multiple_results))
    mlir.register_lowering(made, lowered, platform="cpu")
    return made


def bind(primitive: Primitive, *arrays: jax.Array, settings: Settings) -> Any:
    """Calls a primitive. Within shard_map all arrays are first made to vary over the same axes, as JAX's own are."""
    vary = [jax.typeof(array).mat.varying for array in arrays]
    everywhere = frozenset().union(*vary)
    arrays = tuple(
        lax.pcast(array, tuple(sorted(everywhere - own)), to="varying") if everywhere - own else array
        for array, own in zip(arrays, vary, strict=True)
    )
    return primitive.bind(*arrays, settings=settings)


def threads() -> int:
    """How many threads a call may take: the cores that this process could use at its start, shared by its devices."""
    return max(1, _CORES // jax.local_device_count("cpu"))
