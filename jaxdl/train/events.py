"""The events that a run passes to its watchers."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from jaxdl.train.history import History, Metrics


class Started(NamedTuple):
    """A run begins, or continues from a checkpoint."""

    step: int  # updates made so far
    steps: int  # updates to reach
    history: History  # of the updates made so far
    member: int | None = None  # the member of a population; None for `fit`


class Stepped(NamedTuple):
    """Some updates were made: one event for each block of updates whose metrics are fetched together."""

    step: int  # updates made so far, including these
    metrics: Metrics  # arrays [k]: of the updates step - k + 1, ..., step
    seconds: float  # that these k updates took
    member: int | None = None


class Evaluated(NamedTuple):
    """The model was evaluated."""

    step: int  # updates made so far
    metrics: Metrics  # means over the evaluation set, Python floats
    history: History  # including this evaluation
    state: Any  # the TrainState; the next step reuses its memory, so keep copies: jax.tree.map(jnp.copy, state.params)
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
    """No more updates are made: the run is complete, a watcher ended it, it was interrupted, or it failed."""

    step: int
    history: History
    member: int | None = None


Event: TypeAlias = Started | Stepped | Evaluated | Saved | RolledBack | Ended

Watcher: TypeAlias = Callable[[Any], Any]
"""Called with each event. If it returns True, the run ends there as if it had reached its steps."""
