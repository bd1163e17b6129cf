"""Trains many models at once, with different seeds, rates or other injected hyperparameters."""

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.arguments import check_choice, check_function, check_integer, check_key, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset
from jaxdl.loops import InLoops, convolutions_in_loops
from jaxdl.mesh import Members, members_mesh
from jaxdl.program_cache import remembered
from jaxdl.progress import progress_bar
from jaxdl.train.checkpoint import Checkpoints, check_checkpointing
from jaxdl.train.description import describe_run
from jaxdl.train.errors import NonFiniteLossError, PreemptedError, TrainingInterruptedError
from jaxdl.train.events import Ended, Evaluated, Event, Started, Stepped, Watcher
from jaxdl.train.history import History
from jaxdl.train.hyperparams import with_hyperparams
from jaxdl.train.keeper import Keeper
from jaxdl.train.loop import Progress, check_evaluation, check_progress, check_watchers, fit, tell, tell_of_resuming
from jaxdl.train.losses import Loss, Metric, cross_entropy
from jaxdl.train.preemption import signals_noted
from jaxdl.train.run import Plan, Run
from jaxdl.train.sharding import Spread
from jaxdl.train.state import TrainState, check_variables, init_state
from jaxdl.train.task import Augment, Preprocess, Task, augmented_example, check_task, make_task, with_batch
from jaxdl.train.together import Together
from jaxdl.train.update import Rule, make_rule, train_step
from jaxdl.typing import Device

Via: TypeAlias = Literal["auto", "vmap", "map", "loop"]


class Population(NamedTuple):
    """What `population` returns."""

    state: TrainState  # every array with a leading axis [members]; a diverged member has NaN, and 0 in counters
    histories: tuple[History, ...]  # one for each member
    diverged: tuple[str | None, ...]  # why a member stopped, if it did


def population(
    model: nn.Module,
    tx: optax.GradientTransformation,
    train_set: Dataset | Stream,
    *,
    keys: jax.Array,
    steps: int,
    hyperparams: Mapping[str, Any] | None = None,
    batch_size: int = 128,
    eval_set: Dataset | Stream | None = None,
    eval_every: int | None = None,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    accumulate: int = 1,
    on_nonfinite: Literal["stop", "skip"] = "stop",
    gradient_norm: bool = False,
    stop: Callable[[History], bool] | None = None,
    watch: Sequence[Watcher] = (),
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
    checkpoint_dir: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    keep_checkpoints: int = 3,
    progress: bool | Progress = True,
) -> Population:
    """Trains one model from each key, all at once.

    Up to rounding, each member ends as it would alone, after `init_state` with its key, `set_hyperparams` and `fit`.

    With `checkpoint_dir` a population can be killed at any moment: the same call continues, and ends with the same bits
    as an undisturbed one. SIGTERM and Ctrl-C stop a population as they stop `fit`.

    Args:
      model: as for `make_step`.
      tx: the optimizer of all members.
      train_set: the set to train on; each member sees it in an order of its own.
      keys: typed PRNG keys [members]: `jax.vmap(jax.random.key)(jnp.arange(8))`, or `jax.random.split(key, 8)`.
      steps: updates of each member.
      hyperparams: numbers [members] by name, for hyperparameters that `tx` injects: with
        `tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.1)` this is {"learning_rate": [0.1, 0.2, ...]}.
      batch_size: examples in a batch of one member.
      eval_set: the set to evaluate on, as for `fit`.
      eval_every: as for `fit`.
      loss: as for `fit`.
      metrics: as for `fit`.
      preprocess: as for `fit`.
      augment: as for `fit`.
      accumulate: as for `fit`.
      on_nonfinite: "stop" ends a member whose loss or gradient is not finite; "skip" leaves the update out.
      gradient_norm: as for `fit`.
      stop: called with a member's history after each of its evaluations; True ends that member there.
      watch: as for `fit`; each event has its `member`, and a watcher that returns True ends only that member.
      via: "vmap" computes all members in every operation; "map" is one compiled program that computes them in turn;
        "loop" makes one `fit` after the other, all with the same compiled step. "auto" takes "vmap" for models without
        convolutions, and "map" for those with convolutions. On one CPU device it takes "loop" for convolutions that
        would be slow in compiled loops there, such as Flax's own. (`benchmarks/population.py` compares them.)
      devices: devices over which "vmap" and "map" spread the members; as many are used as divide the number of members.
        By default all devices of this process.
      checkpoint_dir: as for `fit`. With "vmap" and "map" a member that was ended stays so when the population is
        resumed; with "loop" `stop` and the watchers decide again, and each member has a folder of its own in it.
      checkpoint_every: as for `fit`.
      keep_checkpoints: how many of the newest checkpoints stay.
      progress: True for a progress bar, False for none, or a function that is called with (steps of all members, newest
        loss).

    Returns:
      The states, the histories, and which members diverged. A member whose loss is not finite, or that is stopped, does
      not disturb the others. `seconds` in the histories are the seconds of all members together, except with "loop".

    Raises:
      ValueError: an argument is wrong, or the checkpoints in `checkpoint_dir` are of another run.
      CheckpointError: a checkpoint could not be written; the error holds states and histories.
      PreemptedError: the process was sent SIGTERM, and the population was saved, as for `fit`.
      TrainingInterruptedError: the user pressed Ctrl-C; the error holds states and histories, with "loop" those of the
        member that was being trained.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxdl import data, models, optim, train
      >>> train_set, test_set = data.load("fashion_mini")
      >>> tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.1)
      >>> keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0.003, 0.03, 1e9])
      >>> found = train.population(models.mlp(widths=(32,)), tx, train_set, keys=keys, steps=78, eval_set=test_set,
      ...                          hyperparams={"learning_rate": rates}, progress=False)
      >>> [len(history.loss) for history in found.histories[:2]], found.state.step.tolist()[:2]
      ([78, 78], [78, 78])
      >>> found.diverged[2] is not None
      True
    """
    name = "population"
    check_dataset(name, "train_set", train_set)
    preprocess = preprocess or train_set.standardize
    task = make_task(name, model, loss=loss, metrics=metrics, preprocess=preprocess, augment=augment)
    check_choice(name, "on_nonfinite", on_nonfinite, ("stop", "skip"))
    skip = on_nonfinite == "skip"
    rule = make_rule(name, task, tx, accumulate=accumulate, skip_nonfinite=skip, gradient_norm=gradient_norm)
    check_key(name, "keys", keys, several=True)
    check_integer(name, "steps", steps, at_least=1)
    check_choice(name, "via", via, ("auto", "vmap", "map", "loop"))
    check_progress(name, progress)
    check_checkpointing(name, checkpoint_dir, checkpoint_every, keep_checkpoints)
    if stop is not None:
        check_function(name, "stop", stop, "lambda history: history.eval_error[-1] > 0.8")
    require(
        stop is None or eval_set is not None,
        f"{name}: stop needs eval_set, because it is called after each evaluation, got eval_set=None; pass "
        "eval_set=test_set",
    )
    steps_per_epoch = train_set.steps_per_epoch(batch_size)
    require(
        batch_size % accumulate == 0,
        f"{name}: accumulate must divide batch_size, got accumulate={accumulate} and batch_size={batch_size}; pass a "
        f"batch_size that is a multiple of {accumulate}",
    )
    shapes = check_task(name, task, train_set, batch_size)
    check_watchers(name, watch, eval_set, task.metrics_for(shapes.outputs, train_set.example.targets))
    eval_shapes = None
    if eval_set is not None and isinstance(eval_set, Dataset | Stream):
        eval_shapes = check_task(name, task, eval_set, batch_size, training=False)
    states = _first_states(task, tx, train_set, keys, hyperparams, batch_size)
    if eval_shapes is not None:
        check_variables(name, model, states[0].variables, eval_shapes)
    trained_on = augmented_example(name, task, train_set.example, batch_size)
    eval_every = check_evaluation(name, train_set, trained_on, eval_set, eval_every, steps_per_epoch, states[0])
    mesh = members_mesh(name, len(keys), devices)
    if via == "auto":
        via = _fastest(rule, shapes.convolutions, states[0], train_set, batch_size, mesh.size)
    watchers = [*watch] if stop is None else [*watch, _Stop(stop)]

    if checkpoint_dir is not None:
        _check_folder(Path(checkpoint_dir), alone=via == "loop")
    if via == "loop":
        arguments: dict[str, Any] = {"batch_size": batch_size, "loss": loss, "metrics": metrics}
        arguments |= {"preprocess": preprocess, "augment": augment, "accumulate": accumulate}
        arguments |= {"on_nonfinite": on_nonfinite, "gradient_norm": gradient_norm}
        arguments |= {"eval_set": eval_set, "eval_every": eval_every}
        arguments |= {"devices": mesh.devices.tolist()[:1]}
        if checkpoint_dir is not None:
            arguments |= {"checkpoint_every": checkpoint_every, "keep_checkpoints": keep_checkpoints}
        ends = []
        with _members_progress(progress, steps, len(keys)) as report:
            for number, state in enumerate(states):
                folder = None if checkpoint_dir is None else Path(checkpoint_dir) / f"member_{number:04d}"
                own = {
                    "watch": [_of_member(number, watcher) for watcher in [*watchers, report]],
                    "checkpoint_dir": folder,
                }
                try:
                    ended, history = fit(state, model, tx, train_set, steps=steps, progress=False, **arguments, **own)
                    ends.append((ended, history, None))
                except NonFiniteLossError as error:
                    ends.append((state, error.history, str(error)))
        ended, histories, diverged = zip(*ends, strict=True)
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ended)
        return Population(_nan_where(diverged, state, histories), histories, diverged)

    where = Members(mesh, via)
    work = Together(rule, where, len(keys), train_set, eval_set, batch_size, steps)
    state = where.place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    del states
    histories, step, members, keeper = [History.empty()] * len(keys), 0, None, None
    plan = Plan(steps, steps_per_epoch, eval_every, skip)
    with contextlib.ExitStack() as stack:
        stack.callback(work.close)
        if checkpoint_dir is not None:
            folder = Path(checkpoint_dir)
            checkpoints = stack.enter_context(Checkpoints(folder, keep=keep_checkpoints, function=name))
            settings = {"batch_size": batch_size, "accumulate": accumulate, "convolutions": shapes.convolutions}
            about = describe_run(name, task, tx, state, train_set, eval_set, **settings)
            keeper = Keeper(checkpoints, about, every=checkpoint_every or steps_per_epoch)
            state, step, histories, members = keeper.resume(state, steps, len(keys))
            if step:
                tell_of_resuming(step, steps, checkpoint_dir, progress)
        signals = stack.enter_context(signals_noted(keeper is not None))
        watchers.append(stack.enter_context(_members_progress(progress, steps, len(keys))))
        run = Run(
            work,
            plan,
            state,
            histories,
            step=step,
            keeper=keeper,
            signals=signals,
            watched=bool(watch),
            **(members or {}),
        )
        tell(run, watchers)
    histories = tuple(run.histories)
    state = _nan_where(run.diverged, run.state, histories)
    if run.signal == signal.SIGTERM:
        raise PreemptedError(state, histories)
    if run.signal:
        raise TrainingInterruptedError(state, histories, checkpoint_dir)
    return Population(state, histories, tuple(run.diverged))


def _first_states(
    task: Task, tx: Any, train_set: Dataset | Stream, keys: jax.Array, hyperparams: Any, batch_size: int
) -> list[TrainState]:
    """The members' states at step 0."""
    name = "population"
    inputs = jax.eval_shape(task.inputs, augmented_example(name, task, train_set.example, batch_size))
    states = [init_state(task.model, tx, key, inputs) for key in keys]
    require(
        hyperparams is None or isinstance(hyperparams, Mapping),
        f'{name}: hyperparams must be numbers by name, {{"learning_rate": [0.1, 0.2]}}, got {shown(hyperparams)}',
    )
    values = {key: np.asarray(value) for key, value in (hyperparams or {}).items()}
    for key, value in values.items():
        require(
            value.shape == (len(keys),),
            f"{name}: hyperparams[{key!r}] must have one number for each of the {len(keys)} keys, got shape "
            f"{list(value.shape)}",
        )
    return [
        with_hyperparams(name, state, {key: value[member] for key, value in values.items()})
        for member, state in enumerate(states)
    ]


def _fastest(
    rule: Rule, convolutions: bool, state: TrainState, train_set: Dataset | Stream, batch_size: int, devices: int
) -> Via:
    """What "auto" takes; on the CPU `benchmarks/population.py` compares the ways."""
    if not convolutions:
        return "vmap"
    if jax.default_backend() != "cpu" or devices > 1:
        return "map"
    leaves, structure = jax.tree.flatten((state, with_batch(train_set.example, batch_size)))
    kinds = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return "map" if _step_in_loops(rule, structure, kinds) == "fast" else "loop"


@remembered()
def _step_in_loops(rule: Rule, structure: Any, kinds: tuple) -> InLoops:
    """What the convolutions of a step are like in loops, for a state and a batch of these shapes and dtypes."""
    structs = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
    return convolutions_in_loops(functools.partial(train_step, rule=rule, spread=Spread()), *structs)


def _check_folder(folder: Path, *, alone: bool) -> None:
    """Raises `ValueError` if a folder has checkpoints of the other kind: of members alone, or of all together."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    others = [name for name in names if (name.isdigit() if alone else name.startswith("member_"))]
    kind = "members side by side, or of a single run" if alone else 'members one by one (via="loop")'
    require(
        not others,
        f"population: checkpoint_dir={str(folder)!r} has checkpoints of {kind}; pass the same via=, or "
        "use another folder",
    )


class _Stop:
    """A watcher that calls a function of the history after each evaluation, also after those of a resumed run."""

    def __init__(self, stop: Callable[[History], bool]):
        self._stop = stop

    def __call__(self, event: Event) -> bool:
        """Whether to end the member."""
        asks = isinstance(event, Evaluated) or (isinstance(event, Started) and len(event.history.eval_step) > 0)
        return asks and bool(self._stop(event.history))  # type: ignore[union-attr]


def _of_member(number: int, watcher: Watcher) -> Watcher:
    return lambda event: watcher(event._replace(member=number))


@contextlib.contextmanager
def _members_progress(progress: bool | Progress, steps: int, members: int):
    """A watcher that reports the steps of all members to `progress`, or draws a bar if `progress` is True."""
    done = np.zeros(members, int)

    def note(event, report):
        if isinstance(event, Started | Stepped | Ended):
            done[event.member] = steps if isinstance(event, Ended) else event.step
        if isinstance(event, Stepped):
            report(int(done.sum()), float(event.metrics.loss[-1]))

    if progress is False or jax.process_index() != 0:
        yield lambda event: None
    elif callable(progress):
        yield lambda event: note(event, progress)
    else:
        with progress_bar("training", steps * members) as update:
            yield lambda event: note(event, lambda done, loss: update(done, f"loss {loss:.3f}"))


def _nan_where(diverged: Sequence[str | None], state: TrainState, histories: Sequence[History]) -> TrainState:
    """The state with NaN for the numbers of members that diverged, and 0 for their counters.

    How far past its end a member went depends on `via` and on the clock.
    """
    which = np.array([reason is not None for reason in diverged])
    if not which.any():
        return state

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        nothing = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
        return jnp.where(which.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.asarray(nothing, leaf.dtype), leaf)

    recorded = jnp.asarray([len(history.loss) for history in histories], state.step.dtype)
    return jax.tree.map(fill, state)._replace(step=jnp.where(which, recorded, state.step))
