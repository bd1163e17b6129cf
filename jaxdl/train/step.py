"""One training step, written once: a pure function from state and batch to state and metrics, at every scale."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer

from jaxdl import optim, transfer
from jaxdl.arguments import check_choice, check_flag, check_function, check_integer, require, shown
from jaxdl.data import Augment, take_batch
from jaxdl.data.checks import check_augment, check_labels, check_loss_of, check_outputs, input_struct
from jaxdl.models.layers import synchronized_statistics
from jaxdl.optim.extra_args import with_extra_args
from jaxdl.program_cache import remembered
from jaxdl.shapes import model_shapes
from jaxdl.train.losses import Loss, check_loss, cross_entropy, per_example
from jaxdl.train.order import check_order
from jaxdl.train.sharding import Layout, Parallel, Spread, make_layout
from jaxdl.train.state import TrainState, check_model_and_tx, check_state, check_variables, init_optimizer
from jaxdl.typing import Batch, Device

# Streams of random numbers; `data.batches` draws from stream 0.
_MODEL = 1  # dropout and its kin
_AUGMENT = 2

MOST_IN_FLIGHT = 16
"""Steps that may be under way at once on several CPU devices, which deadlock with more than about 32 (jax < 0.12)."""

Preprocess = Callable[[jax.Array], jax.Array]
"""uint8 images to model inputs, `train_set.standardize` for example."""

BatchNormMode: TypeAlias = Literal["synchronized", "per_device"]


class Metrics(NamedTuple):
    """How well a model did on a batch, or on a whole set."""

    loss: Any  # scalar: mean loss
    error: Any  # scalar: share of examples classified wrongly, in [0, 1]
    finite: Any = True  # bool scalar: whether the loss and all gradients were finite


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a step computes; `make_step` explains the fields. Equal rules are compiled once."""

    model: nn.Module
    tx: optax.GradientTransformation
    loss: Loss = cross_entropy
    preprocess: Preprocess | None = None
    augment: Augment | None = None
    accumulate: int = 1
    batch_norm: str = "synchronized"
    skip_nonfinite: bool = False


def make_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    devices: Sequence[Device] | None = None,
    parallel: Parallel = "auto",
    shard_state: bool = False,
    batch_norm: BatchNormMode = "synchronized",
    loss: Loss = cross_entropy,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    accumulate: int = 1,
    skip_nonfinite: bool = False,
) -> "Step":
    """Makes a compiled training step. The state passed to it is donated: use the one that it returns.

    Equal arguments give the same step, so it compiles once.

    The batch is spread evenly over the devices, and the update is that of the whole batch: with synchronised
    BatchNorm and without dropout a step computes the same on any number of devices, to rounding. (Dropout draws on
    each device by itself.) A batch that cannot be spread evenly, the last of an epoch for example, is computed in full
    on every device, which is right though not fast.

    Mixed precision is a matter of the model and the chain: `models.resnet_cifar(20, dtype=jnp.bfloat16)` computes in
    bfloat16 with float32 parameters and statistics; float16 needs `optim.dynamic_loss_scale` around the chain, which
    the step obeys. Gradient clipping is `optax.clip_by_global_norm(1.0)`, first in the chain: it sees the gradient of
    the whole batch. Rematerialisation is a field of the model (`models.resnet(..., remat=True)`).

    Args:
      model: a module called as `model(images, train=bool)`.
      tx: the optimizer.
      devices: by default all, those of other processes included.
      parallel: "single" (one device), "pmap", or "sharded" (jit over a mesh of devices). "auto" is "single" for one
        device and "sharded" for more.
      shard_state: for "sharded": parameters and optimizer state are spread over the devices, too (ZeRO stage 3); for
        what does not fit one device. Each array is cut along its longest axis that the devices divide. Arrays of fewer
        than 1,024 elements, and those without such an axis, stay whole on every device.
      batch_norm: "synchronized": statistics of the whole batch; "per_device": each device normalises by its own part,
        and the running statistics are their mean. Concerns `layers.BatchNorm`; Flax's own is synchronised by its field
        axis_name, `train.AXIS`.
      loss: logits and labels to one loss per example; their mean is minimised. `train.label_smoothing(0.1)` makes one.
      preprocess: pure function from images to model inputs; needed if images are uint8.
      augment: pure function (keys [batch], images) -> images, applied before `preprocess`: `data.CROP_AND_FLIP`.
        Its random numbers depend on the state's key, the step and the example's place in the batch, not on the devices.
      accumulate: computes the gradient in so many parts, one after the other, to save memory; must divide the batch.
        BatchNorm then normalises by the part.
      skip_nonfinite: leaves parameters, statistics and optimizer as they were if the loss or a gradient is not finite.

    Returns:
      `step(state, batch) -> (state, metrics)`. Metrics are of the parameters before the update, with dropout and
      batch statistics as in training. With several processes each passes its own part of the batch.

    Raises:
      ValueError: an argument is not what it should be; or, from the step, uint8 images with no `preprocess`, or a batch
        that cannot be divided.

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
    rule = make_rule(
        "make_step",
        model,
        tx,
        loss=loss,
        preprocess=preprocess,
        augment=augment,
        accumulate=accumulate,
        batch_norm=batch_norm,
        skip_nonfinite=skip_nonfinite,
    )
    return _step(rule, make_layout("make_step", devices, parallel, shard_state))


def make_rule(function: str, model: nn.Module, tx: optax.GradientTransformation, **fields: Any) -> Rule:
    """Checks what a user passed and makes a `Rule` of it."""
    check_model_and_tx(function, model, tx)
    rule = Rule(model, tx, **fields)
    check_integer(function, "accumulate", rule.accumulate, at_least=1)
    check_choice(function, "batch_norm", rule.batch_norm, ("synchronized", "per_device"))
    check_flag(function, "skip_nonfinite", rule.skip_nonfinite)
    check_loss(function, rule.loss)
    for name, example in (("preprocess", "train_set.standardize"), ("augment", "data.CROP_AND_FLIP")):
        value = getattr(rule, name)
        if value is not None:
            check_function(function, name, value, example)
            require(not isinstance(value, type), f"{function}: {name} must be a function, got the class {value}")
    return rule


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
            self._check(len(batch.labels))
            return self._evenly(state, batch)
        state, metrics = self._on_layout(state, batch)
        self._calls += 1
        if self._layout.is_several_cpu_devices and self._calls % MOST_IN_FLIGHT == 0:
            jax.block_until_ready(metrics)
        return state, metrics

    def lower(self, state: TrainState, batch: Batch | tuple[Any, Any]) -> jax.stages.Lowered:
        """The program for these arguments, not yet compiled: to be inspected, or compiled ahead of time."""
        return self._evenly.lower(state, Batch(*batch))

    def place(self, state: TrainState) -> TrainState:
        """The state where the step wants it (calling the step does it, too)."""
        return self._layout.place(state)

    def _on_layout(self, state, batch):
        layout = self._layout
        if state.step.sharding != layout.whole:
            state = self.place(state)
        here = sum(device.process_index == jax.process_index() for device in layout.devices)
        if len(batch.labels) % here == 0:
            self._check(len(batch.labels) // here)
            if layout.parallel == "pmap":
                parts = jax.tree.map(lambda x: x.reshape(here, len(x) // here, *x.shape[1:]), batch)
                return self._evenly(state, parts)
            if layout.parallel == "sharded":
                split = jax.sharding.NamedSharding(layout.mesh, jax.sharding.PartitionSpec(layout.mesh.axis_names[0]))
                batch = jax.tree.map(lambda x: _from_processes(x, split), batch)
            else:
                batch = jax.device_put(batch, layout.whole)
            return self._evenly(state, batch)
        require(
            jax.process_count() == 1,
            f"the {len(batch.labels)} examples of this process cannot be spread evenly over its {here} devices; "
            "with several processes pass batches that can",
        )
        self._check(len(batch.labels))
        if layout.parallel == "pmap":
            return self._unevenly(state, jax.tree.map(lambda x: np.broadcast_to(x, (here, *np.shape(x))), batch))
        return self._unevenly(state, jax.device_put(batch, layout.whole))

    def _looked_at(self, state: TrainState, batch: Any) -> Batch:
        """The batch, after checks: of its form each time, of its numbers at the first of each shape and dtype."""
        require(
            isinstance(batch, tuple | list) and len(batch) == 2,
            f"make_step: batch must be a pair (images, labels), got {shown(batch)}",
        )
        images, labels = batch
        try:
            kind = images.shape, images.dtype, labels.shape, labels.dtype
        except AttributeError:
            raise ValueError(
                f"make_step: images and labels must be arrays, got {type(images).__name__} and "
                f"{type(labels).__name__}; use numpy.asarray"
            ) from None
        if kind not in self._seen:
            check_first_batch("make_step", state, Batch(images, labels), self._rule)
            self._seen.add(kind)
        return Batch(images, labels)

    def _check(self, examples: int) -> None:
        require(
            examples % self._accumulate == 0,
            f"accumulate={self._accumulate} does not divide the {examples} examples that a device is given; pass "
            "batches that it divides",
        )


def check_first_batch(function: str, state: TrainState, batch: Batch, rule: Rule) -> None:
    """Raises `ValueError` unless a batch, a state, a model and a chain go together. Looks at the labels' numbers."""
    images, labels = batch
    require(
        images.ndim >= 2 and len(images) > 0,
        f"{function}: images must be [batch, height, width, channels] with a batch of 1 or more, "
        f"got shape {list(images.shape)}",
    )
    like_one_hot = labels.ndim == 2 and len(labels) == len(images)
    remedy = "; of one-hot rows take labels.argmax(-1).astype(np.int32)" if like_one_hot else ""
    require(
        labels.shape == images.shape[:1] and jnp.issubdtype(labels.dtype, jnp.integer),
        f"{function}: labels must be class numbers, integers [{len(images)}], one per image, "
        f"got {labels.dtype} {list(labels.shape)}{remedy}",
    )
    require(
        images.dtype == np.uint8 or jnp.issubdtype(images.dtype, jnp.floating),
        f"{function}: images must be uint8 or floating point, got {images.dtype}",
    )
    given = jax.ShapeDtypeStruct(images.shape, jax.dtypes.canonicalize_dtype(images.dtype))
    if rule.augment is not None:
        given = check_augment(function, rule.augment, given)
    inputs = input_struct(function, given.shape[1:], given.dtype, rule.preprocess)
    shapes = model_shapes(rule.model, inputs.shape[1:], inputs.dtype)
    check_variables(function, rule.model, state, shapes)
    classes = check_outputs(function, rule.model, shapes)
    check_loss_of(function, rule.loss, len(images), classes)
    if not isinstance(labels, Tracer) and getattr(labels, "is_fully_addressable", True):
        check_labels(function, labels, classes)
    check_order(function, rule.tx, state.params, state.batch_stats)


def _from_processes(part: Any, split: jax.sharding.Sharding) -> jax.Array:
    """A batch of which each process has its part."""
    if split.is_fully_addressable:
        return jax.device_put(part, split)
    return jax.make_array_from_process_local_data(split, np.asarray(part))


def train_step(
    state: TrainState,
    split: Any,
    data: tuple[jax.Array, jax.Array] | None = None,
    *,
    rule: Rule,
    spread: Spread,
) -> tuple[TrainState, Metrics]:
    """The step itself, not compiled; see `make_step`.

    The optimizer is given what some links ask for: the loss (`value`), the gradient (`grad`), the loss as a function
    of the parameters on this batch (`value_fn`) and, for snapshots, the new batch statistics (`batch_stats`). With
    `scale_by_nesterov_lookahead` in the chain the gradient is taken where that looks; what `transfer.freeze` froze has
    none; with `dynamic_loss_scale` the loss is scaled.

    Args:
      state: what the update starts from.
      split: what is spread over the devices: a batch or, with `data`, the numbers [batch] of its examples.
      data: images and labels of the whole data set.
      rule: what to compute.
      spread: over which devices.
    """
    tx = rule.tx
    _check_optimizer_state(tx, state)
    frozen = transfer.frozen_params(state.opt_state, state.params)
    scale = optim.loss_scale(state.opt_state)
    keys = [jax.random.fold_in(jax.random.fold_in(state.key, stream), state.step) for stream in (_MODEL, _AUGMENT)]
    measure = functools.partial(_measure, rule=rule, spread=spread, frozen=frozen)
    measured = spread.map(functools.partial(measure, gradient=True))
    shared = (state.batch_stats, scale, keys, data)

    point = optim.lookahead_params(state.params, state.opt_state)
    (value, error, batch_stats), grads = measured((point, *shared), split)
    no_overflow = optim.all_finite(grads)
    finite = jnp.isfinite(value) & (no_overflow if scale is None else no_overflow | (scale > 1))
    # Told only where it is asked for: optax's line searches hand on what they do not know.
    statistics = {"batch_stats": batch_stats} if optim.wants_batch_stats(state.opt_state) else {}
    updates, opt_state = with_extra_args(tx).update(
        grads,
        state.opt_state,
        state.params,
        value=value,
        grad=grads,
        value_fn=lambda params: spread.map(functools.partial(measure, gradient=False))((params, *shared), split)[0],
        **statistics,
    )
    updates = transfer.without_frozen(frozen, updates)  # wherever in the chain `freeze` stands
    reached = TrainState(optax.apply_updates(state.params, updates), batch_stats, opt_state, state.step, state.key)
    if rule.skip_nonfinite:
        reached = _where(finite, reached, state)
    elif scale is not None:
        reached = reached._replace(batch_stats=_where(no_overflow, batch_stats, state.batch_stats))
    return reached._replace(step=state.step + 1), Metrics(value, error, finite)


def _measure(shared: Any, split: Any, *, rule: Rule, spread: Spread, frozen: Any, gradient: bool) -> Any:
    """Loss, error, new batch statistics and gradient, as means over the examples of all devices.

    Runs on each device with its part of the examples; `shared` is (params, batch_stats, loss scale, keys, data).
    """
    params, batch_stats, scale, (model_key, augment_key), data = shared
    batch = Batch(*split) if data is None else take_batch(data[0], data[1], split)
    examples = len(batch.labels)
    images = batch.images
    if rule.augment is not None:
        places = spread.position * examples + jnp.arange(examples)
        images = rule.augment(jax.vmap(lambda place: jax.random.fold_in(augment_key, place))(places), images)
    if spread.axis is not None:
        model_key = jax.random.fold_in(model_key, spread.position)
    inputs = model_inputs(images, rule.preprocess)

    def objective(params, batch_stats, inputs, labels, key):
        if frozen is not None:
            params = jax.tree.map(lambda keep, p: lax.stop_gradient(p) if keep else p, frozen, params)
        axis = spread.axis if rule.batch_norm == "synchronized" else None
        with transfer.frozen_modules_evaluate(frozen), synchronized_statistics(axis):
            logits, updated = rule.model.apply(
                {"params": params, "batch_stats": batch_stats},
                inputs,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
        new_stats = transfer.frozen_statistics(frozen, batch_stats, updated.get("batch_stats", {}))
        error = jnp.mean(jnp.argmax(logits, -1) != labels)
        value = jnp.mean(per_example(rule.loss, logits, labels))
        return value if scale is None else value * scale, (value, error, new_stats)

    def one(batch_stats, inputs, labels, key):
        if not gradient:
            return objective(params, batch_stats, inputs, labels, key)[1], ()
        (_, found), grads = jax.value_and_grad(objective, has_aux=True)(params, batch_stats, inputs, labels, key)
        return found, grads

    if rule.accumulate == 1:
        found, grads = one(batch_stats, inputs, batch.labels, model_key)
    else:
        found, grads = _accumulated(one, rule.accumulate, batch_stats, (inputs, batch.labels), model_key)
    found, grads = spread.mean((found, grads))
    return (found, grads) if gradient else found


def _accumulated(one: Callable, parts: int, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
    """Means over parts of a batch, one after the other; part j has the examples j, j + parts, ...

    So the parts of a batch are the same however it is spread over devices.
    """
    pieces = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1), batch)

    def body(carry, piece):
        batch_stats, total = carry
        number, (inputs, labels) = piece
        (value, error, batch_stats), grads = one(batch_stats, inputs, labels, jax.random.fold_in(key, number))
        return (batch_stats, jax.tree.map(jnp.add, total, (value, error, grads))), None

    first = jax.tree.map(lambda x: x[0], pieces)
    (value, error, _), grads = jax.eval_shape(lambda: one(batch_stats, *first, key))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (value, error, grads))
    (batch_stats, total), _ = lax.scan(body, (batch_stats, zeros), (jnp.arange(parts), pieces))
    value, error, grads = jax.tree.map(lambda x: x / parts, total)
    return (value, error, batch_stats), grads


def _check_optimizer_state(tx: optax.GradientTransformation, state: TrainState) -> None:
    fresh = jax.eval_shape(functools.partial(init_optimizer, tx), state.params, state.batch_stats)
    kept, needed = jax.tree.structure(state.opt_state), jax.tree.structure(fresh)
    require(
        kept == needed,
        f"the optimizer state does not belong to tx; make the state with init_state and the same tx. "
        f"tx keeps {needed}, the state holds {kept}",
    )


def _where(condition: jax.Array, new: Any, old: Any) -> Any:
    """One tree or the other."""

    def choose(a, b):
        return b if jnp.issubdtype(b.dtype, jax.dtypes.prng_key) else jnp.where(condition, a, b)

    return jax.tree.map(choose, new, old)


def model_inputs(images: jax.Array, preprocess: Preprocess | None) -> jax.Array:
    """What the model is shown; raises `ValueError` if that would be integers."""
    inputs = images if preprocess is None else preprocess(images)
    require(
        jnp.issubdtype(inputs.dtype, jnp.floating),
        f"the model would be shown {inputs.dtype} images; pass preprocess=train_set.standardize, or floats",
    )
    return inputs
