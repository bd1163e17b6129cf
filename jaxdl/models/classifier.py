"""The dense layers at the end of AlexNet and VGG."""

import flax.linen as nn
import jax
from flax.typing import Dtype

from jaxdl.models.layers.activations import Activation, activate
from jaxdl.models.layers.dropout import Dropout
from jaxdl.models.layers.initializers import Initializer


def dense_classifier(
    x: jax.Array,
    *,
    num_classes: int,
    hidden: int,
    first: int,
    dropout: float,
    dropout_first: bool,
    activation: Activation,
    kernel_init: Initializer,
    bias_init: Initializer,
    dtype: Dtype | None,
    train: bool,
) -> jax.Array:
    """Flattens, then two dense layers with activation and dropout, then logits; called within a compact module.

    Args:
      x: [batch, ...].
      num_classes: logits.
      hidden: width of the two layers.
      first: the number in the first one's name, as in "dense6"; the last is called "head".
      dropout: rate.
      dropout_first: dropout before each of the two layers, rather than after.
      activation: after each of the two.
      kernel_init: of all three.
      bias_init: of the two; the logits' biases start at 0.
      dtype: of the computation.
      train: whether dropout is on.

    Returns:
      Logits [batch, num_classes].
    """
    x = x.reshape(x.shape[0], -1)
    for number in (first, first + 1):
        if dropout_first:
            x = Dropout(dropout)(x, train=train)
        dense = nn.Dense(hidden, kernel_init=kernel_init, bias_init=bias_init, dtype=dtype, name=f"dense{number}")
        x = activate(activation, dense(x))
        if not dropout_first:
            x = Dropout(dropout)(x, train=train)
    return nn.Dense(num_classes, kernel_init=kernel_init, dtype=dtype, name="head")(x)
