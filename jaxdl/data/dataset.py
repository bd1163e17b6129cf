"""A split of a data set: arrays that do not change, and what is known about them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_function, check_integer, check_real, looks_channels_first, require, shown


@dataclasses.dataclass(frozen=True)
class Standardize:
    """Turns uint8 images into float32 ones of mean 0 and deviation 1 in each channel: (x / 255 - mean) / std.

    Attributes:
      mean, std: one number per channel, in units of full brightness (255 is 1).

    Raises:
      ValueError: a mean is outside [0, 1], a deviation not above 0, or there are not as many of the one as of the
        other; or, when called, the images are no whole numbers, or have another number of channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, list | np.ndarray):  # a tuple can be hashed: compiled functions are found by it
                values = tuple(values)
            require(
                isinstance(values, tuple) and len(values) > 0,
                f"Standardize: {name} must be a tuple of one number per channel, got {name}={shown(values)}; "
                "pass (0.5,) for one channel",
            )
            for value in values:
                check_real("Standardize", name, value, at_least=0, remedy="in units of full brightness, where 255 is 1")
            object.__setattr__(self, name, tuple(map(float, values)))
        require(
            len(self.mean) == len(self.std),
            f"Standardize: mean and std must have one number per channel each, got {len(self.mean)} and "
            f"{len(self.std)}",
        )
        require(
            max(self.mean) <= 1,
            "Standardize: mean must be in [0, 1], in units of full brightness (255 is 1), got "
            f"mean={shown(self.mean)}; divide mean and std by 255",
        )
        require(
            min(self.std) > 0,
            f"Standardize: std must be above 0, got std={shown(self.std)}; leave out a channel that is constant, or "
            "pass 1 for it",
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps [..., channels] of uint8 to the same shape of float32."""
        require(
            hasattr(images, "dtype") and jnp.issubdtype(images.dtype, jnp.integer),
            "Standardize: images must be uint8, of 0 to 255, got "
            f"{getattr(images, 'dtype', shown(images))}, which would be scaled twice if it is scaled already; pass a "
            "preprocess of your own for float images",
        )
        require(
            images.ndim > 0 and images.shape[-1] == len(self.mean),
            f"Standardize: images must have {len(self.mean)} channels in the last axis, as there are so many means, "
            f"got {tuple(images.shape)}; one made for such images is train_set.standardize",
        )
        scale = 1 / (255 * np.asarray(self.std))
        shift = np.asarray(self.mean) / np.asarray(self.std)
        return images.astype(jnp.float32) * scale.astype(np.float32) - shift.astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """One split of an image data set. Its arrays are read-only.

    Attributes:
      name: the data set's name, "cifar10" for example.
      split: "train" or "test".
      images: uint8 [n, height, width, channels].
      labels: int32 [n], each in [0, number of classes).
      class_names: one per class.
      standardize: the map to model inputs, with the training split's channel statistics (also for the test split).

    Raises:
      ValueError: an array has the wrong dtype or shape, a label is out of range, or another field is not what it
        should be; says what would make it so.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    standardize: Standardize

    def __post_init__(self):
        where = f"Dataset {self.name!r} ({self.split})"
        _check_images(where, self.images)
        _check_class_names(where, self.class_names)
        _check_labels(where, self.labels, len(self.images), len(self.class_names))
        check_function(where, "standardize", self.standardize, "data.Standardize(mean, std)")
        require(
            not isinstance(self.standardize, type),
            f"{where}: standardize must be a function of images, got the class {self.standardize!r}; "
            "pass data.Standardize(mean, std)",
        )
        object.__setattr__(self, "class_names", tuple(self.class_names))
        for array in ("images", "labels"):
            view = getattr(self, array).view()
            view.flags.writeable = False
            object.__setattr__(self, array, view)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        return f"<{self.name} {self.split}: {len(self):,} images {shape}, {self.num_classes} classes>"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Optimizer updates in one pass: n // batch_size. The remainder sits out, a different one in each epoch.

        Raises:
          ValueError: `batch_size` is below 1 or above the number of images.
        """
        check_integer("steps_per_epoch", "batch_size", batch_size, at_least=1)
        require(
            batch_size <= len(self),
            f"steps_per_epoch: batch_size={batch_size} is more than the {len(self)} images of {self!r}; "
            f"pass batch_size <= {len(self)}",
        )
        return len(self) // batch_size

    def __getitem__(self, rows: slice) -> "Dataset":
        """Part of the split, `train_set[:8000]` for example, with the same `standardize`.

        Raises:
          ValueError: `rows` is not a slice, or no example would be left.
        """
        require(
            isinstance(rows, slice),
            f"Dataset: pick examples with a slice, as in train_set[:8000], got {rows!r}; "
            "single examples are in .images and .labels",
        )
        try:
            left = len(range(*rows.indices(len(self))))
        except TypeError as error:
            raise ValueError(
                f"Dataset: a slice goes from integer to integer, got {rows}; int(0.8 * len(train_set)) is one"
            ) from error
        require(left > 0, f"Dataset: {rows} leaves none of the {len(self)} examples")
        return dataclasses.replace(self, images=self.images[rows], labels=self.labels[rows])


def _check_images(where: str, images: Any) -> None:
    """Raises `ValueError` unless images are uint8 [n, height, width, channels] of at least one image."""
    what = "images must be uint8 [n, height, width, channels] with n >= 1"
    require(
        isinstance(images, np.ndarray),
        f"{where}: {what}, a NumPy array, got {type(images).__name__}; use np.asarray(images)",
    )
    got = f"got {images.dtype} {images.shape}"
    require(images.size > 0, f"{where}: {what}, {got}, which holds no images")
    if images.ndim == 3:
        raise ValueError(f"{where}: {what}, {got}; add an axis of one channel, images[..., None]")
    require(images.ndim == 4, f"{where}: {what}, {got}")
    require(
        not looks_channels_first(images.shape[1:]),
        f"{where}: {what}, {got}, which looks like [n, channels, height, width]; use images.transpose(0, 2, 3, 1)",
    )
    if images.dtype != np.uint8:
        raise ValueError(f"{where}: {what}, {got}; {_to_bytes(images)}")


def _to_bytes(images: np.ndarray) -> str:
    """How images of another dtype become uint8."""
    if images.dtype.kind not in "iuf":
        return "pass numbers from 0 to 255"
    low, high = images.min(), images.max()
    if images.dtype.kind in "iu":
        inside = low >= 0 and high <= 255
        return "use images.astype(np.uint8)" if inside else f"numbers must be in 0..255, got {low}..{high}"
    if low >= 0 and high <= 1:
        return "scale to 0..255 and use (255 * images).round().astype(np.uint8)"
    if low >= 0 and high <= 255:
        return "use images.round().astype(np.uint8)"
    return (
        f"with numbers in {low:.3g}..{high:.3g} they are no brightness of 0..255; undo what standardised them, or "
        "train on float batches with train.make_step and a preprocess of your own"
    )


def _check_class_names(where: str, names: Any) -> None:
    """Raises `ValueError` unless there is at least one name, and all are strings."""
    require(
        isinstance(names, list | tuple) and len(names) > 0 and all(isinstance(name, str) for name in names),
        f"{where}: class_names must be a tuple of at least one name, got class_names={shown(names)}; "
        'pass ("cat", "dog") for example, or tuple(map(str, range(10)))',
    )


def _check_labels(where: str, labels: Any, examples: int, classes: int) -> None:
    """Raises `ValueError` unless labels are int32 [examples], each in [0, classes)."""
    what = f"labels must be int32 [{examples}], one per image"
    require(
        isinstance(labels, np.ndarray),
        f"{where}: {what}, a NumPy array, got {type(labels).__name__}; use np.array(labels, np.int32)",
    )
    got = f"got {labels.dtype} {labels.shape}"
    if labels.shape == (examples, 1):
        raise ValueError(f"{where}: {what}, {got}; use labels[:, 0]")
    if labels.ndim == 2 and len(labels) == examples:
        raise ValueError(
            f"{where}: {what}, {got}; labels are class numbers, and one-hot ones become them by "
            "labels.argmax(1).astype(np.int32)"
        )
    require(labels.shape == (examples,), f"{where}: {what}, {got}, for {examples} images")
    require(
        labels.dtype.kind in "iub",
        f"{where}: {what}, {got}; class numbers are needed, from 0 to {classes - 1}",
    )
    low, high = int(labels.min()), int(labels.max())
    require(
        low >= 0 and high < classes,
        f"{where}: labels must be in [0, {classes}) as there are {classes} class names, got {low}..{high}; "
        + ("leave out what has no class" if low < 0 else "classes are counted from 0, each with a name"),
    )
    require(labels.dtype == np.int32, f"{where}: {what}, {got}; use labels.astype(np.int32)")


def channel_statistics(images: np.ndarray) -> Standardize:
    """Mean and deviation of each channel over uint8 images [n, height, width, channels], exact: from histograms."""
    channels = images.shape[-1]
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)])
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = np.sum(counts * np.square(values - mean[:, None]), 1) / counts.sum(1)
    require(bool(np.all(variance > 0)), "channel_statistics: a channel is constant, so it cannot be standardised")
    return Standardize(tuple(map(float, mean)), tuple(map(float, np.sqrt(variance))))
