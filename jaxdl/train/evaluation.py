"""Loss and error over a whole data set."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_function, check_integer
from jaxdl.data import Dataset, take_batch
from jaxdl.data.checks import check_dataset, check_functions, check_model_fits
from jaxdl.program_cache import remembered
from jaxdl.train.losses import Loss, check_loss, cross_entropy, per_example
from jaxdl.train.sharding import Layout, layout_of
from jaxdl.train.state import TrainState, check_model, check_state, check_variables
from jaxdl.train.step import MOST_IN_FLIGHT, Metrics, Preprocess, model_inputs


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
      ValueError: an argument is not what it should be; the model has other outputs than the data set has classes, or
        does not belong to the state.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, train
      >>> _, test_set = data.load("fashion_mini")
      >>> model = models.mlp(widths=(32,))
      >>> state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), test_set.image_shape)
      >>> 0.7 < train.evaluate(state, model, test_set).error < 1
      True
    """
    check_state("evaluate", state)
    check_dataset("evaluate", "dataset", dataset)
    check_model("evaluate", model)
    check_integer("evaluate", "batch_size", batch_size, at_least=1)
    check_loss("evaluate", loss)
    if preprocess is not None:
        check_function("evaluate", "preprocess", preprocess, "train_set.standardize")
    preprocess = preprocess or dataset.standardize
    check_variables("evaluate", model, state, check_model_fits("evaluate", model, dataset, preprocess))
    check_functions("evaluate", dataset, min(batch_size, len(dataset)), loss)
    return Evaluator(model, dataset, layout_of(state.params), loss, preprocess, batch_size=batch_size)(state)


class Evaluator:
    """Evaluates states on one data set, which lies on the devices from the start."""

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        layout: Layout,
        loss: Loss,
        preprocess: Preprocess | None,
        *,
        batch_size: int = 500,
    ):
        self.layout, self._examples = layout, len(dataset)
        share = -(-len(dataset) // len(layout.devices))  # of the examples, for each device
        self._batch_size = min(batch_size, share)
        self._count = _compiled_count(model, loss, preprocess, self._batch_size, layout)
        self._data = layout.replicate((dataset.images, dataset.labels))

    def __call__(self, state: TrainState) -> Metrics:
        """Mean loss and error, as Python floats."""
        parts = []
        for start in range(0, self._examples, self._batch_size * len(self.layout.devices)):
            parts.append(self._count(state.variables, *self._data, np.int32(start)))
            if self.layout.is_several_cpu_devices and len(parts) % MOST_IN_FLIGHT == 0:
                jax.block_until_ready(parts[-1])
        loss_sum, wrong = (sum(map(float, column)) for column in zip(*parts, strict=True))
        return Metrics(loss_sum / self._examples, wrong / self._examples, bool(np.isfinite(loss_sum)))


@remembered()
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
        return spread.sum((jnp.sum(per_example(loss, logits, batch.labels), where=real), jnp.sum(wrong, where=real)))

    def on_all(variables, images, labels, start):
        starts = start + batch_size * jnp.arange(len(layout.devices))
        return spread.map(count)((variables, images, labels), starts)

    return jax.jit(on_all)
