"""Update rules under their exact names, as optax gradient transformations.

The `scale_by_*` links turn gradients into a direction of ascent. A chain ends with a learning rate, which also turns
the sign. `sgd`, `momentum`, `nesterov`, `adagrad`, `rmsprop`, `adam`, `adamw`, `sgdw`, `alexnet_sgd`, `newton` and
`lbfgs` are complete chains. `swa`, `ema` and `snapshots` stand last in a chain: they keep averages and copies of the
iterates.
Schedules are functions from the number of updates made so far to a rate.
"""

from jaxdl.optim.adaptive import (
    AdagradState,
    AdamState,
    RMSPropState,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_rmsprop,
)
from jaxdl.optim.averaging import EmaState, SwaState, ema, ema_params, swa, swa_params
from jaxdl.optim.decay import add_elastic_net, add_l1, add_l2, decoupled_weight_decay
from jaxdl.optim.freezing import freeze, gradual_unfreezing, refreeze, scale_by_depth
from jaxdl.optim.loss_scaling import LossScaleState, all_finite, dynamic_loss_scale, loss_scale
from jaxdl.optim.plateau import PlateauState, observe, reduce_on_plateau
from jaxdl.optim.rates import learning_rate
from jaxdl.optim.recipes import adagrad, adam, adamw, alexnet_sgd, momentum, nesterov, rmsprop, sgd, sgdw
from jaxdl.optim.schedules import (
    cosine_cycles,
    cosine_decay,
    epochs_to_steps,
    exponential_decay,
    inverse_time_decay,
    join,
    one_cycle,
    step_decay,
    swa_schedule,
    warmup,
    warmup_cosine,
)
from jaxdl.optim.second_order import lbfgs, newton
from jaxdl.optim.snapshotting import (
    SnapshotState,
    snapshot_bytes,
    snapshot_count,
    snapshot_variables,
    snapshots,
)
from jaxdl.optim.velocities import (
    LookaheadState,
    MomentumState,
    lookahead_params,
    scale_by_momentum,
    scale_by_nesterov_lookahead,
)
from jaxdl.tree import mask_by_path, no_bias_no_norm

__all__ = [
    "AdagradState",
    "AdamState",
    "EmaState",
    "LookaheadState",
    "LossScaleState",
    "MomentumState",
    "PlateauState",
    "RMSPropState",
    "SnapshotState",
    "SwaState",
    "adagrad",
    "adam",
    "adamw",
    "add_elastic_net",
    "add_l1",
    "add_l2",
    "alexnet_sgd",
    "all_finite",
    "cosine_cycles",
    "cosine_decay",
    "decoupled_weight_decay",
    "dynamic_loss_scale",
    "ema",
    "ema_params",
    "epochs_to_steps",
    "exponential_decay",
    "freeze",
    "gradual_unfreezing",
    "inverse_time_decay",
    "join",
    "lbfgs",
    "learning_rate",
    "lookahead_params",
    "loss_scale",
    "mask_by_path",
    "momentum",
    "nesterov",
    "newton",
    "no_bias_no_norm",
    "observe",
    "one_cycle",
    "reduce_on_plateau",
    "refreeze",
    "rmsprop",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_depth",
    "scale_by_momentum",
    "scale_by_nesterov_lookahead",
    "scale_by_rmsprop",
    "sgd",
    "sgdw",
    "snapshot_bytes",
    "snapshot_count",
    "snapshot_variables",
    "snapshots",
    "step_decay",
    "swa",
    "swa_params",
    "swa_schedule",
    "warmup",
    "warmup_cosine",
]
