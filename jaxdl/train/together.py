"""The compiled functions and the placed data of a run of many models side by side."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import optim
from jaxdl.data import Dataset, Stream, epoch_order
from jaxdl.mesh import Members
from jaxdl.program_cache import remembered
from jaxdl.train.alone import many_steps, no_metrics, step_in_order
from jaxdl.train.batch_sources import MemberBatches
from jaxdl.train.evaluation import Evaluator
from jaxdl.train.history import Metrics, judgement
from jaxdl.train.pace import Pace
from jaxdl.train.preemption import Signals
from jaxdl.train.sharding import Spread
from jaxdl.train.state import TrainState
from jaxdl.train.update import Rule, train_step
from jaxdl.tree import find_states

_BLOCK = 1024  # greatest number of steps in one compiled loop


class Together:
    """Does the work of `run.Run` for stacked states, all in one program; see `alone.Alone`.

    Args:
      rule: what a step computes.
      where: the devices, and how the members share them.
      count: number of members.
      train_set: the set to train on.
      eval_set: the set to evaluate on, or None.
      batch_size: examples in a batch.
      steps: updates after which the run ends.
    """

    def __init__(
        self,
        rule: Rule,
        where: Members,
        count: int,
        train_set: Dataset | Stream,
        eval_set: Dataset | Stream | None,
        batch_size: int,
        steps: int,
    ):
        self.members: int | None = count
        self._where = where
        self._evaluator = None if eval_set is None else Evaluator(rule.task, eval_set, where)
        if isinstance(train_set, Stream):
            self._streams = MemberBatches(train_set, where, batch_size, steps)
            self._one = _compiled_on_batches(rule, where)
        else:
            self._streams = None
            self._data = where.replicate((train_set.inputs, train_set.targets))
            self._steps_per_epoch = train_set.steps_per_epoch(batch_size)
            self._some, self._orders_of = _compiled(rule, where, len(train_set), batch_size)
            self._epoch, self._orders = -1, None
        self._pace = Pace()
        self.state: Any = None

    def advance(
        self, state: TrainState, step: int, count: int, active: np.ndarray, signals: Signals
    ) -> Iterator[tuple[Metrics, float]]:
        """As `Alone.advance`, with metrics [members, k]. Members that are not active stay as they are."""
        if self._streams is not None:
            yield from self._single_steps(state, step, count, active, signals)
            return
        if self._epoch != step // self._steps_per_epoch:
            self._epoch = step // self._steps_per_epoch
            self._orders = self._orders_of(state.key, self._epoch)
        self._some.lower(state, active, self._orders, self._data, np.int32(count)).compile()
        done = 0
        while done < count:
            block = min(count - done, self._pace.block(_BLOCK))
            start = time.perf_counter()
            self.state, metrics = state, metrics = self._some(
                state, jnp.array(active), self._orders, self._data, np.int32(block)
            )
            metrics = jax.tree.map(lambda values, n=block: values[:, :n], jax.device_get(metrics))
            seconds = time.perf_counter() - start
            self._pace.took(block, seconds)
            done += block
            yield metrics, seconds
            if signals.asked(step + done) is not None:
                break

    def _single_steps(
        self, state: TrainState, step: int, count: int, active: np.ndarray, signals: Signals
    ) -> Iterator[tuple[Metrics, float]]:
        """Makes single steps on batches of a stream."""
        assert self._streams is not None
        for done in range(count):
            start = time.perf_counter()
            batch = self._streams.of(state, step + done)
            self.state, metrics = state, metrics = self._one(state, jnp.array(active), batch)
            metrics = jax.tree.map(lambda values: values[:, None], jax.device_get(metrics))
            yield metrics, time.perf_counter() - start
            if signals.asked(step + done + 1) is not None:
                break

    def close(self) -> None:
        """Ends the threads and processes that read streams."""
        if self._streams is not None:
            self._streams.forget()

    def evaluate(self, state: TrainState) -> Metrics:
        """Means over the evaluation set, float64 [members]."""
        assert self._evaluator is not None
        return self._evaluator(state.variables)

    def observe(self, state: TrainState, found: Metrics, active: np.ndarray) -> TrainState:
        """The states after their errors or losses in the evaluation were passed to `optim.reduce_on_plateau`."""
        if not find_states(state.opt_state, optim.PlateauState):
            return state
        told = jax.vmap(optim.observe)(state.opt_state, jnp.asarray(judgement(found), jnp.float32))

        def chosen(new, old):
            return jnp.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return state._replace(opt_state=self._where.place(jax.tree.map(chosen, told, state.opt_state)))

    def place(self, state: TrainState) -> TrainState:
        """The states on the devices, as the compiled functions want them."""
        return self._where.place(state)

    def one(self, state: TrainState, member: int) -> TrainState:
        """The state of one member."""
        return jax.tree.map(lambda leaf: leaf[member], state)


@remembered()
def _compiled_on_batches(rule: Rule, where: Members) -> Callable:
    """A compiled step for all members, each on its batch."""
    one = functools.partial(train_step, rule=rule, spread=Spread())

    def train(state, active, batch):
        def keep(state):
            metrics = jax.eval_shape(one, state, batch)[1]
            return state, jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)

        return jax.lax.cond(active, lambda s: one(s, batch), keep, state)

    return jax.jit(where.spread(train, own=3), donate_argnums=0)


@remembered()
def _compiled(rule: Rule, where: Members, examples: int, batch_size: int) -> tuple[Callable, Callable]:
    """Two compiled functions for all members: a loop of steps (its length is an argument), and an epoch's orders."""
    one = functools.partial(step_in_order, rule=rule, spread=Spread())

    def train(state, active, order, data, count):
        def keep(state):
            return state, no_metrics(one, state, (data, order))

        return jax.lax.cond(active, lambda s: many_steps(one, s, (data, order), count), keep, state)

    def orders(keys, epoch):
        f = functools.partial(epoch_order, examples=examples, batch_size=batch_size)
        return jax.vmap(f, in_axes=(0, None))(keys, epoch)

    return (
        jax.jit(where.spread(train, own=3), donate_argnums=0),
        jax.jit(orders, out_shardings=where.split),
    )
