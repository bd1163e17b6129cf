"""Exact sums over the pixels of a data set's images, for statistics."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.data.dataset import Dataset

_BATCH = 1024  # images at a time


def batches_of_images(function: str, source: Any) -> Iterator[np.ndarray]:
    """The images of a data set, or of batches of images, as arrays uint8 [n, height, width, channels].

    Args:
      function: named in errors.
      source: a `Dataset` of images, one array of images, or an iterable of such arrays.

    Raises:
      ValueError: `source` is none of these, or it has no images.
    """
    expected = "a data.Dataset of images, or arrays uint8 [n, height, width, channels]"
    if isinstance(source, Dataset):
        source = source.inputs
    if hasattr(source, "ndim"):
        array = np.asarray(source)
        source = (array[start : start + _BATCH] for start in range(0, len(array) if array.ndim else 0, _BATCH))
    require(
        isinstance(source, Iterable) and not isinstance(source, str | dict),
        f"{function}: images must be {expected}, got {shown(source)}; pass train_set",
    )
    channels = None
    for batch in source:
        images = np.asarray(batch)
        require(
            images.ndim == 4 and images.dtype == np.uint8 and channels in (None, images.shape[-1]),
            f"{function}: images must be {expected}, all with as many channels, got {images.dtype} "
            f"{list(images.shape)} among them; if the batches are pairs, pass (images for images, _ in batches)",
        )
        channels = images.shape[-1]
        if images.size:
            yield images
    require(channels is not None, f"{function}: images must be one or more, got none; pass train_set")


def channel_covariance(function: str, source: Any) -> np.ndarray:
    """The covariance [channels, channels] of the channels over all pixels, in units of full brightness (255 is 1).

    All sums are of integers that float64 holds exactly, so it does not depend on the batches or their order.

    Raises:
      ValueError: as `batches_of_images`.
    """
    pixels, sums, products = 0, np.int64(0), np.int64(0)
    for images in batches_of_images(function, source):
        values = images.reshape(-1, images.shape[-1]).astype(np.float64)
        pixels += len(values)
        sums = sums + values.sum(0).astype(np.int64)
        products = products + (values.T @ values).astype(np.int64)
    # In Python's integers, which do not overflow.
    sums, products = np.asarray(sums).astype(object), np.asarray(products).astype(object)
    scaled = pixels * products - np.outer(sums, sums)
    return (scaled / (pixels * 255) ** 2).astype(np.float64)
