"""Weight initialisers that draw a flat vector and reshape it.

The numbers are bitwise those of `jax.nn.initializers`. (Normal draws on jax 0.12, which multiplies in another order,
may differ in the last bit or two.)
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdl.arguments import check_choice, check_real, require

Initializer: TypeAlias = Callable[[jax.Array, Sequence[int], DTypeLike], jax.Array]

_TRUNCATED_STD = 0.87962566103423978  # standard deviation of a standard normal variable cut off at -2 and 2


def variance_scaling(
    scale: float,
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in",
    distribution: Literal["normal", "truncated_normal", "uniform"] = "normal",
) -> Initializer:
    """Weights of mean 0 and variance `scale / fan`.

    The fans of a kernel [..., in, out] are in and out times the product of the leading axes (a convolution's window).

    Args:
      scale: at least 0.
      mode: which fan to divide by: the inputs, the outputs, or their mean.
      distribution: "truncated_normal" cuts off at two standard deviations and widens to keep the variance.

    Returns:
      An initialiser `(key, shape, dtype) -> array`, equal to `jax.nn.initializers.variance_scaling`'s.

    Raises:
      ValueError: `scale` is negative, `mode` or `distribution` is unknown, or (when called) a shape has fewer than two
        axes.
    """
    check_real("variance_scaling", "scale", scale, at_least=0)
    check_choice("variance_scaling", "mode", mode, ("fan_in", "fan_out", "fan_avg"))
    check_choice("variance_scaling", "distribution", distribution, ("normal", "truncated_normal", "uniform"))

    def initialize(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        require(len(shape) >= 2, f"variance_scaling: a kernel needs two axes or more, got shape={tuple(shape)}")
        window = math.prod(shape[:-2])
        fan_in, fan_out = window * shape[-2], window * shape[-1]
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        variance, size = jnp.array(scale / fan, dtype), (math.prod(shape),)
        if distribution == "normal":
            flat = jax.random.normal(key, size, dtype) * jnp.sqrt(variance)
        elif distribution == "truncated_normal":
            std = jnp.sqrt(variance) / jnp.array(_TRUNCATED_STD, dtype)
            flat = jax.random.truncated_normal(key, -2, 2, size, dtype) * std
        else:
            flat = jax.random.uniform(key, size, dtype, -1) * jnp.sqrt(3 * variance)
        return flat.reshape(shape)

    return initialize


def normal(std: float) -> Initializer:
    """Normal weights of mean 0 and standard deviation `std`, whatever the fans, as in AlexNet's paper.

    Raises:
      ValueError: `std` is negative.
    """
    check_real("normal", "std", std, at_least=0)

    def initialize(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return (std * jax.random.normal(key, (math.prod(shape),), dtype)).reshape(shape)

    return initialize


he_normal = variance_scaling(2.0, "fan_in", "normal")
"""He et al. 2015: keeps the variance of activations through layers followed by a ReLU."""

lecun_normal = variance_scaling(1.0, "fan_in", "truncated_normal")
"""LeCun et al. 1998: keeps the variance of activations through linear layers; Flax's default."""
