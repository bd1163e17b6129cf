"""Lowering the learning rate when progress stops."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxdl.arguments import check_choice, check_real, require, shown
from jaxdl.optim.checks import check_opt_state, check_updates
from jaxdl.optim.extra_args import MissingArgumentError


class PlateauState(NamedTuple):
    """State of `reduce_on_plateau`. All are scalars."""

    scale: jax.Array  # float32: what updates are multiplied by
    best: jax.Array  # float32: best value so far; meaningless before the first
    seen: jax.Array  # int32: values judged so far
    bad: jax.Array  # int32: values in a row without improvement
    cooldown: jax.Array  # int32: coming values that will not be counted as such
    total: jax.Array  # float32: sum of the numbers passed since the last judgement
    count: jax.Array  # int32: how many numbers are in `total`
    every: jax.Array  # int32: how many numbers make one value; 0 if values come from `observe`


def reduce_on_plateau(
    factor: float = 0.1,
    *,
    patience: int = 10,
    mode: Literal["min", "max"] = "min",
    threshold: float = 1e-4,
    threshold_mode: Literal["relative", "absolute"] = "relative",
    cooldown: int = 0,
    min_scale: float = 0.0,
    every: int | None = 1,
) -> optax.GradientTransformationExtraArgs:
    r"""Multiplies updates by a scale that falls by `factor` when a value stops improving; the last link of a chain.

    In mode "min" a value v improves on the best value b so far if :math:`v < b - \epsilon |b|` (relative) or
    :math:`v < b - \epsilon` (absolute). (Torch's relative test is :math:`v < b (1 - \epsilon)`, which for a negative b
    also accepts a v above b.) The first value is always an improvement. After more than `patience` values in a row
    without an improvement the scale falls; the next `cooldown` values are then not counted as values without
    improvement.

    With `every=k` the values are the means of k numbers passed to `update(..., value=)`; `train.make_step` passes the
    loss of each batch. With `every=None` they are those passed to `observe(opt_state, value)`; `train.fit` passes the
    error on `eval_set` after each evaluation at a multiple of `eval_every`. That is AlexNet's recipe: "divide the
    learning rate by 10 when the validation error rate stopped improving with the current learning rate".

    Args:
      factor: in (0, 1).
      patience: how many values in a row without improvement leave the scale as it is.
      mode: whether lower or higher values are better.
      threshold: :math:`\epsilon`, at least 0.
      threshold_mode: see above.
      cooldown: values after a reduction that do not count.
      min_scale: the scale does not fall below this share of the full rate.
      every: how many numbers passed to `update` make one value; None to take the values from `observe`.

    Returns:
      A gradient transformation with state `PlateauState`.

    Raises:
      ValueError: an argument is out of its range; or `update` is called without `value=` where it needs it.

    Reference: `torch.optim.lr_scheduler.ReduceLROnPlateau`; Krizhevsky et al. 2012, sec. 5
    """
    name = "reduce_on_plateau"
    check_real(name, "factor", factor, at_least=0, below=1)
    require(
        isinstance(factor, jax.Array) or factor > 0,
        f"{name}: factor must be in (0, 1), got factor={factor!r}; use 0.1 to divide by 10",
    )
    check_updates(name, "patience", patience, at_least=0)
    check_updates(name, "cooldown", cooldown, at_least=0)
    check_real(name, "threshold", threshold, at_least=0)
    check_real(name, "min_scale", min_scale, at_least=0)
    if every is not None:
        check_updates(name, "every", every, at_least=1, remedy="pass None to be fed by observe")
    check_choice(name, "mode", mode, ("min", "max"))
    check_choice(name, "threshold_mode", threshold_mode, ("relative", "absolute"))
    sign = 1.0 if mode == "min" else -1.0  # a higher value is a lower one with its sign turned round

    def init(params):
        del params
        best, total = jnp.zeros([], jnp.float32), jnp.zeros([], jnp.float32)
        seen, bad, resting, count = (jnp.zeros([], jnp.int32) for _ in range(4))
        fed = jnp.array(0 if every is None else every, jnp.int32)
        return PlateauState(jnp.ones([], jnp.float32), best, seen, bad, resting, total, count, fed)

    def judge(state: PlateauState) -> PlateauState:
        value = sign * state.total / jnp.maximum(state.count, 1)
        margin = threshold * jnp.abs(state.best) if threshold_mode == "relative" else threshold
        better = (state.seen == 0) | (value < state.best - margin)
        resting = state.cooldown > 0
        bad = jnp.where(better | resting, 0, state.bad + 1)
        reduce = bad > patience
        scale = jnp.where(reduce, jnp.maximum(state.scale * factor, min_scale), state.scale)
        return state._replace(
            scale=jnp.minimum(scale, state.scale),
            best=jnp.where(better, value, state.best),
            seen=state.seen + 1,
            bad=jnp.where(reduce, 0, bad),
            cooldown=jnp.where(reduce, cooldown, jnp.maximum(state.cooldown - 1, 0)),
            total=jnp.zeros_like(state.total),
            count=jnp.zeros_like(state.count),
        )

    def update(updates, state, params=None, *, value: ArrayLike | None = None, **extra):
        del params, extra
        if every is not None:
            if value is None:
                raise MissingArgumentError(
                    f"{name}: update needs the value to watch; call tx.update(grads, state, params, value=loss), use "
                    "train.make_step, or pass every=None and call observe"
                )
            state = state._replace(total=state.total + jnp.asarray(value, jnp.float32), count=state.count + 1)
        due = state.count >= (1 if every is None else every)
        state = jax.tree.map(lambda new, old: jnp.where(due, new, old), judge(state), state)
        return jax.tree.map(lambda u: (state.scale * u).astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def observe(opt_state: Any, value: ArrayLike) -> Any:
    """Passes a new value to every `reduce_on_plateau(every=None)` in an optimizer state; the next update judges it.

    Args:
      opt_state: the state of any chain.
      value: a scalar, a validation error for example. Several values before one update count as their mean.

    Returns:
      The new optimizer state.

    Raises:
      ValueError: the value is not one finite number, or `opt_state` is the chain or a whole training state, not an
        optimizer state.
    """
    check_opt_state("observe", opt_state)
    shape = np.shape(value) if isinstance(value, int | float | np.ndarray | np.generic | jax.Array) else None
    require(
        shape == (),
        f"observe: value must be one number, got value={shown(value)}; take the mean, or for members side by side "
        "jax.vmap(optim.observe)(opt_state, values)",
    )
    require(
        isinstance(value, Tracer) or bool(np.isfinite(np.asarray(value))),
        f"observe: value must be finite, got value={shown(value)}; watch one that stays finite, the error for "
        "example, or stop the run",
    )

    def tell(node):
        if not isinstance(node, PlateauState):
            return node
        listens = node.every == 0
        return node._replace(
            total=node.total + jnp.where(listens, jnp.asarray(value, jnp.float32), 0.0),
            count=node.count + listens.astype(jnp.int32),
        )

    return jax.tree.map(tell, opt_state, is_leaf=lambda node: isinstance(node, PlateauState))
