"""Checks that a data set is one, and that it fits the model."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdl.arguments import looks_like_path, require, shown
from jaxdl.data.dataset import Dataset
from jaxdl.data.streams.stream import Stream
from jaxdl.modules import ModelShapes, model_shapes


def check_dataset(function: str, name: str, value: Any, *, streams: bool = True) -> None:
    """Raises `ValueError` unless `value` is one `Dataset`, or one `Stream` where `streams` are taken too."""
    if isinstance(value, Dataset) or (streams and isinstance(value, Stream)):
        return
    if isinstance(value, Stream):
        raise ValueError(
            f"{function}: {name} must be a data.Dataset, in memory, got {value!r}; train.fit, train.evaluate, "
            "ensemble.evaluate and data.batches take streams"
        )
    if isinstance(value, tuple | list) and any(isinstance(part, Dataset | Stream) for part in value):
        opener = "data.folder" if any(isinstance(part, Stream) for part in value) else "data.load"
        what = f"the pair (train, test) that {opener} returns; write train_set, test_set = {opener}(...)"
    elif isinstance(value, str) and looks_like_path(value):
        what = f"the path {value!r}; write train_set, test_set = data.folder({value!r})"
    elif isinstance(value, str):
        what = f"the name {value!r}; write train_set, test_set = data.load({value!r})"
    else:
        what = f"{shown(value)}; data.load gives data sets, and data.from_arrays makes one of arrays"
        what += "; data.folder and data.stream give streams, which may take its place" if streams else ""
    raise ValueError(f"{function}: {name} must be one data.Dataset, got {what}")


def check_model_fits(
    function: str,
    model: nn.Module,
    dataset: Dataset | Stream,
    preprocess: Callable[[Any], Any] | None,
    inputs: Any = None,
) -> ModelShapes:
    """The shapes of a model on a data set's inputs; raises `ValueError` if its outputs are not one for each class.

    `inputs` are the structs of one example in training, if augmentation changes its shape.
    """
    inputs = input_struct(function, dataset.example.inputs if inputs is None else inputs, preprocess)
    shapes = shapes_of(function, model, inputs)
    if dataset.class_names and hasattr(shapes.outputs, "shape"):
        outputs = count_outputs(function, model, shapes.outputs)
        require(
            outputs == dataset.num_classes,
            f"{function}: {dataset!r} has the labels 0..{dataset.num_classes - 1}, and the model has {outputs} "
            f"outputs; make it with num_classes={dataset.num_classes}",
        )
    return shapes


def shapes_of(function: str, model: nn.Module, inputs: Any) -> ModelShapes:
    """`model_shapes`; any other error becomes a `ValueError` that names the model and its inputs."""
    try:
        return model_shapes(model, inputs)
    except ValueError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{function}: {type(model).__name__} fails with inputs {kinds(inputs)}: {type(error).__name__}: {first}"
        ) from error


def check_image_bytes(function: str, inputs: Any) -> None:
    """Raises `ValueError` for images of integers that are not bytes: one array of four axes."""
    dtype = getattr(inputs, "dtype", np.dtype(np.float32))
    require(
        len(getattr(inputs, "shape", ())) != 4 or dtype == np.uint8 or not jax.numpy.issubdtype(dtype, np.integer),
        f"{function}: images must be uint8 or floating point, got {kinds(inputs)}; use images.astype(numpy.uint8), of "
        "0 to 255, with preprocess=train_set.standardize. (If they are something else, pass them in a dict.)",
    )


def count_outputs(function: str, model: nn.Module, outputs: Any) -> int:
    """How many logits a model gives; raises `ValueError` if they are not [batch, classes]."""
    shape = getattr(outputs, "shape", None)
    require(
        shape is not None and len(shape) == 2 and shape[0] == 1,
        f"{function}: {type(model).__name__} must give logits [batch, classes], got {outputs} for one example",
    )
    return shape[1]  # type: ignore[index]


def input_struct(function: str, inputs: Any, preprocess: Callable[[Any], Any] | None) -> Any:
    """Shapes and dtypes of the model's inputs for `inputs`; raises `ValueError` if they would be uint8.

    Args:
      function: named in errors.
      inputs: a tree of `jax.ShapeDtypeStruct` [batch, ...].
      preprocess: function from `inputs` to the model's inputs.
    """
    batch = len_of(inputs)
    shown_to_model = inputs
    if preprocess is not None:
        shown_to_model = called(function, "preprocess", f"inputs {kinds(inputs)}", preprocess, inputs)
    for leaf in jax.tree.leaves(shown_to_model):
        require(
            hasattr(leaf, "shape") and len(leaf.shape) >= 1 and leaf.shape[0] == batch,
            f"{function}: preprocess must map images [batch, ...] to model inputs [batch, ...], "
            f"got {kinds(leaf)} for a batch of {batch}, {kinds(inputs)}",
        )
        require(
            leaf.dtype != np.uint8,
            f"{function}: the model would be shown uint8 images; pass preprocess=train_set.standardize, or floats",
        )
    return shown_to_model


def len_of(batch: Any) -> int:
    """The length of the leading axis."""
    return jax.tree.leaves(batch)[0].shape[0]


def called(function: str, name: str, what: str, f: Callable, *structs: Any) -> Any:
    """The shapes of what a user's function returns; if it fails, a `ValueError` that names it.

    Args:
      function: the library's function, named in the error.
      name: the argument for which `f` was passed.
      what: what `f` is called with, in words.
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


def kinds(tree: Any) -> str:
    """Dtypes and shapes, for messages: "float32 [16, 10]", or "{logits: float32 [16, 10]}"."""
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{name}: {kinds(part)}" for name, part in tree.items()) + "}"
    if isinstance(tree, tuple | list):
        return "(" + ", ".join(map(kinds, tree)) + ")"
    return f"{tree.dtype} {list(tree.shape)}" if hasattr(tree, "dtype") and hasattr(tree, "shape") else shown(tree)
