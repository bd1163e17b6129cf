"""Whether the convolutions of a computation stay fast in the body of a loop on XLA's CPU back end."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxdl import native

InLoops: TypeAlias = Literal["none", "fast", "slow"]
"""Whether a computation has no convolution, only convolutions that stay fast in loops on the CPU, or slow ones too."""

# Positions of the axes (batch, features, height, width) of NHWC images, of (features out, features in, height, width)
# of HWIO kernels, and of the axes of NHWC results.
_CANONICAL = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def convolutions_in_loops(f: Callable[..., Any], *args: Any) -> InLoops:
    """Whether the convolutions of a computation would stay fast in `scan`, `while` or `lax.map` on the CPU.

    There XLA is fast for one form only: NHWC images and HWIO kernels, in one group.
    Outside loops it rewrites other forms to this one; in loops it computes them by a naive path that is many times
    slower. The convolutions in autodiff's gradients have other forms; those in the gradients of `models.layers.Conv`
    have this one, and oneDNN's (`jaxdl.native`) are fast everywhere. So call it with a whole training step, including
    the gradient. Nothing is computed.

    Args:
      f: a function of arrays; compiled or not.
      *args: arrays, or trees of them; `jax.ShapeDtypeStruct`s will do.

    Returns:
      "none" if there is no convolution, "fast" if all are of that form, else "slow".

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxdl.models import layers
      >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
      >>> net = lambda kernel, canonical: layers.convolve(x, kernel, canonical_gradients=canonical).sum()
      >>> [convolutions_in_loops(jax.grad(lambda k: net(k, canonical)), kernel) for canonical in (True, False)]
      ['fast', 'slow']
      >>> convolutions_in_loops(jnp.dot, kernel[0, 0], kernel[0, 0].T)
      'none'
    """
    return convolutions_of(jax.make_jaxpr(f)(*args))


def convolutions_of(program: ClosedJaxpr) -> InLoops:
    """As `convolutions_in_loops`, for a computation that has been traced already."""
    found = [_is_fast(equation) for equation in _convolutions(program.jaxpr)]
    if not found:
        return "none"
    return "fast" if all(found) else "slow"


def _convolutions(jaxpr: Jaxpr) -> Iterator[Any]:
    """The convolutions of a program, and of those inside it: of calls, loops, branches and custom derivatives."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in {"conv_general_dilated", *native.CONVOLUTIONS}:
            yield equation
        for inside in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if isinstance(inside, ClosedJaxpr):
                yield from _convolutions(inside.jaxpr)
            elif isinstance(inside, Jaxpr):
                yield from _convolutions(inside)


def _is_program(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def _is_fast(convolution: Any) -> bool:
    """Whether it is oneDNN's, or XLA's in its canonical form."""
    if convolution.primitive.name in native.CONVOLUTIONS:
        return True
    axes, params = convolution.params["dimension_numbers"], convolution.params
    canonical = (axes.lhs_spec, axes.rhs_spec, axes.out_spec) == _CANONICAL
    return canonical and params["feature_group_count"] == params["batch_group_count"] == 1
