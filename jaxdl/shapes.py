"""What a model needs and gives, by shapes alone."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdl.program_cache import remembered


class ModelShapes(NamedTuple):
    """Trees of `jax.ShapeDtypeStruct`."""

    variables: dict[str, Any]  # by collection
    outputs: Any  # for one example


def model_shapes(model: nn.Module, input_shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> ModelShapes:
    """The variables and outputs of a model for inputs of `input_shape`, the batch not counted. Nothing is computed."""
    return _shapes(model, tuple(input_shape), jax.dtypes.canonicalize_dtype(dtype))


@remembered()
def _shapes(model, input_shape, dtype) -> ModelShapes:
    def run():
        return model.init_with_output(jax.random.key(0), jnp.zeros((1, *input_shape), dtype), train=False)

    outputs, variables = jax.eval_shape(run)
    return ModelShapes(dict(variables), outputs)
