"""Momentum: a decaying sum of gradients, plain, reformulated after Nesterov, and looking ahead."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from jaxdl.arguments import check_dtype, check_flag, check_real, require
from jaxdl.optim.checks import check_opt_state
from jaxdl.tree import find_states
from jaxdl.typing import Params, Scalar


class MomentumState(NamedTuple):
    """State of `scale_by_momentum`."""

    count: jax.Array  # int32 scalar: updates made so far
    velocity: Params  # like the parameters, in accumulator_dtype


def scale_by_momentum(
    momentum: Scalar,
    *,
    nesterov: bool = False,
    dampening: Scalar | None = None,
    accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformation:
    r"""Replaces the gradient by a velocity that remembers earlier gradients.

    .. math::

        v_1 = g_1, \qquad v_t = \mu v_{t-1} + (1 - \tau) g_t, \qquad
        u_t = \begin{cases} v_t & \text{plain} \\ g_t + \mu v_t & \text{Nesterov} \end{cases}

    with :math:`\mu` the momentum and :math:`\tau` the dampening. This is `torch.optim.SGD`'s rule: the learning rate
    stays outside the velocity, and the first gradient is not dampened. With `nesterov=True` it is Sutskever's
    reformulation, whose parameters are the points of the look-ahead.

    The form of lecture notes and of AlexNet, with the rate inside the velocity,

    .. math:: v_t = \mu v_{t-1} + \eta_t g_t, \qquad \theta_t = \theta_{t-1} - v_t

    is this link placed after the learning rate: `optax.chain(optax.scale_by_learning_rate(rate),
    scale_by_momentum(momentum))`. For a constant rate both forms take the same steps. When the rate is multiplied by c,
    so is the effect of the velocity in the first form; in the second form the velocity keeps its size.

    Args:
      momentum: :math:`\mu`, in [0, 1).
      nesterov: whether to look ahead.
      dampening: :math:`\tau`, in [0, 1), by default none; Nesterov's form takes none.
      accumulator_dtype: dtype of the velocity; by default that of the parameters. Updates keep the gradients' dtype.

    Returns:
      A gradient transformation with state `MomentumState`.

    Raises:
      ValueError: a value is out of its range, `nesterov` is no bool, `accumulator_dtype` is no floating-point one, or
        `dampening` is given with `nesterov=True`.

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
    check_real("scale_by_momentum", "momentum", momentum, at_least=0, below=1)
    check_flag("scale_by_momentum", "nesterov", nesterov)
    if accumulator_dtype is not None:
        check_dtype("scale_by_momentum", "accumulator_dtype", accumulator_dtype)
    if dampening is None:
        dampening = 0.0
    check_real("scale_by_momentum", "dampening", dampening, at_least=0, below=1)
    undampened = not isinstance(dampening, jax.Array) and dampening == 0
    require(
        undampened or not nesterov,
        f"scale_by_momentum: Nesterov momentum takes no dampening, got dampening={dampening!r}; "
        "leave it out or pass nesterov=False",
    )

    def init(params: Params) -> MomentumState:
        velocity = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=accumulator_dtype), params)
        return MomentumState(count=jnp.zeros([], jnp.int32), velocity=velocity)

    def update(updates, state, params=None):
        del params
        share = 1.0 if undampened else jnp.where(state.count == 0, 1.0, 1.0 - dampening)
        velocity = jax.tree.map(lambda g, v: (momentum * v + share * g).astype(v.dtype), updates, state.velocity)
        if nesterov:
            updates = jax.tree.map(lambda g, v: (g + momentum * v).astype(g.dtype), updates, velocity)
        else:
            updates = jax.tree.map(lambda g, v: v.astype(g.dtype), updates, velocity)
        return updates, MomentumState(jnp.asarray(optax.safe_increment(state.count)), velocity)

    return optax.GradientTransformation(init, update)


class LookaheadState(NamedTuple):
    """State of `scale_by_nesterov_lookahead`."""

    momentum: jax.Array  # scalar: the link's coefficient, for `lookahead_params`
    velocity: Params  # like the parameters: decaying sum of the updates, with their learning rate and sign


def scale_by_nesterov_lookahead(momentum: Scalar) -> optax.GradientTransformation:
    r"""Nesterov's momentum as he wrote it: the gradient is taken at the point that momentum is about to reach.

    .. math::

        v_t = \mu v_{t-1} + \eta_t \nabla L(\theta_{t-1} - \mu v_{t-1}), \qquad \theta_t = \theta_{t-1} - v_t

    This link stands after the learning rate, as the last one: the rate is inside the velocity, and the updates are
    :math:`-v_t`. The gradient must be taken at `lookahead_params(params, opt_state)`, as `train.make_step` does. For a
    constant rate these points, :math:`\theta' = \theta - \mu v`, are the parameters that
    `scale_by_momentum(momentum, nesterov=True)` visits.

    Args:
      momentum: :math:`\mu`, in [0, 1).

    Returns:
      A gradient transformation with state `LookaheadState`.

    Raises:
      ValueError: `momentum` is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = optax.chain(optax.scale_by_learning_rate(0.5), scale_by_nesterov_lookahead(0.5))
      >>> params = jnp.array([1.0])
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     point = lookahead_params(params, state)
      ...     updates, state = tx.update(point, state, params)  # the gradient of x^2 / 2 is x
      ...     params = optax.apply_updates(params, updates)
      ...     print(point, params)
      [1.] [0.5]
      [0.25] [0.125]

    References:
      Nesterov, `A method for solving the convex programming problem with convergence rate O(1/k^2)`, 1983;
      Sutskever et al., `On the importance of initialization and momentum in deep learning`, 2013, eq. 3-4
    """
    check_real("scale_by_nesterov_lookahead", "momentum", momentum, at_least=0, below=1)

    def init(params: Params) -> LookaheadState:
        # A copy: the state of optax.inject_hyperparams holds an injected coefficient too, and the state may be donated.
        return LookaheadState(jnp.array(momentum, jnp.result_type(float)), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        del params
        velocity = jax.tree.map(lambda u, v: (momentum * v + u).astype(v.dtype), updates, state.velocity)
        updates = jax.tree.map(lambda u, v: v.astype(u.dtype), updates, velocity)
        return updates, LookaheadState(jnp.array(momentum, state.momentum.dtype), velocity)

    return optax.GradientTransformation(init, update)


def lookahead_params(params: Params, opt_state: Any) -> Params:
    """The parameters at which the gradient is taken: with `scale_by_nesterov_lookahead` the look-ahead point.

    Args:
      params: the parameters.
      opt_state: the state of a chain; if there is no look-ahead in it, the result is `params`.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: there are two look-aheads in the chain, or one that is masked or not like the parameters; or the
        arguments are in the wrong order.
    """
    check_opt_state("lookahead_params", opt_state)
    require(
        not find_states(params, LookaheadState),
        "lookahead_params: the optimizer's state stands in the place of the parameters; the order is "
        "lookahead_params(params, opt_state)",
    )
    found = find_states(opt_state, LookaheadState)
    if not found:
        return params
    require(
        len(found) == 1 and jax.tree.structure(found[0].velocity) == jax.tree.structure(params),
        "lookahead_params: the chain must hold one scale_by_nesterov_lookahead over all parameters, "
        f"got {len(found)}; use scale_by_momentum(momentum, nesterov=True) for parts of them",
    )
    state = found[0]
    return jax.tree.map(lambda p, v: (p + state.momentum * v).astype(p.dtype), params, state.velocity)
