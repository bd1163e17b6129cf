"""Pooling whose gradient is fast on the CPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl import native
from jaxdl.arguments import check_flag, check_integer, check_real, require
from jaxdl.models.layers.checks import check_images


def max_pool(
    x: jax.Array, *, window: int = 2, stride: int | None = None, padding: int = 0, ceil_mode: bool = False
) -> jax.Array:
    """The maximum of each square window.

    With `stride < window` the windows overlap, as in AlexNet (window 3, stride 2). The gradient goes to the first of
    equal maxima in row order, as in torch and `flax.linen.max_pool`; a NaN in a window is its maximum.

    On the CPU `jaxdl-native` computes it where that package is installed (float32, windows of at most 16). Otherwise
    the maximum is taken over strided slices there, because XLA's own gradient (select-and-scatter) is 11 to 24 times
    slower (`benchmarks/layers.py`). On other back ends it is `lax.reduce_window`.

    Args:
      x: [batch, height, width, channels], floating point.
      window: side of the windows.
      stride: step between windows; by default `window`.
      padding: pixels added on all sides, which are never the maximum; at most half the window.
      ceil_mode: whether there is a last window that passes the edge, if it starts inside (as in cuda-convnet, where
        window 3 and stride 2 give 16, 8 and 4 from 32 pixels). By default there is none.

    Returns:
      [batch, new height, new width, channels]: (side + 2 padding - window) / stride + 1, rounded down, or up with
      `ceil_mode`.

    Raises:
      ValueError: a value is out of its range, or the images are smaller than the window.

    Reference: AlexNet, `ImageNet Classification with Deep Convolutional Neural Networks`, 2012, sec. 3.4.
    """
    stride, pads = _geometry("max_pool", x, window, stride, padding, ceil_mode)
    if native.pools(x, window=window, stride=stride):
        return native.max_pool(x, window=window, stride=stride, padding=pads)
    if jax.default_backend() != "cpu":
        lowest = jnp.array(-jnp.inf, x.dtype)
        return lax.reduce_window(
            x, lowest, lax.max, (1, window, window, 1), (1, stride, stride, 1), ((0, 0), *pads, (0, 0))
        )
    best, *others = native.pixels_by_place(x, native.Windows((x.shape[1], x.shape[2]), window, stride, pads), -np.inf)
    for part in others:
        # Only a greater value (or NaN) replaces the best one, so that the first of equal values gets the gradient.
        best = lax.select((part > best) | jnp.isnan(part), part, best)
    return best


def avg_pool(
    x: jax.Array, *, window: int = 2, stride: int | None = None, padding: int = 0, ceil_mode: bool = False
) -> jax.Array:
    """The mean of each square window, over the pixels that lie inside the image.

    As in cuda-convnet, and as torch's with `count_include_pad=False`. `jaxdl-native` computes it as it does `max_pool`.
    For the mean over the whole image, take `x.mean((1, 2))`.

    Args:
      x: [batch, height, width, channels], floating point.
      window: side of the windows.
      stride: step between windows; by default `window`.
      padding: pixels added on all sides, which do not count.
      ceil_mode: as for `max_pool`.

    Returns:
      [batch, new height, new width, channels], as for `max_pool`.

    Raises:
      ValueError: as for `max_pool`.
    """
    stride, pads = _geometry("avg_pool", x, window, stride, padding, ceil_mode)
    if native.pools(x, window=window, stride=stride):
        return native.avg_pool(x, window=window, stride=stride, padding=pads)
    counts = []
    for side, (before, after) in zip(x.shape[1:3], pads, strict=True):
        inside = np.pad(np.ones(side), (before, after))
        counts.append(np.lib.stride_tricks.sliding_window_view(inside, window)[::stride].sum(1))
    total = sum(native.pixels_by_place(x, native.Windows((x.shape[1], x.shape[2]), window, stride, pads), 0.0))
    return total / jnp.asarray(np.outer(*counts)[..., None], x.dtype)


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Means over `size` x `size` regions that cover the image, whatever its sides: torch's AdaptiveAvgPool2d.

    Region i of n pixels goes from floor(i n / size) to ceil((i + 1) n / size): regions may overlap or, where the image
    is smaller than `size`, repeat.

    Args:
      x: [batch, height, width, channels], floating point.
      size: regions along each axis.

    Returns:
      [batch, size, size, channels].

    Raises:
      ValueError: `size` is below 1.
    """
    check_integer("adaptive_avg_pool", "size", size, at_least=1)
    check_images("adaptive_avg_pool", x, "x")
    if x.shape[1:3] == (size, size):
        return x
    rows, columns = (jnp.asarray(_region_means(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("bhwc,ih,jw->bijc", x, rows, columns)


class FractionalMaxPool(nn.Module):
    """Max pooling with windows of different sizes, so that images shrink by a ratio that is not a whole number.

    The windows are drawn anew in every training step (one draw for the batch, from the stream "dropout"). In evaluation
    they are drawn too if that stream is given, so that several passes can be averaged as in the paper. Otherwise they
    are always the same: the pseudo-random windows with u in the middle of its range.

    Attributes:
      ratio: side of the input divided by side of the output, at least 1; the output's side is rounded down.
      overlapping: whether each window includes the first row and column of the next one.
      pseudo_random: whether rows are split at ceil(alpha (i + u)) with one u drawn for all i, rather than into windows
        whose sizes are in random order.

    Raises:
      ValueError: a value is out of its range, or `ratio` is so large that no pixel would be left.

    Reference: Graham, `Fractional Max-Pooling`, 2014 (arXiv 1412.6071).
    """

    ratio: float = 2**0.5
    overlapping: bool = True
    pseudo_random: bool = True

    def __post_init__(self):
        super().__post_init__()
        check_real("FractionalMaxPool", "ratio", self.ratio, at_least=1)
        check_flag("FractionalMaxPool", "overlapping", self.overlapping)
        check_flag("FractionalMaxPool", "pseudo_random", self.pseudo_random)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, height / ratio, width / ratio, channels]."""
        check_images("FractionalMaxPool", x, "x")
        keys = jax.random.split(self.make_rng("dropout")) if train or self.has_rng("dropout") else (None, None)
        for axis, key in zip((1, 2), keys, strict=True):
            size = int(x.shape[axis] / self.ratio)
            require(size >= 1, f"FractionalMaxPool: ratio={self.ratio:g} leaves nothing of images {x.shape[1:3]}")
            if key is None or self.pseudo_random:
                bounds = _pseudo_random_bounds(0.5 if key is None else jax.random.uniform(key), x.shape[axis], size)
            else:
                bounds = _random_bounds(key, x.shape[axis], size)
            x = _max_between(x, bounds, axis, size, self.overlapping)
        return x


def _geometry(function: str, x, window, stride, padding, ceil_mode):
    """The stride, and the padding before and after for height and width."""
    check_integer(function, "window", window, at_least=1)
    stride = window if stride is None else check_integer(function, "stride", stride, at_least=1)
    check_integer(function, "padding", padding, at_least=0)
    check_flag(function, "ceil_mode", ceil_mode)
    check_images(function, x)
    require(
        2 * padding <= window,
        f"{function}: padding must be at most half the window, got padding={padding} with window={window}",
    )
    require(
        min(x.shape[1:3]) + 2 * padding >= window,
        f"{function}: the input must be [batch, height, width, channels] with sides >= window={window}, "
        f"got shape {x.shape}; use fewer pooling layers or larger images",
    )
    pads = []
    for side in x.shape[1:3]:
        beyond = (side + 2 * padding - window) % stride  # pixels that no window reaches
        last_start = (side + 2 * padding - window) // stride * stride + stride
        extra = stride - beyond if ceil_mode and beyond and last_start < side + padding else 0
        pads.append((padding, padding + extra))
    return stride, tuple(pads)


def _region_means(n: int, size: int) -> np.ndarray:
    """[size, n]: row i holds the weights of the mean over region i."""
    i, pixel = np.arange(size)[:, None], np.arange(n)
    inside = (pixel >= i * n // size) & (pixel < -(-(i + 1) * n // size))
    return inside / inside.sum(1, keepdims=True)


def _pseudo_random_bounds(u, n: int, size: int) -> jax.Array:
    """The bounds of `size` windows that split n pixels: size + 1 numbers from 0 to n, int32.

    u in [0, 1) is scaled to the range in which all windows have floor(n / size) pixels or one more.
    """
    alpha, least = n / size, n // size
    most = min((least + 2) / alpha - 1, (n + 1 - least) / alpha - (size - 1))
    inner = jnp.ceil(alpha * (jnp.arange(1, size) + (1 - u) * most)).astype(jnp.int32) - 1
    return jnp.concatenate([jnp.array([0]), inner, jnp.array([n])])


def _random_bounds(key, n: int, size: int) -> jax.Array:
    """The same with the window sizes in random order."""
    least = n // size
    sizes = np.full(size, least, np.int32)
    sizes[: n - least * size] += 1
    return jnp.concatenate([jnp.array([0]), jnp.cumsum(jax.random.permutation(key, jnp.asarray(sizes)))])


def _max_between(x, bounds, axis: int, size: int, overlapping: bool):
    """Maxima over the windows between neighbouring bounds along an axis."""
    n = x.shape[axis]
    starts, ends = bounds[:-1], jnp.minimum(bounds[1:] + overlapping, n)
    best = jnp.take(x, starts, axis)
    for offset in range(1, -(-n // size) + overlapping):
        # In a shorter window the last row is used again.
        best = jnp.maximum(best, jnp.take(x, jnp.minimum(starts + offset, ends - 1), axis))
    return best
