"""Where a function computes in less than the precision that it is given."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core


def narrow_places(f: Callable, *args: Any) -> tuple[str, ...]:
    """Paths of modules in which float64 numbers become narrower ones, in order; "the function" outside of modules."""
    program = jax.make_jaxpr(f)(*args)
    return tuple(dict.fromkeys(_places(program.jaxpr)))


def _places(jaxpr: Any) -> list[str]:
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "convert_element_type":
            before, after = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
            if before == jnp.float64 and jnp.issubdtype(after, jnp.floating) and after.itemsize < 8:
                found.append(str(equation.source_info.name_stack) or "the function")
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                found += _places(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner)
    return found


def _is_program(value: Any) -> bool:
    return isinstance(value, core.ClosedJaxpr | core.Jaxpr)
