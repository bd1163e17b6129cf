"""What a run tells those who watch it."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from jaxdl.train.history import History, Metrics


class Started(NamedTuple):
    """A run begins, or goes on."""

    step: int  # updates behind it
    steps: int  # updates to reach
    history: History  # of what is behind it
    member: int | None = None  # of a population; None for a run by itself


class Stepped(NamedTuple):
    """Some updates were made. They are told in blocks, as their metrics come from the device."""

    step: int  # updates behind the run by now
    metrics: Metrics  # arrays [k]: of the updates step - k + 1, ..., step
    seconds: float  # that these k updates took
    member: int | None = None


class Evaluated(NamedTuple):
    """The model was evaluated."""

    step: int  # updates behind it
    metrics: Metrics  # means over the evaluation set, Python floats
    history: History  # with this evaluation
    state: Any  # the TrainState, which the next step reuses: copy what you keep, jax.tree.map(jnp.copy, state.params)
    member: int | None = None


class Saved(NamedTuple):
    """A checkpoint is being written."""

    step: int
    folder: Any
    member: int | None = None


class RolledBack(NamedTuple):
    """Training returned to a checkpoint (`on_nonfinite="roll_back"`)."""

    step: int  # of the checkpoint
    reason: str
    member: int | None = None


class Ended(NamedTuple):
    """No more updates are made: all are, a watcher said so, the run was interrupted, or it failed."""

    step: int
    history: History
    member: int | None = None


Event: TypeAlias = Started | Stepped | Evaluated | Saved | RolledBack | Ended

Watcher: TypeAlias = Callable[[Any], Any]
"""Called with each event. If it returns True the run ends there, as if it had reached its steps."""
