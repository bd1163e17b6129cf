"""Data sets as plain arrays: the bundled "fashion_mini", those of tensorflow-datasets, and your own; and streams."""

from jaxdl.data.arrays import from_arrays
from jaxdl.data.augment import CROP_AND_FLIP, Augment, Compose, RandomCrop, RandomFlip
from jaxdl.data.batching import batches, epoch_order, take_batch
from jaxdl.data.dataset import Dataset
from jaxdl.data.datasets import DATASETS, load
from jaxdl.data.standardization import Standardize
from jaxdl.data.streams.opening import folder, stream
from jaxdl.data.streams.reading import DamagedImageWarning, StreamError
from jaxdl.data.streams.stream import IMAGENET_STANDARDIZE, Stream
from jaxdl.data.streams.views import DecodeCenterCrop, DecodeRandomCrop, DecodeRandomResizedCrop
from jaxdl.data.tfds_reader import DatasetNotFoundError

__all__ = [
    "CROP_AND_FLIP",
    "DATASETS",
    "IMAGENET_STANDARDIZE",
    "Augment",
    "Compose",
    "DamagedImageWarning",
    "Dataset",
    "DatasetNotFoundError",
    "DecodeCenterCrop",
    "DecodeRandomCrop",
    "DecodeRandomResizedCrop",
    "RandomCrop",
    "RandomFlip",
    "Standardize",
    "Stream",
    "StreamError",
    "batches",
    "epoch_order",
    "folder",
    "from_arrays",
    "load",
    "stream",
    "take_batch",
]
