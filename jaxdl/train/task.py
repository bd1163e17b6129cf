"""A task: a model, its loss and metrics, preprocessing and augmentation, as one frozen value."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_function, require, shown
from jaxdl.data import AlternatingFlip, Augment, Compose, Dataset, Stream
from jaxdl.data.augment import at_step, takes_targets
from jaxdl.data.checks import called, check_model_fits, count_outputs, input_struct, kinds, len_of, shapes_of
from jaxdl.modules import ModelShapes, apply_model, check_model
from jaxdl.train.losses import Loss, Metric, cross_entropy, error, label_smoothing
from jaxdl.typing import Arrays, Batch

Preprocess: TypeAlias = Callable[[Arrays], Arrays]
"""A pure function from a batch of inputs to the model's inputs, `train_set.standardize` for example."""

Metrics: TypeAlias = Mapping[str, Metric]
"""Metrics by name, as in {"error": train.error, "top5_error": train.top_k_error(5)}."""

_TAKEN = (
    "loss",
    "metrics",
    "finite",
    "learning_rate",
    "gradient_norm",
    "step",
    "seconds",
    "event",
    "member",
    "skipped",
)
_TAKEN += ("rolled_back",)


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned; `make_step` explains the fields. Equal tasks share their compiled programs."""

    model: nn.Module
    loss: Loss = cross_entropy
    metrics: tuple[tuple[str, Metric], ...] | None = None  # None: the error, if targets are classes
    preprocess: Preprocess | None = None
    augment: Augment | None = None

    def inputs(self, inputs: Arrays) -> Arrays:
        """The model's inputs for a batch of inputs."""
        return inputs if self.preprocess is None else self.preprocess(inputs)

    def augmented(self, keys: jax.Array, batch: Batch, step: jax.Array) -> Batch:
        """A batch with the random changes of an update; `step` is its number, int32 []."""
        if self.augment is None:
            return batch
        augment = at_step(self.augment, step)
        if takes_targets(self.augment):
            return Batch(*augment(keys, *batch))
        return batch._replace(inputs=augment(keys, batch.inputs))

    def metrics_for(self, outputs: Any, targets: Any) -> tuple[tuple[str, Metric], ...]:
        """The metrics; by default the error, if outputs are logits and targets are classes."""
        if self.metrics is not None:
            return self.metrics
        if not (hasattr(outputs, "shape") and hasattr(targets, "shape")) or outputs.ndim != 2 or outputs.shape[1] < 2:
            return ()
        numbers = targets.ndim == 1 and jnp.issubdtype(targets.dtype, jnp.integer)
        soft = targets.shape == outputs.shape and is_of_classes(self.loss)
        return (("error", error),) if numbers or soft else ()

    def values(self, outputs: Any, targets: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss and the metrics of each example, all [batch]."""
        losses = self.loss(outputs, targets)
        losses = losses.astype(jnp.promote_types(losses.dtype, jnp.float32))
        metrics = {name: metric(outputs, targets) for name, metric in self.metrics_for(outputs, targets)}
        wide = {name: jnp.promote_types(value.dtype, jnp.float32) for name, value in metrics.items()}
        return losses, {name: value.astype(wide[name]) for name, value in metrics.items()}

    def evaluated(self, variables: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss and the metrics of each example in evaluation, all [batch]."""
        outputs = apply_model(self.model, variables, self.inputs(batch.inputs), train=False)
        return self.values(outputs, batch.targets)


def make_task(
    function: str,
    model: nn.Module,
    *,
    loss: Loss,
    metrics: Metrics | None,
    preprocess: Preprocess | None,
    augment: Augment | None = None,
) -> Task:
    """Checks what a user passed, and makes a `Task` of it."""
    check_model(function, model)
    require(
        not isinstance(loss, type),
        f"{function}: loss must be a function, got the class {loss}; pass an instance, train.label_smoothing(0.1) for "
        "example",
    )
    check_function(function, "loss", loss, "train.cross_entropy")
    for name, example in (("preprocess", "train_set.standardize"), ("augment", "data.CROP_AND_FLIP")):
        value = {"preprocess": preprocess, "augment": augment}[name]
        if value is not None:
            check_function(function, name, value, example)
            require(
                not isinstance(value, type),
                f"{function}: {name} must be a function, got the class {value}; pass an instance or a function, "
                f"{example} for example",
            )
    if metrics is None:
        return Task(model, loss, None, preprocess, augment)
    example = '{"error": train.error, "top5_error": train.top_k_error(5)}'
    require(
        isinstance(metrics, Mapping) and all(isinstance(name, str) and name for name in metrics),
        f"{function}: metrics must be functions by name, got metrics={shown(metrics)}; pass {example}",
    )
    for name, metric in metrics.items():
        require(
            name not in _TAKEN and "/" not in name and not name.startswith("eval_"),
            f"{function}: the name of a metric must have no / in it, must not begin with eval_ and must not be one of "
            f"{', '.join(_TAKEN)}, got {name!r}; use another name",
        )
        check_function(function, f"metrics[{name!r}]", metric, "train.error")
        require(
            not isinstance(metric, type),
            f"{function}: metrics[{name!r}] must be a function, got the class {metric}; "
            "pass an instance, train.top_k_error(5) for example",
        )
    return Task(model, loss, tuple(metrics.items()), preprocess, augment)


def check_task(
    function: str, task: Task, dataset: Dataset | Stream, batch_size: int, *, training: bool = True
) -> ModelShapes:
    """The model's shapes on a data set; raises `ValueError` unless all parts of a task go together with it."""
    example = dataset.example
    if training:
        _check_epochs(function, task.augment, dataset, batch_size)
    inputs = augmented_example(function, task, example, min(batch_size, len(dataset))) if training else None
    shapes = check_model_fits(function, task.model, dataset, task.preprocess, inputs)
    check_on_batch(function, task, with_batch(example, min(batch_size, len(dataset))), shapes, augmented=training)
    # The labels of a stream are its classes' numbers; to read them all would take long.
    targets = np.arange(dataset.num_classes) if isinstance(dataset, Stream) else dataset.targets
    check_class_numbers(function, task, shapes.outputs, targets)
    return shapes


def check_on_batch(
    function: str, task: Task, batch: Batch, shapes: ModelShapes | None, *, augmented: bool
) -> ModelShapes:
    """The model's shapes on such a batch; raises `ValueError` unless augmentation, loss and metrics fit it."""
    if augmented and task.augment is not None:
        batch = _check_augment(function, task.augment, batch)
        shapes = None
    inputs = input_struct(function, batch.inputs, task.preprocess)
    shapes = shapes or shapes_of(function, task.model, inputs)
    examples = len_of(batch)
    outputs = jax.tree.map(lambda o: jax.ShapeDtypeStruct((examples, *o.shape[1:]), o.dtype), shapes.outputs)
    for leaf in jax.tree.leaves(shapes.outputs):
        require(
            len(leaf.shape) >= 1 and leaf.shape[0] == 1,
            f"{function}: {type(task.model).__name__} must give outputs [batch, ...], got {kinds(leaf)} for one "
            "example",
        )
    named = {"loss": task.loss, **{f"metrics[{name!r}]": f for name, f in task.metrics_for(outputs, batch.targets)}}
    for name, f in named.items():
        _check_values(function, name, f, outputs, batch.targets, examples)
    return shapes


def check_class_numbers(function: str, task: Task, outputs: Any, targets: Any) -> None:
    """Raises `ValueError` if a label is not in [0, outputs), or a soft label is not a row of probabilities.

    It needs the numbers, so it works only outside of jit.
    """
    if is_of_classes(task.loss) and getattr(targets, "ndim", 0) == 2:
        lowest, sums = float(np.min(targets)), np.sum(np.asarray(targets, np.float32), 1)
        require(
            lowest >= 0 and bool(np.allclose(sums, 1, atol=0.02)),
            f"{function}: soft labels must be rows of probabilities that sum to 1, got numbers from {lowest:.3g} and "
            f"sums of {np.min(sums):.3g}..{np.max(sums):.3g}; for numbers to predict pass loss=train.squared_error, "
            "for several labels at once train.sigmoid_cross_entropy",
        )
    integers = hasattr(targets, "dtype") and targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer)
    if not integers or not (is_of_classes(task.loss) or error in dict(task.metrics_for(outputs, targets)).values()):
        return
    classes = count_outputs(function, task.model, outputs)
    lowest, highest = int(np.min(targets)), int(np.max(targets))
    require(
        lowest >= 0 and highest < classes,
        f"{function}: labels must be in 0..{classes - 1} as the model has {classes} outputs, "
        f"got labels {lowest}..{highest}; "
        + (
            "leave out examples that have no class"
            if lowest < 0
            else f"make it with num_classes={highest + 1}, or more"
        ),
    )


def is_of_classes(loss: Loss) -> bool:
    """Whether a loss is one of jaxdl's losses for class numbers."""
    return loss is cross_entropy or isinstance(loss, label_smoothing)


def augmented_example(function: str, task: Task, example: Batch, batch: int) -> Any:
    """Structs of the inputs of one example of such a batch after augmentation, which may crop it."""
    if task.augment is None:
        return example.inputs
    return with_batch(_check_augment(function, task.augment, with_batch(example, batch)).inputs, 1)


def with_batch(example: Any, batch: int) -> Any:
    """Structs [batch, ...] in the place of structs [1, ...]."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype), example)


def _check_epochs(function: str, augment: Augment | None, dataset: Dataset | Stream, batch_size: int) -> None:
    """Raises `ValueError` if an `AlternatingFlip` counts other epochs than those of the data set."""
    if isinstance(augment, Compose):
        for change in augment.changes:
            _check_epochs(function, change, dataset, batch_size)
    elif isinstance(augment, AlternatingFlip):
        steps = dataset.steps_per_epoch(batch_size)
        require(
            augment.steps_per_epoch == steps,
            f"{function}: steps_per_epoch of AlternatingFlip must be {steps}, which {dataset!r} has at "
            f"batch_size={batch_size}, got steps_per_epoch={augment.steps_per_epoch}; pass "
            "train_set.steps_per_epoch(batch_size)",
        )


def _check_augment(function: str, augment: Augment, batch: Batch) -> Batch:
    """The shapes of an augmented batch; raises `ValueError` if it does not have as many examples."""
    examples = len_of(batch)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), examples))
    what = f"keys [{examples}], one for each example, and inputs {kinds(batch.inputs)}"
    step = jax.ShapeDtypeStruct((), jnp.int32)

    def change(step, *given):
        return at_step(augment, step)(*given)

    if takes_targets(augment):
        what += f", and targets {kinds(batch.targets)}"
        found = called(function, "augment", what, change, step, keys, *batch)
        require(
            isinstance(found, tuple | list) and len(found) == 2,
            f"{function}: augment takes (keys, inputs, targets), so it must give (inputs, targets), got {kinds(found)}",
        )
        made = Batch(*found)
    else:
        made = batch._replace(inputs=called(function, "augment", what, change, step, keys, batch.inputs))
    for name, before, after in zip(("images", "labels"), batch, made, strict=True):
        leaves = jax.tree.leaves(after)
        require(
            (bool(leaves) or not jax.tree.leaves(before))
            and all(getattr(leaf, "shape", ())[:1] == (examples,) for leaf in leaves),
            f"{function}: augment must give as many {name} as it is given, {kinds(before)}, got {kinds(after)}",
        )
    require(
        not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(made)),
        f"{function}: augment must return images, got PRNG keys, {kinds(made.inputs)}; its arguments are (keys, "
        "images), in this order",
    )
    return made


def _check_values(function: str, name: str, f: Callable, outputs: Any, targets: Any, examples: int) -> None:
    """Raises `ValueError` unless a loss, or a metric, gives one number for each example."""
    what = f"outputs {kinds(outputs)} and targets {kinds(targets)}"
    found = called(function, name, what, f, outputs, targets)
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", np.dtype(object))
    remedy = ""
    if shape == ():
        remedy = "; return the values of the examples, without the mean over the batch"
    elif shape is not None and len(shape) > 1 and shape[0] == examples:
        remedy = "; take the mean of each example, with .mean(-1)"
    elif name == "loss" and shape == (examples,):
        remedy = "; a loss must be floating point, because training takes its gradient; pass this function in metrics"
    wanted = jnp.floating if name == "loss" or not jnp.issubdtype(dtype, jnp.integer) else jnp.integer
    fits = shape == (examples,) and (jnp.issubdtype(dtype, wanted) or (name != "loss" and dtype == jnp.bool_))
    require(
        fits,
        f"{function}: {name} must map outputs [batch, ...] and targets [batch, ...] to one number for each example, "
        f"[batch], got {kinds(found)} for a batch of {examples}{remedy}",
    )
