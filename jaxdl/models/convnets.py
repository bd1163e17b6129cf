"""A small convolutional network, for quick work."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from jaxdl.arguments import check_integer
from jaxdl.models.checks import check_channels_last, check_num_classes, check_widths
from jaxdl.models.layers.convolution import Conv
from jaxdl.models.layers.initializers import he_normal
from jaxdl.models.layers.pooling import max_pool


class ConvNet(nn.Module):
    """Stages of convolution, pooling and ReLU, then two dense layers. Make one with `convnet`."""

    num_classes: int
    widths: tuple[int, ...]
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels] to logits [batch, num_classes]."""
        del train
        check_channels_last("convnet", x)
        for width in self.widths:
            x = Conv(width, (3, 3), kernel_init=he_normal)(x)
            x = nn.relu(max_pool(x))  # the same as pooling after ReLU, but ReLU sees a quarter of the numbers
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.hidden, kernel_init=he_normal)(x))
        return nn.Dense(self.num_classes, kernel_init=he_normal)(x)


def convnet(num_classes: int = 10, *, widths: Sequence[int] = (16, 32), hidden: int = 64) -> ConvNet:
    """A small convolutional network: 3x3 convolutions, each with 2x2 max pooling and ReLU, and two dense layers.

    He initialisation, zero biases, no normalisation and no dropout. On 28x28x1 images the default has 105,866
    parameters.

    Args:
      num_classes: logits.
      widths: channels of each convolution; each stage halves the image, which must be large enough.
      hidden: width of the dense layer before the logits.

    Raises:
      ValueError: a value below 1, or no widths.
    """
    num_classes = check_num_classes("convnet", num_classes)
    hidden = check_integer("convnet", "hidden", hidden, at_least=1)
    return ConvNet(num_classes, check_widths("convnet", widths, at_least=1), hidden)
