"""A split of a data set whose images are read while they are used."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_flag, check_integer, require, shown
from jaxdl.data.split import Split
from jaxdl.data.standardization import Standardize
from jaxdl.data.streams.sources import Part, Source
from jaxdl.data.streams.views import View
from jaxdl.typing import Batch

IMAGENET_STANDARDIZE = Standardize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""The mean and deviation of ImageNet's training images in each channel, as torchvision states them."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Stream(Split):
    """One split of a data set of images with classes that is read while it is used: it may be of any size.

    `data.folder` and `data.stream` make streams. They are passed to `train.fit`, `train.evaluate`, `ensemble.evaluate`
    and `data.batches` in the place of a `Dataset`. The batch of a step depends only on the training state's key and the
    number of the step.

    An image that cannot be decoded is replaced by a black one, and a `DamagedImageWarning` names it. With `strict` such
    an image is a `StreamError`. A batch of 4 or more images none of which can be decoded is always one.

    Attributes:
      name: the data set's name.
      split: "train" or "test", for example.
      source: reads encoded images by number.
      view: decodes and crops them: `data.DecodeCenterCrop`, `DecodeRandomCrop`, `DecodeRandomResizedCrop`, or your own
        function with a field `size`, (bytes, numpy.random.Generator) -> uint8 [size, size, 3].
      class_names: one per class.
      standardize: the function from uint8 images to the model's inputs.
      workers: processes that decode; 0 for threads of this process. By default processes for streams of 20,000 images
        or more, where this process may use at least 4 cores. Processes import the main script again: put what it
        does under `if __name__ == "__main__":`.
      strict: whether an image that cannot be decoded is an error.

    Raises:
      ValueError: a field is wrong.
    """

    name: str
    split: str
    source: Source
    view: View
    class_names: tuple[str, ...]
    standardize: Callable[[Any], Any] = IMAGENET_STANDARDIZE
    workers: int | None = None
    strict: bool = False

    def __post_init__(self):
        where = f"Stream {self.name!r} ({self.split})"
        require(len(self.source) > 0, f"{where}: there are no images")
        self._check_view(where)
        require(callable(self.standardize), f"{where}: standardize must be a function, got {shown(self.standardize)}")
        if self.workers is not None:
            check_integer(where, "workers", self.workers, at_least=0)
        check_flag(where, "strict", self.strict)

    def _check_view(self, where: str) -> None:
        """Raises `ValueError` unless the view can be one."""
        got = f"got view={shown(self.view)}"
        require(not isinstance(self.view, type), f"{where}: view must be an object, {got}, a class; call it")
        require(
            not type(self.view).__module__.startswith("jaxdl.data.augment"),
            f"{where}: view must decode images, {got}, which changes decoded ones; pass it as augment= to train.fit, "
            "and data.DecodeCenterCrop(224) for example as the view",
        )
        require(
            callable(self.view) and isinstance(getattr(self.view, "size", None), int | np.integer),
            f"{where}: view must be a function with a field size, one integer, {got}; pass data.DecodeCenterCrop(224) "
            "for example",
        )

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        size = self.view.size
        return f"<{self.name} {self.split}: stream of {len(self):,} images {size}x{size}x3, {self.num_classes} classes>"

    @property
    def is_of_images(self) -> bool:
        """True: a stream is of images."""
        return True

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return int(self.view.size), int(self.view.size), 3

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def targets(self) -> np.ndarray:
        """The labels, int32 [n]. Those of `data.stream` are read from the records, which takes a while."""
        return self.source.labels()

    labels = targets

    @property
    def example(self) -> Batch:
        """Shapes and dtypes of a batch of one example, as trees of `jax.ShapeDtypeStruct`."""
        return Batch(jax.ShapeDtypeStruct((1, *self.image_shape), jnp.uint8), jax.ShapeDtypeStruct((1,), jnp.int32))

    def take(self, rows: Any) -> "Stream":
        """The images at these rows, in their order.

        Args:
          rows: integers [m], each in [0, n).

        Raises:
          ValueError: `rows` are not integers, one is out of range, or there are none.
        """
        array = np.asarray(rows)
        require(
            array.ndim == 1 and len(array) > 0 and array.dtype.kind in "iu",
            f"take: rows must be integers [m], at least one of them, got rows={shown(rows)}",
        )
        require(
            bool(array.min() >= 0) and bool(array.max() < len(self)),
            f"take: rows must be in 0..{len(self) - 1}, got {array.min()}..{array.max()}",
        )
        return dataclasses.replace(self, source=Part(self.source, array))
