"""Update rules under their exact names, as optax gradient transformations.

The `scale_by_*` links turn gradients into a direction of ascent; a chain ends with a learning rate, which turns it
round. `sgd`, `momentum`, `nesterov`, `adagrad`, `rmsprop` and `adam` are complete chains.
"""

from jaxdl.optim.adaptive import (
    AdagradState,
    AdamState,
    RMSPropState,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_rmsprop,
)
from jaxdl.optim.decay import add_l2
from jaxdl.optim.momentum import MomentumState, scale_by_momentum
from jaxdl.optim.recipes import adagrad, adam, momentum, nesterov, rmsprop, sgd

__all__ = [
    "AdagradState",
    "AdamState",
    "MomentumState",
    "RMSPropState",
    "adagrad",
    "adam",
    "add_l2",
    "momentum",
    "nesterov",
    "rmsprop",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_momentum",
    "scale_by_rmsprop",
    "sgd",
]
