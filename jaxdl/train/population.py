"""Many models at once: seeds, rates, any hyperparameter that is injected."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl import optim
from jaxdl.arguments import check_choice, check_function, check_integer, check_key, require, shown
from jaxdl.data import Augment, Dataset, epoch_order, take_batch
from jaxdl.data.checks import check_dataset, check_functions, check_model_fits
from jaxdl.ensemble.predict import MEMBERS, members_mesh
from jaxdl.program_cache import remembered
from jaxdl.train.errors import NonFiniteLossError
from jaxdl.train.history import History
from jaxdl.train.loop import (
    Progress,
    check_evaluation,
    check_progress,
    fit,
    many_steps,
    progress_function,
    recorded,
    step_in_order,
)
from jaxdl.train.losses import Loss, cross_entropy, per_example
from jaxdl.train.sharding import Spread
from jaxdl.train.state import TrainState, check_state, init_state
from jaxdl.train.step import Metrics, Preprocess, Rule, make_rule, model_inputs
from jaxdl.typing import Device

Via: TypeAlias = Literal["auto", "vmap", "map", "loop"]

_EVALUATED = 500  # examples at a time
_NOT_NEGATIVE = {  # what is called so in jaxdl and optax
    *("learning_rate", "peak", "peak_value", "initial", "weight_decay", "momentum", "decay", "dampening"),
    *("b1", "b2", "eps", "initial_accumulator"),
}


class Population(NamedTuple):
    """What `population` returns."""

    state: TrainState  # every array with a leading axis [members]; the numbers of a diverged member are NaN
    histories: tuple[History, ...]  # one for each member
    diverged: tuple[str | None, ...]  # why a member stopped, if it did


def population(
    model: nn.Module,
    tx: optax.GradientTransformation,
    train_set: Dataset,
    *,
    keys: jax.Array,
    steps: int,
    hyperparams: Mapping[str, Any] | None = None,
    batch_size: int = 128,
    eval_set: Dataset | None = None,
    eval_every: int | None = None,
    loss: Loss = cross_entropy,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    stop: Callable[[History], bool] | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
    progress: bool | Progress = True,
) -> Population:
    """Trains one model from each key, all at once.

    Each member ends as it would alone, to rounding: after `init_state` with its key, `set_hyperparams` and `fit`.

    Args:
      model: a module called as `model(images, train=bool)`.
      tx: the optimizer of all members.
      train_set: what to train on; each member sees it in an order of its own.
      keys: typed PRNG keys [members]: `jax.vmap(jax.random.key)(jnp.arange(8))`, or `jax.random.split(key, 8)`.
      steps: updates of each member.
      hyperparams: numbers [members] by name, of those that `tx` takes as state: with
        `tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.1)` this is {"learning_rate": [0.1, 0.2, ...]}.
      batch_size: examples in a batch.
      eval_set: what to evaluate on, as in `fit`.
      eval_every: by default an epoch.
      loss: as for `fit`.
      preprocess: as for `fit`.
      augment: as for `fit`.
      stop: called with a member's history after each of its evaluations; True ends that member there.
      via: "vmap": all members in every operation, "map": one compiled program that takes them in turn, "loop": one
        `fit` after the other, all with the same compiled step. "auto" is what is never slower than the loop
        (`benchmarks/population.py`): on the CPU "vmap" for dense nets and "loop" for convolutions, elsewhere "map"
        for convolutions.
      devices: members are spread over them ("vmap" and "map"), over as many as divide the members; by default all.
      progress: True for a progress bar, False for none, or a function that is told (steps of all members, newest loss).

    Returns:
      The states, histories, and who diverged. Nothing is written on the way: Ctrl-C ends it and leaves nothing.
      A member whose loss is not finite, or that is stopped, does not disturb the others. `seconds` in the histories are
      those of all members together, but for "loop".

    Raises:
      ValueError: an argument is not what it should be.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxdl import data, models, optim, train
      >>> train_set, test_set = data.load("fashion_mini")
      >>> tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.1)
      >>> keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0.003, 0.03, 1e9])
      >>> found = train.population(models.mlp(widths=(32,)), tx, train_set, keys=keys, steps=78, eval_set=test_set,
      ...                          hyperparams={"learning_rate": rates}, progress=False)
      >>> [len(history.loss) for history in found.histories[:2]], found.state.step.tolist()
      ([78, 78], [78, 78, 78])
      >>> found.diverged[2] is not None
      True
    """
    name = "population"
    check_dataset(name, "train_set", train_set)
    preprocess = preprocess or train_set.standardize
    rule = make_rule(name, model, tx, loss=loss, preprocess=preprocess, augment=augment)
    check_key(name, "keys", keys, several=True)
    check_integer(name, "steps", steps, at_least=1)
    check_choice(name, "via", via, ("auto", "vmap", "map", "loop"))
    check_progress(name, progress)
    if stop is not None:
        check_function(name, "stop", stop, "lambda history: history.eval_error[-1] > 0.8")
    require(stop is None or eval_set is not None, f"{name}: stop is asked after evaluations; pass eval_set=...")
    steps_per_epoch = train_set.steps_per_epoch(batch_size)
    check_model_fits(name, model, train_set, preprocess)
    check_functions(name, train_set, batch_size, loss, augment, preprocess)

    states = [init_state(model, tx, key, train_set.image_shape) for key in keys]
    eval_every = check_evaluation(name, train_set, eval_set, eval_every, steps_per_epoch, states[0])
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
    states = [
        _with_hyperparams(name, state, {key: value[member] for key, value in values.items()})
        for member, state in enumerate(states)
    ]
    mesh = members_mesh(name, len(keys), devices)
    if via == "auto":
        via = _fastest(states[0], mesh.size)
    with progress_function(progress, 0, steps * len(keys)) as report:
        if via == "loop":
            ends = []
            for number, state in enumerate(states):
                arguments = {"batch_size": batch_size, "loss": loss, "preprocess": preprocess, "augment": augment}
                arguments |= {"eval_set": eval_set, "eval_every": eval_every} if eval_set else {}
                arguments |= {"devices": mesh.devices.tolist()[:1]}
                tell = functools.partial(_told, report, number * steps)
                ends.append(_alone(state, model, tx, train_set, steps, stop, {**arguments, "progress": tell}))
            ended, histories, diverged = zip(*ends, strict=True)
            state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ended)
        else:
            together = _Together(rule, train_set, eval_set, batch_size, via, mesh)
            state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
            state, histories, diverged = together.run(state, steps, eval_every, stop, report)
    return Population(_nan_where(np.array([d is not None for d in diverged]), state), tuple(histories), tuple(diverged))


def set_hyperparams(state: TrainState, **values: Any) -> TrainState:
    """A state with other numbers for hyperparameters that `optax.inject_hyperparams` keeps in it.

    A learning rate under a schedule is set by its peak, if that is what is injected:

        def chain(peak):
            return optim.momentum(optim.cosine_decay(peak, steps))

        tx = optax.inject_hyperparams(chain)(peak=0.1)

    Args:
      state: a training state.
      **values: numbers by name.

    Raises:
      ValueError: the optimizer keeps no hyperparameter of that name (those there are are named), or computes it by a
        schedule at every update; or a value is not one finite number, is negative for what is known not to be (rates,
        decays), or cannot be kept in the dtype that is there.
    """
    check_state("set_hyperparams", state)
    return _with_hyperparams("set_hyperparams", state, values)


def _with_hyperparams(function: str, state: TrainState, values: Mapping[str, Any]) -> TrainState:
    found: dict[str, Any] = {}
    scheduled: set[str] = set()

    def change(node):
        if not _injected(node):
            return node
        found.update(node.hyperparams)
        scheduled.update(getattr(node, "hyperparams_states", {}))
        new = {key: jnp.asarray(values[key], old.dtype) for key, old in node.hyperparams.items() if key in values}
        return node._replace(
            hyperparams={**node.hyperparams, **new},
            inner_state=jax.tree.map(change, node.inner_state, is_leaf=_injected),
        )

    for name, value in values.items():
        number = np.asarray(value)
        require(
            number.shape == () and np.issubdtype(number.dtype, np.number) and bool(np.isfinite(number)),
            f"{function}: {name} must be one finite number, got {name}={shown(value)}",
        )
    opt_state = jax.tree.map(change, state.opt_state, is_leaf=_injected)
    missing = sorted(set(values) - set(found))
    require(
        not missing,
        f"{function}: {', '.join(missing)} is not among the injected hyperparameters, {sorted(found) or 'none'}; make "
        "tx with optax.inject_hyperparams(optim.momentum)(learning_rate=0.1) for example",
    )
    for name, value in values.items():
        require(
            name not in scheduled,
            f"{function}: {name} is computed by a schedule at every update, which would overwrite {name}={value}. "
            "Inject the schedule's peak instead: def chain(peak): return optim.momentum(optim.cosine_decay(peak, "
            "1000)); tx = optax.inject_hyperparams(chain)(peak=0.1)",
        )
        require(
            value >= 0 or name not in _NOT_NEGATIVE,
            f"{function}: {name} must not be negative, got {name}={value}",
        )
        kept = np.asarray(value).astype(found[name].dtype)
        require(
            bool(np.isclose(float(kept), float(value), rtol=0.01)),
            f"{function}: {name} is kept as {found[name].dtype}, which cannot hold {name}={value}; give it to tx as a "
            f"float, {name}=0.1",
        )
    return state._replace(opt_state=opt_state)


def _injected(node: Any) -> bool:
    return hasattr(node, "hyperparams")


def _fastest(state: TrainState, devices: int) -> Via:
    """By measurement on the CPU (`benchmarks/population.py`)."""
    dense = all(leaf.ndim < 4 for leaf in jax.tree.leaves(state.params))
    if dense:
        return "vmap"
    return "loop" if jax.default_backend() == "cpu" and devices == 1 else "map"


def _told(report: Progress, before: int, step: int, loss: float) -> None:
    report(before + step, loss)


def _alone(state, model, tx, train_set, steps, stop, arguments) -> tuple[TrainState, History, str | None]:
    """One member by `fit`, from evaluation to evaluation if it may be stopped."""
    history = History.empty()
    while int(state.step) < steps:
        every = arguments["eval_every"] if stop else steps
        until = min(steps, (int(state.step) // every + 1) * every)
        try:
            state, part = fit(state, model, tx, train_set, steps=until, **arguments)
        except NonFiniteLossError as error:
            return state, _joined(history, error.history), str(error)
        history = _joined(history, part)
        if stop and stop(history):
            break
    return state, history, None


def _joined(first: History, then: History) -> History:
    joined: list[Any] = [
        np.concatenate([a, b]) if isinstance(a, np.ndarray) else a + b for a, b in zip(first, then, strict=True)
    ]
    history = History(*joined)
    later = first.seconds + then.eval_seconds
    return history._replace(eval_seconds=np.concatenate([first.eval_seconds, later]))


def _nan_where(diverged: np.ndarray, state: TrainState) -> TrainState:
    """The state with NaN for the numbers of members that diverged: what is left of them depends on `via`."""
    if not diverged.any():
        return state

    def fill(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        return jnp.where(diverged.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.nan, leaf)

    return jax.tree.map(fill, state)


class _Together:
    """All members in one program."""

    def __init__(self, rule: Rule, train_set, eval_set, batch_size: int, via: str, mesh: Mesh):
        self._mesh = mesh
        whole = NamedSharding(self._mesh, PartitionSpec())
        self._data = jax.device_put((train_set.images, train_set.labels), whole)
        self._eval = eval_set and jax.device_put((eval_set.images, eval_set.labels), whole)
        self._examples, self._batch_size = len(train_set), batch_size
        self._steps_per_epoch = train_set.steps_per_epoch(batch_size)
        self._some, self._epoch, self._orders, self._count = _compiled_members(rule, via, self._mesh)

    def run(self, state, steps, eval_every, stop, report) -> tuple[TrainState, list[History], list[str | None]]:
        """From the stacked states at step 0 to their ends."""
        members = len(state.step)
        state = jax.device_put(state, NamedSharding(self._mesh, PartitionSpec(MEMBERS)))
        histories = [History.empty()] * members
        diverged: list[str | None] = [None] * members
        active, step, epoch, orders = np.ones(members, bool), 0, -1, None
        while step < steps and active.any():
            if epoch != step // self._steps_per_epoch:
                epoch = step // self._steps_per_epoch
                orders = self._orders(state.key, epoch, examples=self._examples, batch_size=self._batch_size)
            next_evaluation = (step // eval_every + 1) * eval_every if self._eval else steps
            until = min(steps, (epoch + 1) * self._steps_per_epoch, next_evaluation)
            state, metrics, seconds = self._advance(state, active, orders, until - step)
            for member in np.flatnonzero(active):
                mine = Metrics(*(values[member] for values in metrics))
                try:
                    histories[member] = recorded(histories[member], mine, seconds, step, skip=False)
                except NonFiniteLossError as error:
                    histories[member], diverged[member], active[member] = error.history, str(error), False
            step = until
            if self._eval and step in (next_evaluation, steps):
                losses, errors = self._evaluate(state)
                for member in np.flatnonzero(active):
                    if np.isfinite(losses[member]):
                        histories[member] = histories[member].add_evaluation(step, losses[member], errors[member])
                    else:
                        what = f"the loss on the evaluation set is {losses[member]}"
                        diverged[member] = str(NonFiniteLossError(what, step, histories[member]))
                        active[member] = False
                if step == next_evaluation:
                    observed = jax.vmap(optim.observe)(state.opt_state, jnp.asarray(errors, jnp.float32))
                    state = state._replace(opt_state=_chosen(jnp.asarray(active), observed, state.opt_state))
                if stop:
                    active &= [not (on and stop(history)) for on, history in zip(active, histories, strict=True)]
            newest = [history.loss[-1] for history in histories if len(history.loss)]
            report(step * members, float(np.mean(newest)) if newest else float("nan"))
        return state, histories, diverged

    def _advance(self, state, active, orders, count) -> tuple[TrainState, Metrics, float]:
        whole = count == self._steps_per_epoch
        arguments = (state, jnp.asarray(active), orders, self._data) + (() if whole else (np.int32(count),))
        program = self._epoch if whole else self._some
        program.lower(*arguments).compile()
        start = time.perf_counter()
        state, metrics = program(*arguments)
        metrics = Metrics(*(values[:, :count] for values in jax.device_get(metrics)))
        return state, metrics, time.perf_counter() - start

    def _evaluate(self, state) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss and error of each member."""
        examples = len(self._eval[1])
        batch_size = min(_EVALUATED, examples)
        parts = [
            self._count(state.variables, self._eval, np.int32(start), batch_size=batch_size)
            for start in range(0, examples, batch_size)
        ]
        losses, wrong = (
            np.sum(np.asarray(column, np.float64), 0) for column in zip(*jax.device_get(parts), strict=True)
        )
        return losses / examples, wrong / examples


@remembered()
def _compiled_members(rule: Rule, via: str, mesh: Mesh) -> tuple[Callable, Callable, Callable, Callable]:
    """For all members: some steps, an epoch of steps, the orders of an epoch, and losses and errors on a batch."""
    member, shared = PartitionSpec(MEMBERS), PartitionSpec()
    one = functools.partial(step_in_order, rule=rule, spread=Spread())

    def over_members(f):
        return jax.vmap(f) if via == "vmap" else functools.partial(jax.lax.map, lambda x: f(*x))

    def call(f, *split):
        return over_members(f)(*split) if via == "vmap" else over_members(f)(split)

    def advance(state, active, orders, data, count):
        def train(state, active, order):
            empty = jax.eval_shape(lambda s: many_steps(one, s, (*data, order), 1)[1], state)

            def keep(state):
                return state, jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), empty)

            return jax.lax.cond(active, lambda s: many_steps(one, s, (*data, order), count), keep, state)

        return call(train, state, active, orders)

    def spread(f, specs):
        return jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=member, check_vma=False)

    def count(variables, data, start, batch_size):
        def losses_and_errors(variables):
            rows = start + jnp.arange(batch_size)
            batch = take_batch(data[0], data[1], rows)
            logits: Any = rule.model.apply(variables, model_inputs(batch.images, rule.preprocess), train=False)
            real = rows < len(data[1])
            wrong = jnp.argmax(logits, -1) != batch.labels
            return jnp.sum(per_example(rule.loss, logits, batch.labels), where=real), jnp.sum(wrong, where=real)

        return call(losses_and_errors, variables)

    def some_steps(state, active, orders, data, steps):
        return spread(advance, (member, member, member, shared, shared))(state, active, orders, data, steps)

    def epoch_of_steps(state, active, orders, data):
        whole = functools.partial(advance, count=orders.shape[1])
        return spread(whole, (member, member, member, shared))(state, active, orders, data)

    def counted(variables, data, start, batch_size):
        f = functools.partial(count, batch_size=batch_size)
        return spread(f, (member, shared, shared))(variables, data, start)

    def orders(keys, epoch, examples, batch_size):
        f = functools.partial(epoch_order, examples=examples, batch_size=batch_size)
        return jax.vmap(f, in_axes=(0, None))(keys, epoch)

    return (
        jax.jit(some_steps, donate_argnums=0),
        jax.jit(epoch_of_steps, donate_argnums=0),
        jax.jit(orders, static_argnames=("examples", "batch_size"), out_shardings=NamedSharding(mesh, member)),
        jax.jit(counted, static_argnames="batch_size"),
    )


def _chosen(which: jax.Array, new: Any, old: Any) -> Any:
    """Member by member one tree or the other."""
    return jax.tree.map(lambda a, b: jnp.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)
