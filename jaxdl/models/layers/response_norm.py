"""Local response normalisation, in AlexNet's form and in the two forms of cuda-convnet."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.arguments import check_flag, check_integer, check_real, require
from jaxdl.models.layers.checks import check_floating, check_images


def local_response_norm(
    x: jax.Array,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    divide_by_size: bool = False,
) -> jax.Array:
    """Divides every number by a power of the sum of squares over the neighbouring channels at its pixel.

        b_i = a_i / (k + alpha sum_j a_j^2)^beta,   j from i - size // 2 to i + (size - 1) // 2, inside the channels

    as in AlexNet. With `divide_by_size` alpha is divided by `size` (the full size, also at the first and last
    channels). With k=1 this is cuda-convnet's `cmrnorm`. Torch's `LocalResponseNorm(size, alpha, beta, k)` is

        local_response_norm(x, size=size, alpha=alpha, beta=beta, k=k, divide_by_size=True)

    Args:
      x: [..., channels].
      size: channels that enter each sum.
      alpha: weight of the sum.
      beta: exponent.
      k: added to the sum, so that small activations are only multiplied by k^-beta; positive.
      divide_by_size: whether to take the mean of the squares rather than the sum.

    Returns:
      The same shape and dtype; computed in float32 or wider.

    Raises:
      ValueError: `size` is below 1, `k` is not positive, or `alpha` or `beta` is negative, or x is not
        floating point.

    Reference: Krizhevsky et al., `ImageNet Classification with Deep Convolutional Neural Networks`, 2012, sec. 3.3.
    """
    _check("local_response_norm", size, alpha, beta, k)
    check_flag("local_response_norm", "divide_by_size", divide_by_size)
    check_floating("local_response_norm", x, at_least=1, layout="[..., channels]", name="x")
    weight = alpha / size if divide_by_size else alpha
    return _divide(x, weight, beta, k, lambda squares: _window_sum(squares, size, axes=(-1,)))


def spatial_response_norm(
    x: jax.Array, *, size: int = 3, alpha: float = 5e-5, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """Divides every number by a power of the mean square around it in its own channel: cuda-convnet's `rnorm`.

        b_rc = a_rc / (k + alpha / size^2 sum_{r'c'} a_{r'c'}^2)^beta

    over the window of `size` rows and columns around (r, c), as far as it lies in the image.

    Args:
      x: [batch, height, width, channels].
      size: side of the window.
      alpha: weight of the mean of squares.
      beta: exponent.
      k: added to the mean; positive.

    Returns:
      The same shape and dtype; computed in float32 or wider.

    Raises:
      ValueError: as for `local_response_norm`, or the input is not images.

    Reference: cuda-convnet, layer type `rnorm`, as in its `layers-18pct.cfg`.
    """
    _check("spatial_response_norm", size, alpha, beta, k)
    check_images("spatial_response_norm", x, "x")
    return _divide(x, alpha / size**2, beta, k, lambda squares: _window_sum(squares, size, axes=(1, 2)))


def _check(function: str, size, alpha, beta, k) -> None:
    check_integer(function, "size", size, at_least=1)
    check_real(function, "alpha", alpha, at_least=0)
    check_real(function, "beta", beta, at_least=0)
    check_real(function, "k", k, at_least=0)
    require(k > 0, f"{function}: k must be positive, got k={k}; a black image would be divided by 0")


def _divide(x, weight, beta, k, window_sum):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    base = k + weight * window_sum(jnp.square(wide))
    # x^-3/4 by two roots: a general power takes a quarter to a half of the layer's time on a CPU.
    factor = lax.rsqrt(base) * jnp.sqrt(lax.rsqrt(base)) if beta == 0.75 else base**-beta
    return (wide * factor).astype(x.dtype)


def _window_sum(x, size, axes):
    """Sums over `size` neighbours along each of some axes, with zeros beyond the ends."""
    axes = [axis % x.ndim for axis in axes]
    window = [size if axis in axes else 1 for axis in range(x.ndim)]
    pads = [(size // 2, (size - 1) // 2) if axis in axes else (0, 0) for axis in range(x.ndim)]
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, window, (1,) * x.ndim, pads)
