"""Predictions of many members at once, and how good they are for each number of members."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_choice, check_function, check_integer, require, shown
from jaxdl.data import Dataset
from jaxdl.data.checks import (
    called,
    check_dataset,
    check_image_bytes,
    check_model_fits,
    input_struct,
    kinds,
    shapes_of,
)
from jaxdl.data.sweep import Sweep, masked_batch
from jaxdl.ensemble.scoring import Scores, scores_of_logarithms
from jaxdl.mesh import Members, members_mesh
from jaxdl.modules import apply_model, check_model
from jaxdl.program_cache import remembered
from jaxdl.typing import Arrays, Device, Params

Via: TypeAlias = Literal["auto", "vmap", "map"]
Average: TypeAlias = Literal["softmax", "sigmoid", "outputs"]
Preprocess: TypeAlias = Callable[[Arrays], Arrays]
Metric: TypeAlias = Callable[[Any, Any], jax.Array]

_FINISH = {
    "softmax": jax.nn.softmax,
    "sigmoid": jax.nn.sigmoid,
    "log_softmax": jax.nn.log_softmax,
    "outputs": lambda outputs: outputs,
}


class Evaluation(NamedTuple):
    """An ensemble of M members on a data set; prints as a table. Arrays are float64 [M]."""

    ensemble: Any  # Scores of the last 1, 2, ..., M members together; None if `average` is not "softmax"
    members: Any  # Scores of each member by itself, in the order given; None likewise
    ensemble_metrics: dict[str, np.ndarray]  # of the last 1, 2, ..., M members together, by name
    member_metrics: dict[str, np.ndarray]  # of each member by itself

    def __str__(self) -> str:
        parts = _columns(self.ensemble, self.ensemble_metrics), _columns(self.members, self.member_metrics)
        titles = " ".join(f"{title:>8}" for title in parts[0])
        lines = [f"members  {titles}  | alone: member  {titles}"]
        for i in range(len(next(iter(parts[0].values())))):
            together, alone = (" ".join(_shown(title, column[i]) for title, column in part.items()) for part in parts)
            lines.append(f"{i + 1:7d}  {together}  |        {i + 1:6d}  {alone}")
        return "\n".join(lines)


def _shown(title: str, value: float) -> str:
    return f"{value:{max(8, len(title))}.{2 if '%' in title else 4}f}"


def predict(
    model: nn.Module,
    members: Params,
    inputs: Arrays,
    *,
    average: Average = "softmax",
    preprocess: Preprocess | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
) -> jax.Array:
    """The mean of the members' predictions, in one compiled call.

    Args:
      model: a module called as `model(inputs, train=bool)`, or `model(inputs)` if it does not take `train`.
      members: stacked members, arrays with a leading axis of M: parameters, or for a model with batch statistics
        {"params": ..., "batch_stats": ...} (`optim.snapshot_variables`).
      inputs: [batch, ...], images [batch, height, width, channels] for example.
      average: what is averaged: probabilities of classes ("softmax"), of labels ("sigmoid"), or the model's "outputs".
      preprocess: function from `inputs` to the model's inputs; needed if they are uint8.
      via: "vmap" computes all members in every operation, "map" one after the other. By default "map" for models with
        convolutions on the CPU, where it is faster (`benchmarks/averaging.py`), else "vmap".
      devices: devices over which the members are spread; as many are used as divide the number of members. By default
        all devices of this process. The parameters of a `train.population` lie there already and are not moved.

    Returns:
      float32 or wider [batch, ...], like the model's outputs; every device used has the whole array.

    Raises:
      ValueError: an argument is wrong.
    """
    leaves = jax.tree.leaves(inputs)
    require(
        bool(leaves) and all(getattr(leaf, "ndim", 0) >= 1 and len(leaf) > 0 for leaf in leaves),
        f"predict: images must be an array [batch, height, width, channels], or other inputs [batch, ...], of 1 or "
        f"more, got {shown(inputs)}"
        + ("; for a data set use ensemble.probabilities" if isinstance(inputs, Dataset) else "; use numpy.asarray"),
    )
    check_image_bytes("predict", inputs)
    check_choice("predict", "average", average, ("softmax", "sigmoid", "outputs"))
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    variables, where = _placed("predict", model, members, example, preprocess, via, devices)
    _check_one_array(
        "predict", model, shapes_of("predict", model, input_struct("predict", example, preprocess)).outputs, average
    )
    found = _compiled_mean(model, preprocess, average, where)(variables, where.replicate(inputs))
    # Several CPU devices may deadlock (jax below 0.12) if many programs that communicate are under way at once.
    may_deadlock = where.mesh.size > 1 and where.mesh.devices[0].platform == "cpu"
    return jax.block_until_ready(found) if may_deadlock else found


def probabilities(
    model: nn.Module,
    members: Params,
    dataset: Dataset,
    *,
    batch_size: int = 500,
    preprocess: Preprocess | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
) -> np.ndarray:
    """Every member's softmax probabilities for every example of a data set.

    Args:
      model: as for `predict`.
      members: as for `predict`.
      dataset: the data set, all of whose examples are used.
      batch_size: examples at a time; it affects the result only by rounding.
      preprocess: function from a batch to the model's inputs; by default `dataset.standardize`.
      via: as for `predict`.
      devices: as for `predict`.

    Returns:
      float32 [members, examples, classes].

    Raises:
      ValueError: an argument is not what it should be.
    """
    logarithms = _every("probabilities", "log_softmax", model, members, dataset, batch_size, preprocess, via, devices)
    return np.exp(logarithms)


def log_probabilities(
    model: nn.Module,
    members: Params,
    dataset: Dataset,
    *,
    batch_size: int = 500,
    preprocess: Preprocess | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
) -> np.ndarray:
    """The natural logarithms of `probabilities`; for improbable classes they keep digits that `probabilities` lose.

    Args:
      model: as for `predict`.
      members: as for `predict`.
      dataset: as for `probabilities`.
      batch_size: as for `probabilities`.
      preprocess: as for `probabilities`.
      via: as for `predict`.
      devices: as for `predict`.

    Returns:
      float32 [members, examples, classes].

    Raises:
      ValueError: an argument is not what it should be.
    """
    return _every("log_probabilities", "log_softmax", model, members, dataset, batch_size, preprocess, via, devices)


def outputs(
    model: nn.Module,
    members: Params,
    dataset: Dataset,
    *,
    batch_size: int = 500,
    preprocess: Preprocess | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
) -> Any:
    """Every member's outputs for every example of a data set, in float32 or wider.

    Args:
      model: as for `predict`; its outputs may be a tree of arrays.
      members: as for `predict`.
      dataset: as for `probabilities`.
      batch_size: as for `probabilities`.
      preprocess: as for `probabilities`.
      via: as for `predict`.
      devices: as for `predict`.

    Returns:
      [members, examples, ...], like the model's outputs.

    Raises:
      ValueError: an argument is not what it should be.
    """
    return _every("outputs", "outputs", model, members, dataset, batch_size, preprocess, via, devices)


def evaluate(
    model: nn.Module,
    members: Params,
    dataset: Dataset,
    *,
    average: Average = "softmax",
    metrics: Mapping[str, Metric] | None = None,
    batch_size: int = 500,
    preprocess: Preprocess | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
) -> Evaluation:
    """Scores the ensembles of the last 1, 2, ..., M members, and each member by itself.

    Args:
      model: as for `predict`.
      members: as for `predict`, in the order of time, since the last snapshots of a run are the best.
      dataset: the data set, all of whose examples are used.
      average: as for `predict`. For "softmax" targets must be classes.
      metrics: by name, functions from outputs and targets to one number per example, as for `train.fit`:
        {"top5_error": train.top_k_error(5)}. Their means are returned. The outputs of an ensemble are numbers whose
        softmax (or sigmoid) is the mean of the members' softmax (or sigmoid).
      batch_size: as for `probabilities`.
      preprocess: as for `probabilities`.
      via: as for `predict`.
      devices: as for `predict`.

    Returns:
      An `Evaluation`, which prints as a table. It holds `Scores` only if `average` is "softmax".

    Raises:
      ValueError: an argument is wrong; or `average` is not "softmax" and there are no metrics, so nothing to score.

    Reference: Huang et al., `Snapshot Ensembles`, 2017 (arXiv 1704.00109), for the last m of M.
    """
    check_choice("evaluate", "average", average, ("softmax", "sigmoid", "outputs"))
    check_dataset("evaluate", "dataset", dataset)
    metrics = _checked_metrics(metrics)
    require(
        average == "softmax" or bool(metrics),
        f"evaluate: average={average!r} has no scores of its own; pass metrics, as in "
        + ('{"hamming": train.hamming_loss}' if average == "sigmoid" else '{"squared_error": train.squared_error}'),
    )
    require(
        average != "softmax" or _are_classes(dataset.targets),
        f'evaluate: average="softmax" is for targets that are classes, and {dataset!r} has others; pass '
        'average="outputs" for numbers to predict, "sigmoid" for several labels at once, with metrics=...',
    )
    finish = "log_softmax" if average == "softmax" else "outputs"

    def check(shapes):
        if average == "softmax":
            _check_labels(dataset.targets, shapes.outputs.shape[1])
        _check_metrics(metrics, shapes.outputs, dataset)

    each = _every("evaluate", finish, model, members, dataset, batch_size, preprocess, via, devices, check)
    each = jax.tree.map(lambda x: np.asarray(x, np.float64), each)
    together = _together(each, average)
    targets = dataset.targets

    def scored(part):
        values = {name: _means(metric, part, targets) for name, metric in metrics.items()}
        if average != "softmax":
            return None, values
        return _stacked([scores_of_logarithms(logarithms, targets) for logarithms in part]), values

    (of_ensemble, its_metrics), (of_members, their_metrics) = scored(together), scored(each)
    return Evaluation(of_ensemble, of_members, its_metrics, their_metrics)


def _together(each: Any, average: str) -> Any:
    """Outputs [M, examples, ...] of the last 1, 2, ..., M members together."""

    def means_of_logarithms(logarithms):
        # Means of probabilities, computed from logarithms: a confident member's may underflow.
        counts = np.arange(1, len(logarithms) + 1).reshape(-1, *[1] * (logarithms.ndim - 1))
        return np.logaddexp.accumulate(logarithms[::-1], 0) - np.log(counts)

    def one(outputs):
        if average == "softmax":
            return means_of_logarithms(outputs)
        if average == "sigmoid":
            yes, no = -np.logaddexp(0, -outputs), -np.logaddexp(0, outputs)
            return means_of_logarithms(yes) - means_of_logarithms(no)
        counts = np.arange(1, len(outputs) + 1).reshape(-1, *[1] * (outputs.ndim - 1))
        return np.cumsum(outputs[::-1], 0) / counts

    return jax.tree.map(one, each)


def _means(metric: Metric, outputs: Any, targets: Any) -> np.ndarray:
    """The mean of a metric for each member of outputs [M, examples, ...]."""
    count = len(jax.tree.leaves(outputs)[0])
    f = jax.jit(metric)
    found = []
    for member in range(count):
        mine = jax.tree.map(lambda x, m=member: jnp.asarray(x[m], jnp.float32), outputs)
        found.append(np.mean(np.asarray(f(mine, targets), np.float64)))
    return np.array(found)


def _checked_metrics(metrics: Any) -> dict[str, Metric]:
    example = '{"top5_error": train.top_k_error(5)}'
    require(
        metrics is None or (isinstance(metrics, Mapping) and all(isinstance(name, str) and name for name in metrics)),
        f"evaluate: metrics must be functions by name, got metrics={shown(metrics)}; pass {example}",
    )
    for name, metric in (metrics or {}).items():
        check_function("evaluate", f"metrics[{name!r}]", metric, "train.top_k_error(5)")
        require(
            not isinstance(metric, type),
            f"evaluate: metrics[{name!r}] must be a function, got the class {metric}; pass {example}",
        )
    return dict(metrics or {})


def _check_labels(targets: np.ndarray, classes: int) -> None:
    """Raises `ValueError` unless labels are of so many classes."""
    if targets.ndim == 2:
        require(
            targets.shape[1] == classes,
            f"evaluate: soft labels must be [examples, {classes}], as the model has {classes} outputs, got shape "
            f"{list(targets.shape)}",
        )
        return
    low, high = targets.min(), targets.max()
    require(
        bool(low >= 0 and high < classes),
        f"evaluate: labels must be in 0..{classes - 1} as the model has {classes} outputs, got labels {low}..{high}",
    )


def _check_metrics(metrics: Mapping[str, Metric], outputs: Any, dataset: Dataset) -> None:
    """Raises `ValueError` unless each metric gives one number for each example."""
    examples = len(dataset)
    structs = jax.tree.map(lambda o: jax.ShapeDtypeStruct((examples, *o.shape[1:]), np.float32), outputs)
    targets = jax.tree.map(lambda x: jax.ShapeDtypeStruct((examples, *x.shape[1:]), x.dtype), dataset.example.targets)
    for name, metric in metrics.items():
        what = f"outputs {kinds(structs)} and targets {kinds(targets)}"
        found = called("evaluate", f"metrics[{name!r}]", what, metric, structs, targets)
        shape = getattr(found, "shape", None)
        remedy = "; leave the mean over the examples to evaluate" if shape == () else ""
        require(
            shape == (examples,),
            f"evaluate: metrics[{name!r}] must map outputs [batch, ...] and targets [batch, ...] to one number for "
            f"each example, [batch], got {kinds(found)} for {examples} examples{remedy}",
        )


def _are_classes(targets: Any) -> bool:
    """Whether targets are class numbers, or rows of probabilities."""
    if not isinstance(targets, np.ndarray):
        return False
    if targets.ndim == 1:
        return targets.dtype.kind in "iu"
    rows = targets.ndim == 2 and targets.dtype.kind == "f"
    return rows and bool((targets >= 0).all() and np.allclose(targets.sum(1), 1, atol=1e-3))


def _columns(scores: Scores | None, metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of the table, by title."""
    columns = {}
    if scores is not None:
        columns = {"error %": 100 * scores.error, "NLL": scores.nll, "Brier": scores.brier, "ECE": scores.ece}
    return columns | dict(metrics)


def member_variables(function: str, model: nn.Module, members: Params, needed: dict[str, Any]) -> dict[str, Any]:
    """Makes stacked variables of stacked parameters or variables; raises `ValueError` if they are not the model's.

    Args:
      function: named in errors.
      model: the model.
      members: parameters, or variables, with a leading axis.
      needed: shapes of the model's variables, by collection.
    """
    require(
        isinstance(members, Mapping),
        f"{function}: members must be stacked variables, optim.snapshot_variables(state.opt_state) for example, or "
        f"stacked parameters, got {shown(members)}",
    )
    variables = dict(members) if "params" in members else {"params": members}
    require(
        "batch_stats" not in needed or bool(jax.tree.leaves(variables.get("batch_stats", {}))),
        f"{function}: {type(model).__name__} has batch statistics, and these members have none; pass "
        'optim.snapshot_variables, or {"params": ..., "batch_stats": ...} with those of ensemble.update_batch_stats',
    )
    others = sorted(set(needed) - set(variables) - {"params", "batch_stats"})
    if others:
        raise ValueError(
            f"{function}: {type(model).__name__} keeps {', '.join(others)}, which these members lack "
            f"(snapshots keep parameters and batch statistics); add them, stacked: {{**members, {others[0]!r}: ...}}"
        )
    variables = {name: variables[name] for name in needed if name in variables}
    leaves = jax.tree.leaves(variables)
    are_arrays = bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)
    fits = are_arrays and jax.tree.map(lambda leaf: leaf.shape[1:], variables) == jax.tree.map(
        lambda leaf: leaf.shape, dict(needed)
    )
    require(
        fits and len({leaf.shape[:1] for leaf in leaves}) == 1,
        f"{function}: members must be trees like the variables of {type(model).__name__}, every array with one leading "
        "axis of members; stack them with jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)",
    )
    require(leaves[0].shape[0] > 0, f"{function}: there are 0 members; pass at least one")
    return variables


def _every(
    function: str, finish: str, model, members, dataset, batch_size, preprocess, via, devices, check=lambda shapes: None
) -> Any:
    """The results of every member for every example, [members, examples, ...].

    `function` is named in errors. `check` is called with the model's shapes before anything is computed.
    """
    check_dataset(function, "dataset", dataset)
    check_integer(function, "batch_size", batch_size, at_least=1)
    preprocess = preprocess or dataset.standardize
    variables, where = _placed(function, model, members, dataset.example.inputs, preprocess, via, devices)
    shapes = check_model_fits(function, model, dataset, preprocess)
    _check_one_array(function, model, shapes.outputs, finish)
    check(shapes)
    sweep = Sweep(dataset, where.replicate, batch_size=batch_size)
    program = _compiled_batch(model, preprocess, finish, sweep.batch_size, where)
    parts = [jax.device_get(part) for part in sweep(program, variables)]
    found = jax.tree.map(lambda *batches: np.concatenate(batches, 1)[:, : sweep.examples], *parts)
    is_nan = sum(np.isnan(x).reshape(len(x), -1).any(1) for x in jax.tree.leaves(found))
    bad = np.flatnonzero(is_nan)
    require(
        len(bad) == 0,
        f"{function}: the members {bad.tolist()} give NaN (a member of a population that diverged holds NaN); leave "
        "them out",
    )
    return found


def _placed(
    function: str,
    model: nn.Module,
    members: Params,
    example: Any,
    preprocess: Preprocess | None,
    via: Via,
    devices: Sequence[Device] | None,
) -> tuple[Any, Members]:
    """The members' variables on their devices, and how the members share the devices."""
    require(
        not isinstance(members, nn.Module) or isinstance(model, nn.Module),
        f"{function}: model must be a flax.linen module, got {shown(model)}; it is first, and then the members",
    )
    check_model(function, model)
    check_choice(function, "via", via, ("auto", "vmap", "map"))
    if preprocess is not None:
        check_function(function, "preprocess", preprocess, "train_set.standardize")
        require(
            not isinstance(preprocess, type),
            f"{function}: preprocess must be a function, got the class {preprocess}; pass train_set.standardize",
        )
    shapes = shapes_of(function, model, input_struct(function, example, preprocess))
    variables = member_variables(function, model, members, shapes.variables)
    leaves = jax.tree.leaves(variables["params"])
    if via == "auto":
        via = "map" if shapes.convolutions and jax.default_backend() == "cpu" else "vmap"
    where = Members(members_mesh(function, len(leaves[0]), devices), via)
    return where.place(variables), where


def _check_one_array(function: str, model: nn.Module, found: Any, finish: str) -> None:
    """Raises `ValueError` if probabilities are asked of a model that does not give logits."""
    other = 'average="outputs"' if function in ("predict", "evaluate") else "ensemble.outputs"
    require(
        finish == "outputs" or (hasattr(found, "shape") and len(found.shape) == 2),
        f"{function}: {type(model).__name__} must give logits [batch, classes], got {kinds(found)} for one example; "
        f"for other outputs use {other}",
    )
    require(
        finish in ("outputs", "sigmoid") or found.shape[1] >= 2,
        f"{function}: {type(model).__name__} has one output, whose softmax is always 1; use {other}",
    )


def _member(model, preprocess, finish, variables, inputs):
    """The result of one member for a batch, in float32 or wider."""
    given = inputs if preprocess is None else preprocess(inputs)
    found = apply_model(model, variables, given, train=False)
    return jax.tree.map(lambda x: _FINISH[finish](x.astype(jnp.promote_types(x.dtype, jnp.float32))), found)


@remembered()
def _compiled_batch(model: nn.Module, preprocess: Preprocess | None, finish: str, batch_size: int, where: Members):
    """A compiled function of stacked variables, data and the number of a batch's first example."""

    def member(variables, data, start):
        batch, _ = masked_batch(data, start, batch_size)
        return _member(model, preprocess, finish, variables, batch.inputs)

    return jax.jit(where.spread(member, own=1))


@remembered()
def _compiled_mean(model: nn.Module, preprocess: Preprocess | None, average: str, where: Members):
    """A compiled function of stacked variables and inputs, which returns the mean over the members."""

    def member(variables, inputs):
        return _member(model, preprocess, average, variables, inputs)

    spread = where.spread(member, own=1)
    return jax.jit(lambda *x: jax.tree.map(lambda y: jnp.mean(y, 0), spread(*x)), out_shardings=where.whole)


def _stacked(found: list[Scores]) -> Scores:
    return Scores(*(np.array(column) for column in zip(*found, strict=True)))
