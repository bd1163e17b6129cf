"""Momentum: a decaying sum of gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from jaxdl.arguments import check_real, require
from jaxdl.typing import Params, Scalar


class MomentumState(NamedTuple):
    """State of `scale_by_momentum`."""

    count: jax.Array  # int32 scalar: updates made so far
    velocity: Params  # like the parameters, in accumulator_dtype


def scale_by_momentum(
    decay: Scalar,
    *,
    nesterov: bool = False,
    dampening: Scalar = 0.0,
    accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformation:
    r"""Replaces the gradient by a velocity that remembers earlier gradients.

    .. math::

        v_1 = g_1, \qquad v_t = \mu v_{t-1} + (1 - \tau) g_t, \qquad
        u_t = \begin{cases} v_t & \text{plain} \\ g_t + \mu v_t & \text{Nesterov} \end{cases}

    with :math:`\mu` the decay and :math:`\tau` the dampening. This is `torch.optim.SGD`'s rule: the learning rate
    stays outside the velocity, and the first gradient is not dampened. With `nesterov=True` it is Sutskever's
    reformulation, in which the parameters kept are the look-ahead ones.

    Args:
      decay: :math:`\mu`, in [0, 1).
      nesterov: whether to look ahead.
      dampening: :math:`\tau`, in [0, 1); Nesterov's form takes none.
      accumulator_dtype: dtype of the velocity; by default that of the parameters. Updates keep the gradients' dtype.

    Returns:
      A gradient transformation with state `MomentumState`.

    Raises:
      ValueError: a value is out of its range, or `dampening` is given with `nesterov=True`.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = scale_by_momentum(0.5)
      >>> state = tx.init(jnp.zeros(1))
      >>> for gradient in (1.0, 1.0, 1.0):
      ...     update, state = tx.update(jnp.array([gradient]), state)
      ...     print(update)
      [1.]
      [1.5]
      [1.75]

    References:
      Polyak, `Some methods of speeding up the convergence of iteration methods`, 1964;
      Sutskever et al., `On the importance of initialization and momentum in deep learning`, 2013, eq. 7
    """
    check_real("scale_by_momentum", "decay", decay, at_least=0, below=1)
    check_real("scale_by_momentum", "dampening", dampening, at_least=0, below=1)
    undampened = not isinstance(dampening, jax.Array) and dampening == 0
    require(
        undampened or not nesterov,
        f"scale_by_momentum: Nesterov momentum takes no dampening, got dampening={dampening!r}; "
        "pass dampening=0 or nesterov=False",
    )

    def init(params: Params) -> MomentumState:
        velocity = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=accumulator_dtype), params)
        return MomentumState(count=jnp.zeros([], jnp.int32), velocity=velocity)

    def update(updates, state, params=None):
        del params
        share = 1.0 if undampened else jnp.where(state.count == 0, 1.0, 1.0 - dampening)
        velocity = jax.tree.map(lambda g, v: (decay * v + share * g).astype(v.dtype), updates, state.velocity)
        if nesterov:
            updates = jax.tree.map(lambda g, v: (g + decay * v).astype(g.dtype), updates, velocity)
        else:
            updates = jax.tree.map(lambda g, v: v.astype(g.dtype), updates, velocity)
        return updates, MomentumState(jnp.asarray(optax.safe_increment(state.count)), velocity)

    return optax.GradientTransformation(init, update)
