"""Complete optimizers: chains that end with a learning rate, ready for `optax.apply_updates`.

In all of them `learning_rate` is a number of at least 0 or a schedule (number of updates made so far -> rate),
`weight_decay` is a coupled L2 penalty (see `add_l2`), and every number can be injected with
`optax.inject_hyperparams`, changed and read back without recompiling.
"""

import jax
import optax

from jaxdl.arguments import check_real
from jaxdl.optim.adaptive import scale_by_adagrad, scale_by_adam, scale_by_rmsprop
from jaxdl.optim.decay import add_l2
from jaxdl.optim.momentum import scale_by_momentum
from jaxdl.typing import Scalar, ScalarOrSchedule


def sgd(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: Scalar = 0.0,
    nesterov: bool = False,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """Stochastic gradient descent, with momentum if asked: `torch.optim.SGD`. See `scale_by_momentum`.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = sgd(0.1)
      >>> tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))[0]
      Array([-0.1], dtype=float32)
    """
    check_real("sgd", "momentum", momentum, at_least=0, below=1)
    check_real("sgd", "dampening", dampening, at_least=0, below=1)
    moving = isinstance(momentum, jax.Array) or momentum > 0
    if not moving and nesterov:
        raise ValueError(f"sgd: nesterov=True needs momentum > 0, got momentum={momentum!r}; pass momentum=0.9")
    links = [scale_by_momentum(momentum, nesterov=nesterov, dampening=dampening)] if moving else []
    return _chain("sgd", learning_rate, weight_decay, *links)


def momentum(
    learning_rate: ScalarOrSchedule, *, decay: Scalar = 0.9, dampening: Scalar = 0.0, weight_decay: Scalar = 0.0
) -> optax.GradientTransformation:
    """Gradient descent along a velocity (Polyak 1964). See `scale_by_momentum`."""
    return _chain("momentum", learning_rate, weight_decay, scale_by_momentum(decay, dampening=dampening))


def nesterov(
    learning_rate: ScalarOrSchedule, *, decay: Scalar = 0.9, weight_decay: Scalar = 0.0
) -> optax.GradientTransformation:
    """Nesterov's accelerated gradient in Sutskever's form. See `scale_by_momentum`."""
    return _chain("nesterov", learning_rate, weight_decay, scale_by_momentum(decay, nesterov=True))


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
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """RMSProp (Tieleman and Hinton 2012); the defaults are `torch.optim.RMSprop`'s. See `scale_by_rmsprop`."""
    link = scale_by_rmsprop(decay, eps=eps, eps_in_sqrt=eps_in_sqrt, centered=centered, bias_correction=bias_correction)
    return _chain("rmsprop", learning_rate, weight_decay, link)


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


def _chain(
    name: str, learning_rate: ScalarOrSchedule, weight_decay: Scalar, *links: optax.GradientTransformation
) -> optax.GradientTransformation:
    """L2 penalty (if any), the links, the learning rate with its sign."""
    if not callable(learning_rate):
        check_real(name, "learning_rate", learning_rate, at_least=0, remedy="pass a rate >= 0 or a schedule")
    check_real(name, "weight_decay", weight_decay, at_least=0)
    decayed = isinstance(weight_decay, jax.Array) or weight_decay > 0
    penalty = [add_l2(weight_decay)] if decayed else []
    return optax.chain(*penalty, *links, optax.scale_by_learning_rate(learning_rate))
