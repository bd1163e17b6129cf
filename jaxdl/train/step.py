"""A compiled training step, at every scale."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.core import Tracer

from jaxdl.arguments import require, shown
from jaxdl.data import Dataset
from jaxdl.data.checks import check_image_bytes, kinds, len_of
from jaxdl.program_cache import remembered
from jaxdl.train.history import Metrics
from jaxdl.train.losses import Loss, Metric, cross_entropy
from jaxdl.train.order import check_order
from jaxdl.train.sharding import Layout, Parallel, make_layout
from jaxdl.train.state import TrainState, check_state, check_variables
from jaxdl.train.task import Augment, Preprocess, check_class_numbers, check_on_batch, make_task
from jaxdl.train.update import BatchNormMode, Rule, make_rule, train_step
from jaxdl.typing import Batch, Device

MOST_IN_FLIGHT = 16
"""How many steps may be under way at once on several CPU devices, which deadlock beyond about 32 (jax below 0.12)."""


def make_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    devices: Sequence[Device] | None = None,
    parallel: Parallel = "auto",
    shard_state: bool = False,
    batch_norm: BatchNormMode = "synchronized",
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    accumulate: int = 1,
    skip_nonfinite: bool = False,
    gradient_norm: bool = False,
) -> "Step":
    """Makes a compiled training step. The state passed to it is donated: use the state that it returns.

    Equal arguments give the same step, so it compiles once.

    The batch is spread evenly over the devices, and the update is that of the whole batch. With synchronised BatchNorm
    and without dropout a step computes the same on any number of devices, up to rounding. (Dropout draws other numbers
    on each device.) A batch that cannot be spread evenly, such as a last batch of an epoch, is computed in full on
    every device: the result is the same, but it takes longer.

    Mixed precision depends on the model and the chain. `models.resnet_cifar(20, dtype=jnp.bfloat16)` computes in
    bfloat16 with float32 parameters and statistics. float16 needs `optim.dynamic_loss_scale` around the chain; the step
    then scales the loss. For gradient clipping put `optax.clip_by_global_norm(1.0)` first in the chain: it sees the
    gradient of the whole batch. Rematerialisation is a field of the model (`models.resnet(..., remat=True)`).

    Args:
      model: a module called as `model(inputs, train=bool)`, or `model(inputs)` if it does not take `train`. All
        collections that it keeps are part of the state; devices average what they compute from their own parts of a
        batch. It gets random numbers for every stream that it asks for
        (`self.make_rng("noise")`). Scalars that it sows as "losses" are added to the loss.
      tx: the optimizer.
      devices: the devices to use; by default all, including those of other processes.
      parallel: "single" (one device), "pmap", or "sharded" (jit over a mesh of devices). "auto" is "single" for one
        device without `shard_state`, else "sharded".
      shard_state: for "sharded": whether parameters and optimizer state are spread over the devices too (ZeRO stage 3),
        if they do not fit one device. Each array is cut along its longest axis that the number of devices divides.
        Arrays of fewer than 1,024 elements, and those without such an axis, stay whole on every device.
      batch_norm: "synchronized": statistics of the whole batch; "per_device": each device normalises by its own part,
        and the running statistics are the mean over the devices. It holds for `layers.BatchNorm`, and for Flax's
        BatchNorm as the field `norm` of a jaxdl model, unless they have an `axis_name`. In a module of your own Flax's
        BatchNorm is synchronised only with `axis_name=train.AXIS`, which needs "pmap" or "sharded", and then in both
        modes.
      loss: function from outputs and targets to one loss per example; their mean is minimised. It may be
        `train.label_smoothing(0.1)`, `train.squared_error`, `train.sigmoid_cross_entropy`, or your own.
      metrics: by name, functions from outputs and targets to one number per example; the step returns their means:
        `{"error": train.error, "top5_error": train.top_k_error(5)}`. By default the error, if targets are classes.
      preprocess: pure function from a batch of inputs to the model's inputs; needed if they are uint8.
      augment: pure function (keys [batch], inputs) -> inputs, or (keys, inputs, targets) -> (inputs, targets), applied
        before `preprocess`: `data.CROP_AND_FLIP`. Its random numbers depend on the state's key, the step and the
        example's place in the batch, not on the devices. If it has a method `at_step(step)`, as `data.AlternatingFlip`,
        it is called first, and what it returns is applied.
      accumulate: number of parts in which the gradient is computed, one after the other, to save memory; must divide
        the examples of each device. Part j has the examples j, j + accumulate, ... of the batch. BatchNorm then
        normalises by the part.
      skip_nonfinite: whether parameters, statistics and optimizer stay the same if the loss or a gradient is not
        finite.
      gradient_norm: whether the metrics have the global L2 norm of the gradient too.

    Returns:
      `step(state, batch) -> (state, metrics)`. A batch is a pair (inputs, targets), each an array [batch, ...] or a
      tree of arrays. The metrics are of the parameters before the update, with dropout and batch statistics as in
      training; they have the learning rate of the update too. With several processes each process passes its own part
      of the batch.

    Raises:
      ValueError: an argument is wrong; or, from the step, images are uint8 without `preprocess`, or a batch cannot be
        divided.

    Reference: Goyal et al. 2017 (arXiv 1706.02677) for the mean over devices; Rajbhandari et al., `ZeRO`, 2020
    (arXiv 1910.02054) for sharded states.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, train
      >>> train_set, _ = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(32,)), optim.sgd(0.1)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
      >>> step = train.make_step(model, tx, preprocess=train_set.standardize)
      >>> state, metrics = step(state, (train_set.images[:128], train_set.labels[:128]))
      >>> int(state.step), bool(metrics.loss > 1)
      (1, True)
    """
    task = make_task("make_step", model, loss=loss, metrics=metrics, preprocess=preprocess, augment=augment)
    rule = make_rule(
        "make_step",
        task,
        tx,
        accumulate=accumulate,
        batch_norm=batch_norm,
        skip_nonfinite=skip_nonfinite,
        gradient_norm=gradient_norm,
    )
    return _step(rule, make_layout("make_step", devices, parallel, shard_state))


@remembered()
def _step(rule: Rule, layout: Layout) -> "Step":
    return Step(rule, layout)


class Step:
    """A compiled training step; see `make_step`."""

    def __init__(self, rule: Rule, layout: Layout):
        self._layout, self._rule, self._accumulate = layout, rule, rule.accumulate
        self._seen: set[tuple] = set()  # shapes and dtypes of the batches that were looked at
        self._calls = 0
        self._evenly, self._unevenly = (
            layout.compile(functools.partial(train_step, rule=rule, spread=layout.spread(evenly=evenly)))
            for evenly in (True, False)
        )

    def __call__(self, state: TrainState, batch: Batch | tuple[Any, Any]) -> tuple[TrainState, Metrics]:
        """Makes one update."""
        check_state("make_step", state)
        batch = self._looked_at(state, batch)
        if self._layout.parallel == "single" and self._layout.devices[0] == jax.local_devices()[0]:
            self._check(len_of(batch))
            return self._evenly(state, batch)
        state, metrics = self._on_layout(state, batch)
        self._calls += 1
        if self._layout.is_several_cpu_devices and self._calls % MOST_IN_FLIGHT == 0:
            jax.block_until_ready(metrics)
        return state, metrics

    def lower(self, state: TrainState, batch: Batch | tuple[Any, Any]) -> jax.stages.Lowered:
        """The lowered program for these arguments, to inspect it or to compile it ahead of time."""
        check_state("make_step", state)
        _check_pair(batch)
        return self._evenly.lower(state, Batch(*batch))

    def place(self, state: TrainState) -> TrainState:
        """The state on the devices of the step. Calling the step puts it there too."""
        return self._layout.place(state)

    def _on_layout(self, state, batch):
        layout = self._layout
        if state.step.sharding != layout.whole:
            state = self.place(state)
        here = len(layout.here)
        if len_of(batch) % here == 0:
            self._check(len_of(batch) // here)
            return self._evenly(state, layout.place_batch(batch))
        require(
            jax.process_count() == 1,
            f"the {len_of(batch)} examples of this process cannot be spread evenly over its {here} devices; "
            "with several processes pass batches that can",
        )
        self._check(len_of(batch))
        if layout.parallel == "pmap":
            return self._unevenly(state, jax.tree.map(lambda x: np.broadcast_to(x, (here, *np.shape(x))), batch))
        return self._unevenly(state, jax.device_put(batch, layout.whole))

    def _looked_at(self, state: TrainState, batch: Any) -> Batch:
        """The batch, after checks of its form, and for the first batch of each shape and dtype of its numbers."""
        _check_pair(batch)
        leaves, structure = jax.tree.flatten(tuple(batch))
        try:
            kind = structure, *((leaf.shape, leaf.dtype) for leaf in leaves)
        except AttributeError:
            parts = [part if isinstance(part, list) else jax.tree.leaves(part) for part in batch]
            wrong = [parts[i] if isinstance(batch[i], list) else leaf for i in (0, 1) for leaf in parts[i]]
            found = sorted({type(leaf).__name__ for leaf in wrong if not hasattr(leaf, "dtype")})
            raise ValueError(
                f"make_step: inputs and targets (images and labels) must be arrays, got {', '.join(found)}; use "
                "numpy.asarray"
            ) from None
        if kind not in self._seen:
            check_first_batch("make_step", state, Batch(*batch), self._rule)
            self._seen.add(kind)
        return Batch(*batch)

    def _check(self, examples: int) -> None:
        require(
            examples % self._accumulate == 0,
            f"make_step: accumulate must divide the examples of each device, got accumulate={self._accumulate} and "
            f"{examples} examples; pass batches with a multiple of {self._accumulate} examples for each device",
        )


def _check_pair(batch: Any) -> None:
    remedy = ""
    if isinstance(batch, Mapping) and len(batch) == 2:
        remedy = f"; pass ({', '.join(f'batch[{name!r}]' for name in batch)})"
    elif isinstance(batch, Dataset):
        remedy = "; pass (train_set.inputs[:128], train_set.targets[:128]), or use data.batches"
    require(
        isinstance(batch, tuple | list) and len(batch) == 2,
        f"make_step: batch must be a pair (inputs, targets), (images, labels) for example, got {shown(batch)}{remedy}",
    )


def check_first_batch(function: str, state: TrainState, batch: Batch, rule: Rule) -> None:
    """Raises `ValueError` unless a batch, a state, a model and a chain go together. It checks class numbers too."""
    leaves = jax.tree.leaves(batch)
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    require(
        bool(jax.tree.leaves(batch.inputs)) and lengths.isdisjoint((0, None)),
        f"{function}: inputs and targets (images and labels) must be arrays [batch, ...] of a batch of 1 or more, got "
        f"{kinds(batch.inputs)} and {kinds(batch.targets)}",
    )
    require(
        len(lengths) == 1,
        f"{function}: inputs and targets must be of one length, as many labels as images, got {kinds(batch.inputs)} "
        f"and {kinds(batch.targets)}",
    )
    check_image_bytes(function, batch.inputs)
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype)), batch)
    shapes = check_on_batch(function, rule.task, structs, None, augmented=True)
    check_variables(function, rule.task.model, state.variables, shapes)
    if all(isinstance(x, np.ndarray | jax.Array) and not isinstance(x, Tracer) for x in leaves) and all(
        getattr(x, "is_fully_addressable", True) for x in leaves
    ):
        check_class_numbers(function, rule.task, shapes.outputs, batch.targets)
    check_order(function, rule.tx, state.params, state.batch_stats)
