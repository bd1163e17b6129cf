"""Exact sums over the pixels of a data set's images, for statistics."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.data.dataset import Dataset
from jaxdl.data.streams.order import chunks
from jaxdl.data.streams.stream import Stream
from jaxdl.progress import progress_bar

_BATCH = 1024  # images at a time
_STREAMED = 64  # images of a stream at a time, which are larger
_LONG = 10_000  # images of a stream from which on a progress bar is shown


def batches_of_images(function: str, source: Any) -> Iterator[np.ndarray]:
    """The images of a data set, or of batches of images, as arrays uint8 [n, height, width, channels].

    Args:
      function: named in errors.
      source: a `Dataset` of images, a `Stream`, one array of images, or an iterable of such arrays.

    Raises:
      ValueError: `source` is none of these, or it has no images.
    """
    expected = "a data.Dataset of images, a data.Stream, or arrays uint8 [n, height, width, channels]"
    if isinstance(source, tuple) and any(isinstance(part, Dataset | Stream) for part in source):
        raise ValueError(
            f"{function}: images must be {expected}, got the pair (train, test); pass the first, train_set"
        )
    if isinstance(source, Dataset):
        source = source.inputs
    if isinstance(source, Stream):
        source = _read(function, source)
    if hasattr(source, "ndim"):
        array = np.asarray(source)
        source = (array[start : start + _BATCH] for start in range(0, len(array) if array.ndim else 0, _BATCH))
    require(
        isinstance(source, Iterable) and not isinstance(source, str | dict),
        f"{function}: images must be {expected}, got {shown(source)}; pass train_set",
    )
    channels = None
    for batch in source:
        require(
            not isinstance(batch, tuple),
            f"{function}: images must be {expected}, got pairs; pass (images for images, _ in batches)",
        )
        images = np.asarray(batch)
        require(
            images.ndim == 4 and images.dtype == np.uint8 and channels in (None, images.shape[-1]),
            f"{function}: images must be {expected}, all with as many channels, got {images.dtype} "
            f"{list(images.shape)} among them",
        )
        channels = images.shape[-1]
        if images.size:
            yield images
    require(channels is not None, f"{function}: images must be one or more, got none; pass train_set")


def _read(function: str, stream: Stream) -> Iterator[np.ndarray]:
    """The images of a stream once, in order, through its view."""
    with progress_bar(function, len(stream)) if len(stream) >= _LONG else contextlib.nullcontext() as update:
        done = 0
        for batch, real in chunks(stream, _STREAMED):
            yield batch.inputs[: real[0]]
            done += int(real[0])
            if update is not None:
                update(done, "")


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
