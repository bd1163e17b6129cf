"""Convolution that is fast on the CPU, inside loops too: by oneDNN where `jaxdl-native` is installed, else by XLA.

XLA's CPU back end is fast only for convolutions in its canonical layout (NHWC inputs, HWIO kernels). The two
convolutions in autodiff's gradient have other layouts. Outside loops XLA rewrites them; in the body of a `scan`,
`while` or `lax.map` it computes them by a naive path (in `benchmarks/layers.py` about 20 times slower). `convolve`
computes both in the canonical layout. On other back ends it is `lax.conv_general_dilated` alone.
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

from jaxdl import native as onednn
from jaxdl.arguments import check_dtype, check_flag, check_integer, require, shown
from jaxdl.models.layers.checks import check_images, check_initializers
from jaxdl.models.layers.initializers import Initializer, lecun_normal

Pair: TypeAlias = tuple[int, int]
Pads: TypeAlias = tuple[Pair, Pair]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Conv(nn.Module):
    """A 2-D convolution: `flax.linen.Conv`, fast on the CPU, inside loops too.

    Parameters, their names and their initial numbers are Flax's. On the CPU oneDNN computes it where the package
    `jaxdl-native` is installed and the dtype is float32; otherwise XLA does, the gradients in its canonical layout.

    Attributes:
      features: output channels.
      kernel_size: window (height, width).
      strides: steps between windows, one number or (height, width).
      padding: "SAME", "VALID", a number for all four sides (torch's meaning), or ((top, bottom), (left, right)).
      dilation: distance between neighbouring rows and columns of the window, one number or (height, width); the window
        then covers (kernel_size - 1) dilation + 1 pixels. Flax's `kernel_dilation`, torch's `dilation`.
      use_bias: whether to add one number per output channel.
      feature_group_count: groups of channels that do not see each other; must divide both channel counts.
      canonical_gradients: whether to compute the gradients in XLA's canonical layout. By default only on the CPU and
        only for one group. They support reverse-mode differentiation to any order, but not forward mode (`jax.jvp`).
      native: False leaves all to XLA. By default oneDNN computes what it can (`jaxdl.native.convolves`), with the same
        numbers to rounding, unless `canonical_gradients` is given; it supports both modes, to any order.
      dtype: dtype of the computation; by default the wider of the input's and the parameters'.
      param_dtype: dtype of the parameters.
      kernel_init, bias_init: initialisers.

    Raises:
      ValueError: a value is out of its range; or the input is not floating point [batch, height, width, channels], or
        is smaller than the window even with its padding.
    """

    features: int
    kernel_size: Pair
    strides: int | Pair = 1
    padding: str | int | Pads = "SAME"
    dilation: int | Pair = 1
    use_bias: bool = True
    feature_group_count: int = 1
    canonical_gradients: bool | None = None
    native: bool | None = None
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
        _pair("Conv", "dilation", self.dilation, at_least=1)
        _check_padding("Conv", self.padding)
        check_flag("Conv", "use_bias", self.use_bias)
        if self.canonical_gradients is not None:
            check_flag("Conv", "canonical_gradients", self.canonical_gradients)
        _check_native("Conv", self.native)
        check_dtype("Conv", "dtype", self.dtype, optional=True)
        check_dtype("Conv", "param_dtype", self.param_dtype)
        check_initializers("Conv", kernel_init=self.kernel_init, bias_init=self.bias_init)
        require(
            not self.canonical_gradients or self.feature_group_count == 1,
            "Conv: canonical_gradients=True needs feature_group_count=1, "
            f"got feature_group_count={self.feature_group_count}; leave canonical_gradients=None",
        )

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, new height, new width, features]."""
        check_images("Conv", x)
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
            dilation=self.dilation,
            feature_group_count=groups,
            canonical_gradients=self.canonical_gradients,
            native=self.native,
        )
        return y if bias is None else y + bias


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Pair = 1,
    padding: str | int | Pads = "SAME",
    dilation: int | Pair = 1,
    feature_group_count: int = 1,
    canonical_gradients: bool | None = None,
    native: bool | None = None,
) -> jax.Array:
    """Cross-correlates images with a kernel, as neural networks do and call convolution.

    Args:
      x: [batch, height, width, channels].
      kernel: [window height, window width, channels / groups, features], of the same dtype.
      strides: as for `Conv`.
      padding: as for `Conv`.
      dilation: as for `Conv`.
      feature_group_count: as for `Conv`.
      canonical_gradients: as for `Conv`.
      native: as for `Conv`.

    Returns:
      [batch, new height, new width, features].

    Raises:
      ValueError: a value is out of its range, or x and kernel do not fit each other.
    """
    check_images("convolve", x, "x")
    require(
        kernel.ndim == 4 and kernel.shape[2] * feature_group_count == x.shape[3] and kernel.dtype == x.dtype,
        f"convolve: kernel must be [window height, window width, {x.shape[3]} / {feature_group_count}, features] of "
        f"{x.dtype} for x {list(x.shape)} with feature_group_count={feature_group_count}, "
        f"got {kernel.dtype} {list(kernel.shape)}",
    )
    _check_native("convolve", native)
    strides = _pair("convolve", "strides", strides, at_least=1)
    dilation = _pair("convolve", "dilation", dilation, at_least=1)
    covered = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    _check_padding("convolve", padding)
    pads = _pads(padding, x.shape[1:3], covered, strides)
    require(
        all(side + sum(pad) >= cover for side, pad, cover in zip(x.shape[1:3], pads, covered, strict=True)),
        f"convolve: images {x.shape[1:3]} with padding={padding!r} are smaller than the window, which covers "
        f"{tuple(covered)}; use larger images, more padding or a smaller window",
    )
    if canonical_gradients is None:
        settings = {"strides": strides, "padding": pads, "dilation": dilation}
        if native is not False and onednn.convolves(x, kernel, **settings):
            return onednn.convolve(x, kernel, **settings, groups=feature_group_count)
        canonical_gradients = feature_group_count == 1 and jax.default_backend() == "cpu"
    x, pads = _padded_or_cropped(x, pads, covered, strides)
    if canonical_gradients:
        return _canonical(x, kernel, strides, pads, dilation)
    return _conv(x, kernel, strides, pads, dilation=dilation, groups=feature_group_count)


def _padded_or_cropped(x, pads, covered, strides):
    """The images and the padding that is left, so that no convolution of the gradient has a negative padding.

    XLA's CPU back end in jaxlib 0.10 reads beyond the image in some of those that have: the numbers are wrong, without
    an error. They come from a padding as wide as the window, which is added here, and from last rows and columns that
    are under no window, which are cut off.
    """
    config, left = [(0, 0, 0)], []
    for side, (before, after), cover, stride in zip(x.shape[1:3], pads, covered, strides, strict=True):
        unused = (side + before + after - cover) % stride
        added_before, added_after = max(before - cover + 1, 0), max(after - unused - cover + 1, 0)
        added_after += min(after - unused, 0)
        left.append((before - added_before, after - unused - added_after))
        config.append((added_before, added_after, 0))
    if any(any(numbers) for numbers in config):
        x = lax.pad(x, jnp.zeros((), x.dtype), [*config, (0, 0, 0)])
    return x, tuple(left)


def _conv(x, kernel, strides, pads, *, spread=(1, 1), dilation=(1, 1), groups=1):
    """XLA's convolution in its canonical layout; `spread` - 1 zeros are put between neighbouring pixels."""
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        tuple(pads),
        lhs_dilation=spread,
        rhs_dilation=dilation,
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _canonical(x, kernel, strides, pads, dilation):
    return _conv(x, kernel, strides, pads, dilation=dilation)


def _canonical_fwd(x, kernel, strides, pads, dilation):
    return _conv(x, kernel, strides, pads, dilation=dilation), (x, kernel)


def _canonical_bwd(strides, pads, dilation, residuals, cotangent):
    x, kernel = residuals
    image = x.shape[1:3]
    # From the first to the last row and column that a window covers.
    reach = [(k - 1) * d for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    extent = [(n - 1) * stride + 1 for n, stride in zip(cotangent.shape[1:3], strides, strict=True)]

    # dx: the cotangent, with zeros between its rows and columns for the stride, with the kernel turned round and its
    # channels swapped.
    before = [r - p[0] for r, p in zip(reach, pads, strict=True)]
    after = [i + r - e - b for i, r, e, b in zip(image, reach, extent, before, strict=True)]
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    dx = _conv(cotangent, turned, (1, 1), zip(before, after, strict=True), spread=strides, dilation=dilation)

    # dw: a convolution of the images with the cotangent as kernel, in which the batch takes the place of the channels.
    # Strides and dilation change places. The barrier keeps XLA from folding the transpositions into another layout.
    inputs, weights = lax.optimization_barrier((jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(cotangent, (1, 2, 0, 3))))
    after = [r + e - i - p[0] for i, r, e, p in zip(image, reach, extent, pads, strict=True)]
    around = [(p[0], a) for p, a in zip(pads, after, strict=True)]
    dw = _conv(inputs, weights, dilation, around, dilation=strides)
    return dx, jnp.transpose(dw, (1, 2, 0, 3))


_canonical.defvjp(_canonical_fwd, _canonical_bwd)


def _pair(function: str, name: str, value: Any, *, at_least: int) -> Pair:
    """One number for both axes, or one for each."""
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    require(len(pair) == 2, f"{function}: {name} must be one number or a pair (height, width), got {name}={value!r}")
    return tuple(check_integer(function, name, v, at_least=at_least) for v in pair)  # type: ignore[return-value]


def _check_native(function: str, native: Any) -> None:
    require(
        native is None or native is False,
        f"{function}: native must be None or False, got native={shown(native)}; with None oneDNN computes what it can",
    )


def _check_padding(function: str, padding: Any) -> None:
    """Raises unless padding is one of the forms that `_pads` knows."""
    meant = padding.upper() if isinstance(padding, str) else ""
    remedy = f'; use padding="{meant}"' if meant in ("SAME", "VALID") else ""
    if isinstance(padding, Sequence) and len(padding) == 2 and not any(isinstance(p, Sequence) for p in padding):
        remedy = f"; use padding={((padding[0],) * 2, (padding[1],) * 2)} for so many rows and columns on both sides"
    known = padding in ("SAME", "VALID") if isinstance(padding, str) else True
    if isinstance(padding, Sequence) and not isinstance(padding, str):
        known = len(padding) == 2 and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in padding)
    require(
        known,
        f'{function}: padding must be "SAME", "VALID", a number or ((top, bottom), (left, right)), '
        f"got padding={shown(padding)}{remedy}",
    )
    if not isinstance(padding, str):
        for number in [n for pair in padding for n in pair] if isinstance(padding, Sequence) else [padding]:
            check_integer(function, "padding", number, at_least=0)


def _pads(padding: Any, image: Sequence[int], window: Sequence[int], strides: Pair) -> Pads:
    """Padding before and after, for height and width."""
    if isinstance(padding, str):
        return tuple(lax.padtype_to_pads(image, window, strides, padding))  # type: ignore[return-value]
    if isinstance(padding, Sequence):
        (top, bottom), (left, right) = padding
        return (top, bottom), (left, right)
    return (padding, padding), (padding, padding)
