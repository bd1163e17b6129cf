"""Losses: logits and labels to one number per example."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxdl.arguments import check_real

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


@dataclasses.dataclass(frozen=True)
class label_smoothing:
    """Cross-entropy against labels of which a part is spread evenly over all classes.

        (1 - smoothing) onehot(label) + smoothing / classes

    Equal settings are equal losses, so they share their compiled steps.

    Attributes:
      smoothing: the part, in [0, 1); the paper's is 0.1.

    Raises:
      ValueError: `smoothing` is out of its range.

    Reference: Szegedy et al., `Rethinking the Inception Architecture`, 2016 (arXiv 1512.00567), sec. 7.
    """

    smoothing: float

    def __post_init__(self):
        check_real("label_smoothing", "smoothing", self.smoothing, at_least=0, below=1)

    def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Maps logits [batch, classes] and labels int [batch] to losses [batch]."""
        log_probabilities = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        of_label = jnp.take_along_axis(log_probabilities, labels[:, None], -1)[:, 0]
        return -(1 - self.smoothing) * of_label - self.smoothing * jnp.mean(log_probabilities, -1)
