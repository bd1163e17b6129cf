"""Convolution whose gradients stay fast on the CPU, inside loops too.

XLA's CPU back end is fast only for convolutions in its canonical layout (NHWC inputs, HWIO kernels). The two
gradient convolutions that autodiff writes are in other layouts; outside loops XLA rewrites them, but in the body of
a `scan`, `while` or `lax.map` they fall to a naive path (`benchmarks/layers.py`: 20 to 40 times slower). `convolve`
writes both in the canonical layout. On other back ends it is `lax.conv_general_dilated` and nothing more.
"""

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jax import lax

from jaxdl.arguments import check_integer, require
from jaxdl.models.layers.initializers import Initializer, lecun_normal

Pair: TypeAlias = tuple[int, int]
Pads: TypeAlias = tuple[Pair, Pair]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Conv(nn.Module):
    """A 2-D convolution: `flax.linen.Conv` with gradients that are fast on the CPU (see the module's docstring).

    Parameters, their names and their initial numbers are Flax's.

    Attributes:
      features: output channels.
      kernel_size: window (height, width).
      strides: steps between windows, one number or (height, width).
      padding: "SAME", "VALID", a number for all four sides (torch's meaning), or ((top, bottom), (left, right)).
      use_bias: whether to add one number per output channel.
      feature_group_count: groups of channels that do not see each other; must divide both channel counts.
      canonical_gradients: whether to write the gradients in XLA's canonical layout. By default on the CPU only, and
        with one group. They support reverse-mode differentiation to any order but not forward mode (`jax.jvp`).
      dtype: dtype of the computation; by default the wider of the input's and the parameters'.
      param_dtype: dtype of the parameters.
      kernel_init, bias_init: initialisers.

    Raises:
      ValueError: a value is out of its range, or the input is not [batch, height, width, channels].
    """

    features: int
    kernel_size: Pair
    strides: int | Pair = 1
    padding: str | int | Pads = "SAME"
    use_bias: bool = True
    feature_group_count: int = 1
    canonical_gradients: bool | None = None
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = lecun_normal
    bias_init: Initializer = nn.initializers.zeros_init()

    def __post_init__(self):
        super().__post_init__()
        check_integer("Conv", "features", self.features, at_least=1)
        check_integer("Conv", "feature_group_count", self.feature_group_count, at_least=1)
        _pair("Conv", "kernel_size", self.kernel_size, at_least=1)
        _pair("Conv", "strides", self.strides, at_least=1)
        require(
            not self.canonical_gradients or self.feature_group_count == 1,
            "Conv: canonical_gradients=True needs feature_group_count=1, "
            f"got feature_group_count={self.feature_group_count}; leave canonical_gradients=None",
        )

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, new height, new width, features]."""
        require(x.ndim == 4, f"Conv: the input must be [batch, height, width, channels], got shape {x.shape}")
        channels, groups = x.shape[-1], self.feature_group_count
        require(
            channels % groups == 0 and self.features % groups == 0,
            f"Conv: feature_group_count={groups} must divide the {channels} input and {self.features} output channels",
        )
        window = _pair("Conv", "kernel_size", self.kernel_size, at_least=1)
        kernel = self.param("kernel", self.kernel_init, (*window, channels // groups, self.features), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = convolve(
            x,
            kernel,
            strides=self.strides,
            padding=self.padding,
            feature_group_count=groups,
            canonical_gradients=self.canonical_gradients,
        )
        return y if bias is None else y + bias


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Pair = 1,
    padding: str | int | Pads = "SAME",
    feature_group_count: int = 1,
    canonical_gradients: bool | None = None,
) -> jax.Array:
    """Cross-correlates images with a kernel, as neural networks do and call convolution.

    Args:
      x: [batch, height, width, channels].
      kernel: [window height, window width, channels / groups, features], of the same dtype.
      strides: as for `Conv`.
      padding: as for `Conv`.
      feature_group_count: as for `Conv`.
      canonical_gradients: as for `Conv`.

    Returns:
      [batch, new height, new width, features].
    """
    strides = _pair("convolve", "strides", strides, at_least=1)
    pads = _pads(padding, x.shape[1:3], kernel.shape[:2], strides)
    if canonical_gradients is None:
        canonical_gradients = feature_group_count == 1 and jax.default_backend() == "cpu"
    if canonical_gradients:
        return _canonical(x, kernel, strides, pads)
    return _forward(x, kernel, strides, pads, feature_group_count)


def _forward(x, kernel, strides, pads, groups=1):
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_LAYOUT, feature_group_count=groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _canonical(x, kernel, strides, pads):
    return _forward(x, kernel, strides, pads)


def _canonical_fwd(x, kernel, strides, pads):
    return _forward(x, kernel, strides, pads), (x, kernel)


def _canonical_bwd(strides, pads, residuals, cotangent):
    x, kernel = residuals
    image, window = x.shape[1:3], kernel.shape[:2]
    # Zeros between the cotangent's rows and columns undo the stride; both gradients then have stride 1.
    spread = lax.pad(
        cotangent,
        jnp.zeros((), cotangent.dtype),
        [(0, 0, 0), (0, 0, strides[0] - 1), (0, 0, strides[1] - 1), (0, 0, 0)],
    )
    extent = spread.shape[1:3]

    # dx: the cotangent with the kernel turned round and its channels swapped.
    before = [k - 1 - p[0] for k, p in zip(window, pads, strict=True)]
    after = [i + k - 1 - e - b for i, k, e, b in zip(image, window, extent, before, strict=True)]
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    dx = _forward(spread, turned, (1, 1), tuple(zip(before, after, strict=True)))

    # dw: the images with the cotangent as kernel, the batch in the place of the channels. The barrier keeps XLA from
    # folding the transpositions back into a layout of its own.
    inputs, weights = lax.optimization_barrier((jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(spread, (1, 2, 0, 3))))
    after = [k - 1 + e - i - p[0] for i, k, e, p in zip(image, window, extent, pads, strict=True)]
    dw = _forward(inputs, weights, (1, 1), tuple((p[0], a) for p, a in zip(pads, after, strict=True)))
    return dx, jnp.transpose(dw, (1, 2, 0, 3))


_canonical.defvjp(_canonical_fwd, _canonical_bwd)


def _pair(function: str, name: str, value: Any, *, at_least: int) -> Pair:
    """One number for both axes, or one for each."""
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    require(len(pair) == 2, f"{function}: {name} must be one number or a pair (height, width), got {name}={value!r}")
    return tuple(check_integer(function, name, v, at_least=at_least) for v in pair)  # type: ignore[return-value]


def _pads(padding: Any, image: Sequence[int], window: Sequence[int], strides: Pair) -> Pads:
    """Padding before and after, for height and width."""
    if isinstance(padding, str):
        require(
            padding in ("SAME", "VALID"),
            f'convolve: padding must be "SAME", "VALID", a number or ((top, bottom), (left, right)), got {padding!r}',
        )
        return tuple(lax.padtype_to_pads(image, window, strides, padding))  # type: ignore[return-value]
    if isinstance(padding, Sequence):
        (top, bottom), (left, right) = padding
        return (top, bottom), (left, right)
    check_integer("convolve", "padding", padding, at_least=0)
    return (padding, padding), (padding, padding)
