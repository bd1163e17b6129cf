"""The CIFAR-10 nets of cuda-convnet's layer files, with which the AlexNet paper made its experiments on CIFAR-10.

The files take pixels from 0 to 255 minus the mean image. They train biases at twice the rate of weights, and each layer
has its own weight decay; the tables in the functions give it. All pooling is 3 x 3 with stride 2, and its last window
may pass the edge: 32 pixels become 16, 8 and 4.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from jaxdl.arguments import check_flag, check_integer
from jaxdl.models.checks import check_channels_last, check_num_classes, check_widths
from jaxdl.models.layers.activations import Activation, activate, check_activation
from jaxdl.models.layers.convolution import Conv
from jaxdl.models.layers.initializers import normal
from jaxdl.models.layers.locally_connected import LocalConv
from jaxdl.models.layers.pooling import avg_pool, max_pool
from jaxdl.models.layers.response_norm import local_response_norm, spatial_response_norm


class CudaConvNet(nn.Module):
    """Three convolutions, and one dense layer or none before the logits. Make one with `cuda_convnet`."""

    num_classes: int
    hidden: int | None
    response_norm: bool
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels] to logits [batch, num_classes]."""
        del train
        check_channels_last("cuda_convnet", x)
        norm: Callable = spatial_response_norm if self.response_norm else lambda x: x
        x = _conv(x, 32, 1e-4, "conv1")
        x = norm(activate(self.activation, _pool(max_pool, x)))
        x = activate(self.activation, _conv(x, 32, 0.01, "conv2"))
        x = norm(_pool(avg_pool, x))
        x = activate(self.activation, _conv(x, 64, 0.01, "conv3"))
        x = _pool(avg_pool, x)
        x = x.reshape(x.shape[0], -1)
        if self.hidden is None:
            return nn.Dense(self.num_classes, kernel_init=normal(0.01), name="head")(x)
        x = activate(self.activation, nn.Dense(self.hidden, kernel_init=normal(0.1), name="dense4")(x))
        return nn.Dense(self.num_classes, kernel_init=normal(0.1), name="head")(x)


class ConvLocalNet(nn.Module):
    """Two convolutions, two locally connected layers, logits. Make one with `conv_local`."""

    num_classes: int
    local_widths: tuple[int, int]
    response_norm: bool
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels] to logits [batch, num_classes]."""
        del train
        check_channels_last("conv_local", x)

        def norm(x):
            settings = {"size": 9, "alpha": 1e-3, "beta": 0.75, "k": 1.0, "divide_by_size": True}
            return local_response_norm(x, **settings) if self.response_norm else x

        x = activate(self.activation, _conv(x, 64, 1e-4, "conv1"))
        x = norm(_pool(max_pool, x))
        x = activate(self.activation, _conv(x, 64, 0.01, "conv2"))
        x = _pool(max_pool, norm(x))
        for number, width in enumerate(self.local_widths, 3):
            local = LocalConv(width, window=3, padding=1, kernel_init=normal(0.04), name=f"local{number}")
            x = activate(self.activation, local(x))
        return nn.Dense(self.num_classes, kernel_init=normal(0.01), name="head")(x.reshape(x.shape[0], -1))


def cuda_convnet(
    num_classes: int = 10, *, hidden: int | None = 64, response_norm: bool = False, activation: Activation = nn.relu
) -> CudaConvNet:
    """The nets of layers-80sec (the default), layers-19pct and layers-18pct.

    | file | arguments | parameters (32 x 32 x 3, 10 classes) | nominal test error | weight decay |
    |---|---|---|---|---|
    | layers-80sec | | 145,578 | 26 % | conv .004, dense .03 |
    | layers-19pct | `hidden=None` | 89,578 | 19 % | conv .004, head 3 |
    | layers-18pct | `hidden=None, response_norm=True` | 89,578 | 18 % | conv .004, head 1 |

    Weights are drawn from N(0, s^2), with s = 1e-4 in conv1, 0.01 in conv2 and conv3, and 0.1 in dense4. In the head s
    is 0.1 after dense4, and 0.01 without it. Biases start at 0.

    Args:
      num_classes: logits.
      hidden: width of the dense layer before the logits, or None for no such layer.
      response_norm: `layers.spatial_response_norm` after the first two poolings.
      activation: a function, or a class of modules. The first activation stands after pooling, the others before it, as
        in the files.

    Raises:
      ValueError: a number below 1.
    """
    num_classes = check_num_classes("cuda_convnet", num_classes)
    check_flag("cuda_convnet", "response_norm", response_norm)
    check_activation("cuda_convnet", activation)
    if hidden is not None:
        check_integer("cuda_convnet", "hidden", hidden, at_least=1, remedy="pass None for no hidden layer")
    return CudaConvNet(num_classes, hidden, response_norm, activation)


def conv_local(
    num_classes: int = 10,
    *,
    local_widths: tuple[int, int] = (32, 32),
    response_norm: bool = False,
    activation: Activation = nn.relu,
) -> ConvLocalNet:
    """The nets of layers-conv-local-13pct (the default) and -11pct (`local_widths=(64, 32), response_norm=True`).

    | file | parameters at 32 x 32 | at 24 x 24 | nominal test error | weight decay |
    |---|---|---|---|---|
    | conv-local-13pct | 1,901,386 | 1,116,490 | 13 % | local .004, head .004 |
    | conv-local-11pct | 3,672,906 | 2,112,970 | 11 % | local .004, head .01 |

    The AlexNet paper gives 13 % without and 11 % with response normalisation. The two files also differ in the width of
    local3 and in the head's decay; for the effect of the normalisation alone change `response_norm` alone.

    Args:
      num_classes: logits.
      local_widths: channels of the two locally connected layers.
      response_norm: `layers.local_response_norm` in cuda-convnet's form (`cmrnorm`), after the first pooling and
        before the second.
      activation: a function, or a class of modules.

    Raises:
      ValueError: a number below 1.
    """
    num_classes = check_num_classes("conv_local", num_classes)
    first, second = check_widths("conv_local", local_widths, name="local_widths", count=2)
    check_flag("conv_local", "response_norm", response_norm)
    check_activation("conv_local", activation)
    return ConvLocalNet(num_classes, (first, second), response_norm, activation)


def _conv(x: jax.Array, width: int, std: float, name: str) -> jax.Array:
    return Conv(width, (5, 5), padding=2, kernel_init=normal(std), name=name)(x)


def _pool(pool: Callable, x: jax.Array) -> jax.Array:
    return pool(x, window=3, stride=2, ceil_mode=True)
