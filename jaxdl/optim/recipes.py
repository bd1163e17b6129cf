"""Complete optimizers: chains that end with a learning rate, ready for `optax.apply_updates`.

In all of them `learning_rate` is a number of at least 0 or a schedule (number of updates made so far -> rate).
`weight_decay` is a coupled L2 penalty (see `add_l2`), except in `adamw` and `sgdw`, where it is decoupled. Every number
can be injected with `optax.inject_hyperparams`, and then changed and read back without recompiling. All raise
`ValueError` if a value is out of its range.
"""

import jax
import optax

from jaxdl.arguments import check_flag, check_real, require
from jaxdl.optim.adaptive import scale_by_adagrad, scale_by_adam, scale_by_rmsprop
from jaxdl.optim.checks import check_rate
from jaxdl.optim.decay import Mask, add_l2, decoupled_weight_decay
from jaxdl.optim.velocities import scale_by_momentum
from jaxdl.typing import Scalar, ScalarOrSchedule


def sgd(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    dampening: Scalar | None = None,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """Stochastic gradient descent, with momentum if asked: `torch.optim.SGD`. See `scale_by_momentum`.

    Without `momentum`, or with 0, the state has no velocity. With an injected `momentum` it always has one.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = sgd(0.1)
      >>> tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))[0]
      Array([-0.1], dtype=float32)
    """
    if dampening is not None:
        check_real("sgd", "dampening", dampening, at_least=0, below=1)
    check_flag("sgd", "nesterov", nesterov)
    moving = _if_moving("sgd", momentum)
    if moving is None:
        require(not nesterov, f"sgd: nesterov=True needs momentum > 0, got momentum={momentum!r}; pass momentum=0.9")
        return _chain("sgd", learning_rate, weight_decay, optax.identity())
    link = scale_by_momentum(moving, nesterov=nesterov, dampening=dampening)
    return _chain("sgd", learning_rate, weight_decay, link)


def momentum(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: Scalar = 0.9,
    dampening: Scalar | None = None,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """Gradient descent along a velocity (Polyak 1964). See `scale_by_momentum`."""
    return _chain("momentum", learning_rate, weight_decay, scale_by_momentum(momentum, dampening=dampening))


def nesterov(
    learning_rate: ScalarOrSchedule, *, momentum: Scalar = 0.9, weight_decay: Scalar = 0.0
) -> optax.GradientTransformation:
    """Nesterov's accelerated gradient in Sutskever's form. See `scale_by_momentum`."""
    return _chain("nesterov", learning_rate, weight_decay, scale_by_momentum(momentum, nesterov=True))


def adagrad(
    learning_rate: ScalarOrSchedule,
    *,
    initial_accumulator: Scalar = 0.0,
    eps: Scalar = 1e-10,
    eps_in_sqrt: bool = False,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """AdaGrad (Duchi et al. 2011); the defaults are `torch.optim.Adagrad`'s. See `scale_by_adagrad`."""
    link = scale_by_adagrad(initial_accumulator=initial_accumulator, eps=eps, eps_in_sqrt=eps_in_sqrt)
    return _chain("adagrad", learning_rate, weight_decay, link)


def rmsprop(
    learning_rate: ScalarOrSchedule,
    *,
    decay: Scalar = 0.99,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = False,
    centered: bool = False,
    bias_correction: bool = False,
    momentum: Scalar | None = None,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """RMSProp (Tieleman and Hinton 2012); the defaults are `torch.optim.RMSprop`'s. See `scale_by_rmsprop`.

    With `momentum` (by default none) the scaled gradients go through `scale_by_momentum` before the learning rate, as
    in torch.
    """
    link = scale_by_rmsprop(decay, eps=eps, eps_in_sqrt=eps_in_sqrt, centered=centered, bias_correction=bias_correction)
    moving = _if_moving("rmsprop", momentum)
    velocity = optax.identity() if moving is None else scale_by_momentum(moving)
    return _chain("rmsprop", learning_rate, weight_decay, link, velocity)


def adam(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = False,
    bias_correction: bool = True,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015); the defaults are the paper's and `torch.optim.Adam`'s. See `scale_by_adam`."""
    link = scale_by_adam(b1, b2, eps=eps, eps_in_sqrt=eps_in_sqrt, bias_correction=bias_correction)
    return _chain("adam", learning_rate, weight_decay, link)


def adamw(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = False,
    bias_correction: bool = True,
    weight_decay: Scalar = 0.01,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) in `torch.optim.AdamW`'s form.

    A step subtracts rate x decay x parameters from the parameters; in the paper the schedule's multiplier takes the
    place of the rate. `mask` says where to decay (`no_bias_no_norm` for example); everywhere by default. See
    `decoupled_weight_decay`.
    """
    link = scale_by_adam(b1, b2, eps=eps, eps_in_sqrt=eps_in_sqrt, bias_correction=bias_correction)
    check_real("adamw", "weight_decay", weight_decay, at_least=0)
    return _chain("adamw", learning_rate, 0.0, link, decoupled_weight_decay(weight_decay, mask))


def sgdw(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
    dampening: Scalar | None = None,
    weight_decay: Scalar = 0.01,
    mask: Mask = None,
) -> optax.GradientTransformation:
    r"""SGD with momentum and decoupled weight decay, after Loshchilov and Hutter 2019.

    .. math:: v_t = \mu v_{t-1} + g_t, \qquad \theta_t = \theta_{t-1} - \eta_t (v_t + \lambda \theta_{t-1})

    The rate stands outside the velocity, as in `sgd`. The paper's Algorithm 1 has it inside, and decays by the
    schedule's multiplier alone. For a constant rate both take the same steps if the paper's :math:`\lambda` is
    :math:`\eta` times ours. `mask` says where to decay; everywhere by default. See `decoupled_weight_decay`.
    """
    link = scale_by_momentum(momentum, nesterov=nesterov, dampening=dampening)
    check_real("sgdw", "weight_decay", weight_decay, at_least=0)
    return _chain("sgdw", learning_rate, 0.0, link, decoupled_weight_decay(weight_decay, mask))


def alexnet_sgd(
    learning_rate: ScalarOrSchedule = 0.01, *, momentum: Scalar = 0.9, weight_decay: Scalar = 0.0005
) -> optax.GradientTransformation:
    r"""AlexNet's rule, with the rate and the decay inside the velocity.

    .. math:: v_t = 0.9 v_{t-1} - 0.0005 \, \eta_t \theta_{t-1} - \eta_t g_t, \qquad
        \theta_t = \theta_{t-1} + v_t

    When the rate is divided by 10, the velocity keeps its size. With `momentum(rate, weight_decay=0.0005)` the effect
    of the velocity is divided by 10 too.

    Reference: Krizhevsky et al., `ImageNet classification with deep convolutional neural networks`, 2012, sec. 5
    """
    check_rate("alexnet_sgd", learning_rate)
    check_real("alexnet_sgd", "weight_decay", weight_decay, at_least=0)
    return optax.chain(add_l2(weight_decay), optax.scale_by_learning_rate(learning_rate), scale_by_momentum(momentum))


def _chain(
    name: str, learning_rate: ScalarOrSchedule, weight_decay: Scalar, *links: optax.GradientTransformation
) -> optax.GradientTransformation:
    """L2 penalty (if any), the links, the learning rate with its sign."""
    check_rate(name, learning_rate)
    check_real(name, "weight_decay", weight_decay, at_least=0)
    decayed = isinstance(weight_decay, jax.Array) or weight_decay > 0
    penalty = add_l2(weight_decay) if decayed else optax.identity()  # the state has one structure either way
    return optax.chain(penalty, *links, optax.scale_by_learning_rate(learning_rate))


def _if_moving(name: str, momentum: Scalar | None) -> Scalar | None:
    """The momentum, or None if it is a plain 0. An injected 0 stays, since it may become another number."""
    if momentum is None:
        return None
    check_real(name, "momentum", momentum, at_least=0, below=1)
    return momentum if isinstance(momentum, jax.Array) or momentum > 0 else None
