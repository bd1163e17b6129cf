"""Image data sets as plain arrays: `load("fashion_mini")` ships with the package, others come through tfds."""

from jaxdl.data.augment import CROP_AND_FLIP, Augment, Compose, RandomCrop, RandomFlip
from jaxdl.data.batches import epoch_order, take_batch
from jaxdl.data.dataset import Dataset, Standardize
from jaxdl.data.datasets import DATASETS, load
from jaxdl.data.tfds_reader import DatasetNotFoundError

__all__ = [
    "CROP_AND_FLIP",
    "DATASETS",
    "Augment",
    "Compose",
    "Dataset",
    "DatasetNotFoundError",
    "RandomCrop",
    "RandomFlip",
    "Standardize",
    "epoch_order",
    "load",
    "take_batch",
]
