"""Convolutions by oneDNN.

A convolution and its two gradients are one family: each is linear in both of its arguments, and the transpose of one is
another. So three primitives are differentiable to any order, forward and in reverse.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad

from jaxdl.native import package

Pair: TypeAlias = tuple[int, int]
Shape: TypeAlias = tuple[int, ...]


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

    def attributes(self) -> dict[str, Any]:
        """What the package's functions are given."""
        return {
            "strides": np.asarray(self.strides, np.int64),
            "padding": np.asarray(self.padding, np.int64).ravel(),
            "dilation": np.asarray(self.dilation, np.int64),
            "groups": np.int64(self.groups),
        }


def convolves(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: tuple[Pair, Pair], dilation: Pair) -> bool:
    """Whether oneDNN computes a convolution of these arrays here."""
    return max(*strides, *padding[0], *padding[1], *dilation) <= package.LARGEST and package.takes(x, kernel)


def convolve(
    x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: tuple[Pair, Pair], dilation: Pair, groups: int
) -> jax.Array:
    """`lax.conv_general_dilated` of NHWC images and an HWIO kernel, by oneDNN, where `convolves` says so.

    Under `jax.vmap` members with kernels of their own are computed one after the other, and members that share a kernel
    as one batch.
    """
    sides = tuple(
        (n + sum(pad) - (k - 1) * d - 1) // s + 1
        for n, pad, k, d, s in zip(x.shape[1:3], padding, kernel.shape[:2], dilation, strides, strict=True)
    )
    results = (x.shape[0], *sides, kernel.shape[3])
    window = Window(x.shape, kernel.shape, results, strides, padding, dilation, groups)
    return package.bind(_forward, x, kernel, settings=window)


def _conv_of_xla(x: jax.Array, kernel: jax.Array, *, settings: Window) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        settings.strides,
        settings.padding,
        rhs_dilation=settings.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=settings.groups,
    )


def _input_gradient_of_xla(cotangent: jax.Array, kernel: jax.Array, *, settings: Window) -> jax.Array:
    images = jax.ShapeDtypeStruct(settings.images, cotangent.dtype)
    return jax.linear_transpose(lambda x: _conv_of_xla(x, kernel, settings=settings), images)(cotangent)[0]


def _weight_gradient_of_xla(x: jax.Array, cotangent: jax.Array, *, settings: Window) -> jax.Array:
    shape = jax.ShapeDtypeStruct(settings.kernel, cotangent.dtype)
    return jax.linear_transpose(lambda kernel: _conv_of_xla(x, kernel, settings=settings), shape)(cotangent)[0]


def _primitive(name: str, result: str, of_xla: Callable[..., jax.Array], *, merges: bool) -> Primitive:
    """One of the three, a function of two arrays.

    Args:
      name: of the function in the package.
      result: the field of `Window` that has the shape of what is computed.
      of_xla: the same by XLA, for other platforms.
      merges: whether members that share the second array can be computed as one batch.
    """

    def shaped(a, b, *, settings):
        del b
        return a.update(shape=getattr(settings, result), weak_type=False)

    def members(arrays, axes, *, settings):
        a, b = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True))
        if merges and axes[1] is None:
            count, batch = a.shape[:2]
            all_images = a.reshape(count * batch, *a.shape[2:])
            y = package.bind(made, all_images, b, settings=settings.of_batch(count * batch))
            return y.reshape(count, batch, *y.shape[1:]), 0
        compute = functools.partial(package.bind, made, settings=settings)
        if axes[0] is None:
            return lax.map(lambda b: compute(a, b), b), 0
        if axes[1] is None:
            return lax.map(lambda a: compute(a, b), a), 0
        return lax.map(lambda both: compute(*both), (a, b)), 0

    made = package.primitive(name, shaped, of_xla, members)
    return made


_forward = _primitive("convolution", "results", _conv_of_xla, merges=True)
_input_gradient = _primitive("convolution_input_gradient", "images", _input_gradient_of_xla, merges=True)
_weight_gradient = _primitive("convolution_weight_gradient", "kernel", _weight_gradient_of_xla, merges=False)

CONVOLUTIONS = frozenset(p.name for p in (_forward, _input_gradient, _weight_gradient))
"""Names of the three in traced programs."""

# Each with the transposes in its first and its second argument; `c` is the cotangent of what it computes.
for _one, _first, _second in (
    (_forward, lambda c, kernel: (_input_gradient, c, kernel), lambda c, x: (_weight_gradient, x, c)),
    (_input_gradient, lambda c, kernel: (_forward, c, kernel), lambda c, g: (_weight_gradient, c, g)),
    (_weight_gradient, lambda c, g: (_input_gradient, g, c), lambda c, x: (_forward, x, c)),
):
    ad.defbilinear(
        _one,
        lambda c, _, b, *, settings, rule=_first: package.bind(*rule(c, b), settings=settings),
        lambda c, a, _, *, settings, rule=_second: package.bind(*rule(c, a), settings=settings),
    )
