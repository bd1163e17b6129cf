"""Transfer: weights that others trained, and what fine-tuning needs (transformations, which live in `optim`)."""

from jaxdl.optim import freeze, gradual_unfreezing, refreeze, scale_by_depth
from jaxdl.transfer.torch_weights import load_torch_weights

__all__ = [
    "freeze",
    "gradual_unfreezing",
    "load_torch_weights",
    "refreeze",
    "scale_by_depth",
]
