"""AlexNet as published, in one tower, and in torchvision's form; each ablation of the paper is an argument."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from jaxdl.arguments import check_dtype, check_flag, check_integer, check_real, require
from jaxdl.models.checks import check_channels_last, check_num_classes, check_widths
from jaxdl.models.classifier import dense_classifier
from jaxdl.models.layers.activations import Activation, activate, check_activation
from jaxdl.models.layers.convolution import Conv
from jaxdl.models.layers.initializers import Initializer, normal, variance_scaling
from jaxdl.models.layers.pooling import adaptive_avg_pool, max_pool
from jaxdl.models.layers.response_norm import local_response_norm

_paper_init = normal(0.01)
_torch_init = variance_scaling(1 / 3, "fan_in", "uniform")

_WINDOWS = (11, 5, 3, 3, 3)
_GROUPED = (2, 4, 5)  # convolutions that see only the channels of their own tower
_RESPONSE_NORM = (1, 2)
_POOLED = (1, 2, 5)
_ONE_BIAS = (2, 4, 5)  # convolutions whose biases start at 1, so that ReLUs start with positive inputs


class AlexNet(nn.Module):
    """Five convolutions and three dense layers. Make one with `alexnet`."""

    num_classes: int
    widths: tuple[int, ...]
    hidden: int
    groups: int
    response_norm: bool
    overlapping: bool
    activation: Activation
    dropout: float
    left_out: int | None
    torchvision: bool
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels], 224 x 224 in the paper, to logits [batch, num_classes]."""
        check_channels_last("alexnet_torchvision" if self.torchvision else "alexnet", x)
        # Both give the paper's 55 x 55: 224 pixels, as the paper says, need padding; 227 pixels need none.
        first_padding = 0 if x.shape[1:3] == (227, 227) and not self.torchvision else 2
        kernel_init: Initializer = _torch_init if self.torchvision else _paper_init
        one = nn.initializers.zeros if self.torchvision else nn.initializers.ones
        for number, (width, window) in enumerate(zip(self.widths, _WINDOWS, strict=True), 1):
            if number != self.left_out:
                x = Conv(
                    width,
                    (window, window),
                    strides=4 if number == 1 else 1,
                    padding=first_padding if number == 1 else window // 2,
                    feature_group_count=self.groups if number in _GROUPED else 1,
                    kernel_init=kernel_init,
                    bias_init=one if number in _ONE_BIAS else nn.initializers.zeros,
                    dtype=self.dtype,
                    name=f"conv{number}",
                )(x)
                x = activate(self.activation, x)
                if self.response_norm and number in _RESPONSE_NORM:
                    x = local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=2)
            if number in _POOLED:
                # Windows of 3 may pass the edge, so that maps are as large as with windows of 2 for any image.
                ceil_mode = self.overlapping and not self.torchvision
                x = max_pool(x, window=3 if self.overlapping else 2, stride=2, ceil_mode=ceil_mode)
        if self.torchvision:
            x = adaptive_avg_pool(x, 6)
        logits = dense_classifier(
            x,
            num_classes=self.num_classes,
            hidden=self.hidden,
            first=6,
            dropout=self.dropout,
            dropout_first=self.torchvision,
            activation=self.activation,
            kernel_init=kernel_init,
            bias_init=one,
            dtype=self.dtype,
            train=train,
        )
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def alexnet(
    num_classes: int = 1000,
    *,
    widths: tuple[int, ...] = (96, 256, 384, 384, 256),
    hidden: int = 4096,
    groups: int = 2,
    response_norm: bool = True,
    overlapping: bool = True,
    activation: Activation = nn.relu,
    dropout: float = 0.5,
    left_out: int | None = None,
    dtype: Dtype | None = None,
) -> AlexNet:
    """AlexNet as published: two towers, response normalisation, overlapping pooling, dropout; 60,965,224 parameters.

    Weights are drawn from N(0, 0.01^2). Biases start at 1 in conv2, conv4, conv5 and the hidden dense layers, and at 0
    elsewhere. The paper's images of 224 pixels give its 55 x 55 windows of stride 4 only with padding, so conv1 pads
    with 2 pixels on all sides, as torchvision does. Images of 227 x 227 are not padded: they give 55 x 55 without it.

    Layers are called conv1 ... conv5, dense6, dense7 and head.

    Args:
      num_classes: logits.
      widths: channels of the five convolutions. The paper's one-GPU net for its comparison of one and two GPUs has
        (48, 128, 192, 192, 256) with `groups=1`.
      hidden: width of the two hidden dense layers.
      groups: number of towers: 2 as published; 1 in `alexnet_one_tower`.
      response_norm: local response normalisation after conv1 and conv2 (in the paper 1.4 points less top-1 error).
      overlapping: pooling windows of 3 rather than 2 pixels, with stride 2 (0.4 points less). The last window of 3 may
        pass the edge of the image, so that both settings give maps of the same size, and dense6 the same parameters,
        for images of any size. With the paper's sides of 55, 27 and 13 pixels no window passes the edge.
      activation: a function, or a class of modules such as `layers.PReLU`.
      dropout: rate after the two hidden dense layers; 0 for none.
      left_out: number of a middle convolution, 2 to 5, to leave out (in the paper about 2 points more error for any of
        them). The next layer is then given the channels of the layer before: without conv5, which maps 384 channels to
        256, dense6 has 1.5 times as many parameters.
      dtype: dtype of the computation, bfloat16 for example; parameters and logits are float32.

    Raises:
      ValueError: a value is out of its range; or, when called, the images are too small for three poolings.

    Reference: Krizhevsky et al., `ImageNet Classification with Deep Convolutional Neural Networks`, 2012.
    """
    return _checked(
        "alexnet",
        num_classes,
        widths=widths,
        hidden=hidden,
        groups=groups,
        response_norm=response_norm,
        overlapping=overlapping,
        activation=activation,
        dropout=dropout,
        left_out=left_out,
        torchvision=False,
        dtype=dtype,
    )


alexnet_one_tower = functools.partial(alexnet, groups=1)
"""AlexNet with every convolution seeing all channels: 62,378,344 parameters. Arguments as for `alexnet`."""


def alexnet_torchvision(num_classes: int = 1000, *, dropout: float = 0.5, dtype: Dtype | None = None) -> AlexNet:
    """AlexNet in torchvision's form: one narrower tower, no response normalisation; 61,100,840 parameters.

    Dropout stands before the two hidden dense layers; the last feature maps are pooled to 6 x 6. Weights are drawn
    uniformly from +-1 / sqrt(fan in), as in torch; biases start at 0. `transfer.load_torch_weights` reads torchvision's
    weights into this model.

    Args:
      num_classes: logits.
      dropout: rate before the two hidden dense layers.
      dtype: as for `alexnet`.

    Raises:
      ValueError: a value is out of its range; or, when called, images too small for three poolings.

    Reference: Krizhevsky, `One weird trick for parallelizing convolutional neural networks`, 2014 (arXiv 1404.5997).
    """
    return _checked(
        "alexnet_torchvision",
        num_classes,
        widths=(64, 192, 384, 256, 256),
        hidden=4096,
        groups=1,
        response_norm=False,
        overlapping=True,
        activation=nn.relu,
        dropout=dropout,
        left_out=None,
        torchvision=True,
        dtype=dtype,
    )


def _checked(function: str, num_classes: int, *, widths: Sequence[int], groups: int, **fields: Any) -> AlexNet:
    """The network, after checks of its fields."""
    num_classes, widths = check_num_classes(function, num_classes), check_widths(function, widths, count=5)
    groups = check_integer(function, "groups", groups, at_least=1)
    require(
        all(width % groups == 0 for width in widths),
        f"{function}: groups must divide all widths, got groups={groups} with widths={widths}",
    )
    check_integer(function, "hidden", fields["hidden"], at_least=1)
    check_flag(function, "response_norm", fields["response_norm"])
    check_flag(function, "overlapping", fields["overlapping"])
    check_activation(function, fields["activation"])
    check_real(function, "dropout", fields["dropout"], at_least=0, below=1)
    check_dtype(function, "dtype", fields["dtype"], optional=True)
    left_out = fields["left_out"]
    require(
        left_out in (None, 2, 3, 4, 5),
        f"{function}: left_out must be the number of a middle convolution, 2 to 5, or None, got left_out={left_out!r}",
    )
    return AlexNet(num_classes, widths=widths, groups=groups, **fields)
