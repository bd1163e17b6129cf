"""Losses: logits and labels to one number per example."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxdl.arguments import check_function, check_real, require

Loss: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(logits [batch, classes], labels int [batch]) -> losses [batch]."""


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy in nats, computed in float32 or wider.

    Args:
      logits: [batch, classes].
      labels: int [batch].

    Returns:
      [batch].

    Raises:
      ValueError: the two are swapped, or of other shapes.
    """
    _check("cross_entropy", logits, labels)
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
        _check("label_smoothing", logits, labels)
        log_probabilities = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        of_label = jnp.take_along_axis(log_probabilities, labels[:, None], -1)[:, 0]
        return -(1 - self.smoothing) * of_label - self.smoothing * jnp.mean(log_probabilities, -1)


def per_example(loss: Loss, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """What a loss gives; raises `ValueError` unless that is one number for each example."""
    losses = loss(logits, labels)
    found = getattr(losses, "shape", None)
    require(
        found == labels.shape[:1],
        f"loss must map logits [batch, classes] and labels [batch] to losses [batch], got shape {found} for a batch of "
        f"{len(labels)}; leave the mean over the batch to the step",
    )
    return losses


def check_loss(function: str, loss: Loss) -> None:
    """Raises `ValueError` for what is no loss."""
    require(loss is not label_smoothing, f"{function}: loss must be a function, got a class; pass label_smoothing(0.1)")
    check_function(function, "loss", loss, "train.cross_entropy")


def _check(function: str, logits: jax.Array, labels: jax.Array) -> None:
    fits = jnp.ndim(logits) == 2 and jnp.ndim(labels) == 1 and jnp.shape(logits)[0] == jnp.shape(labels)[0]
    require(
        fits and jnp.issubdtype(jnp.result_type(logits), jnp.floating),
        f"{function}: takes logits, floating point [batch, classes], and then labels, integers [batch], "
        f"got {jnp.result_type(logits)} {list(jnp.shape(logits))} and {jnp.result_type(labels)} "
        f"{list(jnp.shape(labels))}",
    )
    require(
        jnp.issubdtype(jnp.result_type(labels), jnp.integer),
        f"{function}: labels must be class numbers, integers [batch], got {jnp.result_type(labels)}",
    )
