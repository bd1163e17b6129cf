"""A split of a data set: arrays that do not change, and what is known about them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, require


@dataclasses.dataclass(frozen=True)
class Standardize:
    """Turns uint8 images into float32 ones of mean 0 and deviation 1 in each channel: (x / 255 - mean) / std.

    Attributes:
      mean, std: one number per channel, in units of full brightness (255 is 1).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps [..., channels] of uint8 to the same shape of float32."""
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
      ValueError: an array has the wrong dtype or shape, or a label is out of range.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    standardize: Standardize

    def __post_init__(self):
        where = f"Dataset {self.name!r} ({self.split})"
        images, labels = self.images, self.labels
        require(
            images.dtype == np.uint8 and images.ndim == 4 and len(images) > 0,
            f"{where}: images must be uint8 [n, height, width, channels] with n >= 1, "
            f"got {images.dtype} {images.shape}; scale to 0..255 and use images.astype(np.uint8)",
        )
        require(
            labels.dtype == np.int32 and labels.shape == (len(images),),
            f"{where}: labels must be int32 [{len(images)}], one per image, got {labels.dtype} {labels.shape}; "
            "use labels.astype(np.int32)",
        )
        require(
            labels.min() >= 0 and labels.max() < len(self.class_names),
            f"{where}: labels must be in [0, {len(self.class_names)}) as there are {len(self.class_names)} class "
            f"names, got {labels.min()}..{labels.max()}",
        )
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
        require(len(range(*rows.indices(len(self)))) > 0, f"Dataset: {rows} leaves none of the {len(self)} examples")
        return dataclasses.replace(self, images=self.images[rows], labels=self.labels[rows])


def channel_statistics(images: np.ndarray) -> Standardize:
    """Mean and deviation of each channel over uint8 images [n, height, width, channels], exact: from histograms."""
    channels = images.shape[-1]
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)])
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = np.sum(counts * np.square(values - mean[:, None]), 1) / counts.sum(1)
    require(bool(np.all(variance > 0)), "channel_statistics: a channel is constant, so it cannot be standardised")
    return Standardize(tuple(map(float, mean)), tuple(map(float, np.sqrt(variance))))
