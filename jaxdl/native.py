"""oneDNN's convolutions on the CPU, where the package `jaxdl-native` is installed.

XLA's own convolutions take several times oneDNN's time on the CPU. `pip install ./native` builds a package that calls
oneDNN; `models.layers.Conv` then uses it, for float32 on the CPU. Without it, on other devices and in other dtypes
everything is computed by XLA. The environment variable `JAXDL_NATIVE=0`, set before jaxdl is imported, switches it off.

A convolution and its two gradients are one family: each is linear in both of its arguments, and the transpose of one is
another. So three primitives are differentiable to any order, forward and in reverse.
"""

import dataclasses
import functools
import importlib
import os
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType

Pair = tuple[int, int]
Shape = tuple[int, ...]


INTERFACE = 1
"""Number of the interface between this module and the package; both change it together."""


def _load() -> str | None:
    if os.environ.get("JAXDL_NATIVE", "1") == "0":
        return None
    remedy = "so XLA computes all convolutions; build it again with pip install ./native, or set JAXDL_NATIVE=0"
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


VERSION = _load()
"""Version of the oneDNN library that computes convolutions on the CPU; None if XLA computes all.

Loaded when jaxdl is imported, before JAX has started its threads: they then share one heap (native/src/memory.cc).
"""


def takes(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether a convolution of these arrays is one that oneDNN computes here."""
    return (
        jax.default_backend() == "cpu"
        and x.dtype == kernel.dtype == jnp.float32
        and x.size > 0
        and kernel.size > 0
        and VERSION is not None
        and not _explicitly_sharded(x)
        and not _explicitly_sharded(kernel)
    )


def _explicitly_sharded(x: jax.Array) -> bool:
    """Whether the array's type says how it is spread over devices: then JAX's own operations have the rules for it."""
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


@dataclasses.dataclass(frozen=True)
class Window:
    """Settings of a convolution, and the shapes of the three arrays that it relates.

    Attributes:
      images: [batch, height, width, channels].
      kernel: [window height, window width, channels / groups, features].
      results: [batch, new height, new width, features].
      strides, dilation: for height and width.
      padding: ((top, bottom), (left, right)).
      groups: groups of channels that do not see each other.
    """

    images: Shape
    kernel: Shape
    results: Shape
    strides: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int

    def of_batch(self, batch: int) -> "Window":
        """The same for another number of images."""
        return dataclasses.replace(self, images=(batch, *self.images[1:]), results=(batch, *self.results[1:]))


def convolve(
    x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: tuple[Pair, Pair], dilation: Pair, groups: int
) -> jax.Array:
    """`lax.conv_general_dilated` of NHWC images and an HWIO kernel, by oneDNN; for arrays that `takes` accepts.

    Under `jax.vmap` members with kernels of their own are computed one after the other, and members that share a kernel
    as one batch.
    """
    sides = tuple(
        (n + sum(pad) - (k - 1) * d - 1) // s + 1
        for n, pad, k, d, s in zip(x.shape[1:3], padding, kernel.shape[:2], dilation, strides, strict=True)
    )
    results = (x.shape[0], *sides, kernel.shape[3])
    window = Window(x.shape, kernel.shape, results, strides, padding, dilation, groups)
    return _bind(_forward, x, kernel, window)


def _conv_of_xla(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def _input_gradient_of_xla(cotangent: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    images = jax.ShapeDtypeStruct(window.images, cotangent.dtype)
    return jax.linear_transpose(lambda x: _conv_of_xla(x, kernel, window), images)(cotangent)[0]


def _weight_gradient_of_xla(x: jax.Array, cotangent: jax.Array, window: Window) -> jax.Array:
    shape = jax.ShapeDtypeStruct(window.kernel, cotangent.dtype)
    return jax.linear_transpose(lambda kernel: _conv_of_xla(x, kernel, window), shape)(cotangent)[0]


def _primitive(name: str, result: str, of_xla: Callable[..., jax.Array], *, merges: bool) -> Primitive:
    """One of the three, a function of two arrays.

    Args:
      name: of the function in the package.
      result: the field of `Window` that has the shape of what is computed.
      of_xla: the same by XLA, for other platforms.
      merges: whether members that share the second array can be computed as one batch.
    """
    primitive = Primitive(f"jaxdl_{name}")

    @functools.partial(jax.jit, static_argnames="window")
    def alone(a, b, *, window):
        return primitive.bind(a, b, window=window)

    def shaped(a, b, *, window):
        del b
        return a.update(shape=getattr(window, result), weak_type=False)

    def lowered(context, a, b, *, window):
        return jax.ffi.ffi_lowering(f"jaxdl_native.{name}")(
            context,
            a,
            b,
            strides=np.asarray(window.strides, np.int64),
            padding=np.asarray(window.padding, np.int64).ravel(),
            dilation=np.asarray(window.dilation, np.int64),
            groups=np.int64(window.groups),
            threads=np.int64(_threads()),
        )

    def members(arrays, axes, *, window):
        a, b = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True))
        if merges and axes[1] is None:
            count, batch = a.shape[:2]
            y = _bind(primitive, a.reshape(count * batch, *a.shape[2:]), b, window.of_batch(count * batch))
            return y.reshape(count, batch, *y.shape[1:]), 0
        if axes[0] is None:
            return lax.map(lambda b: _bind(primitive, a, b, window), b), 0
        if axes[1] is None:
            return lax.map(lambda a: _bind(primitive, a, b, window), a), 0
        return lax.map(lambda both: _bind(primitive, both[0], both[1], window), (a, b)), 0

    primitive.def_impl(alone)
    primitive.def_abstract_eval(shaped)
    batching.primitive_batchers[primitive] = members
    mlir.register_lowering(
        primitive, mlir.lower_fun(lambda a, b, *, window: of_xla(a, b, window), multiple_results=False)
    )
    mlir.register_lowering(primitive, lowered, platform="cpu")
    return primitive


def _bind(primitive: Primitive, a: jax.Array, b: jax.Array, window: Window) -> jax.Array:
    """Within shard_map both arrays are first made to vary over the same axes, as JAX's own primitives do it."""
    vary = [jax.typeof(array).mat.varying for array in (a, b)]
    a, b = (
        lax.pcast(array, tuple(sorted(missing)), to="varying") if (missing := (vary[0] | vary[1]) - own) else array
        for array, own in zip((a, b), vary, strict=True)
    )
    return primitive.bind(a, b, window=window)


def _threads() -> int:
    """How many threads a call may take: the cores that this process may use, shared by its devices."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jax.local_device_count("cpu"))


_forward = _primitive("convolution", "results", _conv_of_xla, merges=True)
_input_gradient = _primitive("convolution_input_gradient", "images", _input_gradient_of_xla, merges=True)
_weight_gradient = _primitive("convolution_weight_gradient", "kernel", _weight_gradient_of_xla, merges=False)

PRIMITIVES = frozenset(p.name for p in (_forward, _input_gradient, _weight_gradient))
"""Names of the three primitives in traced programs."""

# Each with the transposes in its first and its second argument; `c` is the cotangent of what it computes.
for _one, _first, _second in (
    (_forward, lambda c, k, w: _bind(_input_gradient, c, k, w), lambda c, x, w: _bind(_weight_gradient, x, c, w)),
    (_input_gradient, lambda c, k, w: _bind(_forward, c, k, w), lambda c, g, w: _bind(_weight_gradient, c, g, w)),
    (_weight_gradient, lambda c, g, w: _bind(_input_gradient, g, c, w), lambda c, x, w: _bind(_forward, x, c, w)),
):
    ad.defbilinear(
        _one,
        lambda c, _, b, *, window, rule=_first: rule(c, b, window),
        lambda c, a, _, *, window, rule=_second: rule(c, a, window),
    )
