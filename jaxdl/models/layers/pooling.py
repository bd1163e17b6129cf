"""Pooling whose gradient is fast on the CPU."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.arguments import check_integer, require


def max_pool(x: jax.Array, *, window: int = 2, stride: int | None = None) -> jax.Array:
    """The maximum of each square window, without padding; windows that would pass the edge are left out.

    With `stride < window` the windows overlap, as in AlexNet (window 3, stride 2). The gradient goes to the first of
    equal maxima in row order, as in torch and `flax.linen.max_pool`; a NaN in a window is its maximum.

    On the CPU the maximum is taken over strided slices: XLA's own gradient (select-and-scatter) is 10 times slower
    there (`benchmarks/layers.py`). Elsewhere it is `lax.reduce_window`.

    Args:
      x: [batch, height, width, channels], floating point.
      window: side of the windows.
      stride: step between windows; by default `window`.

    Returns:
      [batch, (height - window) // stride + 1, (width - window) // stride + 1, channels].

    Raises:
      ValueError: a value below 1, or images smaller than the window.

    Reference: AlexNet, `ImageNet Classification with Deep Convolutional Neural Networks`, 2012, sec. 3.4.
    """
    window = check_integer("max_pool", "window", window, at_least=1)
    stride = window if stride is None else check_integer("max_pool", "stride", stride, at_least=1)
    require(
        x.ndim == 4 and min(x.shape[1:3]) >= window,
        f"max_pool: the input must be [batch, height, width, channels] with sides >= window={window}, "
        f"got shape {x.shape}; use fewer pooling layers or larger images",
    )
    if jax.default_backend() == "cpu":
        return _max_of_slices(x, window, stride)
    lowest = jnp.array(-jnp.inf, x.dtype)
    return lax.reduce_window(x, lowest, lax.max, (1, window, window, 1), (1, stride, stride, 1), "VALID")


def _max_of_slices(x, window, stride):
    batch, height, width, channels = x.shape
    rows, columns = (height - window) // stride * stride + 1, (width - window) // stride * stride + 1
    parts = [
        lax.slice(x, (0, i, j, 0), (batch, i + rows, j + columns, channels), (1, stride, stride, 1))
        for i in range(window)
        for j in range(window)
    ]
    best = parts[0]
    for part in parts[1:]:
        # Only a greater value (or NaN) takes over, so that the first of equals keeps the gradient.
        best = lax.select((part > best) | jnp.isnan(part), part, best)
    return best
