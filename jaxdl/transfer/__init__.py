"""Transfer learning: reads torch's weights, writes weights for torch, and hands on `optim`'s links for fine-tuning."""

from jaxdl.optim import freeze, gradual_unfreezing, refreeze, scale_by_depth
from jaxdl.transfer.torch_weights import load_torch_weights, save_torch_weights

__all__ = [
    "freeze",
    "gradual_unfreezing",
    "load_torch_weights",
    "refreeze",
    "save_torch_weights",
    "scale_by_depth",
]
