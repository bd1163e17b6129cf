"""The learning rate of a chain's next update, read off the chain and its state.

A transformation is a pair of functions, and what it was made from lies in their closures. This module walks through the
chain and its state together. It knows each link of optax and jaxdl by the function that made it. After a link that it
does not know it gives no rate: a wrong number is worse than none.
"""

import functools
import itertools
import math
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdl.arguments import require, shown
from jaxdl.identity import function_parts
from jaxdl.optim.checks import check_opt_state
from jaxdl.optim.plateau import PlateauState
from jaxdl.tree import find_states
from jaxdl.typing import Params


def learning_rate(
    tx: Any, opt_state: Any, *, value: ArrayLike | None = None, params: Params | None = None
) -> jax.Array | None:
    """The learning rate of a chain's next update, be it a constant, the value of a schedule or an injected number.

    It is the factor, without its sign, between the direction that the rule finds and the update: the rate times every
    scaling after it, `reduce_on_plateau`'s for example. A scaling of the gradients, as by `optax.scale(1 / 128)` at the
    start of a chain or by a loss scale, is not part of it. With `optax.MultiSteps` it is the rate of the next update
    that is applied. If parts of the parameters have rates of their own (`optax.partition`, `optax.masked`), it is the
    largest of them; with `optim.scale_by_depth` it is the last group's. With `lbfgs` it is the step size that the last
    line search found.

    Args:
      tx: the chain.
      opt_state: its state before the update. It may be traced: within jit this costs no more than the schedule.
      value: the loss that will be passed to the update. A `reduce_on_plateau` that judges it may lower the rate in that
        update; without `value` the result is the rate before.
      params: the parameters. Masks and labels that are functions of the parameters need them to say which parts there
        are; without `params` every part is taken to be there.

    Returns:
      A float32 scalar; None if the rate is not known. That is so if there is no rate, if a link that neither optax nor
      jaxdl made stands after it, or if the rule finds a step size of its own (`optax.polyak_sgd`).

    Raises:
      ValueError: `tx` is not a gradient transformation; or `opt_state` is the chain or a whole training state, not an
        optimizer state, or it is the stacked state of several members.

    Example:
      >>> from jaxdl import optim
      >>> tx, params = optim.momentum(optim.step_decay(0.5, boundaries=1)), jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     print(learning_rate(tx, state))
      ...     updates, state = tx.update(jnp.ones(1), state, params)
      0.5
      0.05
    """
    require(
        callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None)),
        f"learning_rate: tx must be a gradient transformation, got tx={shown(tx)}; the order is "
        "learning_rate(tx, opt_state)",
    )
    check_opt_state("learning_rate", opt_state)
    for state in find_states(opt_state, _COUNTING):
        require(
            jnp.ndim(state.count) == 0,
            f"learning_rate: the state is that of {list(jnp.shape(state.count))} members side by side; use "
            "jax.vmap(lambda state: optim.learning_rate(tx, state))(opt_state)",
        )
    try:
        rates = [rate for rate in map(_rate, _paths(tx.update, opt_state, _Told(value, params))) if rate is not None]
        if not rates or any(jnp.shape(rate) != () for rate in rates):
            return None
        return functools.reduce(jnp.maximum, (jnp.asarray(rate, jnp.float32) for rate in rates))
    except Exception:  # also what a user's factory or another version of optax raises: training must not end here
        return None


class _CannotTellError(Exception):
    """There may be a rate, but it is not known."""


class _Told(NamedTuple):
    """What is known of the next update."""

    value: Any  # the loss, or None
    params: Any  # the parameters, or None


class _Link(NamedTuple):
    """What a link does to the updates, as far as the rate is concerned. Links that do nothing to it leave none."""

    kind: str  # one of those below
    factor: Any = 1.0  # what it multiplies by, without the sign


# Kinds of links.
_RULE = "rule"  # its output is not proportional to its input, or is a direction of its own: rates stand after it
_VELOCITY = "velocity"  # linear: a rate may stand before it or after it
_STOP = "stop"  # the parameters do not move
_STEP = "step"  # multiplies by a step size of its own, so that a rate beside it says little
_UNKNOWN = "unknown"  # may do anything
_SCALE = "scale"  # multiplies by a positive constant: a scaling of gradients, or of a rate
_PLATEAU = "plateau"  # multiplies by a scale that is part of the rate wherever it stands, but is no rate by itself
_TURN = "turn"  # multiplies by -1: a rate of 1, or the sign of one that stands elsewhere
_RATE = "rate"  # multiplies by a rate that may or may not turn the sign: a plain schedule, a line search
_DESCENT = "descent"  # multiplies by a rate and turns the sign

_Path = tuple[_Link, ...]
"""What the updates of some of the parameters go through."""

_MOST_PATHS = 64
_COUNTING = (optax.ScaleByScheduleState, optax.InjectStatefulHyperparamsState, PlateauState)


def _rate(path: _Path) -> Any | None:
    """The rate of one path; None if it has none."""
    kinds = [link.kind for link in path]
    # No parameter moves by two rates: such a path goes through masked links whose masks have no parameter in common.
    if _STOP in kinds or kinds.count(_DESCENT) > 1:
        return None
    if _STEP in kinds:
        raise _CannotTellError
    begin = _last(kinds, _RULE) + 1
    path, kinds = path[begin:], kinds[begin:]
    rates = [place for place, kind in enumerate(kinds) if kind in (_RATE, _DESCENT)]
    first = rates[0] if rates else kinds.index(_TURN) if _TURN in kinds else None
    if first is None:
        if _UNKNOWN in kinds:
            raise _CannotTellError
        return None
    # Constants before the rate are part of it if they scale a direction, and not if they scale the gradient.
    directed = _last(kinds[:first], _VELOCITY) + 1 if begin == 0 else 0
    scales_direction = begin > 0 or directed > 0
    counted = [place for place, kind in enumerate(kinds) if kind == _PLATEAU]
    counted += [
        place
        for place, kind in enumerate(kinds)
        if kind == _SCALE and (place > first or (scales_direction and place >= directed))
    ]
    if not rates and _SCALE in kinds[:first] and not scales_direction:
        raise _CannotTellError  # scale(0.1) and scale(-1): a rate of 0.1, or a gradient scaled and a rate of 1
    if _UNKNOWN in kinds and (not rates or _last(kinds, _UNKNOWN) > min([*rates, *counted])):
        raise _CannotTellError
    rate = path[rates[0]].factor if rates else 1.0
    for place in [*rates[1:], *counted]:
        rate = rate * path[place].factor
    return rate


def _last(kinds: list[str], kind: str) -> int:
    """The last place of a kind; -1 if there is none."""
    return max((place for place, found in enumerate(kinds) if found == kind), default=-1)


def _paths(update: Callable, state: Any, told: _Told) -> list[_Path]:
    """What updates go through in a transformation: one path, or several where parts of the parameters differ."""
    if not isinstance(update, types.FunctionType | types.MethodType):
        update = getattr(update, "__wrapped__", update)  # of jax.jit
    if isinstance(update, types.MethodType) and isinstance(update.__self__, optax.MultiSteps):
        return _paths(update.__self__.inner_opt.update, state.inner_opt_state, told)
    library, maker = _library_and_maker(update)
    if library not in ("optax", "jaxdl"):
        return [(_Link(_UNKNOWN),)]
    if maker in _WALKS:
        return _WALKS[maker](_parts(update), state, told)
    if maker in _LINKS:
        return [_LINKS[maker]]
    return [_scaling(maker, update, state, told)]


def _library_and_maker(function: Any) -> tuple[str, str]:
    """The library whose function made a function, and that one's name."""
    if not isinstance(function, types.FunctionType):
        return "", ""
    # Not its own __module__ and __qualname__, which functools.wraps copies.
    module, name = function.__globals__.get("__name__", ""), function.__code__.co_qualname
    return module.partition(".")[0], name.partition(".<locals>")[0]


def _parts(function: Any) -> dict[str, Any]:
    """What a function closes over, by name."""
    return dict(function_parts(function))


def _scaling(maker: str, update: Any, state: Any, told: _Told) -> _Path:
    """A link that multiplies by a number."""
    parts = _parts(update)
    if maker == "scale":
        return (_constant(parts["step_size"]),)
    if maker == "scale_by_schedule":
        schedule = parts["step_size_fn"]
        # What optax.scale_by_learning_rate makes of a user's schedule.
        turns = _library_and_maker(schedule) == ("optax", "scale_by_learning_rate") and _parts(schedule)["m"] == -1
        return (_Link(_DESCENT if turns else _RATE, jnp.abs(schedule(state.count))),)
    if maker == "newton":
        return _Link(_RULE), _Link(_DESCENT, parts["learning_rate"])
    if maker in ("scale_by_zoom_linesearch", "scale_by_backtracking_linesearch"):
        return (_Link(_RATE, state.learning_rate),)
    if maker == "reduce_on_plateau":
        # An update of no parameters shows the scale. A link whose values come from `observe` needs no value here.
        if told.value is not None or ("every" in parts and parts["every"] is None):
            state = update((), state, **_extra_arguments(told))[1]
        return (_Link(_PLATEAU, state.scale),)
    return (_Link(_UNKNOWN),)


def _extra_arguments(told: _Told) -> dict[str, Any]:
    return {} if told.value is None else {"value": told.value}


def _constant(factor: Any) -> _Link:
    """A link that multiplies by a constant."""
    if isinstance(factor, jax.Array):  # injected: its sign is not known when compiling
        return _Link(_DESCENT, jnp.abs(factor))
    if np.ndim(factor) != 0:
        return _Link(_UNKNOWN)
    if factor == -1:
        return _Link(_TURN)
    return _Link(_DESCENT if factor == 0 or factor < 0 else _SCALE, abs(factor))


def _chained(parts: dict, state: Any, told: _Told) -> list[_Path]:
    return _joined([_paths(update, part, told) for update, part in zip(parts["update_fns"], state, strict=True)])


def _chained_by_name(parts: dict, state: Any, told: _Told) -> list[_Path]:
    return _joined([_paths(tx.update, state[name], told) for name, tx in parts["transforms"]])


def _joined(links: list[list[_Path]]) -> list[_Path]:
    """Every way through links one after the other."""
    if math.prod(map(len, links)) > _MOST_PATHS:
        raise _CannotTellError
    return [tuple(itertools.chain(*ways)) for ways in itertools.product(*links)]


def _masked(parts: dict, state: Any, told: _Told) -> list[_Path]:
    """Through the link, or past it."""
    mask = _for(told.params, parts["mask"])
    leaves = [True, False] if callable(mask) else jax.tree.leaves(mask)
    inside = _paths(parts["inner"].update, state.inner_state, _of_part(told, mask))
    found = (inside if any(leaves) else []) + ([()] if not all(leaves) else [])
    return [()] if not any(found) else found  # a link that leaves the rate alone does so with any mask


def _partitioned(parts: dict, state: Any, told: _Told) -> list[_Path]:
    labels, found = _for(told.params, parts["param_labels"]), []
    for label, tx in parts["transforms"].items():
        mask = labels if callable(labels) else jax.tree.map(lambda own, label=label: own == label, labels)
        if callable(labels) or any(jax.tree.leaves(mask)):
            found += _paths(tx.update, state.inner_states[label].inner_state, _of_part(told, mask))
    return found


def _for(params: Any, mask: Any) -> Any:
    """A mask, or labels, of these parameters; as a function still, if they are not known."""
    return mask(params) if callable(mask) and params is not None else mask


def _of_part(told: _Told, mask: Any) -> _Told:
    """What is known within a mask: as `optax.masked` shows it."""
    if told.params is None or callable(mask):
        return told._replace(params=None)
    return told._replace(params=jax.tree.map(lambda keep, p: p if keep else optax.MaskedNode(), mask, told.params))


def _injected(parts: dict, state: Any, told: _Told) -> list[_Path]:
    """Into the chain that the update would make of the numbers in the state and of the schedules' next ones."""
    extra = _extra_arguments(told)
    numbers = dict(state.hyperparams)
    for name, schedule in parts["sched_hps"].items():
        # In the dtype of the last number: optax gave it the dtype of the parameters.
        numbers[name] = jnp.asarray(schedule(state.hyperparams_states[name], **extra), jnp.result_type(numbers[name]))
    numbers = {name: jnp.asarray(number) for name, number in numbers.items()}
    inner = parts["inner_factory"](**parts["other_hps"], **numbers)
    return _paths(inner.update, state.inner_state, told)


def _inside(name: str, field: str | None, *, same_params: bool = True) -> Callable[[dict, Any, _Told], list[_Path]]:
    """Walks into a transformation inside another: `name` in the closure of the update, `field` of its state."""

    def walk(parts: dict, state: Any, told: _Told) -> list[_Path]:
        told = told if same_params else told._replace(params=None)
        return _paths(parts[name].update, getattr(state, field) if field else state, told)

    return walk


def _sometimes(parts: dict, state: Any, told: _Told) -> list[_Path]:
    """Walks through a transformation that some updates skip; which ones is not known."""
    inside = _paths(parts["inner"].update, state.inner_state, told)
    return inside if not any(inside) else [(_Link(_UNKNOWN),)]


# What is made of other transformations, by the name of the function that makes it.
_WALKS: dict[str, Callable[[dict, Any, _Told], list[_Path]]] = {
    "chain": _chained,
    "named_chain": _chained_by_name,
    "masked": _masked,
    "partition": _partitioned,
    "inject_hyperparams": _injected,
    "conditionally_transform": _sometimes,
    "conditionally_mask": _inside("inner", "inner_state"),
    "apply_if_finite": _inside("inner", "inner_state"),
    "with_extra_args_support": _inside("tx", None),
    "flatten": _inside("inner", None, same_params=False),
    "lookahead": _inside("fast_optimizer", "fast_state", same_params=False),
    "dynamic_loss_scale": _inside("inner", "inner"),
    "lbfgs": _inside("inner", None),
}

# Links by the name of the function that makes them.
_LINKS: dict[str, _Path] = {
    **dict.fromkeys(
        (
            *("identity", "clip", "clip_by_block_rms", "clip_by_global_norm", "adaptive_grad_clip", "zero_nans"),
            *("add_decayed_weights", "add_noise", "centralize", "keep_params_nonnegative", "apply_every"),
            *("scale_by_param_block_norm", "scale_by_param_block_rms", "snapshot", "monitor", "measure_with_ema"),
            # of jaxdl
            *("_add_to_updates", "swa", "snapshots", "freeze", "scale_by_depth"),
        ),
        (),
    ),
    # optax's average of updates and jaxdl's average of iterates have one name; neither changes the rate.
    **dict.fromkeys(
        ("trace", "ema", "scale_by_momentum", "scale_by_nesterov_lookahead"),
        (_Link(_VELOCITY),),
    ),
    **dict.fromkeys(
        (
            *("scale_by_adadelta", "scale_by_adam", "scale_by_adamax", "scale_by_adan", "scale_by_amsgrad"),
            *("scale_by_belief", "scale_by_factored_rms", "scale_by_lbfgs", "scale_by_lion", "scale_by_novograd"),
            *("scale_by_radam", "scale_by_rms", "scale_by_rss", "scale_by_sign", "scale_by_sm3"),
            *("scale_by_stddev", "scale_by_trust_ratio", "scale_by_yogi", "normalize_by_update_norm"),
            *("scale_by_acprop", "scale_by_ademamix", "scale_by_simplified_ademamix", "scale_by_adopt"),
            *("scale_by_muon", "scale_by_sophia", "scale_by_galore", "normalize"),
            # of jaxdl
            *("scale_by_adagrad", "scale_by_rmsprop"),
        ),
        (_Link(_RULE),),
    ),
    **dict.fromkeys(
        (
            *("scale_by_cocob", "scale_by_distance_over_gradients", "scale_by_dog", "scale_by_dowg"),
            *("scale_by_polyak", "scale_by_rprop"),
        ),
        (_Link(_STEP),),
    ),
    "set_to_zero": (_Link(_STOP),),
}
