"""The compiled functions and the placed data of a run of one model."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import optim
from jaxdl.data import Dataset, Stream
from jaxdl.program_cache import remembered
from jaxdl.train.batch_sources import Batches, ResidentBatches, StreamedBatches
from jaxdl.train.evaluation import Evaluator
from jaxdl.train.history import Metrics, judgement
from jaxdl.train.pace import Pace
from jaxdl.train.preemption import Signals
from jaxdl.train.sharding import Layout, Spread, layout_of
from jaxdl.train.state import TrainState
from jaxdl.train.step import MOST_IN_FLIGHT
from jaxdl.train.update import Rule, train_step
from jaxdl.tree import find_states

_BLOCK = MOST_IN_FLIGHT  # greatest number of single steps whose metrics are fetched together
_SCANNED_BLOCK = 1024  # greatest number of steps in one compiled loop
_SHARED_BLOCK = 64  # number of steps in one compiled loop if several processes have to stop at the same step


class Alone:
    """Does the work of `run.Run` for one state, on the devices of a layout.

    Args:
      rule: what a step computes.
      layout: the devices, and how they share the work.
      train_set: the set to train on.
      eval_set: the set to evaluate on, or None.
      scan: whether steps are made in compiled loops.
      batch_size: examples in a batch.
      steps: updates after which the run ends.
    """

    members: int | None = None

    def __init__(
        self,
        rule: Rule,
        layout: Layout,
        train_set: Dataset | Stream,
        eval_set: Dataset | Stream | None,
        scan: bool,
        batch_size: int,
        steps: int,
    ):
        self._rule, self._layout, self._eval_set, self._scan = rule, layout, eval_set, scan
        self._batches: Batches
        if isinstance(train_set, Stream):
            self._batches = StreamedBatches(train_set, layout, batch_size, steps)
            self._one, self._many = _compiled_on_batches(rule, layout), None
        else:
            self._batches = ResidentBatches(train_set, layout, batch_size)
            self._one, self._many = _compiled(rule, layout)
        self._evaluator: Evaluator | None = None
        self._pace = Pace()
        self.state: Any = None

    def forget_order(self) -> None:
        """Makes the order of the epoch anew at the next step, because the state's key has changed."""
        self._batches.forget()

    def close(self) -> None:
        """Ends the threads and processes that read a stream."""
        self._batches.forget()

    def advance(
        self, state: TrainState, step: int, count: int, active: np.ndarray, signals: Signals
    ) -> Iterator[tuple[Metrics, float]]:
        """Makes `count` updates within one epoch, or fewer if a signal asks it to stop; `self.state` is the new state.

        Yields the metrics [k] of k steps, on the host, and the seconds that these steps took.
        """
        del active
        run = self._scanned if self._scan else self._single_steps
        yield from run(state, step, count, signals)

    def evaluate(self, state: TrainState) -> Metrics:
        """Means over the evaluation set."""
        layout, variables = layout_of(state.params), state.variables
        if self._layout.parallel == "pmap" and jax.process_count() > 1:
            # pmap gives arrays on this process's devices alone; so the processes share the work on those of all.
            layout = dataclasses.replace(self._layout, parallel="sharded")
            variables = layout.replicate(variables)
        if self._evaluator is None or self._evaluator.where != layout:
            assert self._eval_set is not None
            self._evaluator = Evaluator(self._rule.task, self._eval_set, layout)
        return self._evaluator(variables)

    def observe(self, state: TrainState, found: Metrics, active: np.ndarray) -> TrainState:
        """The state after its error or loss in the evaluation was passed to `optim.reduce_on_plateau`."""
        del active
        if not find_states(state.opt_state, optim.PlateauState):
            return state
        return state._replace(opt_state=self._layout.place(optim.observe(state.opt_state, judgement(found))))

    def place(self, state: TrainState) -> TrainState:
        """The state on the devices, as the compiled functions want it."""
        return self._layout.place(state)

    def one(self, state: TrainState, member: int) -> TrainState:
        """The state as `fit` returns it."""
        del member
        return self._layout.collect(state)

    def _single_steps(self, state, step: int, count: int, signals: Signals) -> Iterator[tuple[Metrics, float]]:
        """Makes single steps; yields the metrics of a block of steps when the next block has been dispatched."""
        data = self._batches.of(state, step)
        self._one.lower(state, data).compile()  # before the clock starts; the calls below reuse the program
        start, pending = time.perf_counter(), []
        alone = self._layout.is_several_cpu_devices  # then only one block is under way, since more may deadlock
        for done in range(1, count + 1):
            if done > 1:
                data = self._batches.of(state, step + done - 1)
            self.state, metrics = state, metrics = self._one(state, data)
            pending.append(metrics)
            block = self._pace.block(_BLOCK) if signals.at_any_step else _BLOCK
            full = len(pending) >= (block if alone else 2 * block)
            last = done == count or ((full or signals.at_any_step) and signals.asked(step + done) is not None)
            if full or last:
                ready = len(pending) if last or alone else block
                fetched = jax.device_get(pending[:ready])
                pending = pending[ready:]
                yield self._timed(jax.tree.map(lambda *values: np.array(values), *fetched), start)
                start = time.perf_counter()
            if last:
                break

    def _scanned(self, state, step: int, count: int, signals: Signals) -> Iterator[tuple[Metrics, float]]:
        """Makes blocks of steps, each in one compiled loop; the length of the loop does not change the numbers."""
        assert self._many is not None
        data = self._batches.of(state, step)
        self._many.lower(state, (data, np.int32(count))).compile()
        start, done, pending = time.perf_counter(), 0, []
        while done < count:
            block = self._pace.block(_SCANNED_BLOCK) if signals.at_any_step else _SHARED_BLOCK
            block = min(count - done, block)
            self.state, metrics = state, metrics = self._many(state, (data, np.int32(block)))
            pending.append((metrics, block))
            done += block
            last = done == count or signals.asked(step + done) is not None
            while len(pending) > (0 if last or self._layout.is_several_cpu_devices else 1):
                metrics, length = pending.pop(0)
                fetched = jax.device_get(metrics)
                yield self._timed(jax.tree.map(lambda values, n=length: values[:n], fetched), start)
                start = time.perf_counter()
            if last:
                break

    def _timed(self, metrics: Metrics, start: float) -> tuple[Metrics, float]:
        seconds = time.perf_counter() - start
        self._pace.took(len(metrics.loss), seconds)
        return metrics, seconds


@remembered()
def _compiled_on_batches(rule: Rule, layout: Layout) -> Callable:
    """A compiled step on a batch."""
    return layout.compile(functools.partial(train_step, rule=rule, spread=layout.spread()))


@remembered()
def _compiled(rule: Rule, layout: Layout) -> tuple[Callable, Callable]:
    """Two compiled functions: a step on the batch that the epoch's order gives, and a loop of such steps.

    The loop's length is an argument of the program. So the bits do not depend on where a run is cut into loops.
    """
    one = functools.partial(step_in_order, rule=rule, spread=layout.spread())
    split = (False, True)  # inputs and targets; order
    return (
        layout.compile(one, split=split),
        layout.compile(lambda state, data_and_count: many_steps(one, state, *data_and_count), split=(split, False)),
    )


def step_in_order(state: TrainState, data: Any, *, rule: Rule, spread: Spread) -> tuple[TrainState, Metrics]:
    """A step on the batch that the order [steps, batch] gives for it; `data` is ((inputs, targets), order)."""
    examples, order = data
    return train_step(state, order[state.step % len(order)], examples, rule=rule, spread=spread)


def many_steps(one: Callable, state: TrainState, data: Any, count: Any) -> tuple[TrainState, Metrics]:
    """Calls `one` `count` times; the first `count` of the metrics [steps in an epoch] are of these calls."""

    def body(i, carry):
        state, metrics = carry
        state, newest = one(state, data)
        return state, jax.tree.map(lambda all_steps, value: all_steps.at[i].set(value), metrics, newest)

    return jax.lax.fori_loop(0, count, body, (state, no_metrics(one, state, data)))


def no_metrics(one: Callable, state: TrainState, data: Any) -> Metrics:
    """Room for the metrics [steps in an epoch] that `one` gives."""
    length = len(data[1])
    return jax.tree.map(lambda m: jnp.zeros(length, m.dtype), jax.eval_shape(one, state, data)[1])
