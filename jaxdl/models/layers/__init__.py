"""Layers that models are made of, where Flax's own are slower, missing or different from the source."""

from jaxdl.models.layers.activations import Activation, PReLU, activate
from jaxdl.models.layers.convolution import Conv, convolve
from jaxdl.models.layers.dropout import DropConnect, Dropout, SpatialDropout, StochasticDepth, linear_decay
from jaxdl.models.layers.initializers import he_normal, lecun_normal, normal, variance_scaling
from jaxdl.models.layers.locally_connected import LocalConv
from jaxdl.models.layers.normalization import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Norm,
    synchronized_statistics,
)
from jaxdl.models.layers.pooling import FractionalMaxPool, adaptive_avg_pool, avg_pool, max_pool
from jaxdl.models.layers.residual import Shortcut, add_skip, concatenate_skip, shortcut_a, shortcut_b, shortcut_c
from jaxdl.models.layers.response_norm import local_response_norm, spatial_response_norm

__all__ = [
    "Activation",
    "BatchNorm",
    "Conv",
    "DropConnect",
    "Dropout",
    "FractionalMaxPool",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "LocalConv",
    "Norm",
    "PReLU",
    "Shortcut",
    "SpatialDropout",
    "StochasticDepth",
    "activate",
    "adaptive_avg_pool",
    "add_skip",
    "avg_pool",
    "concatenate_skip",
    "convolve",
    "he_normal",
    "lecun_normal",
    "linear_decay",
    "local_response_norm",
    "max_pool",
    "normal",
    "shortcut_a",
    "shortcut_b",
    "shortcut_c",
    "spatial_response_norm",
    "synchronized_statistics",
    "variance_scaling",
]
