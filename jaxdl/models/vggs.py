"""VGG as published and in torchvision, and for CIFAR as in the paper on stochastic weight averaging."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from jaxdl.arguments import check_dtype, check_flag, check_integer, check_real, require
from jaxdl.models.checks import check_channels_last, check_depth, check_num_classes
from jaxdl.models.classifier import dense_classifier
from jaxdl.models.layers.activations import Activation, activate, check_activation
from jaxdl.models.layers.convolution import Conv
from jaxdl.models.layers.initializers import variance_scaling
from jaxdl.models.layers.normalization import Norm, check_norm, normalize
from jaxdl.models.layers.pooling import adaptive_avg_pool, max_pool

_WIDTHS = (64, 128, 256, 512, 512)
_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_he_fan_out = variance_scaling(2.0, "fan_out", "normal")


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each ended by max pooling, and three dense layers. Make one with `vgg`."""

    num_classes: int
    stage_sizes: tuple[int, ...]
    norm: Norm | None
    activation: Activation
    hidden: int
    pooled: int
    dropout: float
    dropout_first: bool
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels], sides at least 32, to logits [batch, num_classes]."""
        check_channels_last("vgg", x)
        require(min(x.shape[1:3]) >= 32, f"vgg: images must have sides of at least 32 pixels, got shape {x.shape}")
        number = 0
        for width, size in zip(_WIDTHS, self.stage_sizes, strict=True):
            for _ in range(size):
                number += 1
                conv = Conv(width, (3, 3), padding=1, kernel_init=_he_fan_out, dtype=self.dtype, name=f"conv{number}")
                x = conv(x)
                if self.norm is not None:
                    x = normalize(self.norm, x, train=train, dtype=self.dtype, name=f"norm{number}")
                x = activate(self.activation, x)
            x = max_pool(x)
        logits = dense_classifier(
            adaptive_avg_pool(x, self.pooled),
            num_classes=self.num_classes,
            hidden=self.hidden,
            first=number + 1,
            dropout=self.dropout,
            dropout_first=self.dropout_first,
            activation=self.activation,
            kernel_init=variance_scaling(1 / 3, "fan_in", "uniform"),
            bias_init=nn.initializers.zeros,
            dtype=self.dtype,
            train=train,
        )
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def vgg(
    depth: int = 16,
    num_classes: int = 1000,
    *,
    norm: Norm | None = None,
    activation: Activation = nn.relu,
    hidden: int = 4096,
    pooled: int = 7,
    dropout: float = 0.5,
    dropout_first: bool = False,
    dtype: Dtype | None = None,
) -> VGG:
    """VGG in torchvision's form: 138,357,544 parameters at depth 16, 138,365,992 with `norm=layers.BatchNorm`.

    Convolutions have He's initialisation for the fan out, dense layers are drawn uniformly from +-1 / sqrt(fan in), and
    biases start at 0. Layers are called conv1 ... (norm1 ...), dense14, dense15 (at depth 16) and head.

    Args:
      depth: 11, 13, 16 or 19 layers with weights.
      num_classes: logits.
      norm: `layers.BatchNorm` or another normalisation after each convolution, as for `resnet`; or None.
      activation: a function, or a class of modules such as `layers.PReLU`.
      hidden: width of the two hidden dense layers.
      pooled: side to which the last feature maps are pooled; they are 7 x 7 for images of 224 pixels.
      dropout: rate at the two hidden dense layers.
      dropout_first: dropout before each of these layers, rather than after.
      dtype: dtype of the computation; parameters and logits are float32.

    Raises:
      ValueError: a value is out of its range; or, when called, the images have a side below 32 pixels.

    Reference: Simonyan and Zisserman, `Very Deep Convolutional Networks`, 2014 (arXiv 1409.1556), configurations A to
    E.
    """
    return _checked(
        "vgg",
        depth,
        num_classes,
        norm=norm,
        activation=activation,
        hidden=hidden,
        pooled=pooled,
        dropout=dropout,
        dropout_first=dropout_first,
        dtype=dtype,
    )


def vgg_cifar(
    depth: int = 16,
    num_classes: int = 10,
    *,
    norm: Norm | None = None,
    activation: Activation = nn.relu,
    dropout: float = 0.5,
    dtype: Dtype | None = None,
) -> VGG:
    """VGG for CIFAR as in the paper on stochastic weight averaging: 15,245,130 parameters at depth 16, for 10 classes.

    Two hidden dense layers of 512 with dropout before each. Arguments as for `vgg`.

    Reference: Izmailov et al., `Averaging Weights Leads to Wider Optima`, 2018 (arXiv 1803.05407).
    """
    return _checked(
        "vgg_cifar",
        depth,
        num_classes,
        norm=norm,
        activation=activation,
        hidden=512,
        pooled=1,
        dropout=dropout,
        dropout_first=True,
        dtype=dtype,
    )


def _checked(function: str, depth: int, num_classes: int, **fields) -> VGG:
    """The network, after checks of its fields."""
    sizes = _STAGES[check_depth(function, depth, tuple(_STAGES))]
    check_norm(function, fields["norm"])
    check_activation(function, fields["activation"])
    check_integer(function, "hidden", fields["hidden"], at_least=1)
    check_integer(function, "pooled", fields["pooled"], at_least=1)
    check_real(function, "dropout", fields["dropout"], at_least=0, below=1)
    check_flag(function, "dropout_first", fields["dropout_first"])
    check_dtype(function, "dtype", fields["dtype"], optional=True)
    return VGG(check_num_classes(function, num_classes), sizes, **fields)
