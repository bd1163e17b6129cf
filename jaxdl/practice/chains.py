"""What the functions take that try an optimizer at several rates: `chain`, from hyperparameters to an optimizer."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Literal

from jaxdl.arguments import check_function, require, shown
from jaxdl.optim.requests import initial_state, requests, update

Chain: TypeAlias = Callable[[Any], optax.GradientTransformation]
"""A function from a learning rate, a number or a schedule, to an optimizer: `optim.momentum` for example."""
_NEEDS_NUMBERS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def chain_at(function: str, chain: Chain, rate: Any) -> optax.GradientTransformation:
    """The optimizer at a rate; raises `ValueError` unless `chain` is a function that makes one."""
    example = "optim.momentum"
    require(
        not isinstance(chain, optax.GradientTransformation),
        f"{function}: chain must be a function from a learning rate to an optimizer, got an optimizer with a rate of "
        "its own; pass optim.momentum, or lambda rate: optim.adamw(rate, weight_decay=1e-4)",
    )
    check_function(function, "chain", chain, example)
    try:
        inspect.signature(chain).bind(rate)
    except TypeError as error:
        raise ValueError(
            f"{function}: chain is called with a learning rate alone, and fails: {error}; pass {example}, or "
            "lambda rate: optim.adamw(rate, weight_decay=1e-4)"
        ) from None
    try:
        tx = chain(rate)
    except (TypeError, ValueError) as error:
        if callable(rate):
            raise ValueError(_needs_a_schedule(function, error)) from error
        raise
    return check_optimizer(function, tx, "a learning rate", example)


def _needs_a_schedule(function: str, error: Exception) -> str:
    return (
        f"{function}: chain is given a schedule here, whose rate rises from update to update, and fails: {error}. "
        "Leave the schedule out of the chain, as in optim.momentum; the rate found is then the peak of a schedule"
    )


def check_takes_schedule(function: str, chain: Chain, schedule: Any, variables: Any) -> None:
    """Raises `ValueError` if an update of `chain(schedule)` fails, and one of `chain(number)` does not.

    optax's schedules find out only at an update that their peak is no number. The updates are traced, not computed.

    Args:
      function: who asks.
      chain: from a learning rate to an optimizer.
      schedule: what the chain will be given.
      variables: structs of the model's variables.
    """
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    try:
        jax.eval_shape(lambda *given: _first_update(chain(schedule), *given), params, batch_stats)
    except Exception as error:
        try:
            jax.eval_shape(lambda *given: _first_update(chain(0.01), *given), params, batch_stats)
        except Exception:
            return  # it is not the schedule: training will say why
        raise ValueError(_needs_a_schedule(function, error)) from error


def _first_update(tx: optax.GradientTransformation, params: Any, batch_stats: Any) -> Any:
    """The updates and the state after the first update, with the parameters in the place of a gradient."""
    state = initial_state(tx, params, batch_stats)
    options = {"value": jnp.float32(1), "batch_stats": batch_stats}
    options |= {"value_fn": lambda params: jnp.float32(1), "grad_fn": lambda params, *_: params}
    return update(tx, requests(params, state), params, state, params, **options)


def check_optimizer(function: str, tx: Any, what: str, example: str) -> optax.GradientTransformation:
    """What a chain gave for `what`; raises `ValueError` unless it is an optimizer."""
    remedy = "its .gradient_transformation()" if hasattr(tx, "gradient_transformation") else f"{example} for example"
    require(
        isinstance(tx, optax.GradientTransformation),
        f"{function}: chain must give an optimizer for {what}, got {shown(tx)}; pass {remedy}",
    )
    return tx


def check_used(
    function: str, chain: Callable[..., Any], values: Mapping[str, float], variables: Any, *, injected: bool = True
) -> None:
    """Raises `ValueError` if the first update of `chain(**values)` does not depend on one of the values.

    The update is traced, not computed. If that fails because `chain` asks for the numbers themselves, and they will be
    injected, that is an error too. If it fails otherwise nothing is said here: training will say why.

    Args:
      function: who asks.
      chain: from hyperparameters to an optimizer.
      values: the hyperparameters by name.
      variables: structs of the model's variables.
      injected: whether training will trace the values too, as `optax.inject_hyperparams` does.
    """
    names = list(values)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})

    def one(given, params, batch_stats):
        return _first_update(chain(**dict(zip(names, given, strict=True))), params, batch_stats)

    try:
        program = jax.make_jaxpr(one)([jnp.float32(value) for value in values.values()], params, batch_stats)
    except Exception as error:
        if injected and isinstance(error, _NEEDS_NUMBERS):
            raise ValueError(
                f"{function}: chain must take {', '.join(names)} as traced numbers, because all values share one "
                "compiled program, and fails: if, int() and float() of such a number are errors, also in optax's "
                "exponential_decay and piecewise_constant_schedule. Use jnp.where for if, and optim's schedules "
                f"(the error was {type(error).__name__}: {str(error).splitlines()[0]})"
            ) from error
        return
    needed = {variable for variable in program.jaxpr.outvars if not isinstance(variable, Literal)}
    for equation in reversed(program.jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(variable for variable in equation.invars if not isinstance(variable, Literal))
    unused = [name for name, given in zip(names, program.jaxpr.invars, strict=False) if given not in needed]
    require(
        not unused,
        f"{function}: chain does not use {', '.join(unused)}, so all its values would train alike; make the optimizer "
        "of the argument: lambda rate: optim.momentum(rate), or of the names of space: lambda learning_rate, decay: "
        "optim.momentum(learning_rate, weight_decay=decay)",
    )
