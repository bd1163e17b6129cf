"""Activations: JAX's functions, and PReLU, which has parameters."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.arguments import check_flag, check_real, require, shown

Activation: TypeAlias = Callable[..., Any]
"""A function of an array (`flax.linen.relu`), or a class of modules (`PReLU`), of which each layer makes its own."""


class PReLU(nn.Module):
    """max(0, x) + a min(0, x), with a learned slope a for each channel.

    The paper uses no weight decay on the slopes, since it would push PReLU towards ReLU: `optim.no_bias_no_norm` masks
    them.

    Attributes:
      shared: whether all channels have one slope.
      initial_slope: where the slopes start.

    Raises:
      ValueError: `shared` is not a bool, or `initial_slope` is not a finite number.

    Reference: He et al., `Delving Deep into Rectifiers`, 2015 (arXiv 1502.01852), sec. 2.1.
    """

    shared: bool = False
    initial_slope: float = 0.25

    def __post_init__(self):
        super().__post_init__()
        check_flag("PReLU", "shared", self.shared)
        check_real("PReLU", "initial_slope", self.initial_slope)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., channels] to the same shape."""
        shape = () if self.shared else (x.shape[-1],)
        slope = self.param("slope", nn.initializers.constant(self.initial_slope), shape)
        return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)


def check_activation(function: str, activation: Any, name: str = "activation") -> None:
    """Raises `ValueError` unless `activation` is a function or a class of modules (or a `functools.partial` of one)."""
    if isinstance(activation, nn.Module):
        kind = type(activation).__name__
        raise ValueError(
            f"{function}: {name} must be a function or a class of modules, got an instance, "
            f"{name}={shown(activation)}; pass the class, {name}={kind}, or functools.partial({kind}, ...)"
        )
    kind = activation.func if isinstance(activation, functools.partial) else activation
    require(
        callable(kind) and not (isinstance(kind, type) and not issubclass(kind, nn.Module)),
        f"{function}: {name} must be a function or a class of modules, got {name}={shown(activation)}; "
        "pass flax.linen.relu, flax.linen.tanh or layers.PReLU for example",
    )


def activate(activation: Activation, x: jax.Array) -> jax.Array:
    """Applies an activation within a compact module, making the module first if it is a class.

    Example:
      >>> import jax.numpy as jnp
      >>> activate(nn.relu, jnp.array([-1.0, 2.0])).tolist()
      [0.0, 2.0]
    """
    kind = activation.func if isinstance(activation, functools.partial) else activation
    return activation()(x) if isinstance(kind, type) else activation(x)
