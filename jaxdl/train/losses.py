"""Losses: logits and labels to one number per example."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

Loss: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(logits [batch, classes], labels int [batch]) -> losses [batch]."""


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy in nats, computed in float32 or wider.

    Args:
      logits: [batch, classes].
      labels: int [batch].

    Returns:
      [batch].
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
