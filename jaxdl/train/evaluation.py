"""Loss and error over a whole data set."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer
from jaxdl.data import Dataset, take_batch
from jaxdl.train.losses import Loss, cross_entropy
from jaxdl.train.sharding import layout_of
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
      batch_size: examples at a time on each device; no influence on the result but for rounding.
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
    layout = layout_of(state.params)
    share = -(-len(dataset) // len(layout.devices))  # of the examples, for each device
    batch_size = min(batch_size, share)
    count = _compiled_count(model, loss, preprocess or dataset.standardize, batch_size, layout)
    images, labels = layout.replicate((dataset.images, dataset.labels))
    starts = range(0, len(dataset), batch_size * len(layout.devices))
    parts = [count(state.variables, images, labels, np.int32(start)) for start in starts]
    loss_sum, wrong = (sum(map(float, column)) for column in zip(*parts, strict=True))
    return Metrics(loss_sum / len(dataset), wrong / len(dataset), bool(np.isfinite(loss_sum)))


@functools.lru_cache(maxsize=64)
def _compiled_count(model, loss, preprocess, batch_size, layout):
    spread = layout.spread()

    def count(shared, starts):
        """Sum of losses, and number of errors, of a batch from each device's start; those past the end do not count."""
        variables, images, labels = shared
        rows = starts[0] + jnp.arange(batch_size)
        batch = take_batch(images, labels, rows)
        logits = model.apply(variables, model_inputs(batch.images, preprocess), train=False)
        real = rows < len(labels)
        wrong = jnp.argmax(logits, -1) != batch.labels
        return spread.sum((jnp.sum(loss(logits, batch.labels), where=real), jnp.sum(wrong, where=real)))

    def on_all(variables, images, labels, start):
        starts = start + batch_size * jnp.arange(len(layout.devices))
        return spread.map(count)((variables, images, labels), starts)

    return jax.jit(on_all)
