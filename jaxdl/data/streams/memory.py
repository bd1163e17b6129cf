"""A stream's images, decoded into memory."""

import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.data.dataset import Dataset
from jaxdl.data.streams.order import chunks
from jaxdl.data.streams.stream import Stream
from jaxdl.progress import progress_bar

_CHUNK = 256  # images


def in_memory(stream: Stream) -> Dataset:
    """Decodes all images of a stream once, for sets that fit into memory: training on them is then faster.

    Each image is what the stream's view makes of it. A view with random crops draws one crop for good; pass
    `data.DecodeCenterCrop(pixels)` as the view, and crop by `augment=`. It takes height x width x 3 bytes an image.

    Args:
      stream: of `data.folder` or `data.stream`.

    Returns:
      A data set with the images uint8 [n, height, width, 3] and the labels int32 [n], in the order of the stream, and
      its name, classes and `standardize`.

    Raises:
      ValueError: `stream` is not a stream.
      StreamError: as in training.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from PIL import Image
      >>> from jaxdl import data
      >>> with tempfile.TemporaryDirectory() as root:
      ...     for name in ("cat", "dog"):
      ...         for split in ("train", "val"):
      ...             Path(root, split, name).mkdir(parents=True)
      ...             Image.new("RGB", (300, 200), "red").save(Path(root, split, name, "1.png"))
      ...     train_stream, _ = data.folder(root, train_view=data.DecodeCenterCrop(32))
      ...     data.in_memory(train_stream)
      <... train: 2 images 32x32x3, 2 classes>
    """
    require(
        isinstance(stream, Stream),
        f"in_memory: stream must be a stream, got {shown(stream)}; data.folder and data.stream make them",
    )
    images = np.empty((len(stream), *stream.image_shape), np.uint8)
    labels = np.empty(len(stream), np.int32)
    done = 0
    with progress_bar(f"reading {stream.name}", len(stream)) as update:
        for batch, real in chunks(stream, min(_CHUNK, len(stream))):
            count = int(real[0])
            images[done : done + count], labels[done : done + count] = batch.inputs[:count], batch.targets[:count]
            done += count
            update(done, "")
    return Dataset(stream.name, stream.split, images, labels, stream.class_names, stream.standardize)
