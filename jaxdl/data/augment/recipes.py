"""Published recipes of augmentation."""

from typing import Any

from jaxdl.data.augment.compose import Compose
from jaxdl.data.augment.crops import RandomCrop, RandomCropTo
from jaxdl.data.augment.flips import RandomFlip
from jaxdl.data.augment.pca_color import PcaColor
from jaxdl.data.augment.views import TenCrop

CROP_AND_FLIP = Compose((RandomCrop(4), RandomFlip()))
"""The usual augmentation for CIFAR: 4 pixels of padding and a random crop, then a random flip."""


def alexnet_train(images: Any, size: int | tuple[int, int] = 224) -> Compose:
    """AlexNet's augmentation: random windows of `size` from larger images, random flips, and changes of colour.

    Krizhevsky et al. 2012, sec. 4.1, with images of 256 x 256 pixels. The network's preprocessing is
    `SubtractMeanImage`.

    Args:
      images: the training set, whose colours `PcaColor` follows: anything that `PcaColor.of` takes.
      size: pixels, one number for both sides or (height, width).

    Raises:
      ValueError: as `RandomCropTo` and `PcaColor.of`.
    """
    return Compose((RandomCropTo(size), RandomFlip(), PcaColor.of(images)))


def alexnet_test(size: int | tuple[int, int] = 224) -> TenCrop:
    """AlexNet's ten views of each image in testing; the softmax outputs of the ten are averaged.

    Krizhevsky et al. 2012, sec. 4.1: the windows in the corners and in the middle, and their mirror images.

    Args:
      size: pixels, one number for both sides or (height, width).

    Raises:
      ValueError: as `TenCrop`.
    """
    return TenCrop(size)
