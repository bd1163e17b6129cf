"""Checks that several rooms of `optim` share: rates and schedules, numbers of updates, storage dtypes, states.

As in `jaxdl.arguments`, JAX arrays pass unchecked: hyperparameters injected with `optax.inject_hyperparams` are traced.
"""

import inspect
from typing import Any

import jax
from jax.core import Tracer

from jaxdl.arguments import check_integer, check_real, require, shown


def check_rate(function: str, learning_rate: Any) -> None:
    """Raises `ValueError` unless `learning_rate` is a finite number of at least 0, or a schedule."""
    name = "learning_rate"
    if callable(learning_rate):
        check_schedule(function, name, learning_rate)
        return
    remedy = "pass a rate >= 0 or a schedule"
    if _is_transformation(learning_rate):
        remedy = "this is a whole gradient transformation: optax.chain(...) puts one after the other"
    _check_scalar(function, name, learning_rate)
    check_real(function, name, learning_rate, at_least=0, remedy=remedy)


def check_schedule(function: str, name: str, value: Any) -> None:
    """Raises `ValueError` unless `value` can be called with one number of updates."""
    require(
        callable(value),
        f"{function}: {name} must be a schedule, a function from the number of updates to a rate, got "
        f"{name}={shown(value)}; pass lambda step: 0.1 for a constant rate",
    )
    try:
        inspect.signature(value).bind(0)
    except TypeError as error:
        raise ValueError(
            f"{function}: {name} must be a schedule, a function of the number of updates alone, got "
            f"{name}={shown(value)} ({error}); call it first, as in optim.cosine_decay(0.1, 1000)"
        ) from error
    except ValueError:  # a function that does not tell its arguments
        pass
    try:
        rate = jax.eval_shape(value, jax.ShapeDtypeStruct((), "int32"))
    except jax.errors.ConcretizationTypeError as error:
        raise ValueError(
            f"{function}: {name} must be a schedule that JAX can compile, got {name}={shown(value)}, which uses the "
            "number of updates as a Python number, in an if for example; use jnp.where instead of if, or make the "
            "schedule with optim.step_decay or optim.join"
        ) from error
    except Exception:  # what else is wrong with it shows where it is called
        return
    require(
        getattr(rate, "shape", None) == (),
        f"{function}: {name} must be a schedule that gives one number, got {rate} from {name}={shown(value)}; "
        "return a scalar",
    )


def check_number(function: str, name: str, value: Any, *, at_least: float = 0, below: float = float("inf")) -> None:
    """`check_real` for the numbers of a schedule; if one is a schedule itself, the message names the remedy."""
    remedy = f"{name} is a number: optim.warmup and optim.join put schedules together" if callable(value) else ""
    _check_scalar(function, name, value)
    check_real(function, name, value, at_least=at_least, below=below, remedy=remedy)


def check_not_above(function: str, name: str, value: Any, limit_name: str, limit: Any) -> None:
    """Raises `ValueError` if `value` is above `limit`. Injected numbers pass unchecked."""
    require(
        isinstance(value, jax.Array) or isinstance(limit, jax.Array) or value <= limit,
        f"{function}: {name} must be at most {limit_name}={shown(limit)}, got {name}={shown(value)}; "
        f"pass {name} <= {limit_name}",
    )


def check_updates(function: str, name: str, value: Any, *, at_least: int, remedy: str = "") -> Any:
    """`check_integer` for a number of updates that may be injected: JAX arrays are handed back as they are."""
    if isinstance(value, jax.Array):
        return value
    return check_integer(function, name, value, at_least=at_least, remedy=remedy)


def check_known(function: str, name: str, value: Any) -> None:
    """Raises `ValueError` for an injected number: this one must be known when the program is compiled."""
    require(
        not isinstance(value, Tracer),
        f"{function}: {name} must be known when compiling, got a traced value; "
        f"with optax.inject_hyperparams pass static_args=({name!r},)",
    )


def check_opt_state(function: str, opt_state: Any) -> None:
    """Raises `ValueError` for what is often passed in the place of an optimizer's state."""
    require(  # optax's own SAMState has an opt_state, too, but no parameters
        not (hasattr(opt_state, "opt_state") and hasattr(opt_state, "params")),
        f"{function}: opt_state must be the optimizer's state, got a whole {type(opt_state).__name__}; "
        "pass state.opt_state",
    )
    require(
        not _is_transformation(opt_state),
        f"{function}: opt_state must be the optimizer's state, got a gradient transformation; pass its state, "
        "tx.init(params) or state.opt_state, not tx itself",
    )


def _check_scalar(function: str, name: str, value: Any) -> None:
    """Raises `ValueError` for an array with axes. Within vmap, where each member has a number, it has none."""
    require(
        not isinstance(value, jax.Array) or value.ndim == 0,
        f"{function}: {name} must be one number, got {name}={shown(value)}; train.population trains one model for each "
        "of several",
    )


def _is_transformation(value: Any) -> bool:
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))
