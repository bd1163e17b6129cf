"""Pulling the parameters towards zero."""

from typing import Any

import jax
import optax

from jaxdl.arguments import check_real, require
from jaxdl.typing import Scalar


def add_l2(weight_decay: Scalar, mask: Any = None) -> optax.GradientTransformation:
    r"""Adds the gradient of an L2 penalty: coupled weight decay, as in `torch.optim.SGD(weight_decay=...)`.

    .. math:: u_t = g_t + \lambda \theta_t

    which is the gradient of :math:`L(\theta) + \frac{\lambda}{2} \|\theta\|^2`. Placed before a momentum or an
    adaptive link, the penalty goes through it; that is what "coupled" means.

    Args:
      weight_decay: :math:`\lambda`, at least 0.
      mask: a pytree of bools like the parameters, or a function from parameters to one: True where to decay.

    Returns:
      A gradient transformation whose `update` needs the parameters.

    Raises:
      ValueError: `weight_decay` is negative or not finite; or, from `update`, the parameters were not passed.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = add_l2(0.1)
      >>> params = jnp.array([2.0])
      >>> tx.update(jnp.array([1.0]), tx.init(params), params)[0]
      Array([1.2], dtype=float32)
    """
    check_real("add_l2", "weight_decay", weight_decay, at_least=0)

    def init(params):
        del params
        return optax.EmptyState()

    def update(updates, state, params=None):
        require(params is not None, "add_l2: update needs the parameters; call tx.update(grads, state, params)")
        updates = jax.tree.map(lambda g, p: (g + weight_decay * p).astype(g.dtype), updates, params)
        return updates, state

    tx = optax.GradientTransformation(init, update)
    return tx if mask is None else optax.masked(tx, mask)
