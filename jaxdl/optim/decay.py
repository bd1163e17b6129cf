"""Pulling the parameters towards zero."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl.arguments import check_real, require, shown
from jaxdl.typing import Scalar

Mask = Any
"""A tree of bools like the parameters, or a function from parameters to one (`no_bias_no_norm`): True where to act."""


def add_l2(weight_decay: Scalar, mask: Mask = None) -> optax.GradientTransformation:
    r"""Adds the gradient of an L2 penalty: coupled weight decay, as in `torch.optim.SGD(weight_decay=...)`.

    .. math:: u_t = g_t + \lambda \theta_t

    which is the gradient of :math:`L(\theta) + \frac{\lambda}{2} \|\theta\|^2`. It stands before a momentum or an
    adaptive link, so that the penalty goes through that link; this is what "coupled" means.

    Args:
      weight_decay: :math:`\lambda`, at least 0.
      mask: where to decay; everywhere by default.

    Returns:
      A gradient transformation whose `update` needs the parameters.

    Raises:
      ValueError: `weight_decay` is negative or not finite, the mask is not like the parameters, or `update` was not
        given the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = add_l2(0.1)
      >>> params = jnp.array([2.0])
      >>> tx.update(jnp.array([1.0]), tx.init(params), params)[0]
      Array([1.2], dtype=float32)

    Reference: Krogh and Hertz, `A simple weight decay can improve generalization`, 1992
    """
    check_real("add_l2", "weight_decay", weight_decay, at_least=0)
    return _add_to_updates("add_l2", lambda p: weight_decay * p, mask)


def decoupled_weight_decay(weight_decay: Scalar, mask: Mask = None) -> optax.GradientTransformation:
    r"""Shrinks the parameters beside the update rule, not through it: the decay of AdamW and SGDW.

    .. math:: u_t = d_t + \lambda \theta_t

    with :math:`d_t` the direction that the rule has found. It stands after the momentum or adaptive link and before
    the learning rate, so that a step subtracts :math:`\eta_t \lambda \theta_t` from the parameters, as in
    `torch.optim.AdamW`. (In the paper the schedule's multiplier takes the place of :math:`\eta_t`.)

    Args:
      weight_decay: :math:`\lambda`, at least 0.
      mask: where to decay; everywhere by default.

    Returns:
      A gradient transformation whose `update` needs the parameters.

    Raises:
      ValueError: as for `add_l2`.

    Reference: Loshchilov and Hutter, `Decoupled weight decay regularization`, 2019
    """
    check_real("decoupled_weight_decay", "weight_decay", weight_decay, at_least=0)
    return _add_to_updates("decoupled_weight_decay", lambda p: weight_decay * p, mask)


def add_l1(weight: Scalar, mask: Mask = None) -> optax.GradientTransformation:
    r"""Adds the gradient of an L1 penalty, :math:`\lambda \|\theta\|_1`; its subgradient at 0 is taken to be 0.

    .. math:: u_t = g_t + \lambda \operatorname{sign}(\theta_t)

    Args:
      weight: :math:`\lambda`, at least 0.
      mask: where to act; everywhere by default.

    Returns:
      A gradient transformation whose `update` needs the parameters.

    Raises:
      ValueError: as for `add_l2`.

    Reference: Tibshirani, `Regression shrinkage and selection via the lasso`, 1996
    """
    check_real("add_l1", "weight", weight, at_least=0)
    return _add_to_updates("add_l1", lambda p: weight * jnp.sign(p), mask)


def add_elastic_net(l1: Scalar, l2: Scalar, mask: Mask = None) -> optax.GradientTransformation:
    r"""Adds the gradients of an L1 and an L2 penalty.

    .. math:: u_t = g_t + \lambda_1 \operatorname{sign}(\theta_t) + \lambda_2 \theta_t

    Args:
      l1: :math:`\lambda_1`, at least 0.
      l2: :math:`\lambda_2`, at least 0.
      mask: where to act; everywhere by default.

    Returns:
      A gradient transformation whose `update` needs the parameters.

    Raises:
      ValueError: as for `add_l2`.

    Reference: Zou and Hastie, `Regularization and variable selection via the elastic net`, 2005 (with its
    :math:`\lambda_2 \|\theta\|^2` halved)
    """
    check_real("add_elastic_net", "l1", l1, at_least=0)
    check_real("add_elastic_net", "l2", l2, at_least=0)
    return _add_to_updates("add_elastic_net", lambda p: l1 * jnp.sign(p) + l2 * p, mask)


def _add_to_updates(name: str, term: Callable[[jax.Array], jax.Array], mask: Mask) -> optax.GradientTransformation:
    """Adds a function of each parameter to its update, where the mask is True."""

    def init(params):
        del params
        return optax.EmptyState()

    def update(updates, state, params=None):
        require(params is not None, f"{name}: update needs the parameters; call tx.update(grads, state, params)")
        return jax.tree.map(lambda u, p: (u + term(p)).astype(u.dtype), updates, params), state

    tx = optax.GradientTransformation(init, update)
    return tx if mask is None else optax.masked(tx, checked_mask(name, mask))


def checked_mask(name: str, mask: Mask) -> Callable[[Any], Any]:
    """The mask as a function of the parameters; it raises `ValueError` unless the mask is a tree of bools like them.

    What cannot be a mask of any parameters raises at once.
    """
    remedy = "pass a function of the parameters such as optim.no_bias_no_norm"
    if isinstance(mask, bool):  # what optax.inject_hyperparams makes of a function that it takes for a schedule
        remedy += '; with optax.inject_hyperparams add static_args=("mask",)'
    bools = callable(mask) or (
        bool(jax.tree.leaves(mask)) and all(isinstance(leaf, bool) for leaf in jax.tree.leaves(mask))
    )
    require(bools, f"{name}: mask must be a tree of bools like the parameters, got mask={shown(mask)}; {remedy}")

    def of(params):
        found = mask(params) if callable(mask) else mask
        wanted = jax.tree.structure(params)
        require(
            jax.tree.structure(found) == wanted and all(isinstance(leaf, bool) for leaf in jax.tree.leaves(found)),
            f"{name}: mask must be a tree of bools like the parameters, {wanted}, got {shown(found)}; {remedy}",
        )
        return found

    return of
