"""Loss and error over a whole data set."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.arguments import check_integer
from jaxdl.data import Dataset, take_batch
from jaxdl.train.losses import Loss, cross_entropy
from jaxdl.train.state import TrainState
from jaxdl.train.step import Metrics, Preprocess, model_inputs


def evaluate(
    state: TrainState,
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 500,
    loss: Loss = cross_entropy,
    preprocess: Preprocess | None = None,
) -> Metrics:
    """Mean loss and error of a model over every example of a data set, in evaluation mode.

    Args:
      state: parameters and batch statistics are used; nothing changes.
      model: the module that the state belongs to.
      dataset: all of it counts, the last batch too if it is smaller.
      batch_size: examples at a time; no influence on the result but for rounding.
      loss: logits and labels to one loss per example.
      preprocess: images to model inputs; by default `dataset.standardize`.

    Returns:
      Metrics of Python floats.

    Raises:
      ValueError: `batch_size` is below 1.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, train
      >>> _, test_set = data.load("fashion_mini")
      >>> model = models.mlp(widths=(32,))
      >>> state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), test_set.image_shape)
      >>> 0.7 < train.evaluate(state, model, test_set).error < 1
      True
    """
    check_integer("evaluate", "batch_size", batch_size, at_least=1)
    count = _compiled_count(model, loss, preprocess or dataset.standardize, min(batch_size, len(dataset)))
    images, labels = jnp.asarray(dataset.images), jnp.asarray(dataset.labels)
    parts = [count(state.variables, images, labels, start) for start in range(0, len(dataset), batch_size)]
    loss_sum, wrong = (sum(map(float, column)) for column in zip(*parts, strict=True))
    return Metrics(loss_sum / len(dataset), wrong / len(dataset))


@functools.lru_cache(maxsize=64)
def _compiled_count(model, loss, preprocess, batch_size):
    def count(variables, images, labels, start):
        """Sum of losses, and number of errors, of the examples from `start`; those past the end do not count."""
        rows = start + jnp.arange(batch_size)
        batch = take_batch(images, labels, rows)
        logits = model.apply(variables, model_inputs(batch.images, preprocess), train=False)
        real = rows < len(labels)
        wrong = jnp.argmax(logits, -1) != batch.labels
        return jnp.sum(loss(logits, batch.labels), where=real), jnp.sum(wrong, where=real)

    return jax.jit(count)
