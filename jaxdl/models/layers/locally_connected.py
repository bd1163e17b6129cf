"""Convolution whose weights are not shared between places."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype

from jaxdl.arguments import check_dtype, check_integer, require
from jaxdl.models.layers.checks import check_images, check_initializers
from jaxdl.models.layers.initializers import Initializer, lecun_normal


class LocalConv(nn.Module):
    """A locally connected layer: every output pixel has its own kernel and bias. Stride 1.

    It has the parameters and gives the numbers of `flax.linen.ConvLocal`, but computes one matrix product for each
    pixel. On the CPU its gradient takes a seventh of the time outside of loops (`benchmarks/layers.py`).

    Parameters, for the output's height and width: kernel [height, width, channels * window^2, features], whose third
    axis is ordered by channel, row and column, and bias [height, width, features].

    Attributes:
      features: output channels.
      window: side of the kernels.
      padding: zeros on all sides.
      dtype: dtype of the computation; by default the input's.
      kernel_init, bias_init: initialisers.

    Raises:
      ValueError: a value is below 1 (`padding`: below 0), or the input is not images at least as large as the window.

    Reference: cuda-convnet, layer type `local`; as in its `layers-conv-local-13pct.cfg`.
    """

    features: int
    window: int
    padding: int = 0
    dtype: Dtype | None = None
    kernel_init: Initializer = lecun_normal
    bias_init: Initializer = nn.initializers.zeros_init()

    def __post_init__(self):
        super().__post_init__()
        check_integer("LocalConv", "features", self.features, at_least=1)
        check_integer("LocalConv", "window", self.window, at_least=1)
        check_integer("LocalConv", "padding", self.padding, at_least=0)
        check_dtype("LocalConv", "dtype", self.dtype, optional=True)
        check_initializers("LocalConv", kernel_init=self.kernel_init, bias_init=self.bias_init)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, new height, new width, features]."""
        k, p = self.window, self.padding
        check_images("LocalConv", x)
        require(
            min(x.shape[1:3]) + 2 * p >= k,
            f"LocalConv: the input must be [batch, height, width, channels] with sides >= window={k}, got {x.shape}",
        )
        _, height, width, channels = x.shape
        rows, columns = height + 2 * p - k + 1, width + 2 * p - k + 1
        kernel = self.param("kernel", self.kernel_init, (rows, columns, channels * k * k, self.features), jnp.float32)
        bias = self.param("bias", self.bias_init, (rows, columns, self.features), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        windows = jnp.stack([x[:, i : i + rows, j : j + columns] for i in range(k) for j in range(k)], -1)
        return jnp.einsum("bhwk,hwkf->bhwf", windows.reshape(len(x), rows, columns, -1), kernel) + bias
