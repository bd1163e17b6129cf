"""The training loop."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import optim
from jaxdl.arguments import check_choice, check_flag, check_function, check_integer, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset
from jaxdl.progress import progress_bar
from jaxdl.train.alone import Alone
from jaxdl.train.checkpoint import Checkpoints, check_checkpointing
from jaxdl.train.description import describe_run
from jaxdl.train.errors import PreemptedError, TrainingInterruptedError
from jaxdl.train.events import Event, Stepped, Watcher
from jaxdl.train.history import History
from jaxdl.train.keeper import Keeper
from jaxdl.train.losses import Loss, Metric, cross_entropy
from jaxdl.train.order import check_order
from jaxdl.train.preemption import signals_noted
from jaxdl.train.processes import lost_processes_named
from jaxdl.train.run import Plan, Run
from jaxdl.train.sharding import Parallel, make_layout
from jaxdl.train.state import TrainState, check_state, check_variables
from jaxdl.train.task import Augment, Preprocess, augmented_example, check_task, make_task
from jaxdl.train.update import BatchNormMode, make_rule
from jaxdl.train.watchers import EarlyStopping
from jaxdl.tree import find_states
from jaxdl.typing import Device

Progress = Callable[[int, float], None]
"""Called with the number of updates made so far and the newest loss that is known."""

OnNonFinite: TypeAlias = Literal["stop", "skip", "roll_back"]


def fit(
    state: TrainState,
    model: nn.Module,
    tx: optax.GradientTransformation,
    train_set: Dataset | Stream,
    *,
    steps: int,
    batch_size: int = 128,
    eval_set: Dataset | Stream | None = None,
    eval_every: int | None = None,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    devices: Sequence[Device] | None = None,
    parallel: Parallel = "auto",
    shard_state: bool = False,
    batch_norm: BatchNormMode = "synchronized",
    accumulate: int = 1,
    scan: bool | None = None,
    on_nonfinite: OnNonFinite = "stop",
    gradient_norm: bool = False,
    watch: Sequence[Watcher] = (),
    checkpoint_dir: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    keep_checkpoints: int = 3,
    progress: bool | Progress = True,
) -> tuple[TrainState, History]:
    """Trains until `steps` updates have been made in all, including those that `state` was made with.

    The data set is put on the devices once and shuffled there. The order depends only on the state's key and the number
    of the epoch, so a state that stopped at any step continues with the batches that it would have seen. The metrics of
    some steps are fetched while the next steps run, so the device does not wait for the host.

    With `checkpoint_dir` a run can be killed at any moment: the same call continues from the newest checkpoint in that
    folder. On the same machine with the same number of devices it ends with the same bits as an undisturbed run, both
    with single steps and with compiled loops. Several processes all make the same calls; only process 0 shows progress.

    Ctrl-C stops a run after the steps that are under way, which take about a second, and with `checkpoint_dir` saves
    it. A second Ctrl-C ends the program at once. With `checkpoint_dir` SIGTERM stops and saves the run too; without, it
    ends the program at once. With several processes and `checkpoint_dir` SIGTERM stops all processes at the same step,
    after at most 32 single steps or 128 steps of a compiled loop; the first Ctrl-C ends the program at once.

    Args:
      state: the state to start from; it stays usable, since training works on a copy.
      model: the module that the state belongs to.
      tx: the optimizer that the state belongs to.
      train_set: the set to train on. An epoch has `train_set.steps_per_epoch(batch_size)` steps.
      steps: number of updates to reach.
      batch_size: examples in a batch, over all devices.
      eval_set: the set to evaluate on, after every `eval_every` updates and after the last one. The result after a
        multiple of `eval_every` is also passed to `optim.reduce_on_plateau(every=None)`: the metric "error", or the
        loss if there is no such metric.
      eval_every: updates between evaluations; by default an epoch.
      loss: as for `make_step`.
      metrics: as for `make_step`.
      preprocess: as for `make_step`; by default `train_set.standardize`, for both sets.
      augment: as for `make_step`.
      devices: as for `make_step`; their number must divide the batch.
      parallel: as for `make_step`.
      shard_state: as for `make_step`.
      batch_norm: as for `make_step`.
      accumulate: as for `make_step`.
      scan: whether to make the steps of an epoch in compiled loops on the device. By default True, except for models
        with convolutions on the CPU, where it is hardly faster and can be much slower (`benchmarks/epoch.py`).
      on_nonfinite: what to do if a loss or a gradient is NaN or infinite. "stop" raises. "skip" leaves the update out
        and notes it in `history.skipped`; 100 such updates in a row raise. "roll_back" returns to the newest
        checkpoint, notes the update in `history.rolled_back`, and continues with other random numbers and another order
        of the examples; a third return to the same checkpoint raises.
      gradient_norm: whether the history has the global L2 norm of each step's gradient.
      watch: functions that are called with each event: `train.Started`, `Stepped` (some updates, with their metrics,
        learning rates and seconds), `Evaluated` (with the state), `Saved`, `RolledBack`, `Ended`. If one returns True,
        the run ends there. Ready ones: `train.JsonLines(path)`, `train.TensorBoard(folder)`,
        `train.EarlyStopping("error", patience=5)`, `train.print_evaluations`. With several processes each process calls
        its own.
      checkpoint_dir: the folder for checkpoints, and from which to continue. A folder holds one run: with another
        model, data set, batch size, loss, key, ... the call raises and says what differs.
      checkpoint_every: updates between checkpoints; by default an epoch. There is one at the end too.
      keep_checkpoints: how many of the newest checkpoints stay. The best one stays too: the one of the least "error"
        on `eval_set`, or of the least loss if there is no such metric.
      progress: True for a progress bar, False for none, or a function that is called with (step, loss) now and then.

    Returns:
      The state after `steps` updates (fewer if a watcher ended the run), and the history of these updates and, if the
      run was resumed, of the updates before. The state is on one device; with `shard_state` it stays spread.

    Raises:
      ValueError: an argument is wrong; `state.step` is past `steps`; or the checkpoints in `checkpoint_dir` are of
        another run.
      NonFiniteLossError: the loss, a gradient, or the loss on `eval_set` became NaN or infinite. It is raised after the
        steps under way, and holds the history until then.
      CheckpointError: a checkpoint could not be written; the error holds state and history.
      ProcessLostError: another process of this training died.
      PreemptedError: the process was sent SIGTERM, and the run was saved (only with `checkpoint_dir`). It is a
        SystemExit with the exit code `train.PREEMPTED` (75).
      TrainingInterruptedError: the user pressed Ctrl-C; the error holds state and history. It is a KeyboardInterrupt.

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
    preprocess = preprocess or train_set.standardize
    task = make_task("fit", model, loss=loss, metrics=metrics, preprocess=preprocess, augment=augment)
    rule = make_rule(
        "fit",
        task,
        tx,
        accumulate=accumulate,
        batch_norm=batch_norm,
        skip_nonfinite=on_nonfinite == "skip",
        gradient_norm=gradient_norm,
    )
    layout = make_layout("fit", devices, parallel, shard_state)
    check_integer("fit", "steps", steps, at_least=1)
    steps_per_epoch = train_set.steps_per_epoch(batch_size)
    trained_on = augmented_example("fit", task, train_set.example, batch_size)
    eval_every = check_evaluation("fit", train_set, trained_on, eval_set, eval_every, steps_per_epoch, state)
    if scan is not None:
        check_flag("fit", "scan", scan)
    check_progress("fit", progress)
    _check_division(batch_size, len(layout.devices), accumulate)
    check_checkpointing("fit", checkpoint_dir, checkpoint_every, keep_checkpoints)
    check_choice("fit", "on_nonfinite", on_nonfinite, ("stop", "skip", "roll_back"))
    require(
        on_nonfinite != "roll_back" or checkpoint_dir is not None,
        'fit: on_nonfinite="roll_back" needs checkpoints to return to; pass checkpoint_dir=...',
    )
    shapes = check_task("fit", task, train_set, batch_size)
    check_variables("fit", model, state.variables, shapes)
    if eval_set is not None:
        eval_shapes = check_task("fit", task, eval_set, batch_size, training=False)
        check_variables("fit", model, state.variables, eval_shapes)
    check_watchers("fit", watch, eval_set, task.metrics_for(shapes.outputs, train_set.example.targets))
    check_order("fit", tx, state.params, state.batch_stats)
    step = int(state.step)
    require(
        step <= steps, f"fit: the state has {step} updates behind it, more than steps={steps}; pass steps >= {step}"
    )

    state, histories, keeper = layout.place(jax.tree.map(jnp.copy, state)), [History.empty()], None
    if isinstance(train_set, Stream):
        require(scan is not True, "fit: scan=True needs a set in memory, got a stream; leave scan out")
        scan = False
    elif scan is None:  # on the CPU convolutions are hardly faster in a loop, and can be much slower
        scan = jax.default_backend() != "cpu" or not shapes.convolutions
    work = Alone(rule, layout, train_set, eval_set, scan, batch_size, steps)
    plan = Plan(steps, steps_per_epoch, eval_every, rule.skip_nonfinite, on_nonfinite == "roll_back")
    with contextlib.ExitStack() as stack:
        stack.enter_context(lost_processes_named())
        stack.callback(work.close)
        if checkpoint_dir is not None:
            checkpoints = stack.enter_context(Checkpoints(Path(checkpoint_dir), keep=keep_checkpoints))
            about = describe_run(
                "fit",
                task,
                tx,
                layout.collect(state),
                train_set,
                eval_set,
                batch_size=batch_size,
                accumulate=accumulate,
                convolutions=shapes.convolutions,
            )
            keeper = Keeper(checkpoints, about, every=checkpoint_every or steps_per_epoch)
            before = step
            state, step, histories, _ = keeper.resume(state, steps)
            if step > before:
                tell_of_resuming(step, steps, checkpoint_dir, progress)
        signals = stack.enter_context(signals_noted(keeper is not None))
        watchers = [*watch, stack.enter_context(progress_watcher(progress, step, steps))]
        run = Run(work, plan, state, histories, step=step, keeper=keeper, signals=signals, watched=bool(watch))
        if plan.roll_back and keeper is not None:
            run.save()
        tell(run, watchers)
    state, history = layout.collect(run.state), run.histories[0]
    if run.signal == signal.SIGTERM:
        raise PreemptedError(state, history)
    if run.signal:
        raise TrainingInterruptedError(state, history, checkpoint_dir)
    return state, history


def tell(run: Run, watchers: Sequence[Watcher]) -> None:
    """Makes the updates of a run, and passes its events to the watchers."""
    try:
        for event in run.events():
            for watcher in watchers:
                ends = watcher(event)
                if isinstance(ends, int | np.generic | np.ndarray | jax.Array) and np.ndim(ends) == 0 and bool(ends):
                    run.end(event.member)
    except BaseException:
        for event in run.ends():
            for watcher in watchers:
                with contextlib.suppress(Exception):  # the caller is to see the first exception
                    watcher(event)
        raise


def check_evaluation(
    function: str,
    train_set: Dataset | Stream,
    trained_on: Any,
    eval_set: Dataset | Stream | None,
    eval_every: int | None,
    steps_per_epoch: int,
    state: TrainState,
) -> int | None:
    """Updates between evaluations, or None for none; raises `ValueError` if the set is missing or wrong.

    `trained_on` are the structs of one example's inputs after augmentation, which may crop them.
    """
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
            f"{function}: optim.reduce_on_plateau(every=None) needs evaluations, got eval_set=None; pass "
            "eval_set=test_set, or reduce_on_plateau(..., every=1) to watch the training loss, or a state that "
            "optim.observe has updated with a value",
        )
        return None
    check_dataset(function, "eval_set", eval_set)
    require(
        eval_set.example.inputs in (train_set.example.inputs, trained_on)
        and len(eval_set.class_names) == len(train_set.class_names),
        f"{function}: train_set and eval_set must have inputs of equal shapes and dtypes and equally many classes, got "
        f"{train_set!r} and {eval_set!r}; pass two splits of one data set (if augment crops, eval_set may be cropped "
        "before)",
    )
    return steps_per_epoch if eval_every is None else eval_every


def check_progress(function: str, progress: Any) -> None:
    """Raises `ValueError` unless `progress` is a bool or a function."""
    if not isinstance(progress, bool):
        check_function(function, "progress", progress, "True, False, or lambda step, loss: print(step, loss)")


def check_watchers(
    function: str, watch: Any, eval_set: Dataset | Stream | None, metrics: Sequence[tuple[str, Metric]]
) -> None:
    """Raises `ValueError` unless `watch` is a sequence of functions, and there is what `EarlyStopping` looks at."""
    example = 'pass watch=[train.EarlyStopping("error", patience=5)] for example'
    require(
        isinstance(watch, Sequence) and not isinstance(watch, str),
        f"{function}: watch must be a list of functions, got watch={shown(watch)}; {example}",
    )
    for watcher in watch:
        require(
            callable(watcher) and not isinstance(watcher, type),
            f"{function}: watch must be a list of functions, got {shown(watcher)} in it; {example}",
        )
        if isinstance(watcher, EarlyStopping):
            require(
                eval_set is not None,
                f"{function}: train.EarlyStopping needs evaluations, got eval_set=None; pass eval_set=test_set",
            )
            watcher.check(["loss", *dict(metrics)])


def tell_of_resuming(step: int, steps: int, folder: Any, progress: Any) -> None:
    """Says that a run is resumed: one line in the log, and in the terminal if there is a progress bar."""
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
        f"fit: accumulate must divide the examples of each device, got accumulate={accumulate} and "
        f"{batch_size // devices} examples; pass a batch_size that is a multiple of {devices * accumulate}",
    )


@contextlib.contextmanager
def progress_watcher(progress: bool | Progress, step: int, steps: int) -> Iterator[Watcher]:
    """A watcher that calls the function `progress`, or draws a bar if `progress` is True."""
    if jax.process_index() != 0 or progress is False:
        yield lambda event: None
    elif callable(progress):
        yield lambda event: _report(event, progress)
    else:
        with progress_bar("training", steps, done=step) as update:
            yield lambda event: _report(event, lambda done, loss: update(done, f"loss {loss:.3f}"))


def _report(event: Event, progress: Progress) -> None:
    if isinstance(event, Stepped):
        progress(event.step, float(event.metrics.loss[-1]))
