"""Averages of the iterates, kept in the optimizer's state: stochastic weight averaging and moving averages.

Both are last links of a chain: they pass the updates on unchanged, and average the parameters that the updates lead to.
The averages are jitted, sharded, saved and resumed with the rest of the optimizer's state.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from jaxdl.arguments import check_flag, check_real, require, shown
from jaxdl.optim.checks import check_opt_state, check_schedule, check_updates
from jaxdl.tree import check_arrays, find_states, is_masked, path_name
from jaxdl.typing import Params, ScalarOrSchedule


class SwaState(NamedTuple):
    """State of `swa`."""

    count: jax.Array  # int32 scalar: updates made so far
    averaged: jax.Array  # int32 scalar: iterates in the mean
    mean: dict[str, Params]  # under the average's name: like the parameters, float32 or wider; zeros before the first


class EmaState(NamedTuple):
    """State of `ema`."""

    count: jax.Array  # int32 scalar: updates made so far
    weight: jax.Array  # float32 scalar: sum of the weights of all iterates; 0 before the first
    mean: dict[str, Params]  # under the average's name: the weighted sum, like the parameters, float32 or wider


State = TypeVar("State", bound=NamedTuple)

_every_iterate: contextvars.ContextVar[bool] = contextvars.ContextVar("_every_iterate", default=False)


@contextlib.contextmanager
def every_iterate_due() -> Iterator[None]:
    """In this context `swa` and `snapshots` take every iterate, whatever their start and period.

    A check of a chain's order uses it. It has no effect on updates that were compiled before.
    """
    before = _every_iterate.set(True)
    try:
        yield
    finally:
        _every_iterate.reset(before)


def is_due(count: jax.Array, start: int, period: int) -> jax.Array:
    """Whether the number of an update, `count`, is one of start + period, start + 2 period, ..."""
    return jnp.asarray(_every_iterate.get()) | ((count > start) & ((count - start) % period == 0))


def swa(start: int, period: int = 1, *, name: str = "swa") -> optax.GradientTransformation:
    r"""Stochastic weight averaging: the running mean of iterates; the last link of a chain.

    The iterates :math:`w_t` reached by the updates t = start + period, start + 2 period, ... enter the mean

    .. math:: \bar w \leftarrow \bar w + (w_t - \bar w) / n

    where n is the number of iterates in the mean. `swa_params` reads the mean. It is kept in float32 or wider, in
    memory of its own, as large as the parameters. A network with BatchNorm needs batch statistics estimated anew for
    the averaged weights: `ensemble.update_batch_stats`.

    Args:
      start: updates before averaging begins, at least 0.
      period: updates from one averaged iterate to the next; in the paper the updates of an epoch.
      name: tells averages in one chain apart.

    Returns:
      A gradient transformation with state `SwaState`; updates pass unchanged.

    Raises:
      ValueError: `start` is negative or `period` below 1; or, from `update`, no parameters.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(1.0), swa(start=1))
      >>> params, state = jnp.array(0.0), tx.init(jnp.array(0.0))
      >>> for gradient in (-1.0, -1.0, -1.0):  # reaches 1, 2, 3; averages 2 and 3
      ...     updates, state = tx.update(jnp.array(gradient), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> float(params), float(swa_params(state, params))
      (3.0, 2.5)

    Reference: Izmailov et al., `Averaging Weights Leads to Wider Optima and Better Generalization`, 2018 (arXiv
    1803.05407), algorithm 1.
    """
    of_a_run = "use start=0 to average from the first update, int(0.75 * steps) to average the last quarter of a run"
    check_updates("swa", "start", start, at_least=0, remedy=of_a_run)
    check_updates("swa", "period", period, at_least=1, remedy="use period=1 to average every step")
    check_name("swa", name)

    def init(params: Params) -> SwaState:
        # Each field has an array of its own, here and elsewhere: the state may be donated.
        return SwaState(jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32), {name: _wide_zeros(params)})

    def update(updates, state, params=None):
        count = state.count + 1
        due = is_due(count, start, period)
        averaged = state.averaged + due

        def step(mean, reached):
            # where, not a product with 0: an iterate that is not due may be NaN.
            among = jnp.maximum(averaged, 1).astype(mean.dtype)
            return jnp.where(due, mean + (reached.astype(mean.dtype) - mean) / among, mean)

        mean = jax.tree.map(step, state.mean[name], reached_params("swa", params, updates))
        return updates, SwaState(count, averaged, {name: mean})

    return optax.GradientTransformation(init, update)


def ema(decay: ScalarOrSchedule, *, debias: bool = True, name: str = "ema") -> optax.GradientTransformation:
    r"""Exponential moving average of the iterates; the last link of a chain.

    With `debias` the average starts at zero and is divided by the sum of its weights, as Adam's moments are:

    .. math::
        m_t = \beta_t m_{t-1} + (1 - \beta_t) w_t, \quad
        z_t = \beta_t z_{t-1} + (1 - \beta_t), \quad
        \bar w_t = m_t / z_t

    Without `debias` the average starts as a copy of the first iterate, and follows
    :math:`\bar w_t = \beta_t \bar w_{t-1} + (1 - \beta_t) w_t` from there on, as
    `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn` does: the first iterate keeps a large weight for
    long.

    `ema_params` reads the average. It is kept in float32 or wider, in memory of its own, as large as the parameters.

    Args:
      decay: :math:`\beta` in [0, 1), or a schedule of it (number of updates made so far, from 0 -> decay), for a
        warm-up of the decay.
      debias: see above.
      name: tells averages in one chain apart.

    Returns:
      A gradient transformation with state `EmaState`; updates pass unchanged.

    Raises:
      ValueError: `decay` is out of its range, `debias` is no bool; or, from `update`, no parameters.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(1.0), ema(0.5))
      >>> params, state = jnp.array(0.0), tx.init(jnp.array(0.0))
      >>> for gradient in (-1.0, -1.0):  # reaches 1 and 2, of weights 1/4 and 1/2
      ...     updates, state = tx.update(jnp.array(gradient), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> round(float(ema_params(state, params)), 4)  # (1/4 + 2/2) / (3/4)
      1.6667

    References: Polyak and Juditsky, `Acceleration of stochastic approximation by averaging`, 1992, for averages of
    iterates; Kingma and Ba, `Adam`, 2014 (arXiv 1412.6980), sec. 7.2, for this one.
    """
    if callable(decay):
        check_schedule("ema", "decay", decay)
    else:
        check_real("ema", "decay", decay, at_least=0, below=1, remedy="0.999 remembers about 1,000 updates")
    check_flag("ema", "debias", debias)
    check_name("ema", name)

    def init(params: Params) -> EmaState:
        return EmaState(jnp.zeros([], jnp.int32), jnp.zeros([], jnp.float32), {name: _wide_zeros(params)})

    def update(updates, state, params=None):
        # 1 - beta is computed from a Python float in double precision: in float32 1 - 0.9999 is off by 0.05 %.
        share = jnp.asarray(1 - (decay(state.count) if callable(decay) else decay))
        if not debias:
            share = jnp.where(state.count == 0, 1, share)

        def step(mean, reached):
            return mean + (reached.astype(mean.dtype) - mean) * share.astype(mean.dtype)

        mean = jax.tree.map(step, state.mean[name], reached_params("ema", params, updates))
        weight = (state.weight + (1 - state.weight) * share).astype(state.weight.dtype)
        return updates, EmaState(state.count + 1, weight, {name: mean})

    return optax.GradientTransformation(init, update)


def swa_params(opt_state: Any, params: Params, *, name: str | None = None) -> Params:
    """The mean that `swa` keeps, in the parameters' dtypes; the parameters themselves before the first is averaged.

    Args:
      opt_state: the state of any chain, however nested, with a `swa` in it.
      params: the parameters that go with it.
      name: of the average, where there are several.

    Raises:
      ValueError: there is no such average, there are several and no name, the state is that of a whole population, or
        the parameters are not those that go with it.
    """
    check_not_swapped("swa_params", SwaState, opt_state, params)
    state, mean = find_named("swa_params", "swa", SwaState, "mean", opt_state, name)
    check_one_member("swa_params", state)
    there = state.averaged > 0
    return beside(
        "swa_params", mean, params, lambda m, p: jnp.where(there, m.astype(p.dtype), p), lambda masked: masked
    )


def ema_params(opt_state: Any, params: Params, *, name: str | None = None) -> Params:
    """The average that `ema` keeps, without bias, in the parameters' dtypes; the parameters before the first update.

    Args:
      opt_state: the state of any chain, however nested, with an `ema` in it.
      params: the parameters that go with it.
      name: of the average, where there are several.

    Raises:
      ValueError: there is no such average, there are several and no name, the state is that of a whole population, or
        the parameters are not those that go with it.
    """
    check_not_swapped("ema_params", EmaState, opt_state, params)
    state, mean = find_named("ema_params", "ema", EmaState, "mean", opt_state, name)
    check_one_member("ema_params", state)
    there = state.count > 0

    def average(m, p):
        return jnp.where(there, (m / state.weight.astype(m.dtype)).astype(p.dtype), p)

    return beside("ema_params", mean, params, average, lambda masked: masked)


def reached_params(function: str, params: Params | None, updates: Params) -> Params:
    """The parameters that the updates lead to."""
    if params is None:
        raise ValueError(f"{function}: update needs the parameters; call tx.update(grads, state, params)")
    return optax.apply_updates(params, updates)


def check_name(function: str, name: str) -> None:
    """Raises `ValueError` unless `name` is a string that is not empty."""
    require(
        isinstance(name, str) and bool(name),
        f'{function}: name must be a string that is not empty, got name={shown(name)}; pass name="long" for example',
    )


def _wide_zeros(params: Params) -> Params:
    return jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)), params)


def find_named(
    function: str, what: str, kind: type[State], field: str, opt_state: Any, name: str | None
) -> tuple[State, Params]:
    """The one state of class `kind` with this name, and what it keeps in `field` under the name.

    `what` is the function that makes such states; error messages name it. With `name=None` there must be one only.
    """
    check_opt_state(function, opt_state)
    found = [
        (state, own, kept) for state in find_states(opt_state, kind) for own, kept in getattr(state, field).items()
    ]
    names = ", ".join(repr(own) for _, own, _ in found)
    chosen = [(state, kept) for state, own, kept in found if name in (None, own)]
    require(
        bool(found), f"{function}: there is no {what} in this optimizer state; end the chain with optim.{what}(...)"
    )
    require(
        bool(chosen),
        f"{function}: name must be the name of an optim.{what} in this optimizer state, one of {names}, got "
        f"name={name!r}; pass one of these names",
    )
    require(
        len(chosen) == 1,
        f"{function}: name must choose one optim.{what}, got name={name!r} for {len(chosen)} of them, called {names}; "
        f'pass the name of one; if names are equal, make each with its own, optim.{what}(..., name="long")',
    )
    return chosen[0]


def check_not_swapped(function: str, kind: type, opt_state: Any, params: Params) -> None:
    """Raises `ValueError` if the state stands where the parameters belong."""
    require(
        not find_states(params, kind) or bool(find_states(opt_state, kind)),
        f"{function}: the optimizer's state stands in the place of the parameters; the order is "
        f"{function}(opt_state, params)",
    )


def check_one_member(function: str, state: Any) -> None:
    """Raises `ValueError` for the stacked states of a population, whose counters have an axis of members."""
    require(
        state.count.ndim == 0,
        f"{function}: the state is that of {list(state.count.shape)} members side by side; take one first, as in "
        "jax.tree.map(lambda x: x[i], state)",
    )


def beside(
    function: str,
    kept: Params,
    params: Params,
    value: Callable[[jax.Array, jax.Array], jax.Array],
    masked: Callable[[jax.Array], jax.Array],
    *,
    leading: int = 0,
) -> Params:
    """A tree like the parameters: `value(kept, param)` where something is kept, `masked(param)` where it was masked.

    Args:
      function: named in errors.
      kept: a tree like the parameters, with `optax.MaskedNode` in the place of what was masked (subtrees too).
      params: the parameters.
      value: see above.
      masked: see above.
      leading: axes of what is kept before those of the parameters.

    Raises:
      ValueError: the parameters are not those that go with what is kept.
    """
    nodes, structure = jax.tree.flatten(kept, is_leaf=is_masked)
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(kept, is_leaf=is_masked)]
    places = list(zip(paths, nodes, strict=True))
    hidden = [path for path, node in places if is_masked(node)]
    given = {
        path_name(path): getattr(leaf, "shape", None) for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    check_arrays(
        f"{function}: these are not the parameters that go with this optimizer state",
        needed={path: node.shape[leading:] for path, node in places if not is_masked(node)},
        given={path: shape for path, shape in given.items() if not any(_is_within(path, part) for part in hidden)},
    )
    parts = structure.flatten_up_to(params)  # subtrees where whole ones are masked
    found = [
        jax.tree.map(masked, part) if is_masked(node) else value(node, part)
        for node, part in zip(nodes, parts, strict=True)
    ]
    return jax.tree.unflatten(structure, found)


def _is_within(path: str, part: str) -> bool:
    return not part or path == part or path.startswith(f"{part}/")
