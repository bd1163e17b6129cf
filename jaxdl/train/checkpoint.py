"""Checkpoints: everything that a run needs to go on, written atomically beside the training."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import optim
from jaxdl.arguments import check_integer, require
from jaxdl.data import Dataset
from jaxdl.train.history import History
from jaxdl.train.state import TrainState
from jaxdl.tree import check_arrays, path_name

_FORMAT = 1


class CheckpointError(OSError):
    """A checkpoint could not be written. What was trained is not lost: it is in `state` and `history`.

    Attributes:
      state: the newest training state, or None if the error came before training.
      history: what happened until then, or None.
    """

    def __init__(self, message: str, state: TrainState | None = None, history: History | None = None):
        super().__init__(message)
        self.state, self.history = state, history


class DamagedCheckpointWarning(UserWarning):
    """A checkpoint could not be read, and an older one was used."""


class OptimizerChangedWarning(UserWarning):
    """A run goes on with an optimizer that computes something else than the one it was begun with."""


def restore(
    folder: str | os.PathLike,
    like: TrainState,
    *,
    which: int | Literal["newest", "best"] = "newest",
) -> tuple[TrainState, History]:
    """Reads a checkpoint that `fit(..., checkpoint_dir=)` wrote.

    Args:
      folder: the `checkpoint_dir`.
      like: a state of the same model and optimizer, `init_state(...)`; the arrays go where its arrays are, on whatever
        number of devices the checkpoint was written.
      which: the newest, the one of the least error on the evaluation set, or the one after so many updates.

    Returns:
      The state and the history until then.

    Raises:
      FileNotFoundError: there is no such checkpoint (those there are are named).
      ValueError: the checkpoint is of another model or optimizer; the message says what differs.

    Example:
      >>> import tempfile, jax
      >>> from jaxdl import data, models, optim, train
      >>> train_set, _ = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(8,)), optim.sgd(0.1)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = train.fit(state, model, tx, train_set, steps=5, checkpoint_dir=folder, progress=False)
      ...     restored, history = train.restore(folder, state)
      >>> int(restored.step), len(history.loss)
      (5, 5)
    """
    path = Path(folder)
    require(
        which in ("newest", "best") or isinstance(which, int),
        f'restore: which must be "newest", "best" or a number of updates, got which={which!r}',
    )
    with Checkpoints(path, keep=None, must_exist=True) as checkpoints:
        return checkpoints.read(Outline.of(like), which)


class Outline(NamedTuple):
    """Names, shapes, dtypes and places of a state's arrays, without their numbers."""

    plain: TrainState  # of jax.ShapeDtypeStruct with a sharding; the key as its numbers
    key_impl: Any

    @classmethod
    def of(cls, state: TrainState) -> "Outline":
        """Of a state."""

        def struct(leaf):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

        return cls(jax.tree.map(struct, _plain(state)), jax.random.key_impl(state.key))

    @property
    def flat(self) -> dict[str, jax.ShapeDtypeStruct]:
        """By path."""
        return _flat(self.plain)

    def fill(self, flat: Mapping[str, jax.Array]) -> TrainState:
        """The state with these arrays."""

        def leaf(path, struct):
            name = path_name(path)
            return flat[name] if name in flat else jnp.zeros(struct.shape, struct.dtype, device=struct.sharding)

        state = jax.tree_util.tree_map_with_path(leaf, self.plain)
        return state._replace(key=jax.random.wrap_key_data(state.key, impl=self.key_impl))


class Checkpoints:
    """The checkpoints in one folder. A context manager: leaving it waits for what is being written.

    Args:
      folder: is made if it is not there.
      keep: how many of the newest stay, beside the best one; None for all.
      must_exist: whether a folder that is not there is an error.
    """

    def __init__(self, folder: Path, *, keep: int | None, must_exist: bool = False):
        from orbax.checkpoint import v1 as ocp

        self._ocp, self.folder, self._pending = ocp, folder, None
        if must_exist and not folder.is_dir():
            raise FileNotFoundError(f"restore: there is no folder {folder}")
        if not must_exist:
            _check_writable(folder)
        policies = ocp.training.preservation_policies
        preservation: Any = policies.PreserveAll()
        if keep is not None:
            best = policies.BestN(
                get_metric_fn=lambda metrics: -metrics["error"], n=1, keep_checkpoints_without_metrics=False
            )
            preservation = policies.AnyPreservationPolicy([policies.LatestN(keep), best])
        make: Any = ocp.training.Checkpointer  # its types want more than its documentation does
        self._checkpointer = make(
            folder.absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=preservation,
            cleanup_tmp_directories=not must_exist,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, failure: Any, *_: Any) -> None:
        with contextlib.suppress(Exception) if failure else contextlib.nullcontext():  # what failed is known already
            self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Updates behind each checkpoint, rising."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(
        self, state: TrainState, history: History, about: Mapping[str, Any], *, error: float | None = None
    ) -> None:
        """Begins to write; waits for the one before. `error` decides which is best.

        Raises:
          CheckpointError: this one, or the one before, could not be written.
        """
        self.wait(state, history)
        arrays = _flat(_plain(state))
        if next(iter(state.step.devices())).platform == "cpu":
            arrays = jax.tree.map(jnp.copy, arrays)  # orbax writes the very buffers, which the next step reuses
        content = {"state": arrays, "history": _history_arrays(history)}
        metadata = {
            "format": _FORMAT,
            "arrays": _described(arrays),
            "sums": _sums(arrays),
            "history_sums": _history_sums(history),
            **about,
        }
        with self._reported(state, history):
            self._pending = self._checkpointer.save_checkpointables_async(
                int(state.step),
                content,
                overwrite=True,  # a damaged one
                metrics=None if error is None else {"error": float(error)},
                custom_metadata={**metadata, "digest": _digest(metadata)},
            )

    def wait(self, state: TrainState | None = None, history: History | None = None) -> None:
        """Returns once what is being written is there; raises `CheckpointError`, with what is passed, if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._reported(state, history):
                pending.result()

    @contextlib.contextmanager
    def _reported(self, state: TrainState | None, history: History | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            raise CheckpointError(
                f"fit: a checkpoint could not be written to {self.folder}: {reason[:300]}. Is the disk full, or the "
                f"folder read-only? Older checkpoints there are {self.steps or 'none'}. The state and the history are "
                "in this exception's .state and .history",
                state,
                history,
            ) from error

    def read(self, outline: Outline, which: Any, about: Mapping[str, Any] | None = None) -> tuple[TrainState, History]:
        """One checkpoint; of "newest", the newest that can be read."""
        steps = self.steps
        if which == "newest":
            tried = list(reversed(steps))
        elif which == "best":
            judged = [c for c in self._checkpointer.checkpoints if c.metrics]
            tried = [min(judged, key=lambda c: (c.metrics["error"], c.step)).step] if judged else []
        else:
            tried = [step for step in steps if step == which]
        for number, step in enumerate(tried):
            metadata = self._metadata(step)
            if metadata is not None:
                self._compare(step, outline, metadata, about or {})
                try:
                    return self._load(step, outline, metadata)
                except Exception as error:
                    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            else:
                reason = "its metadata cannot be read"
            rest = tried[number + 1 :]
            going_on = f"the one before it, of step {rest[0]}, is used" if rest else "there is no older one"
            warnings.warn(
                f"the checkpoint of step {step} in {self.folder} is damaged ({reason}); {going_on}",
                DamagedCheckpointWarning,
                stacklevel=3,
            )
        raise FileNotFoundError(
            f"there is no checkpoint {which!r} that can be read in {self.folder}; there are the steps {steps}"
        )

    def _metadata(self, step: int) -> dict[str, Any] | None:
        try:
            found = self._checkpointer.checkpointables_metadata(step).custom_metadata
        except Exception:
            return None
        kept = dict(found or {})
        return kept if kept.pop("digest", None) == _digest(kept) else None

    def _compare(self, step: int, outline: Outline, metadata: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Raises `ValueError` that says what differs between a checkpoint and the run that wants it."""
        here, there = about.get("settings", {}), metadata.get("settings", {})
        lines = [f"{name}: there {there[name]}, here {here[name]}" for name in here if there.get(name) != here[name]]
        where = f"the checkpoint of step {step} in {self.folder} is of another run; use another checkpoint_dir, or the "
        where += "same arguments" + "".join(f"\n  {line}" for line in lines)
        needed, given = _described(outline.flat), metadata["arrays"]
        check_arrays(
            where,
            needed={name: shape for name, (shape, _) in needed.items()},
            given={name: shape for name, (shape, _) in given.items()},
        )
        lines += [f"{name}: there {given[name][1]}, here {dtype}" for name, (_, dtype) in needed.items()
                  if given[name][1] != dtype]  # fmt: skip
        require(not lines, where)
        same_versions = metadata.get("versions") == about.get("versions")
        if same_versions and about.get("update") and metadata.get("update") != about["update"]:
            warnings.warn(
                f"the optimizer computes something else than when {self.folder} was written (another rate or schedule, "
                "perhaps); going on with the new one",
                OptimizerChangedWarning,
                stacklevel=5,
            )

    def _load(self, step: int, outline: Outline, metadata: Mapping[str, Any]) -> tuple[TrainState, History]:
        found = self._checkpointer.load_checkpointables(step, {"state": outline.flat, "history": None})
        history = _history_from(found["history"])
        sums, wanted = _sums(found["state"]), metadata["sums"]
        wrong = [name for name in wanted if sums[name] != wanted[name]]
        wrong += ["history"] if _history_sums(history) != metadata["history_sums"] else []
        require(not wrong, f"wrong numbers in {', '.join(wrong)}")
        return outline.fill(found["state"]), history


def describe_run(
    model: Any, tx: optax.GradientTransformation, state: TrainState, train_set: Dataset, **settings: Any
) -> dict[str, Any]:
    """What is kept beside the arrays: settings that must not change in a run, and what is good to know."""
    return {
        "settings": {
            "model": " ".join(repr(model).split()),
            "data": f"{train_set!r}, CRC-32 {_crc(train_set.images) ^ _crc(train_set.labels):08x}",
            "key": jax.random.key_data(state.key).tolist(),
            **{name: _name(value) for name, value in settings.items()},
        },
        "update": _update_digest(tx, state),
        "versions": {name: importlib.metadata.version(name) for name in ("jaxdl", "jax", "flax", "optax")},
    }


def check_checkpointing(folder: Any, every: Any, keep: Any) -> None:
    """Raises `ValueError` for what `fit` cannot use."""
    require(
        folder is not None or every is None,
        "fit: checkpoint_every goes with checkpoint_dir=...; name a folder to write to",
    )
    if every is not None:
        check_integer("fit", "checkpoint_every", every, at_least=1, remedy="leave it out for once an epoch")
    check_integer("fit", "keep_checkpoints", keep, at_least=1)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(
            f"fit: checkpoint_dir={str(folder)!r} cannot be written to: {error.strerror or error}; name another folder"
        ) from error


def _digest(metadata: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:16]


def _name(value: Any) -> str:
    """A setting as text that is the same in every process."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _update_digest(tx: optax.GradientTransformation, state: TrainState) -> str | None:
    """A digest of what an optimizer computes, rates included; None if it cannot be traced by itself."""

    def update(params, opt_state):
        extra = {"batch_stats": jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state.batch_stats)}
        extra = extra if optim.wants_batch_stats(opt_state) else {}
        told = {"value": jnp.float32(0), "grad": params, "value_fn": lambda _: jnp.float32(0), **extra}
        return optax.with_extra_args_support(tx).update(params, opt_state, params, **told)

    try:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state.params, state.opt_state))
        text = str(jax.make_jaxpr(update)(*shapes))
    except Exception:
        return None
    return hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode()).hexdigest()[:16]


def _plain(state: TrainState) -> TrainState:
    """A state with its key as numbers."""
    return state._replace(key=jax.random.key_data(state.key))


def _flat(plain: TrainState) -> dict[str, Any]:
    """Arrays by path. Empty ones, which orbax refuses, are left out."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(plain) if leaf.size}


def _described(flat: Mapping[str, Any]) -> dict[str, list]:
    return {name: [list(leaf.shape), leaf.dtype.name] for name, leaf in flat.items()}


def _sums(flat: Mapping[str, jax.Array]) -> dict[str, int]:
    """A check sum of each array: of its bits as 32-bit numbers. Orbax does not notice every changed bit."""
    return {name: int(total) for name, total in jax.device_get(_sum_bits(dict(flat))).items()}


@jax.jit
def _sum_bits(flat: dict[str, jax.Array]) -> dict[str, jax.Array]:
    def total(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.bool_):
            return jnp.sum(leaf, dtype=jnp.uint32)
        unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
        return jnp.sum(jax.lax.bitcast_convert_type(leaf, unsigned), dtype=jnp.uint32)

    return jax.tree.map(total, flat)


def _history_sums(history: History) -> list[int]:
    return [_crc(np.asarray(value)) for value in history]


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _history_arrays(history: History) -> dict[str, np.ndarray]:
    arrays = {name: np.atleast_1d(np.asarray(value)) for name, value in history._asdict().items()}
    return {name: array for name, array in arrays.items() if array.size}


def _history_from(arrays: Mapping[str, Any]) -> History:
    history = History.empty()._replace(**{name: np.asarray(array) for name, array in arrays.items()})
    return history._replace(seconds=float(np.asarray(history.seconds).reshape(-1)[0]))
