"""Losses and metrics: functions from outputs and targets to one number per example."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxdl.arguments import check_integer, check_real, require
from jaxdl.data.checks import kinds

Loss: TypeAlias = Callable[[Any, Any], jax.Array]
"""(outputs, targets) -> losses [batch], as logits [batch, classes] and labels int [batch] for `cross_entropy`."""

Metric: TypeAlias = Callable[[Any, Any], jax.Array]
"""(outputs, targets) -> numbers [batch], whose mean is reported."""


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy in nats, computed in float32 or wider.

    Args:
      logits: [batch, classes].
      labels: int [batch], or soft labels [batch, classes], rows of probabilities.

    Returns:
      [batch].

    Raises:
      ValueError: the two are swapped, or have other shapes.
    """
    _check_classes("cross_entropy", logits, labels)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if labels.ndim == 2:
        return optax.softmax_cross_entropy(logits, labels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@dataclasses.dataclass(frozen=True)
class label_smoothing:
    """Cross-entropy against smoothed labels.

        (1 - smoothing) onehot(label) + smoothing / classes

    Two losses with the same `smoothing` are equal, so they share their compiled steps.

    Attributes:
      smoothing: the share of the label that is spread evenly over all classes, in [0, 1); 0.1 in the paper.

    Raises:
      ValueError: `smoothing` is out of its range.

    Reference: Szegedy et al., `Rethinking the Inception Architecture`, 2016 (arXiv 1512.00567), sec. 7.
    """

    smoothing: float

    def __post_init__(self):
        check_real("label_smoothing", "smoothing", self.smoothing, at_least=0, below=1)

    def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Maps logits [batch, classes] and labels, int [batch] or soft [batch, classes], to losses [batch]."""
        _check_classes("label_smoothing", logits, labels)
        log_probabilities = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        if labels.ndim == 2:
            of_label = jnp.sum(labels * log_probabilities, -1)
        else:
            of_label = jnp.take_along_axis(log_probabilities, labels[:, None], -1)[:, 0]
        return -(1 - self.smoothing) * of_label - self.smoothing * jnp.mean(log_probabilities, -1)


def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropy in nats, the mean over labels. An example may have any number of labels.

    Args:
      logits: [batch, labels].
      labels: 0 or 1 (or between), [batch, labels].

    Returns:
      [batch].

    Raises:
      ValueError: the two are of different shapes.
    """
    _check_same("sigmoid_cross_entropy", logits, labels)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return _mean_of_example(optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype)))


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """(output - target)^2, the mean over an example's outputs.

    Args:
      outputs: [batch, ...].
      targets: of the same shape.

    Returns:
      [batch].

    Raises:
      ValueError: the two have different shapes. ([batch, 1] and [batch] would broadcast to [batch, batch].)
    """
    _check_same("squared_error", outputs, targets)
    return _mean_of_example(jnp.square(_wide(outputs) - targets))


def absolute_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """|output - target|, the mean over an example's outputs. Arguments and errors are those of `squared_error`."""
    _check_same("absolute_error", outputs, targets)
    return _mean_of_example(jnp.abs(_wide(outputs) - targets))


def error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 if the class of the largest logit is not the label, else 0. The mean is the error, in [0, 1].

    Args:
      logits: [batch, classes].
      labels: int [batch], or soft labels [batch, classes], whose largest entry is taken for the label.

    Returns:
      bool [batch].

    Raises:
      ValueError: the two are swapped, or have other shapes.
    """
    _check_classes("error", logits, labels)
    return jnp.argmax(logits, -1) != _class_numbers(labels)


@dataclasses.dataclass(frozen=True)
class top_k_error:
    """1 if the label is not among the k classes of the largest logits, else 0, as in `top_k_error(5)`.

    If logits are equal, the classes with smaller numbers come first, as in `jax.lax.top_k`.

    Attributes:
      k: at least 1, and at most the number of classes.

    Raises:
      ValueError: `k` is out of its range.

    Reference: Krizhevsky et al. 2012, sec. 2 (the top-5 error).
    """

    k: int

    def __post_init__(self):
        check_integer("top_k_error", "k", self.k, at_least=1)

    def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Maps logits [batch, classes] and labels, int [batch] or soft [batch, classes], to bool [batch]."""
        _check_classes("top_k_error", logits, labels)
        classes = logits.shape[-1]
        require(
            self.k <= classes, f"top_k_error: k must be at most the {classes} classes of the logits, got k={self.k}"
        )
        _, best = jax.lax.top_k(logits, self.k)
        return jnp.all(best != _class_numbers(labels)[:, None], -1)


def hamming_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of an example's labels that are predicted wrongly; a logit above 0 predicts 1.

    Args:
      logits: [batch, labels].
      labels: 0 or 1, [batch, labels].

    Returns:
      [batch], in [0, 1].

    Raises:
      ValueError: the two are of different shapes.
    """
    _check_same("hamming_loss", logits, labels)
    return _mean_of_example(((logits > 0) != (labels > 0.5)).astype(jnp.float32))


def _class_numbers(labels: jax.Array) -> jax.Array:
    return labels if labels.ndim == 1 else jnp.argmax(labels, -1)


def _wide(outputs: jax.Array) -> jax.Array:
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


def _mean_of_example(values: jax.Array) -> jax.Array:
    return jnp.mean(values, tuple(range(1, values.ndim)))


def _check_same(function: str, outputs: Any, targets: Any) -> None:
    shapes = _shape(outputs), _shape(targets)
    remedy = ""
    if None not in shapes:
        (of_outputs, of_targets) = shapes
        if of_outputs == (*of_targets, 1):
            remedy = "; make targets of shape [n, 1], targets[:, None]"
        elif (*of_outputs, 1) == of_targets:
            remedy = "; make targets of shape [n], targets[:, 0]"
        elif len(of_outputs) == 2 and of_outputs[:1] == of_targets and jnp.issubdtype(targets.dtype, jnp.integer):
            remedy = (
                "; for class numbers use train.cross_entropy, or make targets one-hot, jax.nn.one_hot(targets, classes)"
            )
    require(
        None not in shapes and len(shapes[0]) >= 1 and shapes[0] == shapes[1] and _is_floating(outputs),
        f"{function}: outputs must be floating point, and targets, the second argument, of the same shape, got "
        f"{kinds(outputs)} and {kinds(targets)}{remedy or _remedy_for_trees(function, outputs, targets)}",
    )


def _check_classes(function: str, logits: Any, labels: Any) -> None:
    shapes = _shape(logits), _shape(labels)
    are_arrays = None not in shapes
    soft = are_arrays and len(shapes[1]) == 2 and shapes[0] == shapes[1] and _is_floating(labels)
    fits = are_arrays and len(shapes[0]) == 2 and shapes[0][:1] == shapes[1]
    remedy = ""
    if are_arrays and len(shapes[0]) == len(shapes[1]) == 2:
        if shapes[1][1] == 1:
            remedy = "; use labels[:, 0]"
        elif shapes[0] == shapes[1]:
            remedy = "; for one-hot labels pass labels.argmax(-1).astype(numpy.int32)"
        elif shapes[0][0] == shapes[1][0]:
            remedy = f"; the labels have {shapes[1][1]} classes and the logits {shapes[0][1]}, make them equal"
    require(
        (fits or soft) and _is_floating(logits),
        f"{function}: logits must be floating point [batch, classes], and labels, the second argument, integers "
        f"[batch] or probabilities, floating point [batch, classes], got {kinds(logits)} and {kinds(labels)}"
        f"{remedy or _remedy_for_trees(function, logits, labels)}",
    )
    require(
        soft or jnp.issubdtype(labels.dtype, jnp.integer),
        f"{function}: labels must be class numbers, integers [batch], got {kinds(labels)}; pass "
        "labels.astype(numpy.int32), or for numbers to predict use train.squared_error",
    )
    require(
        shapes[0][1] >= 2,
        f"{function}: logits must be of at least 2 classes, got {kinds(logits)}; give the model one output for each "
        "class, or use train.sigmoid_cross_entropy for yes or no (labels [batch, 1]), or train.squared_error for "
        "numbers to predict",
    )


def _remedy_for_trees(function: str, outputs: Any, targets: Any) -> str:
    if _shape(outputs) is not None and _shape(targets) is not None:
        return ""
    return f"; for a tree of arrays pass a function, lambda outputs, targets: {function}(outputs['a'], targets)"


def _shape(array: Any) -> Any:
    """The shape, or None for a value that is not an array of numbers."""
    is_number = isinstance(array, bool | int | float)
    return () if is_number else array.shape if hasattr(array, "shape") and hasattr(array, "dtype") else None


def _is_floating(array: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(array), jnp.floating)
