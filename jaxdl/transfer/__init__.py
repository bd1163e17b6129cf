"""Transfer: weights that others trained, and fine-tuning."""

from jaxdl.transfer.finetune import (
    freeze,
    frozen_modules_evaluate,
    frozen_params,
    frozen_statistics,
    gradual_unfreezing,
    refreeze,
    scale_by_depth,
    without_frozen,
)
from jaxdl.transfer.torch_weights import load_torch_weights

__all__ = [
    "freeze",
    "frozen_modules_evaluate",
    "frozen_params",
    "frozen_statistics",
    "gradual_unfreezing",
    "load_torch_weights",
    "refreeze",
    "scale_by_depth",
    "without_frozen",
]
