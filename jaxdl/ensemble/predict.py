"""Predictions of many members at once, and how good they are for each number of members."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdl.arguments import check_integer, require
from jaxdl.data import Dataset
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
    shape = jnp.shape(images)[1:]
    return _predictor("predict", model, members, shape, preprocess, via, devices, mean=True)(images)


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
    check_integer("probabilities", "batch_size", batch_size, at_least=1)
    run = _predictor(
        "probabilities",
        model,
        members,
        dataset.image_shape,
        preprocess or dataset.standardize,
        via,
        devices,
        mean=False,
    )
    parts = []
    for start in range(0, len(dataset), batch_size):
        images = dataset.images[start : start + batch_size]
        missing = min(batch_size, len(dataset)) - len(images)  # the last batch is filled up: one compilation
        filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
        parts.append(np.asarray(run(filled))[:, : len(images)])
    return np.concatenate(parts, 1)


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
    each = probabilities(
        model, members, dataset, batch_size=batch_size, preprocess=preprocess, via=via, devices=devices
    )
    together = np.cumsum(each[::-1].astype(np.float64), 0) / np.arange(1, len(each) + 1)[:, None, None]
    return Evaluation(*(_stacked([scores(p, dataset.labels) for p in part]) for part in (together, each)))


def scores(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """How good probabilities are.

    Args:
      probabilities: [examples, classes], rows that sum to 1.
      labels: int [examples].

    Returns:
      Python floats. The calibration error has 15 bins of equal width of the highest probability.

    Raises:
      ValueError: shapes do not go together, or rows do not sum to 1.

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
    sums_to_one = bool(np.allclose(p.sum(1), 1, atol=1e-3))
    require(sums_to_one, "scores: rows of probabilities must sum to 1; apply a softmax first")
    right = p[np.arange(len(p)), labels]
    confidence, correct = p.max(1), p.argmax(1) == labels
    place = np.minimum(np.ceil(confidence * _BINS).astype(int) - 1, _BINS - 1)  # bins ((k - 1) / 15, k / 15]
    gaps = np.bincount(place, confidence - correct, _BINS)
    return Scores(
        error=float(np.mean(~correct)),
        nll=float(np.mean(-np.log(np.maximum(right, np.finfo(np.float64).tiny)))),
        brier=float(np.mean(np.sum(np.square(p), 1) - 2 * right + 1)),
        ece=float(np.abs(gaps).sum() / len(p)),
    )


def member_variables(function: str, model: nn.Module, members: Params, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Stacked variables from stacked parameters or variables; raises `ValueError` if they are not the model's."""
    variables = dict(members) if "params" in members else {"params": members}
    needed = _needed(model, tuple(image_shape))
    require(
        "batch_stats" not in needed or bool(jax.tree.leaves(variables.get("batch_stats", {}))),
        f"{function}: {type(model).__name__} has batch statistics, and these members have none; pass "
        'optim.snapshot_variables, or {"params": ..., "batch_stats": ...} with those of ensemble.update_batch_stats',
    )
    variables = {name: variables[name] for name in needed if name in variables}
    shapes = jax.tree.map(lambda leaf: leaf.shape[1:], variables)
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(variables)}
    require(
        shapes == jax.tree.map(lambda leaf: leaf.shape, dict(needed)) and len(sizes) == 1,
        f"{function}: members must be trees like the variables of {type(model).__name__}, every array with one leading "
        "axis of members; stack them with jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)",
    )
    return variables


@functools.lru_cache(maxsize=64)
def _needed(model, image_shape):
    """Shapes of a model's variables."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image_shape)), train=False))


def members_mesh(function: str, members: int, devices: Sequence[Device] | None) -> Mesh:
    """As many devices as divide the members, in one axis; `None` is for all of this process."""
    chosen = tuple(jax.local_devices() if devices is None else devices)
    require(
        0 < len(chosen) == len(set(chosen)) and all(isinstance(device, jax.Device) for device in chosen),
        f"{function}: devices must be a list of different JAX devices, got {devices!r}; pass jax.devices()[:2]",
    )
    count = max(count for count in range(1, len(chosen) + 1) if members % count == 0)
    return Mesh(np.array(chosen[:count]), (MEMBERS,), axis_types=(AxisType.Auto,))


def _predictor(
    function: str,
    model: nn.Module,
    members: Params,
    image_shape: tuple[int, ...],
    preprocess: Preprocess | None,
    via: Via,
    devices: Sequence[Device] | None,
    *,
    mean: bool,
) -> Callable[[Any], jax.Array]:
    """A function of images that gives all members' probabilities, or their mean."""
    require(via in ("auto", "vmap", "map"), f'{function}: via must be "auto", "vmap" or "map", got via={via!r}')
    variables = member_variables(function, model, members, image_shape)
    leaves = jax.tree.leaves(variables["params"])
    if via == "auto":
        convolutions = any(leaf.ndim >= 5 for leaf in leaves)
        via = "map" if convolutions and jax.default_backend() == "cpu" else "vmap"
    mesh = members_mesh(function, len(leaves[0]), devices)
    run = _compiled(model, preprocess, via, mesh, mean)
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec(MEMBERS)))
    # Several CPU devices deadlock (jax below 0.12) if many programs in which they meet are under way.
    may_deadlock = mean and mesh.size > 1 and mesh.devices[0].platform == "cpu"

    def predict(images):
        found = run(variables, jax.device_put(images, NamedSharding(mesh, PartitionSpec())))
        return jax.block_until_ready(found) if may_deadlock else found

    return predict


@functools.lru_cache(maxsize=64)
def _compiled(model: nn.Module, preprocess: Preprocess | None, via: str, mesh: Mesh, mean: bool) -> Callable:
    def each(variables, images):
        inputs = images if preprocess is None else preprocess(images)
        require(
            jnp.issubdtype(inputs.dtype, jnp.floating),
            f"the model would be shown {inputs.dtype} images; pass preprocess=dataset.standardize, or floats",
        )

        def member(variables):
            logits: Any = model.apply(variables, inputs, train=False)
            return jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

        return jax.lax.map(member, variables) if via == "map" else jax.vmap(member)(variables)

    part, whole = PartitionSpec(MEMBERS), PartitionSpec()
    spread = jax.shard_map(each, mesh=mesh, in_specs=(part, whole), out_specs=part, check_vma=False)
    if not mean:
        return jax.jit(spread)
    return jax.jit(lambda *x: jnp.mean(spread(*x), 0), out_shardings=NamedSharding(mesh, whole))


def _stacked(found: list[Scores]) -> Scores:
    return Scores(*(np.array(column) for column in zip(*found, strict=True)))
