"""A run as a stream of events: of one model, or of many side by side."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np

from jaxdl.train.errors import NonFiniteLossError
from jaxdl.train.events import Ended, Evaluated, Event, RolledBack, Saved, Started, Stepped
from jaxdl.train.history import History, Metrics
from jaxdl.train.keeper import Keeper
from jaxdl.train.preemption import Signals
from jaxdl.train.state import TrainState

_MOST_SKIPPED = 100  # training ends when so many updates in a row were left out
_WATCHER = -1  # in the place of a signal's number: no member is active any more


class Work(Protocol):
    """Does the computing of a run: `alone.Alone` for one model, `together.Together` for stacked models."""

    state: Any

    @property
    def members(self) -> int | None:
        """How many stacked models there are; None for one model."""
        ...

    def advance(self, state: Any, step: int, count: int, active: np.ndarray, signals: Signals) -> Iterator[Any]:
        """Makes up to `count` updates."""
        ...

    def evaluate(self, state: Any) -> Metrics:
        """Means over the evaluation set."""
        ...

    def observe(self, state: Any, found: Metrics, active: np.ndarray) -> Any:
        """The state after the result of an evaluation was passed to the chain."""
        ...

    def place(self, state: Any) -> Any:
        """The state on the devices from which it is saved."""
        ...

    def one(self, state: Any, member: int) -> Any:
        """The state of one member."""
        ...


@dataclasses.dataclass(frozen=True)
class Plan:
    """When a run does what. All numbers count updates.

    Attributes:
      steps: updates to reach.
      steps_per_epoch: updates in an epoch, at whose end the order of the examples changes.
      eval_every: updates between evaluations; None for no evaluations.
      skip: whether updates that are not finite are left out.
      roll_back: whether a run that is not finite returns to its newest checkpoint.
    """

    steps: int
    steps_per_epoch: int
    eval_every: int | None
    skip: bool = False
    roll_back: bool = False


class Run:
    """One run. `events` makes the updates and yields the events; at each event the attributes are up to date.

    Attributes:
      state: the training state, or stacked states.
      histories: one history for each member; one for a single model.
      step: updates made so far.
      active: bool [members]: which members are still trained.
      diverged: for each member why it stopped, if its numbers were not finite, else None.
      signal: the number of SIGTERM or SIGINT, if that signal ended the run, else None.
    """

    def __init__(
        self,
        work: Work,
        plan: Plan,
        state: TrainState,
        histories: list[History],
        *,
        step: int,
        keeper: Keeper | None,
        signals: Signals,
        diverged: list[str | None] | None = None,
        ended: list[bool] | None = None,
        watched: bool = True,
    ):
        self.state, self.histories, self.step = state, histories, step
        self.diverged: list[str | None] = diverged or [None] * len(histories)
        self.ended = np.array(ended or [False] * len(histories))
        self.active = ~self.ended & np.array([reason is None for reason in self.diverged])
        self.signal: int | None = None
        self._ended_at: dict[int, int] = {}  # the step at which a watcher ended a member
        self._work, self._plan, self._keeper, self._watched = work, plan, keeper, watched
        self._signals = Signals(self._asked, signals.at_any_step)
        self._from_outside = signals

    def end(self, member: int | None) -> None:
        """Ends the updates of a member."""
        self._ended_at[member or 0] = self.step
        self.ended[member or 0] = True
        self.active[member or 0] = False

    def events(self) -> Iterator[Event]:
        """Makes the updates and yields the events."""
        plan, keeper = self._plan, self._keeper
        for member in range(len(self.histories)):
            yield Started(self.step, plan.steps, self.histories[member], self._name(member))
        while self.step < plan.steps and self.active.any():
            evaluation = self._next(plan.eval_every)
            checkpoint = keeper.next_after(self.step) if keeper else plan.steps
            until = min(plan.steps, self._next(plan.steps_per_epoch), evaluation, checkpoint)
            try:
                yield from self._advance(until - self.step)
                if plan.eval_every and self.step in (evaluation, plan.steps):
                    # The chain sees only evaluations at multiples of `eval_every`, not the one at the end: so a run in
                    # several parts is the same run.
                    yield from self._evaluate(observe=self.step == evaluation)
                self.signal = self._from_outside.asked(self.step)
                if keeper and (self.signal or self.step in (checkpoint, plan.steps) or not self.active.any()):
                    self.save()
                    yield Saved(self.step, keeper.folder)
            except NonFiniteLossError as error:
                if not plan.roll_back or keeper is None:
                    raise
                self.state, self.histories[0] = keeper.roll_back(error)
                self.step = int(self.state.step)
                self._work.forget_order()  # type: ignore[attr-defined]
                yield RolledBack(self.step, str(error))
                continue
            if self.signal:
                break
        if keeper:
            keeper.wait(self.state, self.histories)
        yield from self.ends()

    def ends(self) -> Iterator[Event]:
        """Yields the events that say that no more updates are made."""
        for member, history in enumerate(self.histories):
            yield Ended(self.step, history, self._name(member))

    def save(self) -> None:
        """Begins to write a checkpoint."""
        assert self._keeper is not None
        members = None
        if self._work.members is not None:
            members = {"diverged": list(self.diverged), "ended": self.ended.tolist()}
        self._keeper.save(self._work.place(self.state), self.step, self.histories, members)

    def _asked(self, step: int) -> int | None:
        return self._from_outside.asked(step) if self.active.any() else _WATCHER

    def _next(self, every: int | None) -> int:
        return (self.step // every + 1) * every if every else self._plan.steps

    def _going(self) -> list[int]:
        """The numbers of the members that are active."""
        return np.flatnonzero(self.active).tolist()

    def _name(self, member: int) -> int | None:
        return None if self._work.members is None else member

    def _advance(self, count: int) -> Iterator[Event]:
        for metrics, seconds in self._work.advance(self.state, self.step, count, self.active, self._signals):
            self.state = self._work.state
            after, length = self.step, metrics.loss.shape[-1]
            self.step += length
            # One model's updates under way are in its state, so they are recorded after a watcher ended the run, too.
            for member in self._going() if self._work.members is not None else [0]:
                mine = self._of(metrics, member)
                try:
                    history = recorded(self.histories[member], mine, seconds, after, skip=self._plan.skip)
                except NonFiniteLossError as error:
                    self._diverge(member, error)
                    continue
                self.histories[member] = history
                yield Stepped(self.step, mine, seconds, self._name(member))

    def _evaluate(self, *, observe: bool) -> Iterator[Event]:
        found = self._work.evaluate(self.state)
        # A member that was ended at this step is evaluated too, so that nothing is missing if it continues later.
        alone = self._work.members is None
        there = self.active | np.array([alone or self._ended_at.get(m) == self.step for m in range(len(self.active))])
        good = []
        for member in np.flatnonzero(there).tolist():
            mine = self._of(found, member)
            if not np.isfinite(mine.loss):
                what = f"the loss on the evaluation set is {mine.loss}"
                self._diverge(member, NonFiniteLossError(what, self.step, self.histories[member]))
                continue
            self.histories[member] = self.histories[member].add_evaluation(self.step, mine)
            good.append((member, mine))
        if observe:
            self.state = self._work.observe(self.state, found, there)
        for member, mine in good:
            state = self._work.one(self.state, member) if self._watched else None
            yield Evaluated(self.step, mine, self.histories[member], state, self._name(member))

    def _of(self, metrics: Metrics, member: int) -> Metrics:
        """The metrics of one member."""
        if self._work.members is None:
            return metrics
        loss, values, finite, rate, norm = metrics
        scalar = np.ndim(loss) == 1

        def one(x):
            return None if x is None else float(x[member]) if scalar else x[member]

        of_steps = (rate, norm) if scalar else (rate[member], one(norm))
        return Metrics(one(loss), {name: one(value) for name, value in values.items()}, finite[member], *of_steps)

    def _diverge(self, member: int, error: NonFiniteLossError) -> None:
        """Ends a diverged member of a population; without a population it raises `error`."""
        if self._work.members is None:
            raise error
        self.histories[member], self.diverged[member], self.active[member] = error.history, str(error), False


def recorded(history: History, metrics: Metrics, seconds: float, after: int, *, skip: bool) -> History:
    """The history with a block of steps added; raises if a step is not finite, with the history before that step."""
    loss, bad = metrics.loss, np.flatnonzero(~metrics.finite)
    if skip:
        history = history.add_steps(metrics, seconds, after)
        history = history._replace(skipped=np.concatenate([history.skipped, (after + 1 + bad).astype(np.int32)]))
        newest = history.skipped[-_MOST_SKIPPED:]
        if len(newest) == _MOST_SKIPPED and newest[-1] - newest[0] == _MOST_SKIPPED - 1:
            what = f"{_MOST_SKIPPED} updates in a row were skipped; the loss is {loss[-1]}"
            raise NonFiniteLossError(what, int(newest[-1]), history)
        return history
    if not len(bad):
        return history.add_steps(metrics, seconds, after)
    good = int(bad[0])
    history = history.add_steps(jax.tree.map(lambda values: values[:good], metrics), seconds, after)
    gradient = "a gradient is not finite, " if np.isfinite(loss[good]) else ""
    raise NonFiniteLossError(f"{gradient}the loss is {loss[good]}", after + good + 1, history)
