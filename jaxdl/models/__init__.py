"""Flax linen modules: pure `init` and `apply`, images [batch, height, width, channels] in, logits out."""

from jaxdl.models import layers
from jaxdl.models.convnet import ConvNet, convnet
from jaxdl.models.mlp import MLP, mlp

__all__ = ["MLP", "ConvNet", "convnet", "layers", "mlp"]
