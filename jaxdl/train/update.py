"""One update of a training state: one pure function for any number of devices."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxdl.arguments import check_choice, check_flag, check_integer, require
from jaxdl.data import take_batch
from jaxdl.models.layers import synchronized_statistics
from jaxdl.modules import apply_model
from jaxdl.optim import all_finite, learning_rate
from jaxdl.optim.requests import Requests, initial_state, requests, update
from jaxdl.train.frozen import axis_left_out, frozen_modules_evaluate, frozen_statistics
from jaxdl.train.history import Metrics
from jaxdl.train.sharding import AXIS, Spread
from jaxdl.train.state import TrainState, check_tx
from jaxdl.train.task import Task
from jaxdl.typing import Batch

# Streams of random numbers; `data.batches` draws from stream 0.
_MODEL = 1  # the model's random numbers, those of dropout for example
_AUGMENT = 2

BatchNormMode: TypeAlias = Literal["synchronized", "per_device"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a step computes; `make_step` explains the fields. Equal rules share their compiled programs."""

    task: Task
    tx: optax.GradientTransformation
    accumulate: int = 1
    batch_norm: str = "synchronized"
    skip_nonfinite: bool = False
    gradient_norm: bool = False


def make_rule(function: str, task: Task, tx: optax.GradientTransformation, **fields: Any) -> Rule:
    """Checks what a user passed and makes a `Rule` of it."""
    check_tx(function, tx)
    rule = Rule(task, tx, **fields)
    check_integer(function, "accumulate", rule.accumulate, at_least=1)
    check_choice(function, "batch_norm", rule.batch_norm, ("synchronized", "per_device"))
    check_flag(function, "skip_nonfinite", rule.skip_nonfinite)
    check_flag(function, "gradient_norm", rule.gradient_norm)
    return rule


def train_step(
    state: TrainState, split: Any, data: Any = None, *, rule: Rule, spread: Spread
) -> tuple[TrainState, Metrics]:
    """The step itself, not compiled; see `make_step`.

    Args:
      state: the state before the update.
      split: the argument that is spread over the devices: a batch or, with `data`, the numbers [batch] of its examples.
      data: inputs and targets of the whole data set.
      rule: what to compute.
      spread: the devices over which `split` is spread.
    """
    tx = rule.tx
    _check_optimizer_state(tx, state)
    asked = requests(state.params, state.opt_state)
    keys = [jax.random.fold_in(jax.random.fold_in(state.key, stream), state.step) for stream in (_MODEL, _AUGMENT)]

    def measured(params, *, gradient, scale=asked.loss_scale):
        shared = (params, state.carried, scale, keys, state.step, data)
        f = functools.partial(_measure, rule=rule, spread=spread, asked=asked, gradient=gradient)
        return spread.map(f)(shared, split)

    (value, metrics, carried), grads = measured(asked.point, gradient=True)
    no_overflow = all_finite(grads)
    scale = asked.loss_scale
    finite = jnp.isfinite(value) & (no_overflow if scale is None else no_overflow | (scale > 1))
    updates, opt_state = update(
        tx,
        asked,
        grads,
        state.opt_state,
        state.params,
        value=value,
        batch_stats=carried["batch_stats"],
        value_fn=lambda params: measured(params, gradient=False),
        grad_fn=lambda params, number: measured(params, gradient=True, scale=None)[1],
    )
    params = optax.apply_updates(state.params, updates)
    reached = state._replace(params=params, opt_state=opt_state).with_carried(carried)
    if rule.skip_nonfinite:
        reached = _where(finite, reached, state)
    elif scale is not None:
        reached = reached.with_carried(_where(no_overflow, carried, state.carried))
    rate = learning_rate(tx, state.opt_state, value=value, params=state.params)
    norm = None
    if rule.gradient_norm:
        norm = jnp.float32(optax.tree.norm(grads)) / (1 if scale is None else scale)
    told = jnp.float32(jnp.nan) if rate is None else jnp.asarray(rate, jnp.float32)
    return reached._replace(step=state.step + 1), Metrics(value, metrics, finite, told, norm)


def _measure(shared: Any, split: Any, *, rule: Rule, spread: Spread, asked: Requests, gradient: bool) -> Any:
    """Loss, metrics, the model's new collections and the gradient, as means over the examples of all devices.

    It runs on each device with its part of the examples. `shared` is (params, collections, loss scale, keys, number of
    the update, data).
    """
    params, carried, scale, (model_key, augment_key), step, data = shared
    task, frozen = rule.task, asked.frozen
    batch = Batch(*split) if data is None else take_batch(data[0], data[1], split)
    examples = len(jax.tree.leaves(batch)[0])
    if task.augment is not None:
        places = spread.position * examples + jnp.arange(examples)
        batch = task.augmented(jax.vmap(lambda place: jax.random.fold_in(augment_key, place))(places), batch, step)
    if spread.axis is not None:
        model_key = jax.random.fold_in(model_key, spread.position)
    batch = batch._replace(inputs=task.inputs(batch.inputs))

    def objective(params, carried, batch, key):
        if frozen is not None:
            params = jax.tree.map(lambda keep, p: lax.stop_gradient(p) if keep else p, frozen, params)
        axis = spread.axis if rule.batch_norm == "synchronized" else None
        one_device = axis_left_out(AXIS, present=spread.axis is not None)
        with frozen_modules_evaluate(frozen), synchronized_statistics(axis), one_device:
            outputs, updated = apply_model(
                task.model,
                {"params": params, **carried},
                batch.inputs,
                train=True,
                # For streams that are not named here Flax uses the stream "params".
                rngs={"dropout": key, "params": jax.random.fold_in(key, 1)},
                mutable=[*carried, "losses"],
            )
        losses, metrics = task.values(outputs, batch.targets)
        value = jnp.mean(losses) + sum(map(_scalar, jax.tree.leaves(updated.get("losses", {}))))
        new = {name: updated.get(name, before) for name, before in carried.items()}
        new["batch_stats"] = frozen_statistics(frozen, carried["batch_stats"], new["batch_stats"])
        return value if scale is None else value * scale, (value, jax.tree.map(jnp.mean, metrics), new)

    def one(carried, batch, key):
        if not gradient:
            return objective(params, carried, batch, key)[1], ()
        (_, found), grads = jax.value_and_grad(objective, has_aux=True)(params, carried, batch, key)
        return found, grads

    if rule.accumulate == 1:
        (value, metrics, carried), grads = one(carried, batch, model_key)
    else:
        (value, metrics, carried), grads = _accumulated(one, rule.accumulate, carried, batch, model_key)
    value, metrics, carried, grads = spread.mean((value, metrics, carried, grads))
    return ((value, metrics, carried), grads) if gradient else value


def _scalar(loss: Any) -> jax.Array:
    loss = jnp.asarray(loss)
    require(
        getattr(loss, "shape", None) == (),
        f"a module sows losses that are no scalars, got {loss.dtype} {list(loss.shape)}; "
        'write self.sow("losses", name, jnp.sum(...))',
    )
    return loss


def _accumulated(one: Callable, parts: int, carried: Any, batch: Batch, key: jax.Array) -> Any:
    """Means over parts of a batch, computed one after the other. Part j has the examples j, j + parts, ...

    With this choice the parts of a batch do not depend on how it is spread over devices.
    """
    pieces = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1), batch)

    def body(carry, piece):
        carried, total = carry
        number, batch = piece
        (value, metrics, carried), grads = one(carried, batch, jax.random.fold_in(key, number))
        return (carried, jax.tree.map(jnp.add, total, (value, metrics, grads))), None

    first = jax.tree.map(lambda x: x[0], pieces)
    (value, metrics, _), grads = jax.eval_shape(lambda: one(carried, first, key))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (value, metrics, grads))
    (carried, total), _ = lax.scan(body, (carried, zeros), (jnp.arange(parts), pieces))
    value, metrics, grads = jax.tree.map(lambda x: x / parts, total)
    return (value, metrics, carried), grads


def _check_optimizer_state(tx: optax.GradientTransformation, state: TrainState) -> None:
    fresh = jax.eval_shape(functools.partial(initial_state, tx), state.params, state.batch_stats)
    kept, needed = jax.tree.structure(state.opt_state), jax.tree.structure(fresh)
    require(
        kept == needed,
        f"the optimizer state does not belong to tx; make the state with init_state and the same tx. "
        f"tx keeps {needed}, the state holds {kept}",
    )


def _where(condition: jax.Array, new: Any, old: Any) -> Any:
    """The tree `new` if `condition`, else `old`; PRNG keys are always those of `old`."""

    def choose(a, b):
        return b if jnp.issubdtype(b.dtype, jax.dtypes.prng_key) else jnp.where(condition, a, b)

    return jax.tree.map(choose, new, old)
