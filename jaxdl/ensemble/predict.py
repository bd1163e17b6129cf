"""Predictions of many members at once, and how good they are for each number of members."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdl.arguments import check_choice, check_devices, check_function, check_integer, require, shown
from jaxdl.data import Dataset
from jaxdl.data.checks import check_dataset, check_model_fits, input_struct
from jaxdl.program_cache import remembered
from jaxdl.shapes import model_shapes
from jaxdl.typing import Device, Params

Via = Literal["auto", "vmap", "map"]
Preprocess = Callable[[jax.Array], jax.Array]

MEMBERS = "members"  # the axis over which members are spread over devices
_BINS = 15  # of the calibration error, as in Guo et al. 2017


class Scores(NamedTuple):
    """How good predicted probabilities are. All are scalars, or arrays of one number for each case."""

    error: Any  # share of examples classified wrongly, in [0, 1]
    nll: Any  # mean negative log-likelihood of the right class, in nats
    brier: Any  # mean squared distance from the one-hot truth, summed over classes, in [0, 2]
    ece: Any  # expected calibration error: mean gap between confidence and accuracy, in [0, 1]


class Evaluation(NamedTuple):
    """An ensemble of M members on a data set; prints as a table. Arrays are float64 [M]."""

    ensemble: Scores  # of the last 1, 2, ..., M members together
    members: Scores  # of each member by itself, in the order given

    def __str__(self) -> str:
        lines = ["members  error %    NLL   Brier    ECE   | alone: member  error %    NLL"]
        for i in range(len(self.ensemble.error)):
            together, alone = (tuple(float(values[i]) for values in scores) for scores in self)
            lines.append(
                f"{i + 1:7d}  {100 * together[0]:7.2f}  {together[1]:5.3f}  {together[2]:6.4f}  {together[3]:5.3f}  |"
                f"        {i + 1:6d}  {100 * alone[0]:7.2f}  {alone[1]:5.3f}"
            )
        return "\n".join(lines)


def predict(
    model: nn.Module,
    members: Params,
    images: jax.Array,
    *,
    preprocess: Preprocess | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
) -> jax.Array:
    """The mean of the members' softmax probabilities, in one compiled call.

    Args:
      model: a module called as `model(images, train=bool)`.
      members: stacked members, arrays with a leading axis of M: parameters (`optim.snapshot_params`), or for a model
        with batch statistics {"params": ..., "batch_stats": ...} (`optim.snapshot_variables`).
      images: [batch, height, width, channels].
      preprocess: images to model inputs; needed if they are uint8.
      via: "vmap" for all members side by side, "map" for one after the other. By default the faster one on the CPU
        (`benchmarks/averaging.py`): "map" for convolutions on the CPU, "vmap" elsewhere.
      devices: members are spread over them, over as many as divide the members; by default all. What lies there so
        already (the parameters of a `train.population`) is not moved.

    Returns:
      float32 [batch, classes], whole on every device used.

    Raises:
      ValueError: an argument is not what it should be.
    """
    require(
        hasattr(images, "dtype") and images.ndim >= 2 and len(images) > 0,
        f"predict: images must be an array [batch, height, width, channels], got {shown(images)}",
    )
    run = _predictor(
        "predict", model, members, images.shape[1:], images.dtype, preprocess, via, devices, logarithms=False
    )
    return run(images)


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
      dataset: all examples count.
      batch_size: examples at a time; no influence on the result but for rounding.
      preprocess: images to model inputs; by default `dataset.standardize`.
      via: as for `predict`.
      devices: as for `predict`.

    Returns:
      float32 [members, examples, classes].

    Raises:
      ValueError: an argument is not what it should be.
    """
    return np.exp(_logarithms("probabilities", model, members, dataset, batch_size, preprocess, via, devices))


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
    """The logarithms of `probabilities`, in nats: those of improbable classes keep their digits.

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
    return _logarithms("log_probabilities", model, members, dataset, batch_size, preprocess, via, devices)


def _logarithms(function: str, model, members, dataset, batch_size, preprocess, via, devices) -> np.ndarray:
    """`log_probabilities`, on behalf of a function that errors name."""
    check_dataset(function, "dataset", dataset)
    check_integer(function, "batch_size", batch_size, at_least=1)
    preprocess = preprocess or dataset.standardize
    run = _predictor(
        function,
        model,
        members,
        dataset.image_shape,
        dataset.images.dtype,
        preprocess,
        via,
        devices,
        logarithms=True,
    )
    check_model_fits(function, model, dataset, preprocess)
    parts = []
    for start in range(0, len(dataset), batch_size):
        images = dataset.images[start : start + batch_size]
        missing = min(batch_size, len(dataset)) - len(images)  # the last batch is filled up: one compilation
        filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
        parts.append(np.asarray(run(filled))[:, : len(images)])
    found = np.concatenate(parts, 1)
    bad = np.flatnonzero(np.isnan(found).any((1, 2)))
    require(
        len(bad) == 0,
        f"{function}: the members {bad.tolist()} give NaN (a member of a population that diverged holds NaN); leave "
        "them out",
    )
    return found


def evaluate(
    model: nn.Module,
    members: Params,
    dataset: Dataset,
    *,
    batch_size: int = 500,
    preprocess: Preprocess | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
) -> Evaluation:
    """How good the last 1, 2, ..., M members are together, and each by itself.

    Args:
      model: as for `predict`.
      members: as for `predict`, in the order of time: of a run's snapshots the last are the best.
      dataset: all examples count.
      batch_size: as for `probabilities`.
      preprocess: as for `probabilities`.
      via: as for `predict`.
      devices: as for `predict`.

    Returns:
      An `Evaluation`; print it.

    Raises:
      ValueError: an argument is not what it should be.

    Reference: Huang et al., `Snapshot Ensembles`, 2017 (arXiv 1704.00109), for the last m of M.
    """
    each = _logarithms("evaluate", model, members, dataset, batch_size, preprocess, via, devices).astype(np.float64)
    # Means of probabilities, in logarithms: a confident member's probabilities are below what a float can hold.
    counts = np.arange(1, len(each) + 1)[:, None, None]
    together = np.logaddexp.accumulate(each[::-1], 0) - np.log(counts)
    return Evaluation(*(_stacked([_scores(logs, dataset.labels) for logs in part]) for part in (together, each)))


def scores(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """How good probabilities are.

    Args:
      probabilities: [examples, classes], rows that sum to 1.
      labels: int [examples].

    Returns:
      Python floats. The calibration error has 15 bins of equal width of the highest probability. The NLL is infinite
      where the right class has probability 0; `evaluate` has it from the logarithms.

    Raises:
      ValueError: shapes do not go together, labels are out of range, or rows are no probabilities that sum to 1.

    Example:
      >>> round(scores(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1])).brier, 2)
      0.4

    References: Brier, `Verification of forecasts`, 1950; Guo et al., `On Calibration of Modern Neural Networks`, 2017
    (arXiv 1706.04599), eq. 3.
    """
    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    require(
        p.ndim == 2 and labels.shape == p.shape[:1] and len(p) > 0,
        f"scores: needs probabilities [examples, classes] and labels [examples], got {p.shape} and {labels.shape}",
    )
    require(
        np.issubdtype(labels.dtype, np.integer) and bool(np.all((labels >= 0) & (labels < p.shape[1]))),
        f"scores: labels must be class numbers in 0..{p.shape[1] - 1}, got {shown(labels)}",
    )
    sums_to_one = bool(np.all(p >= 0) and np.allclose(p.sum(1), 1, atol=1e-3))
    require(sums_to_one, "scores: rows of probabilities must sum to 1; apply a softmax first")
    with np.errstate(divide="ignore"):
        return _scores(np.log(p), labels)


def _scores(logarithms: np.ndarray, labels: np.ndarray) -> Scores:
    """How good probabilities are, from their logarithms [examples, classes]."""
    p, examples = np.exp(logarithms), np.arange(len(logarithms))
    right, confidence, correct = p[examples, labels], p.max(1), p.argmax(1) == labels
    place = np.minimum(np.ceil(confidence * _BINS).astype(int) - 1, _BINS - 1)  # bins ((k - 1) / 15, k / 15]
    gaps = np.bincount(place, confidence - correct, _BINS)
    return Scores(
        error=float(np.mean(~correct)),
        nll=float(np.mean(-logarithms[examples, labels])),
        brier=float(np.mean(np.sum(np.square(p), 1) - 2 * right + 1)),
        ece=float(np.abs(gaps).sum() / len(p)),
    )


def member_variables(function: str, model: nn.Module, members: Params, needed: dict[str, Any]) -> dict[str, Any]:
    """Stacked variables from stacked parameters or variables; raises `ValueError` if they are not the model's.

    Args:
      function: named in errors.
      model: the model.
      members: parameters, or variables, with a leading axis.
      needed: shapes of the model's variables, by collection.
    """
    require(
        isinstance(members, Mapping),
        f"{function}: members must be stacked parameters, optim.snapshot_params(state.opt_state) for example, or "
        f'{{"params": ..., "batch_stats": ...}}, got {shown(members)}',
    )
    variables = dict(members) if "params" in members else {"params": members}
    require(
        "batch_stats" not in needed or bool(jax.tree.leaves(variables.get("batch_stats", {}))),
        f"{function}: {type(model).__name__} has batch statistics, and these members have none; pass "
        'optim.snapshot_variables, or {"params": ..., "batch_stats": ...} with those of ensemble.update_batch_stats',
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


def members_mesh(function: str, members: int, devices: Sequence[Device] | None) -> Mesh:
    """As many devices as divide the members, in one axis; `None` is for all of this process."""
    chosen = check_devices(function, jax.local_devices() if devices is None else devices)
    count = max(count for count in range(1, len(chosen) + 1) if members % count == 0)
    return Mesh(np.array(chosen[:count]), (MEMBERS,), axis_types=(AxisType.Auto,))


def _predictor(
    function: str,
    model: nn.Module,
    members: Params,
    image_shape: tuple[int, ...],
    dtype: Any,
    preprocess: Preprocess | None,
    via: Via,
    devices: Sequence[Device] | None,
    *,
    logarithms: bool,
) -> Callable[[Any], jax.Array]:
    """A function of images: the logarithms of all members' probabilities, or else the mean of the probabilities."""
    require(
        isinstance(model, nn.Module), f"{function}: model must be a flax.linen module, got {shown(model)}; it is first"
    )
    check_choice(function, "via", via, ("auto", "vmap", "map"))
    if preprocess is not None:
        check_function(function, "preprocess", preprocess, "train_set.standardize")
    inputs = input_struct(function, tuple(image_shape), dtype, preprocess)
    needed = model_shapes(model, inputs.shape[1:], inputs.dtype).variables
    variables = member_variables(function, model, members, needed)
    leaves = jax.tree.leaves(variables["params"])
    if via == "auto":
        convolutions = any(leaf.ndim >= 5 for leaf in leaves)
        via = "map" if convolutions and jax.default_backend() == "cpu" else "vmap"
    mesh = members_mesh(function, len(leaves[0]), devices)
    run = _compiled(model, preprocess, via, mesh, logarithms)
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec(MEMBERS)))
    # Several CPU devices deadlock (jax below 0.12) if many programs in which they meet are under way.
    may_deadlock = not logarithms and mesh.size > 1 and mesh.devices[0].platform == "cpu"

    def predict(images):
        found = run(variables, jax.device_put(images, NamedSharding(mesh, PartitionSpec())))
        return jax.block_until_ready(found) if may_deadlock else found

    return predict


@remembered()
def _compiled(model: nn.Module, preprocess: Preprocess | None, via: str, mesh: Mesh, logarithms: bool) -> Callable:
    def each(variables, images):
        inputs = images if preprocess is None else preprocess(images)

        def member(variables):
            logits: Any = model.apply(variables, inputs, train=False)
            wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
            return jax.nn.log_softmax(wide) if logarithms else jax.nn.softmax(wide)

        return jax.lax.map(member, variables) if via == "map" else jax.vmap(member)(variables)

    part, whole = PartitionSpec(MEMBERS), PartitionSpec()
    spread = jax.shard_map(each, mesh=mesh, in_specs=(part, whole), out_specs=part, check_vma=False)
    if logarithms:
        return jax.jit(spread)
    return jax.jit(lambda *x: jnp.mean(spread(*x), 0), out_shardings=NamedSharding(mesh, whole))


def _stacked(found: list[Scores]) -> Scores:
    return Scores(*(np.array(column) for column in zip(*found, strict=True)))
