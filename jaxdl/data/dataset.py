"""A split of a data set: read-only arrays, and facts about them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.data.dataset_checks import check_class_names, check_inputs, check_standardize, check_targets
from jaxdl.data.split import Split
from jaxdl.typing import Arrays, Batch


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset(Split):
    """One split of a data set. Its arrays are read-only.

    Images with class numbers are the usual case: uint8 [n, height, width, channels] and int32 [n]. Inputs and targets
    may also be other arrays, or tuples and dicts of arrays, with a leading axis of n examples. `data.from_arrays` makes
    a set from any arrays, and converts their dtypes.

    Attributes:
      name: the data set's name, "cifar10" for example.
      split: "train" or "test".
      inputs: NumPy arrays [n, ...]. One array of uint8, or of four axes, is taken for images.
      targets: NumPy arrays [n, ...]: class numbers int32 [n], soft labels float32 [n, classes], numbers to predict.
      class_names: one per class; () if there are no classes. With names, targets are class numbers, or one number for
        each class.
      standardize: the function from inputs to the model's inputs, with the training split's statistics (also in the
        test split); None if the model takes the inputs as they are.

    Raises:
      ValueError: an array has the wrong dtype or shape, a label is out of range, or another field is wrong. The message
        says how to correct it.
    """

    name: str
    split: str
    inputs: Arrays
    targets: Arrays
    class_names: tuple[str, ...] = ()
    standardize: Callable[[Any], Any] | None = None

    def __post_init__(self):
        where = f"Dataset {self.name!r} ({self.split})"
        check_standardize(where, self.standardize, self.inputs)
        check_inputs(where, self.inputs)
        check_class_names(where, self.class_names)
        check_targets(where, self.targets, len(self), len(self.class_names))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        for field in ("inputs", "targets"):
            object.__setattr__(self, field, jax.tree.map(_read_only, getattr(self, field)))

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.inputs)[0])

    def __repr__(self) -> str:
        if self.is_of_images and self.class_names:
            what = f"images {'x'.join(map(str, self.image_shape))}, {self.num_classes} classes"
        else:
            classes = f", {self.num_classes} classes" if self.class_names else ""
            what = f"examples, inputs {_kinds(self.inputs)}, targets {_kinds(self.targets)}{classes}"
        return f"<{self.name} {self.split}: {len(self):,} {what}>"

    @property
    def is_of_images(self) -> bool:
        """Whether the inputs are one array [n, height, width, channels]."""
        return isinstance(self.inputs, np.ndarray) and self.inputs.ndim == 4

    @property
    def images(self) -> np.ndarray:
        """The inputs of a set of images [n, height, width, channels].

        Raises:
          ValueError: the inputs are not images.
        """
        if not self.is_of_images:
            raise ValueError(f"{self!r} has no images; use .inputs")
        return self.inputs

    @property
    def labels(self) -> np.ndarray:
        """The targets of a set with classes: int32 [n], each in [0, num_classes), or float32 [n, num_classes].

        Raises:
          ValueError: the set has no classes.
        """
        if not self.class_names:
            raise ValueError(f"{self!r} has no classes; use .targets")
        return self.targets

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels).

        Raises:
          ValueError: the inputs are not images.
        """
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """Number of classes.

        Raises:
          ValueError: the set has no classes.
        """
        if not self.class_names:
            raise ValueError(f"{self!r} has no classes")
        return len(self.class_names)

    @property
    def example(self) -> Batch:
        """Shapes and dtypes of a batch of one example, as trees of `jax.ShapeDtypeStruct`."""

        def struct(array):
            return jax.ShapeDtypeStruct((1, *array.shape[1:]), jax.dtypes.canonicalize_dtype(array.dtype))

        return Batch(jax.tree.map(struct, self.inputs), jax.tree.map(struct, self.targets))

    def __getitem__(self, rows: slice) -> "Dataset":
        """Part of the split, `train_set[:8000]` for example, with the same `standardize`.

        Raises:
          ValueError: `rows` is not a slice, or no example would be left.
        """
        require(
            isinstance(rows, slice),
            f"Dataset: pick examples with a slice, as in train_set[:8000], got {rows!r}; rows of your choice are "
            "train_set.take(rows), single examples are in .inputs and .targets",
        )
        try:
            left = len(range(*rows.indices(len(self))))
        except TypeError as error:
            raise ValueError(
                f"Dataset: a slice goes from integer to integer, got {rows}; int(0.8 * len(train_set)) is one"
            ) from error
        require(left > 0, f"Dataset: {rows} leaves none of the {len(self)} examples")
        return self._at(rows)

    def take(self, rows: Any) -> "Dataset":
        """The examples at these rows, in their order; a row may come more than once.

        Args:
          rows: integers [m], each in [0, n), or bools [n]: `train_set.take(train_set.labels < 5)`.

        Returns:
          A set with copies of the examples, and the same `standardize`.

        Raises:
          ValueError: `rows` are neither integers nor bools, one is out of range, or there are none.
        """
        try:
            array = np.asarray(rows)
        except ValueError:  # lists of several lengths
            array = np.zeros(0)
        if array.dtype == bool:
            require(
                array.shape == (len(self),),
                f"take: rows of bools must be one for each of the {len(self)} examples, got shape {list(array.shape)}",
            )
            array = np.flatnonzero(array)
        require(
            array.ndim == 1 and len(array) > 0 and array.dtype.kind in "iu",
            f"take: rows must be integers [m] or bools [n], at least one of them, got rows={shown(rows)}"
            + ("; none of the bools is True" if isinstance(rows, np.ndarray) and rows.dtype == bool else "")
            + ("; with a slice write train_set[:8000]" if isinstance(rows, slice) else ""),
        )
        require(
            bool(array.min() >= 0) and bool(array.max() < len(self)),
            f"take: rows must be in 0..{len(self) - 1}, got {array.min()}..{array.max()}; they are counted from 0",
        )
        return self._at(array)

    def _at(self, rows: Any) -> "Dataset":
        inputs, targets = jax.tree.map(lambda array: array[rows], (self.inputs, self.targets))
        return dataclasses.replace(self, inputs=inputs, targets=targets)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _kinds(tree: Any) -> str:
    """Dtypes and shapes of the examples, as in "float32[8]" or "{image: uint8[28,28,1], size: float32[]}"."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name}: {_kinds(part)}" for name, part in tree.items()) + "}"
    if isinstance(tree, tuple | list):
        return "(" + ", ".join(map(_kinds, tree)) + ")"
    return f"{tree.dtype}[{','.join(map(str, tree.shape[1:]))}]"
