"""Whether what a caller passed for a data set is one, and fits the model."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.data.dataset import Dataset
from jaxdl.shapes import ModelShapes, model_shapes


def check_dataset(function: str, name: str, value: Any) -> None:
    """Raises `ValueError` unless `value` is one `Dataset`."""
    if isinstance(value, Dataset):
        return
    if isinstance(value, tuple | list) and any(isinstance(part, Dataset) for part in value):
        what = "the pair (train, test) that data.load returns; write train_set, test_set = data.load(...)"
    elif isinstance(value, str):
        what = f"the name {value!r}; write train_set, test_set = data.load({value!r})"
    else:
        what = f"{shown(value)}; data.load gives data sets, and data.Dataset(...) makes one of arrays"
    raise ValueError(f"{function}: {name} must be one data.Dataset, got {what}")


def check_model_fits(
    function: str, model: nn.Module, dataset: Dataset, preprocess: Callable[[jax.Array], jax.Array] | None
) -> ModelShapes:
    """The shapes of a model on a data set's images; raises `ValueError` if its outputs are not one for each class."""
    inputs = input_struct(function, dataset.image_shape, dataset.images.dtype, preprocess)
    shapes = model_shapes(model, inputs.shape[1:], inputs.dtype)
    outputs = check_outputs(function, model, shapes)
    require(
        outputs == dataset.num_classes,
        f"{function}: {dataset!r} has the labels 0..{dataset.num_classes - 1}, and the model has {outputs} outputs; "
        f"make it with num_classes={dataset.num_classes}",
    )
    return shapes


def input_struct(
    function: str, image_shape: tuple[int, ...], dtype: Any, preprocess: Callable[[jax.Array], jax.Array] | None
) -> jax.ShapeDtypeStruct:
    """Shape and dtype of what a model is shown for one image; raises `ValueError` if those would be integers."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jax.dtypes.canonicalize_dtype(dtype))
    inputs = image if preprocess is None else jax.eval_shape(preprocess, image)
    require(
        hasattr(inputs, "shape") and len(inputs.shape) >= 1 and inputs.shape[0] == 1,
        f"{function}: preprocess must map images [batch, ...] to model inputs [batch, ...], "
        f"got {inputs} for one image {tuple(image_shape)}",
    )
    require(
        jnp.issubdtype(inputs.dtype, jnp.floating),
        f"{function}: the model would be shown {np.dtype(inputs.dtype)} images; pass preprocess=train_set.standardize, "
        "or floats",
    )
    return inputs


def check_outputs(function: str, model: nn.Module, shapes: ModelShapes) -> int:
    """How many logits a model gives; raises `ValueError` if they are not [batch, classes]."""
    found = getattr(shapes.outputs, "shape", None)
    require(
        found is not None and len(found) == 2 and found[0] == 1,
        f"{function}: {type(model).__name__} must give logits [batch, classes], got {shapes.outputs} for one image",
    )
    return found[1]  # type: ignore[index]


def check_labels(function: str, labels: Any, classes: int) -> None:
    """Raises `ValueError` if a label is not in [0, classes); looks at the numbers, so outside of jit only."""
    lowest, highest = int(np.min(labels)), int(np.max(labels))
    require(
        lowest >= 0 and highest < classes,
        f"{function}: labels must be in 0..{classes - 1} as the model has {classes} outputs, "
        f"got labels {lowest}..{highest}; leave out examples that have no class",
    )
