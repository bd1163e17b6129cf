"""Newton's method and L-BFGS."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from jaxdl.arguments import check_integer, check_real, require
from jaxdl.optim.checks import check_known
from jaxdl.typing import Scalar


def newton(
    damping: Scalar, *, learning_rate: Scalar = 1.0, max_parameters: int = 5_000
) -> optax.GradientTransformationExtraArgs:
    r"""Newton's method with the exact Hessian, for small problems.

    .. math:: \theta \leftarrow \theta - \eta \, (H + \lambda I)^{-1} g

    The Hessian is computed in reverse mode twice, so that layers whose custom gradients have no forward mode
    (`models.layers.Conv`) can be used. It costs n gradients for n parameters, n^2 numbers of memory, and n^3 operations
    to solve.

    Args:
      damping: :math:`\lambda`, at least 0. If the Hessian has eigenvalues below :math:`-\lambda`, the step may go
        uphill: choose a larger one.
      learning_rate: :math:`\eta`, at least 0.
      max_parameters: `init` raises if there are more parameters.

    Returns:
      A complete optimizer, for full batches. Its `update` needs `value_fn=`, the loss as a function of the parameters,
      which `train.make_step` passes.

    Raises:
      ValueError: a value is out of its range; from `init`, too many parameters; from `update`, no `value_fn` or no
        parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> tx, params = newton(0.0), jnp.array([3.0, -2.0])
      >>> loss = lambda p: jnp.sum(jnp.array([1.0, 100.0]) * (p - 1) ** 2)
      >>> updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params, value_fn=loss)
      >>> print(params + updates)
      [1. 1.]

    Reference: Nocedal and Wright, `Numerical Optimization`, 2006, sec. 3.4
    """
    check_real("newton", "damping", damping, at_least=0)
    check_real("newton", "learning_rate", learning_rate, at_least=0)
    # optax.inject_hyperparams traces this number too. It is known when the state is made, outside of jit, and is not
    # needed later.
    if not isinstance(max_parameters, Tracer):
        check_integer("newton", "max_parameters", max_parameters, at_least=1)

    def init(params):
        check_known("newton", "max_parameters", max_parameters)
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        require(
            count <= max_parameters,
            f"newton: {count:,} parameters need a Hessian of {count:,} x {count:,}; max_parameters={max_parameters:,} "
            "is the limit. Use lbfgs, or raise max_parameters if there is memory for it",
        )
        return optax.EmptyState()

    def update(updates, state, params=None, *, value_fn=None, **extra):
        del extra
        if params is None or value_fn is None:
            raise ValueError(
                "newton: update needs the parameters and value_fn, the loss as a function of them; "
                "call tx.update(grads, state, params, value_fn=loss), or use train.make_step"
            )
        flat, unravel = ravel_pytree(params)
        gradient, unravel_updates = ravel_pytree(updates)
        hessian = jax.jacrev(jax.grad(lambda vector: value_fn(unravel(vector))))(flat)
        dtype = jnp.promote_types(flat.dtype, jnp.float32)  # no solver works in less
        damped = hessian.astype(dtype) + damping * jnp.eye(len(flat), dtype=dtype)
        direction = jnp.linalg.solve(damped, gradient.astype(dtype))
        return unravel_updates((-learning_rate * direction).astype(gradient.dtype)), state

    return optax.GradientTransformationExtraArgs(init, update)


def lbfgs(*, memory: int = 10, max_linesearch_steps: int = 20) -> optax.GradientTransformationExtraArgs:
    r"""L-BFGS with a zoom line search: `optax.lbfgs`, in a form that `train.make_step` can use.

    .. math:: \theta \leftarrow \theta - \alpha H g

    with :math:`H` an estimate of the inverse Hessian from the last `memory` steps, and :math:`\alpha` the step size
    that the line search finds. It is meant for full batches: the estimate is made from differences of gradients, which
    must be gradients of one function. `train.make_step` passes what the line search needs. The batch statistics and
    the random numbers of dropout stay the same during a search.

    Args:
      memory: how many past steps the curvature is estimated from.
      max_linesearch_steps: evaluations of the loss in a step, at the most.

    Returns:
      A complete optimizer. Its `update` needs `value=` and `value_fn=`; `grad=` is the gradient at the parameters, by
      default the updates that come in.

    Raises:
      ValueError: a number below 1; from `update`, no parameters, `value` or `value_fn`.

    Reference: Liu and Nocedal, `On the limited memory BFGS method for large scale optimization`, 1989
    """
    for name, number in (("memory", memory), ("max_linesearch_steps", max_linesearch_steps)):
        check_known("lbfgs", name, number)
        check_integer("lbfgs", name, number, at_least=1)
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps, initial_guess_strategy="one")
    inner = optax.lbfgs(memory_size=memory, linesearch=search)

    def strong(state: Any) -> Any:
        """The state without weakly typed scalars, as in optax's first state: a step would be compiled twice.

        Each place gets an array of its own, because the state may be donated; optax has one array in two places.
        """
        return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.asarray(leaf).dtype), state)

    def update(updates, state, params=None, *, value=None, grad=None, value_fn=None, batch_stats=None, **extra):
        del batch_stats  # for snapshots only: the line search passes the other arguments on to value_fn
        if params is None or value is None or value_fn is None:
            raise ValueError(
                "lbfgs: update needs the parameters, the loss and value_fn, the loss as a function of them; call "
                "tx.update(grads, state, params, value=loss(params), grad=grads, value_fn=loss), or use train.make_step"
            )
        grad = updates if grad is None else grad
        found, state = inner.update(updates, state, params, value=value, grad=grad, value_fn=value_fn, **extra)
        return found, strong(state)

    return optax.GradientTransformationExtraArgs(lambda params: strong(inner.init(params)), update)
