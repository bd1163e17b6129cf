"""A data set from a user's own arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.arguments import check_integer, require, shown
from jaxdl.data.dataset import Dataset
from jaxdl.data.dataset_checks import check_inputs
from jaxdl.data.standardization import channel_statistics
from jaxdl.typing import Arrays


def from_arrays(
    inputs: Arrays,
    targets: Arrays,
    *,
    name: str = "arrays",
    split: str = "train",
    classes: int | Sequence[str] = (),
    standardize: Callable[[Any], Any] | None = None,
) -> Dataset:
    """A data set of your own arrays: images, tables, sequences, and targets of any kind.

    Arrays become NumPy arrays, and 64-bit numbers become 32-bit ones, as JAX would compute with them; integers that
    this would change are refused. Nothing else is changed.

    Args:
      inputs: one array with a leading axis of n examples, or a tuple or dict of such arrays, which the model is then
        given in this form. One array of uint8 is taken for images [n, height, width, channels].
      targets: arrays with the same leading axis: class numbers [n], soft labels [n, classes], numbers to predict
        [n, outputs], several in a dict, ...
      name: for messages, and for telling runs apart.
      split: "train" or "test".
      classes: how many classes there are, or their names, if targets are class numbers or one number for each class.
        The model must then give as many outputs.
      standardize: pure function from a batch of inputs to the model's inputs. By default images of uint8 are
        standardised by the statistics of their own channels, and other inputs are left as they are. For a test split
        pass the function of the training split, `train_set.standardize`.

    Returns:
      A data set.

    Raises:
      ValueError: arrays are of different lengths, or hold NaN or something else than numbers; labels are out of range;
        or another argument is wrong.

    Example:
      >>> import numpy as np
      >>> from jaxdl import data
      >>> table = np.random.default_rng(0).normal(size=(100, 8))
      >>> data.from_arrays(table, table.sum(1, keepdims=True))
      <arrays train: 100 examples, inputs float32[8], targets float32[1]>
    """
    for argument, value in (("name", name), ("split", split)):
        require(isinstance(value, str), f"from_arrays: {argument} must be a string, got {argument}={shown(value)}")
    if not isinstance(classes, str | Sequence):
        classes = tuple(map(str, range(check_integer("from_arrays", "classes", classes, at_least=1))))
    require(
        not isinstance(classes, str) and all(isinstance(name, str) for name in classes),
        f"from_arrays: classes must be how many there are, or their names, got classes={shown(classes)}; pass 10, or "
        '("cat", "dog") for example',
    )
    for argument, value in (("inputs", inputs), ("targets", targets)):
        require(
            not isinstance(value, Dataset),
            f"from_arrays: {argument} must be arrays, got {value!r}, which is a data set already; use its .{argument}",
        )
    inputs, targets = (_narrowed(argument, tree) for argument, tree in (("inputs", inputs), ("targets", targets)))
    if standardize is None and isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8:
        check_inputs("from_arrays", inputs)  # arrays that are not images have no channels
        standardize = channel_statistics(inputs)
    return Dataset(name, split, inputs, targets, tuple(classes), standardize)


def _narrowed(name: str, tree: Any) -> Any:
    """The tree as NumPy arrays of dtypes that JAX keeps. Lists are arrays here, not trees."""

    def narrowed(leaf):
        try:
            array = np.asarray(leaf)
        except ValueError as error:
            raise ValueError(
                f"from_arrays: {name} must be of one length in each axis, got {shown(leaf)}; fill the rows up"
            ) from error
        require(
            not isinstance(leaf, np.ma.MaskedArray),
            f"from_arrays: {name} must be plain arrays, got a masked one; use array.filled(0), or leave rows out",
        )
        remedy = "leave out what is missing" if array.dtype == object else "convert them first"
        if array.dtype.kind in "US" and name == "targets":
            remedy = "names, targets = np.unique(targets, return_inverse=True) makes class numbers; pass classes=names"
        require(
            array.dtype.kind in "biuf" or array.dtype.name == "bfloat16",
            f"from_arrays: {name} must hold numbers, got {array.dtype} from {shown(leaf)}; {remedy}",
        )
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        if array.dtype == dtype:
            return array
        with np.errstate(over="ignore"):
            kept = array.astype(dtype)
        if array.dtype.kind != "f" and not np.array_equal(kept, array):
            raise ValueError(
                f"from_arrays: {name} must fit {dtype}, the dtype that JAX gives them, got {array.dtype} in "
                f"{array.min()}..{array.max()}; use smaller numbers, np.unique(x, return_inverse=True)[1] for ids"
            )
        if array.dtype.kind == "f" and np.isfinite(array).all() and not np.isfinite(kept).all():
            raise ValueError(
                f"from_arrays: {name} must fit {dtype}, the dtype that JAX gives them, got {array.dtype} in "
                f"{array.min():.3g}..{array.max():.3g}; scale them"
            )
        return kept

    return jax.tree.map(narrowed, tree, is_leaf=lambda node: isinstance(node, list))
