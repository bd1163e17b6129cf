"""Loss and metrics over a whole data set, of one model or of many."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset
from jaxdl.data.sweep import Sweep, masked_batch
from jaxdl.mesh import Members
from jaxdl.program_cache import remembered
from jaxdl.train.history import Metrics
from jaxdl.train.losses import Loss, Metric, cross_entropy
from jaxdl.train.sharding import Layout, layout_of
from jaxdl.train.state import TrainState, check_state, check_variables
from jaxdl.train.step import MOST_IN_FLIGHT
from jaxdl.train.task import Preprocess, Task, check_task, make_task
from jaxdl.views import Views, over_views


def evaluate(
    model: nn.Module,
    state: TrainState | Mapping[str, Any],
    dataset: Dataset | Stream,
    *,
    batch_size: int = 500,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    views: Views | None = None,
) -> Metrics:
    """Mean loss and metrics of a model over every example of a data set, in evaluation mode.

    Args:
      model: a module called as `model(inputs, train=bool)`, or `model(inputs)` if it does not take `train`.
      state: a training state, or variables {"params": ..., "batch_stats": ...}; nothing changes.
      dataset: a data set or a stream, all of whose examples are used.
      batch_size: examples at a time on each device; it affects the result only by rounding.
      loss: as for `make_step`. Losses that the model sows are not included.
      metrics: as for `make_step`; by default the error, if targets are classes.
      preprocess: function from a batch to the model's inputs; by default `dataset.standardize`.
      views: function from such inputs [batch, ...] to views of them [batch, views, ...]: `data.TenCrop(224)` for the
        ten crops of AlexNet's test. The softmax of the outputs is then the mean of the views' softmax. All views of a
        batch are in memory at once, so pass a smaller `batch_size`.

    Returns:
      Metrics of Python floats: `.loss`, `.error`, and `.metrics` by name.

    Raises:
      ValueError: an argument is wrong; the model has more or fewer outputs than the data set has classes; or the state
        is of another model.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, train
      >>> _, test_set = data.load("fashion_mini")
      >>> model = models.mlp(widths=(32,))
      >>> state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), test_set.image_shape)
      >>> 0.7 < train.evaluate(model, state, test_set).error < 1
      True
    """
    order = "the order is evaluate(model, state, dataset)"
    if isinstance(model, TrainState) or isinstance(state, nn.Module):
        raise ValueError(f"evaluate: the state stands in the place of the model; {order}")
    require(
        not isinstance(state, Dataset | Stream), f"evaluate: the data set stands in the place of the state; {order}"
    )
    check_dataset("evaluate", "dataset", dataset)
    preprocess = preprocess or dataset.standardize
    model = over_views("evaluate", model, views)
    task = make_task("evaluate", model, loss=loss, metrics=metrics, preprocess=preprocess)
    if isinstance(state, Mapping):
        require(
            "params" in state,
            f'evaluate: variables must be {{"params": ..., "batch_stats": ...}}, got {shown(state)}; pass the state, '
            "or state.variables",
        )
        variables = {"batch_stats": {}, **state}
    else:
        check_state("evaluate", state)
        variables = state.variables
    check_integer("evaluate", "batch_size", batch_size, at_least=1)
    shapes = check_task("evaluate", task, dataset, batch_size, training=False)
    check_variables("evaluate", model, variables, shapes)
    return Evaluator(task, dataset, layout_of(variables["params"]), batch_size=batch_size)(variables)


class Evaluator:
    """Evaluates models on one data set, which lies on the devices from the start unless it is a stream.

    Args:
      task: the model, loss and metrics.
      dataset: the data set, all of whose examples are used.
      where: a `Layout` for one model, `Members` for stacked ones.
      batch_size: examples at a time, on each device.
    """

    def __init__(self, task: Task, dataset: Dataset | Stream, where: Layout | Members, *, batch_size: int = 500):
        self.where = where
        split = isinstance(dataset, Stream) and isinstance(where, Layout)
        if isinstance(where, Members):
            self._sweep = Sweep(dataset, where.replicate, batch_size=batch_size)
        else:
            self._sweep = Sweep(
                dataset,
                where.place_batch if split else where.replicate,
                batch_size=batch_size,
                parts=len(where.devices),
                mine=where.here,
                wait_every=MOST_IN_FLIGHT if where.is_several_cpu_devices else None,
            )
        self._sums = _compiled_sums(task, self._sweep.batch_size, where, split)

    def __call__(self, variables: Any) -> Metrics:
        """Means over the data set: Python floats, or for stacked variables float64 [members]."""
        parts = jax.device_get(list(self._sweep(self._sums, variables)))
        totals = jax.tree.map(lambda *sums: np.sum(np.asarray(sums, np.float64), 0) / self._sweep.examples, *parts)
        if isinstance(self.where, Layout):
            totals = jax.tree.map(float, totals)
        loss, metrics = totals
        return Metrics(loss, metrics, np.isfinite(loss))


@remembered()
def _compiled_sums(task: Task, batch_size: int, where: Layout | Members, split: bool):
    """A compiled function: sums of loss and metrics over the batch from a row on; rows past the end do not count.

    With `split` each device of a layout has its own examples; else all have the whole set.
    """

    def sums(variables, data, start):
        batch, real = masked_batch(data, start, batch_size)
        return jax.tree.map(lambda values: jnp.sum(values, where=real), task.evaluated(variables, batch))

    if isinstance(where, Members):
        return jax.jit(where.spread(sums, own=1))
    spread = where.spread()

    def on_all(variables, data, start):
        if split:
            return spread.map(lambda variables, mine: spread.sum(sums(variables, mine, 0)))(variables, data)
        starts = start + batch_size * jnp.arange(len(where.devices))
        f = spread.map(lambda shared, mine: spread.sum(sums(shared[0], shared[1], mine[0])))
        return f((variables, data), starts)

    return jax.jit(on_all)
