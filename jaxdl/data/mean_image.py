"""Subtracts the mean image of the training set, as AlexNet's preprocessing does."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_real, require, shown
from jaxdl.data.image_sums import batches_of_images


@dataclasses.dataclass(frozen=True, eq=False)
class SubtractMeanImage:
    """Subtracts the mean over the training images from every pixel: (x - mean) / divisor.

    AlexNet is trained on such centred raw values (Krizhevsky et al. 2012, sec. 2). It is for the argument `preprocess`,
    and so comes after augmentation. From images that are smaller than the mean, crops for example, the middle of the
    mean is subtracted, as in Krizhevsky's cuda-convnet.

    Attributes:
      mean: [height, width, channels], in levels from 0 to 255.
      divisor: 1 keeps levels, as AlexNet does; 255 gives units of full brightness.

    Raises:
      ValueError: an attribute has the wrong shape or values; or, when called, the images are not uint8, are larger than
        the mean, or have another number of channels.

    Example:
      >>> from jaxdl import data
      >>> train_set, test_set = data.load("fashion_mini")
      >>> subtract = data.SubtractMeanImage.of(train_set)
      >>> abs(float(subtract(train_set.images).mean())) < 1e-3
      True
    """

    mean: np.ndarray
    divisor: float = 1.0

    def __post_init__(self):
        mean = np.array(self.mean, np.float32) if hasattr(self.mean, "ndim") else np.zeros(0)
        require(
            mean.ndim == 3 and mean.size > 0 and bool(np.all((mean >= 0) & (mean <= 255))),
            "SubtractMeanImage: mean must be an array [height, width, channels] of levels from 0 to 255, got "
            f"mean={shown(self.mean)}; SubtractMeanImage.of(train_set) computes it",
        )
        require(
            mean.max() > 1 or mean.max() == 0,
            f"SubtractMeanImage: mean must be in levels from 0 to 255, got at most {mean.max():.3g}; multiply "
            "it by 255",
        )
        check_real("SubtractMeanImage", "divisor", self.divisor, at_least=0)
        require(self.divisor > 0, "SubtractMeanImage: divisor must be above 0, got divisor=0; use 1 or 255")
        mean.flags.writeable = False
        object.__setattr__(self, "mean", mean)

    @classmethod
    def of(cls, images: Any, divisor: float = 1.0) -> "SubtractMeanImage":
        """The mean of images of one size, from sums of integers.

        Args:
          images: a `Dataset` of images, an array uint8 [n, height, width, channels], or an iterable of such arrays. Or
            a `Stream`, which is read once, through its view; `train_set.take(rows)` for a part of a large one.
          divisor: as the attribute.

        Raises:
          ValueError: the images are none of these, there are none, or they are of several sizes.
        """
        count, total = 0, np.zeros(0, np.int64)
        for batch in batches_of_images("SubtractMeanImage", images):
            require(
                count == 0 or batch.shape[1:] == total.shape,
                f"SubtractMeanImage: images must be of one size, got {list(batch.shape[1:])} and {list(total.shape)}; "
                "crop them first",
            )
            count, total = count + len(batch), batch.sum(0, dtype=np.int64) + (total if count else 0)
        return cls((total / count).astype(np.float32), divisor)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps uint8 [..., height, width, channels] to the same shape of float32."""
        require(
            hasattr(images, "dtype") and images.dtype == jnp.uint8,
            f"SubtractMeanImage: images must be uint8, got {getattr(images, 'dtype', shown(images))}; pass a "
            "preprocess of your own for float images",
        )
        height, width, channels = self.mean.shape
        require(
            images.ndim >= 3
            and images.shape[-1] == channels
            and images.shape[-3] <= height
            and images.shape[-2] <= width,
            f"SubtractMeanImage: images must be [..., height, width, channels], at most as large as the mean "
            f"{list(self.mean.shape)}, got {list(images.shape)}; SubtractMeanImage.of(train_set) has the mean for them",
        )
        top, left = (height - images.shape[-3]) // 2, (width - images.shape[-2]) // 2
        mean = self.mean[top : top + images.shape[-3], left : left + images.shape[-2]]
        return (images.astype(jnp.float32) - mean) / self.divisor
