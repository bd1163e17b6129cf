"""Dropout, spatial dropout, DropConnect and stochastic depth. All draw from the random stream "dropout"."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jax import lax

from jaxdl.arguments import check_dtype, check_flag, check_integer, check_real, require, shown
from jaxdl.models.layers.activations import Activation, activate, check_activation
from jaxdl.models.layers.checks import check_floating, check_images, check_initializers
from jaxdl.models.layers.initializers import Initializer, lecun_normal


class Dropout(nn.Module):
    """Zeroes each number with probability `rate` and divides the others by 1 - rate, which keeps their mean.

    `flax.linen.Dropout` with `train=` in the place of `deterministic=`. The papers do not scale in training; in
    evaluation they multiply by 1 - rate (AlexNet: by 0.5). The two differ only by a constant scaling of the parameters.

    Attributes:
      rate: probability of dropping, in [0, 1).

    Reference: Srivastava et al., `Dropout`, JMLR 15, 2014.
    """

    rate: float

    def __post_init__(self):
        super().__post_init__()
        check_real("Dropout", "rate", self.rate, at_least=0, below=1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps any shape to itself."""
        return nn.Dropout(self.rate)(x, deterministic=not train)


class SpatialDropout(nn.Module):
    """Zeroes whole channels of an example, because neighbouring pixels are correlated. Torch's Dropout2d.

    Attributes:
      rate: probability of dropping a channel, in [0, 1).

    Reference: Tompson et al., `Efficient Object Localization Using Convolutional Networks`, 2015 (arXiv 1411.4280).
    """

    rate: float

    def __post_init__(self):
        super().__post_init__()
        check_real("SpatialDropout", "rate", self.rate, at_least=0, below=1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, height, width, channels] to the same shape."""
        check_images("SpatialDropout", x, "x")
        return nn.Dropout(self.rate, broadcast_dims=(1, 2))(x, deterministic=not train)


class DropConnect(nn.Module):
    """A dense layer that drops weights, drawn for every example: activation((M * W) x + b).

    Each element of M [batch, inputs, features] is 0 with probability `rate`. In evaluation with `samples=0` the
    pre-activation is its expectation, (1 - rate) W x + b. With `samples` > 0, as in the paper's algorithm 2, the result
    is the mean of the activation over draws of the pre-activation from the normal distribution of the same mean and
    variance; evaluation then needs the stream "dropout" too. (The paper also drops biases; here they are kept.)

    Attributes:
      features: outputs.
      rate: probability of dropping a weight, in [0, 1).
      activation: applied in this layer, because the paper's evaluation averages its values.
      samples: draws in evaluation; 0 for the activation of the mean.
      dtype: dtype of the computation; by default the input's.
      kernel_init: initialiser of the weights.

    Raises:
      ValueError: a value is out of its range.

    Reference: Wan et al., `Regularization of Neural Networks using DropConnect`, ICML 2013.
    """

    features: int
    rate: float = 0.5
    activation: Activation = nn.relu
    samples: int = 0
    dtype: Dtype | None = None
    kernel_init: Initializer = lecun_normal

    def __post_init__(self):
        super().__post_init__()
        check_integer("DropConnect", "features", self.features, at_least=1)
        check_integer("DropConnect", "samples", self.samples, at_least=0)
        check_real("DropConnect", "rate", self.rate, at_least=0, below=1)
        check_activation("DropConnect", self.activation)
        check_dtype("DropConnect", "dtype", self.dtype, optional=True)
        check_initializers("DropConnect", kernel_init=self.kernel_init)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, inputs] to [batch, features]."""
        check_floating("DropConnect", x, at_least=0, layout="[batch, inputs]", name="x")
        require(x.ndim == 2, f"DropConnect: x must be [batch, inputs], got shape {x.shape}; flatten images first")
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        keep = 1 - self.rate
        if train and self.rate:
            mask = jax.random.bernoulli(self.make_rng("dropout"), keep, (len(x), *kernel.shape))
            return activate(self.activation, jnp.einsum("bi,bif->bf", x, jnp.where(mask, kernel, 0)) + bias)
        if train:
            return activate(self.activation, x @ kernel + bias)
        mean = keep * (x @ kernel) + bias
        if not self.samples or not self.rate:
            return activate(self.activation, mean)
        variance = keep * self.rate * (jnp.square(x) @ jnp.square(kernel))
        noise = jax.random.normal(self.make_rng("dropout"), (self.samples, *mean.shape), mean.dtype)
        return jnp.mean(activate(self.activation, mean + jnp.sqrt(variance) * noise), 0)


class StochasticDepth(nn.Module):
    """Leaves out a residual branch at random in training, and scales it by its probability of survival in evaluation.

        training: b f(x), b = 1 with probability `survival`, else 0;   evaluation: survival f(x)

    A branch that is left out has gradients of 0; its BatchNorm statistics are still updated.

    Attributes:
      per_example: whether b is drawn for every example. The paper draws one b for the batch.

    Raises:
      ValueError: `per_example` is not a bool.

    Reference: Huang et al., `Deep Networks with Stochastic Depth`, 2016 (arXiv 1603.09382).
    """

    per_example: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_flag("StochasticDepth", "per_example", self.per_example)

    @nn.compact
    def __call__(self, branch: jax.Array, survival: Any, *, train: bool) -> jax.Array:
        """Maps a branch's output [batch, ...] to the same shape; `survival` is a probability, and may be traced.

        Raises:
          ValueError: `survival` is a plain number outside (0, 1].
        """
        if not isinstance(survival, jax.Array):
            _check_probability("StochasticDepth", "survival", survival)
        if not train:
            return branch * jnp.asarray(survival, branch.dtype)
        shape = (len(branch),) + (1,) * (branch.ndim - 1) if self.per_example else ()
        kept = jax.random.bernoulli(self.make_rng("dropout"), survival, shape)
        return branch * lax.convert_element_type(kept, branch.dtype)


def linear_decay(final: float, layers: int) -> tuple[float, ...]:
    """Survival probabilities of stochastic depth: 1 - (l / L) (1 - final) for the branches l = 1 ... L = `layers`.

    Raises:
      ValueError: `final` is not in (0, 1], or `layers` is below 1.

    Example:
      >>> linear_decay(0.5, 4)
      (0.875, 0.75, 0.625, 0.5)

    Reference: Huang et al. 2016 (arXiv 1603.09382), eq. 4.
    """
    check_integer("linear_decay", "layers", layers, at_least=1)
    _check_probability("linear_decay", "final", final)
    return tuple(1 - layer / layers * (1 - final) for layer in range(1, layers + 1))


def _check_probability(function: str, name: str, value: Any) -> None:
    check_real(function, name, value, at_least=0)
    require(0 < value <= 1, f"{function}: {name} must be in (0, 1], got {name}={shown(value)}")
