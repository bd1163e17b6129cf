"""Layers that models are made of, where Flax's own are slower, missing or different from the source."""

from jaxdl.models.layers.convolution import Conv, convolve
from jaxdl.models.layers.initializers import he_normal, lecun_normal, variance_scaling
from jaxdl.models.layers.pooling import max_pool

__all__ = ["Conv", "convolve", "he_normal", "lecun_normal", "max_pool", "variance_scaling"]
