"""Checkpoints: everything that a run needs to continue, written atomically while training goes on."""

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, require, shown
from jaxdl.identity import differences
from jaxdl.train.arrays import (
    Outline,
    check_sums,
    flat_arrays,
    histories_from,
    history_arrays,
    history_sums,
    plain_state,
    shapes_and_dtypes,
)
from jaxdl.train.history import History
from jaxdl.train.state import TrainState, check_state
from jaxdl.tree import check_arrays

_FORMAT = 3


class CheckpointError(OSError):
    """A checkpoint could not be written. The trained parameters are not lost: they are in `state`.

    Attributes:
      state: the newest training state, or None if the error came before training.
      history: the history until then (for a population a tuple of histories), or None.
    """

    def __init__(self, message: str, state: TrainState | None = None, history: Any = None):
        super().__init__(message)
        self.state, self.history = state, history


class DamagedCheckpointWarning(UserWarning):
    """A checkpoint could not be read, and an older one was used."""


class OptimizerChangedWarning(UserWarning):
    """A run continues with an optimizer that does not compute the same as the one it began with."""


class NumericsChangedWarning(UserWarning):
    """A run began with `jaxdl-native` and continues without it, or the other way round."""


class EvaluationChangedWarning(UserWarning):
    """A run continues with another evaluation set than the one it began with."""


def restore(
    folder: str | os.PathLike,
    like: TrainState,
    *,
    which: int | Literal["newest", "best"] = "newest",
) -> tuple[TrainState, Any]:
    """Reads a checkpoint that `fit`, or `population`, wrote into its `checkpoint_dir`.

    Args:
      folder: the `checkpoint_dir`.
      like: a state of the same model and optimizer, `init_state(...)`. The arrays are put on the devices of its arrays;
        the checkpoint may come from another number of devices. For a population pass states stacked in the same way.
      which: "newest", "best" (the least error on the evaluation set, or the least loss if there is no error), or the
        number of updates of a checkpoint.

    Returns:
      The state and the history until then; for a population a tuple of histories.

    Raises:
      FileNotFoundError: there is no such checkpoint; the message names those that there are.
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
    path, which = check_source("restore", folder, which)
    check_state("restore", like, "like")
    with Checkpoints(path, keep=None, must_exist=True, function="restore") as checkpoints:
        _, state, histories, members = checkpoints.read(Outline.of(like), which)
    return state, histories[0] if members is None else tuple(histories)


def check_source(function: str, folder: Any, which: Any) -> tuple[Path, Any]:
    """Where to read, and which checkpoint; raises `ValueError` for what is no path, or names no checkpoint."""
    require(
        isinstance(folder, str | os.PathLike),
        f"{function}: folder must be the checkpoint_dir of a run, got folder={shown(folder)}",
    )
    if isinstance(which, np.integer):
        which = int(which)
    require(
        which in ("newest", "best") or (isinstance(which, int) and not isinstance(which, bool)),
        f'{function}: which must be "newest", "best" or a number of updates, got which={shown(which)}',
    )
    return Path(folder), which


class Checkpoints:
    """The checkpoints in one folder. A context manager: leaving it waits for what is being written.

    Args:
      folder: is made if it is not there.
      keep: how many of the newest checkpoints stay, beside the best one; None for all.
      must_exist: whether a folder that is not there is an error.
      function: named in errors.
    """

    def __init__(self, folder: Path, *, keep: int | None, must_exist: bool = False, function: str = "fit"):
        from orbax.checkpoint import v1 as ocp

        self.folder, self.function, self._pending = folder, function, None
        if must_exist and not folder.is_dir():
            raise FileNotFoundError(f"{function}: there is no folder {folder}")
        if not must_exist:
            _check_writable(function, folder)
        preservation: Any = ocp.training.preservation_policies.PreserveAll() if keep is None else _Preserved(self, keep)
        make: Any = ocp.training.Checkpointer  # its types want more than its documentation does
        self._checkpointer = make(
            folder.absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=preservation,
            cleanup_tmp_directories=not must_exist,
        )
        # Errors on the evaluation set, by step. They are not in orbax's own file of metrics: if that is damaged, orbax
        # opens no checkpoint at all.
        found = {step: (self._metadata(step) or {}).get("error") for step in self.steps}
        self.errors: dict[int, float] = {step: error for step, error in found.items() if error is not None}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, failure: Any, *_: Any) -> None:
        with contextlib.suppress(Exception) if failure else contextlib.nullcontext():  # a failure is raised already
            self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """The number of updates of each checkpoint, in increasing order."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    @property
    def best(self) -> int | None:
        """The step of the least error on the evaluation set, the first of equals; None if no error is known."""
        judged = {step: error for step, error in self.errors.items() if step in self.steps}
        return min(judged, key=lambda step: (judged[step], step)) if judged else None

    def save(
        self,
        state: TrainState,
        step: int,
        histories: list[History],
        about: Mapping[str, Any],
        *,
        error: float | None = None,
        members: Any = None,
        averages: Sequence[Any] = (),
    ) -> None:
        """Waits for the checkpoint before, and begins to write this one. `error` decides which is best.

        Raises:
          CheckpointError: this checkpoint, or the one before, could not be written.
        """
        self.wait(state, histories)
        self.errors.pop(step, None)
        if error is not None:
            self.errors[step] = error
        arrays = flat_arrays(plain_state(state))
        if next(iter(state.step.devices())).platform == "cpu":
            arrays = jax.tree.map(jnp.copy, arrays)  # orbax reads the buffers while the next step reuses them
        of_histories = history_arrays(histories)
        content = {"state": arrays, "history": of_histories}
        metadata = {
            "format": _FORMAT,
            "error": error,
            "arrays": shapes_and_dtypes(arrays),
            "sums": check_sums(arrays),
            "histories": len(histories),
            "history_sums": history_sums(of_histories),
            "members": members,
            "averages": averages,
            **about,
        }
        with self._reported(state, histories):
            self._pending = self._checkpointer.save_checkpointables_async(
                step,
                content,
                overwrite=True,  # there may be a damaged checkpoint of this step
                custom_metadata={**metadata, "digest": _digest(metadata)},
            )

    def wait(self, state: TrainState | None = None, histories: list[History] | None = None) -> None:
        """Waits until writing is complete. If it failed, raises `CheckpointError` with this state and history."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._reported(state, histories):
                pending.result()

    @contextlib.contextmanager
    def _reported(self, state: TrainState | None, histories: list[History] | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            raise CheckpointError(
                f"{self.function}: a checkpoint could not be written to {self.folder}: {reason[:300]}. Is the disk "
                f"full, or the folder read-only? Older checkpoints there are {self.steps or 'none'}. The state and the "
                "history are in this exception's .state and .history",
                state,
                None if histories is None else histories[0] if len(histories) == 1 else tuple(histories),
            ) from error

    def read(
        self, outline: Outline, which: Any, about: Mapping[str, Any] | None = None
    ) -> tuple[int, TrainState, list[History], Any]:
        """Reads a checkpoint: step, state, histories and the facts about members.

        For "newest" it is the newest checkpoint that can be read.
        """

        def load(step, metadata):
            self._compare(step, outline, metadata, about or {})

            def rest():
                arrays, histories = self._load(step, outline.flat, metadata)
                return step, outline.fill(arrays), histories, metadata["members"]

            return rest

        return self._first_readable(which, load)

    def read_arrays(self, which: Any) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """The arrays of one checkpoint by path, on this process's first device, and its metadata."""
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def load(step, metadata):
            self._check_format(step, metadata)

            def rest():
                structs = {
                    name: jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=here)
                    for name, (shape, dtype) in metadata["arrays"].items()
                }
                return self._load(step, structs, metadata)[0], metadata

            return rest

        return self._first_readable(which, load)

    def _first_readable(self, which: Any, load: Callable[[int, dict[str, Any]], Callable[[], Any]]) -> Any:
        """The result of `load(step, metadata)()` for a checkpoint; for "newest" of the newest where that succeeds.

        Exceptions of `load(step, metadata)` itself are not about damage, and are passed on.
        """
        steps = self.steps
        if which == "newest":
            tried = list(reversed(steps))
        elif which == "best":
            tried = [step for step in [self.best] if step is not None]
        else:
            tried = [step for step in steps if step == which]
        for number, step in enumerate(tried):
            metadata = self._metadata(step)
            if metadata is not None:
                rest = load(step, metadata)
                try:
                    return rest()
                except Exception as error:
                    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            else:
                reason = "its metadata cannot be read"
            older = tried[number + 1 :]
            going_on = f"the one before it, of step {older[0]}, is used" if older else "there is no older one"
            warnings.warn(
                f"the checkpoint of step {step} in {self.folder} is damaged ({reason}); {going_on}",
                DamagedCheckpointWarning,
                stacklevel=4,
            )
        why = ", none of which was evaluated" if which == "best" and steps and not tried else ""
        raise FileNotFoundError(
            f"{self.function}: there is no checkpoint {which!r} that can be read in {self.folder}; there are the steps "
            f"{steps}{why}"
        )

    def _metadata(self, step: int) -> dict[str, Any] | None:
        try:
            found = self._checkpointer.checkpointables_metadata(step).custom_metadata
        except Exception:
            return None
        kept = dict(found or {})
        return kept if kept.pop("digest", None) == _digest(kept) else None

    def _compare(self, step: int, outline: Outline, metadata: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Raises `ValueError`, which says what differs, unless a checkpoint belongs to this run."""
        self._check_format(step, metadata)
        here, there = about.get("settings", {}), metadata.get("settings", {})
        lines = [line for name in here for line in differences(there.get(name), here[name], name)]
        where = f"the checkpoint of step {step} in {self.folder} is of another run; use another checkpoint_dir, or the "
        where += "same arguments" + "".join(f"\n  {line}" for line in lines)
        where += "\n(to begin another run from it: train.restore gives its state)" if lines else ""
        needed, given = shapes_and_dtypes(outline.flat), metadata["arrays"]
        check_arrays(
            where,
            needed={name: shape for name, (shape, _) in needed.items()},
            given={name: shape for name, (shape, _) in given.items()},
        )
        lines += [f"{name}: there {given[name][1]}, here {dtype}" for name, (_, dtype) in needed.items()
                  if given[name][1] != dtype]  # fmt: skip
        require(not lines, where)
        if not about:
            return
        # Only between equal versions: another optax may build the same chain of other functions.
        changed = differences(metadata.get("optimizer"), about["optimizer"], "tx")
        if changed and metadata.get("versions") == about["versions"]:
            # One argument is often found in several functions of a chain.
            parts = [line.partition(": ") for line in changed]
            lines = dict.fromkeys(f"{place.rpartition('.')[2]}: {rest}" for place, _, rest in parts)
            warnings.warn(
                f"the optimizer is not the one with which {self.folder} was written; going on with the new one. "
                f"What differs: {'; '.join(list(lines)[:5])}",
                OptimizerChangedWarning,
                stacklevel=5,
            )
        if metadata.get("eval_set") != about["eval_set"]:
            warnings.warn(
                f"eval_set is not the one with which {self.folder} was written (there {metadata.get('eval_set')}, here "
                f"{about['eval_set']}); errors before and after in the history are of different images",
                EvaluationChangedWarning,
                stacklevel=5,
            )
        before = metadata.get("convolutions", "XLA")
        if before != about["convolutions"]:
            warnings.warn(
                f"convolutions are computed by {about['convolutions']} here, and {self.folder} was written with "
                f"{before}; they round differently, so the run will not end with the bits of an uninterrupted one",
                NumericsChangedWarning,
                stacklevel=5,
            )

    def _check_format(self, step: int, metadata: Mapping[str, Any]) -> None:
        require(
            metadata.get("format") == _FORMAT,
            f"the checkpoint of step {step} in {self.folder} was written by another version of jaxdl, in another "
            "format; use another checkpoint_dir",
        )

    def _load(
        self, step: int, structs: Mapping[str, jax.ShapeDtypeStruct], metadata: Mapping[str, Any]
    ) -> tuple[dict[str, jax.Array], list[History]]:
        """Arrays by path, and histories; raises `ValueError` if a check sum differs."""
        found = self._checkpointer.load_checkpointables(step, {"state": dict(structs), "history": None})
        arrays, of_histories = found["state"], found["history"]
        sums, wanted = check_sums(arrays), metadata["sums"]
        wrong = [name for name in wanted if sums[name] != wanted[name]]
        wrong += ["history"] if history_sums(of_histories) != metadata["history_sums"] else []
        require(not wrong, f"wrong numbers in {', '.join(wrong)}")
        return arrays, histories_from(of_histories, metadata["histories"])


class _Preserved:
    """Tells orbax which checkpoints to keep: the newest ones and the best one."""

    def __init__(self, checkpoints: Checkpoints, newest: int):
        self._checkpoints, self._newest = checkpoints, newest

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        """Whether to keep each checkpoint, in their order."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        newest, best = sorted(steps)[-self._newest :], self._checkpoints.best
        return [step in newest or step == best for step in steps]


def check_checkpointing(function: str, folder: Any, every: Any, keep: Any) -> None:
    """Raises `ValueError` unless these can be the arguments for checkpoints."""
    require(
        folder is not None or every is None,
        f"{function}: checkpoint_every goes with checkpoint_dir=...; name a folder to write to",
    )
    if every is not None:
        check_integer(function, "checkpoint_every", every, at_least=1, remedy="leave it out for once an epoch")
    check_integer(function, "keep_checkpoints", keep, at_least=1)


def _check_writable(function: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(
            f"{function}: checkpoint_dir={str(folder)!r} cannot be written to: {error.strerror or error}; "
            "name another folder"
        ) from error


def _digest(metadata: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:16]
