"""The training loop."""

import contextlib
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import optim
from jaxdl.arguments import check_choice, check_flag, check_function, check_integer, require
from jaxdl.data import Augment, Dataset, epoch_order
from jaxdl.data.checks import check_dataset, check_functions, check_model_fits
from jaxdl.program_cache import remembered
from jaxdl.progress import progress_bar
from jaxdl.train.checkpoint import Checkpoints, check_checkpointing
from jaxdl.train.description import describe_run
from jaxdl.train.errors import NonFiniteLossError, PreemptedError, TrainingInterruptedError
from jaxdl.train.evaluation import Evaluator
from jaxdl.train.history import History
from jaxdl.train.keeper import Keeper
from jaxdl.train.losses import Loss, cross_entropy
from jaxdl.train.order import check_order
from jaxdl.train.preemption import Signals, signals_noted
from jaxdl.train.processes import lost_processes_named
from jaxdl.train.sharding import Layout, Parallel, Spread, layout_of, make_layout
from jaxdl.train.state import TrainState, check_state, check_variables
from jaxdl.train.step import MOST_IN_FLIGHT, BatchNormMode, Metrics, Preprocess, Rule, make_rule, train_step
from jaxdl.tree import find_states
from jaxdl.typing import Device

_BLOCK = MOST_IN_FLIGHT  # single steps whose metrics are fetched together, at the most
_SCANNED_BLOCK = 1024  # the same for steps of one compiled loop
_SHARED_BLOCK = 64  # the same where several processes have to stop at the same step
_BLOCK_SECONDS = 0.5  # a block is made no longer than this, so that a run shows progress and can be stopped
_MOST_SKIPPED = 100  # updates left out in a row before training gives up

Progress = Callable[[int, float], None]
"""Called with (updates made so far, loss of the newest one known)."""

Record = Callable[[Metrics, float], None]
"""Called with the metrics [k] of the next k steps, on the host, and the seconds they took."""

OnNonFinite: TypeAlias = Literal["stop", "skip", "roll_back"]


def fit(
    state: TrainState,
    model: nn.Module,
    tx: optax.GradientTransformation,
    train_set: Dataset,
    *,
    steps: int,
    batch_size: int = 128,
    eval_set: Dataset | None = None,
    eval_every: int | None = None,
    loss: Loss = cross_entropy,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    devices: Sequence[Device] | None = None,
    parallel: Parallel = "auto",
    shard_state: bool = False,
    batch_norm: BatchNormMode = "synchronized",
    accumulate: int = 1,
    scan: bool | None = None,
    on_nonfinite: OnNonFinite = "stop",
    checkpoint_dir: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    keep_checkpoints: int = 3,
    progress: bool | Progress = True,
) -> tuple[TrainState, History]:
    """Trains until `steps` updates have been made in all, counting those that `state` has behind it.

    The data set is put on the device once and shuffled there, from the state's key and the epoch's number alone: a
    state that stopped anywhere goes on with the batches it would have seen. Metrics of some steps are fetched while the
    next ones run, so the device does not wait for the host.

    With `checkpoint_dir` a run can be killed at any moment: the same call goes on from the newest checkpoint in that
    folder and, on the same machine with as many devices, ends with the same bits as a run that nothing disturbed. That
    holds for single steps and for compiled loops, wherever they were cut. With several processes all make the same
    calls; process 0 alone shows progress and writes.

    SIGTERM and Ctrl-C stop a run after the steps that are under way: about a second's, or at most 32 single steps, or
    128 of a compiled loop, where several processes have to agree. With `checkpoint_dir` the run is saved first.
    A second Ctrl-C ends the program at once; with several processes the first one does.

    Args:
      state: where to start; it stays usable (training works on a copy).
      model: the module that the state belongs to.
      tx: the optimizer that the state belongs to.
      train_set: what to train on. An epoch has `train_set.steps_per_epoch(batch_size)` steps.
      steps: number of updates to reach.
      batch_size: examples in a batch, of all devices together.
      eval_set: what to evaluate on, after every `eval_every` updates and after the last. The errors at multiples
        of `eval_every` are told to `optim.reduce_on_plateau(every=None)`.
      eval_every: by default an epoch.
      loss: as for `make_step`.
      preprocess: as for `make_step`; by default `train_set.standardize`, for both sets.
      augment: as for `make_step`.
      devices: as for `make_step`; their number must divide the batch.
      parallel: as for `make_step`.
      shard_state: as for `make_step`.
      batch_norm: as for `make_step`.
      accumulate: as for `make_step`.
      scan: whether to compile an epoch as one loop on the device. By default where that is faster: everywhere but for
        convolutions on the CPU (`benchmarks/epoch.py`).
      on_nonfinite: what to do where a loss or a gradient is NaN or infinite. "stop" raises; "skip" leaves the update
        out and notes it in `history.skipped` (100 in a row raise); "roll_back" returns to the newest checkpoint, notes
        it in `history.rolled_back`, and goes on with other random numbers and another order of the examples (a
        third return to the same checkpoint raises).
      checkpoint_dir: where to write checkpoints, and to go on from. A folder holds one run: with another model, data
        set, batch size, loss, key, ... the call raises and says what differs.
      checkpoint_every: updates between checkpoints; by default an epoch. There is one at the end, too.
      keep_checkpoints: so many of the newest stay, and the one of the least error on `eval_set`.
      progress: True for a progress bar, False for none, or a function that is told (step, loss) now and then.

    Returns:
      The state after `steps` updates, and the history: of the updates made here and, if the run was resumed, of those
      before. The state lies on one device; with `shard_state` it stays spread.

    Raises:
      ValueError: an argument is not what it should be; `state.step` is past `steps`; what lies in `checkpoint_dir`
        is of another run.
      NonFiniteLossError: the loss, a gradient, or the loss on `eval_set`, became NaN or infinite. Training stops within
        the steps under way (see above); the error holds the history until then.
      CheckpointError: a checkpoint could not be written; the error holds state and history.
      ProcessLostError: another process of this training died.
      PreemptedError: SIGTERM came (with `checkpoint_dir` only), and the run was saved. It is a SystemExit with the exit
        code `train.PREEMPTED` (75).
      TrainingInterruptedError: Ctrl-C came; the error holds state and history. It is a KeyboardInterrupt.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, train
      >>> train_set, test_set = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(32,)), optim.momentum(0.03)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
      >>> state, history = train.fit(state, model, tx, train_set, steps=78, eval_set=test_set, progress=False)
      >>> int(state.step), history.loss.shape, bool(history.eval_error[-1] < 0.3)
      (78, (78,), True)
    """
    check_state("fit", state)
    check_dataset("fit", "train_set", train_set)
    rule = make_rule(
        "fit",
        model,
        tx,
        loss=loss,
        preprocess=preprocess or train_set.standardize,
        augment=augment,
        accumulate=accumulate,
        batch_norm=batch_norm,
        skip_nonfinite=on_nonfinite == "skip",
    )
    layout = make_layout("fit", devices, parallel, shard_state)
    check_integer("fit", "steps", steps, at_least=1)
    steps_per_epoch = train_set.steps_per_epoch(batch_size)
    eval_every = check_evaluation("fit", train_set, eval_set, eval_every, steps_per_epoch, state)
    if scan is not None:
        check_flag("fit", "scan", scan)
    check_progress("fit", progress)
    _check_division(batch_size, len(layout.devices), accumulate)
    check_checkpointing(checkpoint_dir, checkpoint_every, keep_checkpoints)
    check_choice("fit", "on_nonfinite", on_nonfinite, ("stop", "skip", "roll_back"))
    require(
        on_nonfinite != "roll_back" or checkpoint_dir is not None,
        'fit: on_nonfinite="roll_back" needs checkpoints to return to; pass checkpoint_dir=...',
    )
    check_variables("fit", model, state, check_model_fits("fit", model, train_set, rule.preprocess))
    check_functions("fit", train_set, batch_size, loss, augment, rule.preprocess)
    check_order("fit", tx, state.params, state.batch_stats)
    step = int(state.step)
    require(
        step <= steps, f"fit: the state has {step} updates behind it, more than steps={steps}; pass steps >= {step}"
    )

    state, history = layout.place(jax.tree.map(jnp.copy, state)), History.empty()
    run = _Run(rule, layout, train_set, eval_set, scan, batch_size)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lost_processes_named())
        keeper = None
        if checkpoint_dir is not None:
            checkpoints = stack.enter_context(Checkpoints(Path(checkpoint_dir), keep=keep_checkpoints))
            named = {"loss": loss, "preprocess": rule.preprocess, "augment": augment, "batch_size": batch_size}
            about = describe_run(model, tx, layout.collect(state), train_set, eval_set, accumulate=accumulate, **named)
            keeper = Keeper(checkpoints, about, every=checkpoint_every or steps_per_epoch)
            state, history = keeper.resume(state, steps)
            if int(state.step) > step:
                _tell_of_resuming(int(state.step), steps, checkpoint_dir, progress)
            if on_nonfinite == "roll_back":
                keeper.save(layout.place(state), history)
        step = int(state.step)
        signals = stack.enter_context(signals_noted(keeper is not None))
        report = stack.enter_context(progress_function(progress, step, steps))

        def record(metrics: Metrics, seconds: float) -> None:
            nonlocal history, step
            history = recorded(history, metrics, seconds, step, skip=rule.skip_nonfinite)
            step += len(metrics.loss)
            report(step, float(metrics.loss[-1]))

        while step < steps:
            next_evaluation = (step // eval_every + 1) * eval_every if eval_set else steps
            next_checkpoint = keeper.next_after(step) if keeper else steps
            stop = min(steps, (step // steps_per_epoch + 1) * steps_per_epoch, next_evaluation, next_checkpoint)
            try:
                state = run.advance(state, step, stop - step, record, signals)
                if eval_set and step in (next_evaluation, steps):
                    found = run.evaluate(state, step, history)
                    history = history.add_evaluation(step, float(found.loss), float(found.error))
                    if step == next_evaluation:  # not where a part of the run happens to end: parts make the same run
                        state = state._replace(opt_state=layout.place(optim.observe(state.opt_state, found.error)))
                asked = signals.asked(step)
                if keeper and (asked or step in (next_checkpoint, steps)):
                    keeper.save(layout.place(state), history)
            except NonFiniteLossError as error:
                if on_nonfinite != "roll_back" or keeper is None:
                    raise
                state, history = keeper.roll_back(error)
                step = int(state.step)
                run.forget_order()
                asked = None
            if asked:
                if keeper:
                    keeper.wait(state, history)
                if asked == signal.SIGTERM:
                    raise PreemptedError(layout.collect(state), history)
                raise TrainingInterruptedError(layout.collect(state), history, checkpoint_dir)
        if keeper:
            keeper.wait(state, history)
    return layout.collect(state), history


class _Run:
    """What a call of `fit` has ready: compiled functions, and the data where they want them."""

    def __init__(self, rule: Rule, layout: Layout, train_set: Dataset, eval_set: Any, scan, batch_size: int):
        self._rule, self._layout, self._eval_set, self._scan = rule, layout, eval_set, scan
        self._one, self._many = _compiled(rule, layout)
        self._data = layout.replicate((train_set.images, train_set.labels))
        self._batch_size, self._steps_per_epoch = batch_size, train_set.steps_per_epoch(batch_size)
        self._epoch, self._order = -1, None
        self._evaluator: Evaluator | None = None
        self._seconds_per_step: float | None = None  # not known before the first block

    def forget_order(self) -> None:
        """The state's key is another."""
        self._epoch = -1

    def advance(self, state: TrainState, step: int, count: int, record: Record, signals: Signals) -> TrainState:
        """Makes `count` updates within one epoch, or fewer if it is asked to stop."""
        if self._epoch != step // self._steps_per_epoch:
            self._epoch = step // self._steps_per_epoch
            key = self._layout.collect(state.key)
            examples = len(self._data[1])
            order = epoch_order(key, self._epoch, examples=examples, batch_size=self._batch_size)
            self._order = self._layout.place_order(order)
        scan = _scan_is_faster(state) if self._scan is None else self._scan
        return (self._scanned if scan else self._single_steps)(
            state, (*self._data, self._order), step, count, record, signals
        )

    def evaluate(self, state: TrainState, step: int, history: History) -> Metrics:
        """On the evaluation set; raises `NonFiniteLossError` if the loss is not finite."""
        layout, rule = layout_of(state.params), self._rule
        if self._evaluator is None or self._evaluator.layout != layout:
            self._evaluator = Evaluator(rule.model, self._eval_set, layout, rule.loss, rule.preprocess)
        found = self._evaluator(state)
        if not np.isfinite(found.loss):
            raise NonFiniteLossError(f"the loss on the evaluation set is {float(found.loss)}", step, history)
        return found

    def _single_steps(self, state, data, step: int, count: int, record: Record, signals: Signals) -> TrainState:
        """One step at a time; records the metrics of a block of steps once the next block is on its way."""
        self._one.lower(state, data).compile()  # so that the clock does not see it; the calls below find it done
        start, pending = time.perf_counter(), []
        alone = self._layout.is_several_cpu_devices  # no second block is under way: that many may deadlock
        for done in range(1, count + 1):
            state, metrics = self._one(state, data)
            pending.append(metrics)
            block = self._block(_BLOCK, signals, shared=_BLOCK)
            full = len(pending) >= (block if alone else 2 * block)
            last = done == count or ((full or signals.at_any_step) and signals.asked(step + done) is not None)
            if full or last:
                ready = len(pending) if last or alone else block
                fetched = jax.device_get(pending[:ready])
                pending = pending[ready:]
                start = self._recorded(Metrics(*map(np.array, zip(*fetched, strict=True))), start, record)
            if last:
                break
        return state

    def _scanned(self, state, data, step: int, count: int, record: Record, signals: Signals) -> TrainState:
        """Blocks of steps in one compiled loop, whose length does not change what a step computes."""
        self._many.lower(state, (data, np.int32(count))).compile()
        start, done, pending = time.perf_counter(), 0, []
        while done < count:
            block = min(count - done, self._block(_SCANNED_BLOCK, signals, shared=_SHARED_BLOCK))
            state, metrics = self._many(state, (data, np.int32(block)))
            pending.append((metrics, block))
            done += block
            last = done == count or signals.asked(step + done) is not None
            while len(pending) > (0 if last or self._layout.is_several_cpu_devices else 1):
                metrics, length = pending.pop(0)
                start = self._recorded(Metrics(*(v[:length] for v in jax.device_get(metrics))), start, record)
            if last:
                break
        return state

    def _block(self, most: int, signals: Signals, *, shared: int) -> int:
        """Steps in a block: as many as take half a second, or a fixed number where processes have to agree."""
        if not signals.at_any_step:
            return shared
        if self._seconds_per_step is None:
            return 1
        return int(np.clip(_BLOCK_SECONDS / self._seconds_per_step, 1, most))

    def _recorded(self, metrics: Metrics, start: float, record: Record) -> float:
        """Hands the metrics of a block on, with the seconds it took; returns when the next one began."""
        now = time.perf_counter()
        self._seconds_per_step = max(now - start, 1e-6) / len(metrics.loss)
        record(metrics, now - start)
        return time.perf_counter()


@remembered()
def _compiled(rule: Rule, layout: Layout) -> tuple[Callable, Callable]:
    """Two functions: a step on the batch that its order gives for it, and a number of such steps in one loop.

    The loop's length is no part of its program. So it computes the same bits wherever a run is cut into loops.
    """
    one = functools.partial(step_in_order, rule=rule, spread=layout.spread())
    split = (False, False, True)  # images, labels, order
    return (
        layout.compile(one, split=split),
        layout.compile(lambda state, data_and_count: many_steps(one, state, *data_and_count), split=(split, False)),
    )


def step_in_order(state: TrainState, data: Any, *, rule: Rule, spread: Spread) -> tuple[TrainState, Metrics]:
    """A step on the batch that the order [steps, batch] gives for it; `data` is (images, labels, order)."""
    images, labels, order = data
    return train_step(state, order[state.step % len(order)], (images, labels), rule=rule, spread=spread)


def many_steps(one: Callable, state: TrainState, data: Any, count: Any) -> tuple[TrainState, Metrics]:
    """`count` calls of `one`; the metrics [steps in an epoch] of those that there were come first."""

    def body(i, carry):
        state, metrics = carry
        state, newest = one(state, data)
        return state, jax.tree.map(lambda all_steps, value: all_steps.at[i].set(value), metrics, newest)

    length = len(data[2])
    empty = jax.tree.map(lambda m: jnp.zeros(length, m.dtype), jax.eval_shape(one, state, data)[1])
    return jax.lax.fori_loop(0, count, body, (state, empty))


def _scan_is_faster(state: TrainState) -> bool:
    """On the CPU a convolution (a kernel of four axes) gains nothing from a scan and may lose much."""
    return jax.default_backend() != "cpu" or all(leaf.ndim < 4 for leaf in jax.tree.leaves(state.params))


def recorded(history: History, metrics: Metrics, seconds: float, after: int, *, skip: bool) -> History:
    """The history with a block of steps added, or an error that holds it until the first step that is not finite."""
    loss, error, finite = (np.asarray(values) for values in metrics)
    bad = np.flatnonzero(~finite)
    if skip:
        history = history.add_steps(loss, error, seconds, after)
        history = history._replace(skipped=np.concatenate([history.skipped, (after + 1 + bad).astype(np.int32)]))
        newest = history.skipped[-_MOST_SKIPPED:]
        if len(newest) == _MOST_SKIPPED and newest[-1] - newest[0] == _MOST_SKIPPED - 1:
            what = f"{_MOST_SKIPPED} updates in a row were skipped; the loss is {loss[-1]}"
            raise NonFiniteLossError(what, int(newest[-1]), history)
        return history
    good = int(bad[0]) if len(bad) else len(loss)
    history = history.add_steps(loss[:good], error[:good], seconds, after)
    if len(bad):
        gradient = "a gradient is not finite, " if np.isfinite(loss[good]) else ""
        raise NonFiniteLossError(f"{gradient}the loss is {loss[good]}", after + good + 1, history)
    return history


def check_evaluation(
    function: str,
    train_set: Dataset,
    eval_set: Dataset | None,
    eval_every: int | None,
    steps_per_epoch: int,
    state: TrainState,
) -> int:
    """Updates between evaluations; raises `ValueError` if they are asked for and there is no set, or a wrong one."""
    if eval_every is not None:
        check_integer(function, "eval_every", eval_every, at_least=1, remedy="leave it out for once an epoch")
    if eval_set is None:
        require(
            eval_every is None,
            f"{function}: eval_every={eval_every!r} needs something to evaluate on; pass eval_set=test_set",
        )
        plateaus = find_states(state.opt_state, optim.PlateauState)
        waiting = [p for p in plateaus if np.all(p.every == 0) and not np.any(p.seen + p.count)]
        require(
            not waiting,
            f"{function}: optim.reduce_on_plateau(every=None) waits for evaluations, and there are none; "
            "pass eval_set=test_set, every=1 to watch the training loss, or a state that optim.observe told of a value",
        )
        return steps_per_epoch
    check_dataset(function, "eval_set", eval_set)
    train_kind, eval_kind = ((s.image_shape, s.num_classes) for s in (train_set, eval_set))
    require(
        train_kind == eval_kind,
        f"{function}: train_set and eval_set differ: {train_set!r} and {eval_set!r}; pass two splits of one data set",
    )
    return steps_per_epoch if eval_every is None else eval_every


def check_progress(function: str, progress: Any) -> None:
    """Raises `ValueError` unless `progress` is a bool or a function."""
    if not isinstance(progress, bool):
        check_function(function, "progress", progress, "True, False, or lambda step, loss: print(step, loss)")


def _tell_of_resuming(step: int, steps: int, folder: Any, progress: Any) -> None:
    """One line: to the log, and to the terminal if there is a progress bar."""
    line = f"going on after update {step:,} of {steps:,}, from the checkpoint in {folder}"
    logging.getLogger(__name__).info(line)
    if progress is True and jax.process_index() == 0:
        print(line, file=sys.stderr)


def _check_division(batch_size: int, devices: int, accumulate: int) -> None:
    require(
        batch_size % devices == 0,
        f"fit: batch_size={batch_size} cannot be spread evenly over {devices} devices; pass a multiple of {devices}, "
        "or fewer devices: devices=jax.devices()[:1]",
    )
    require(
        batch_size // devices % accumulate == 0,
        f"fit: accumulate={accumulate} does not divide the {batch_size // devices} examples of a device; pass a "
        f"batch_size that is a multiple of {devices * accumulate}",
    )


@contextlib.contextmanager
def progress_function(progress: bool | Progress, step: int, steps: int) -> Iterator[Progress]:
    """A function to tell of progress, drawing a bar if `progress` is True."""
    if jax.process_index() != 0:
        yield lambda step, loss: None
    elif callable(progress):
        yield progress
    elif not progress:
        yield lambda step, loss: None
    else:
        with progress_bar("training", steps, done=step) as update:
            yield lambda step, loss: update(step, f"loss {loss:.3f}")
