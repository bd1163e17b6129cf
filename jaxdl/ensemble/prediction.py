"""Predictions of many members at once: their mean for a batch, or those of each for a whole data set."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_choice, check_integer, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset, check_image_bytes, check_model_fits, kinds
from jaxdl.data.sweep import Sweep, masked_batch
from jaxdl.ensemble.members import Preprocess, Via, place_members
from jaxdl.mesh import Members
from jaxdl.modules import apply_model
from jaxdl.program_cache import remembered
from jaxdl.typing import Arrays, Device, Params

Average: TypeAlias = Literal["softmax", "sigmoid", "outputs"]

_FINISH = {
    "softmax": jax.nn.softmax,
    "sigmoid": jax.nn.sigmoid,
    "log_softmax": jax.nn.log_softmax,
    "outputs": lambda outputs: outputs,
}


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
        + (
            "; for a data set use ensemble.probabilities"
            if isinstance(inputs, Dataset | Stream)
            else "; use numpy.asarray"
        ),
    )
    check_image_bytes("predict", inputs)
    check_choice("predict", "average", average, ("softmax", "sigmoid", "outputs"))
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    variables, where, shapes = place_members("predict", model, members, example, preprocess, via, devices)
    _check_logits("predict", model, shapes, average)
    found = _compiled_mean(model, preprocess, average, where)(variables, where.replicate(inputs))
    # Several CPU devices may deadlock (jax below 0.12) if many programs that communicate are under way at once.
    may_deadlock = where.mesh.size > 1 and where.mesh.devices[0].platform == "cpu"
    return jax.block_until_ready(found) if may_deadlock else found


def probabilities(
    model: nn.Module,
    members: Params,
    dataset: Dataset | Stream,
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
    sweep = MemberSweep("probabilities", "log_softmax", model, members, dataset, batch_size, preprocess, via, devices)
    return np.exp(sweep.run())


def log_probabilities(
    model: nn.Module,
    members: Params,
    dataset: Dataset | Stream,
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
    return MemberSweep(
        "log_probabilities", "log_softmax", model, members, dataset, batch_size, preprocess, via, devices
    ).run()


def outputs(
    model: nn.Module,
    members: Params,
    dataset: Dataset | Stream,
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
    sweep = MemberSweep("outputs", "outputs", model, members, dataset, batch_size, preprocess, via, devices)
    return sweep.run()


class MemberSweep:
    """The results of every member for every example of a data set. The arguments are checked at construction.

    Args:
      function: named in errors.
      finish: what is computed of the model's outputs, a key of `_FINISH`.
      model: as for `predict`, and so are `members`, `preprocess`, `via` and `devices`.
      dataset: the data set, all of whose examples are used.
      batch_size: examples at a time.

    Attributes:
      outputs: shapes and dtypes of the model's outputs for one example.

    Raises:
      ValueError: an argument is wrong.
    """

    def __init__(
        self,
        function: str,
        finish: str,
        model: nn.Module,
        members: Params,
        dataset: Dataset | Stream,
        batch_size: int,
        preprocess: Preprocess | None,
        via: Via,
        devices: Sequence[Device] | None,
    ):
        check_dataset(function, "dataset", dataset)
        check_integer(function, "batch_size", batch_size, at_least=1)
        preprocess = preprocess or dataset.standardize
        placed = place_members(function, model, members, dataset.example.inputs, preprocess, via, devices)
        self._variables, self._where, self.outputs = placed
        check_model_fits(function, model, dataset, preprocess)
        _check_logits(function, model, self.outputs, finish)
        self._function, self._finish, self._model = function, finish, model
        self._dataset, self._batch_size, self._preprocess = dataset, batch_size, preprocess

    def run(self) -> Any:
        """The results, [members, examples, ...]; raises `ValueError` if some of them are NaN."""
        sweep = Sweep(self._dataset, self._where.replicate, batch_size=self._batch_size)
        program = _compiled_batch(self._model, self._preprocess, self._finish, sweep.batch_size, self._where)
        parts = [jax.device_get(part) for part in sweep(program, self._variables)]
        found = jax.tree.map(lambda *batches: np.concatenate(batches, 1)[:, : sweep.examples], *parts)
        has_nan = sum(np.isnan(x).reshape(len(x), -1).any(1) for x in jax.tree.leaves(found))
        bad = np.flatnonzero(has_nan).tolist()
        require(
            not bad,
            f"{self._function}: the outputs of members must not be NaN, got NaN from the members {bad} (a member of a "
            "population that diverged holds NaN); leave them out",
        )
        return found


def _check_logits(function: str, model: nn.Module, outputs: Any, finish: str) -> None:
    """Raises `ValueError` if probabilities are asked of a model that does not give logits."""
    other = 'average="outputs"' if function in ("predict", "evaluate") else "ensemble.outputs"
    require(
        finish == "outputs" or (hasattr(outputs, "shape") and len(outputs.shape) == 2),
        f"{function}: {type(model).__name__} must give logits [batch, classes], got {kinds(outputs)} for one example; "
        f"for other outputs use {other}",
    )
    require(
        finish in ("outputs", "sigmoid") or outputs.shape[1] >= 2,
        f"{function}: {type(model).__name__} must give at least 2 logits, got 1, whose softmax is always 1; use "
        f"{other}",
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
