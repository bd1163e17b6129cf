"""Multi-layer perceptron."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from jaxdl.models.checks import check_num_classes, check_widths
from jaxdl.models.layers.checks import check_floating
from jaxdl.models.layers.initializers import he_normal


class MLP(nn.Module):
    """Dense layers with ReLU between them. Make one with `mlp`, which checks its arguments."""

    num_classes: int
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, ...] to logits [batch, num_classes]."""
        del train
        check_floating("mlp", x, at_least=2, layout="[batch, ...]", name="images")
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = nn.relu(nn.Dense(width, kernel_init=he_normal)(x))
        return nn.Dense(self.num_classes, kernel_init=he_normal)(x)


def mlp(num_classes: int = 10, *, widths: Sequence[int] = (256, 256)) -> MLP:
    """A multi-layer perceptron: dense layers of `widths` with ReLU, then logits; He initialisation, zero biases.

    With `widths=()` it is a linear model.

    Raises:
      ValueError: `num_classes` or a width is below 1, or `widths` is not a sequence.
    """
    return MLP(check_num_classes("mlp", num_classes), check_widths("mlp", widths))
