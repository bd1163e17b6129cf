"""Skip connections: shortcuts A, B and C of the ResNet paper; addition and concatenation."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxdl.arguments import check_integer, require, shown
from jaxdl.models.layers.checks import check_images

Project: TypeAlias = Callable[[jax.Array], jax.Array]
"""A 1x1 convolution to the block's width and stride, with its normalisation; makes its parameters when called."""

Shortcut: TypeAlias = Callable[[jax.Array, int, int, Project], jax.Array]
"""(x, features, stride, project) -> the array to which the output of the branch is added."""


def check_shortcut(function: str, shortcut: Any) -> None:
    """Raises `ValueError` unless `shortcut` is None or a function."""
    require(
        shortcut is None or (callable(shortcut) and not isinstance(shortcut, type)),
        f"{function}: shortcut must be a function or None, got shortcut={shown(shortcut)}; "
        "pass layers.shortcut_a, layers.shortcut_b or layers.shortcut_c",
    )


def shortcut_a(x: jax.Array, features: int, stride: int, project: Project) -> jax.Array:
    """Option A, without parameters: every `stride`-th pixel, with channels of zeros before and after those of x.

    Args:
      x: [batch, height, width, channels].
      features: channels of the result, at least as many as x has.
      stride: the block's stride.
      project: not used.

    Returns:
      [batch, height / stride, width / stride, features], sides rounded up.

    Raises:
      ValueError: x has more channels than `features`.

    Reference: He et al., `Deep Residual Learning`, 2015 (arXiv 1512.03385), sec. 4.1. The paper does not say on which
    side the zeros stand; the pretrained CIFAR ResNets of akamaster/pytorch_resnet_cifar10 have them on both.
    """
    del project
    check_images("shortcut_a", x, "x")
    check_integer("shortcut_a", "features", features, at_least=1)
    check_integer("shortcut_a", "stride", stride, at_least=1)
    missing = features - x.shape[-1]
    require(
        missing >= 0,
        f"shortcut_a: zeros cannot take {x.shape[-1]} channels to {features}; use shortcut_b or shortcut_c",
    )
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0),) * 3 + ((missing // 2, missing - missing // 2),)) if missing else x


def shortcut_b(x: jax.Array, features: int, stride: int, project: Project) -> jax.Array:
    """Option B: a projection where the shape changes, the identity elsewhere. Arguments as for `shortcut_a`."""
    return x if stride == 1 and x.shape[-1] == features else project(x)


def shortcut_c(x: jax.Array, features: int, stride: int, project: Project) -> jax.Array:
    """Option C: a projection in every block. Arguments as for `shortcut_a`."""
    del features, stride
    return project(x)


def add_skip(shortcut: jax.Array, branch: jax.Array) -> jax.Array:
    """A residual connection: x + f(x)."""
    return shortcut + branch


def concatenate_skip(shortcut: jax.Array, branch: jax.Array) -> jax.Array:
    """A dense connection: the channels of x, then those of f(x).

    Reference: Huang et al., `Densely Connected Convolutional Networks`, 2017 (arXiv 1608.06993).
    """
    return jnp.concatenate([shortcut, branch], -1)
