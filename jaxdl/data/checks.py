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
    if preprocess is None:
        inputs = image
    else:
        inputs = called(function, "preprocess", "images [batch, height, width, channels]", preprocess, image)
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


def called(function: str, name: str, what: str, f: Callable, *structs: Any) -> Any:
    """What a user's function gives, by shapes alone; a `ValueError` that names it if it fails.

    Args:
      function: named in the error.
      name: of the argument that was passed.
      what: that it is called with, in words.
      f: the user's function.
      *structs: its arguments, trees of `jax.ShapeDtypeStruct`.
    """
    try:
        return jax.eval_shape(f, *structs)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{function}: {name} is called with {what}, compiled, and fails: {type(error).__name__}: {first}"
        ) from error


def check_augment(function: str, augment: Callable, images: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """What an augmentation makes of a batch, by shapes alone; raises `ValueError` if it is not as many images."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), images.shape[0]))
    what = f"keys [{images.shape[0]}], one for each image, and images {list(images.shape)}"
    found = called(function, "augment", what, augment, keys, images)
    shape = getattr(found, "shape", ())
    require(
        shape[:1] == images.shape[:1] and len(shape) == len(images.shape),
        f"{function}: augment must give as many images as it is given, {list(images.shape)}, got {found}",
    )
    return found


def check_loss_of(function: str, loss: Callable, batch: int, classes: int) -> None:
    """Raises `ValueError` unless a loss takes logits and class numbers, and gives one number for each example."""
    logits, labels = jax.ShapeDtypeStruct((batch, classes), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)
    what = f"logits float32 [{batch}, {classes}] and labels int32 [{batch}]"
    found = called(function, "loss", what, loss, logits, labels)
    shape = getattr(found, "shape", None)
    remedy = "; leave the mean over the batch to the step" if shape == () else ""
    require(
        shape == (batch,) and jnp.issubdtype(found.dtype, jnp.floating),
        f"{function}: loss must map logits [batch, classes] and labels [batch] to losses [batch], got {found} for a "
        f"batch of {batch}{remedy}",
    )


def check_functions(
    function: str,
    dataset: Dataset,
    batch_size: int,
    loss: Callable,
    augment: Callable | None = None,
    preprocess: Callable | None = None,
) -> None:
    """Raises `ValueError` for a loss, or an augmentation, that cannot be called with batches of a data set."""
    check_loss_of(function, loss, batch_size, dataset.num_classes)
    if augment is not None:
        images = jax.ShapeDtypeStruct((batch_size, *dataset.image_shape), dataset.images.dtype)
        found = check_augment(function, augment, images)
        input_struct(function, found.shape[1:], found.dtype, preprocess)
