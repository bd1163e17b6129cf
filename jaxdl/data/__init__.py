"""Image data sets as plain arrays: `load("fashion_mini")` ships with the package, others come through tfds."""

from jaxdl.data.batches import epoch_order, take_batch
from jaxdl.data.dataset import Dataset, Standardize
from jaxdl.data.datasets import DATASETS, load
from jaxdl.data.tfds_reader import DatasetNotFoundError

__all__ = ["DATASETS", "Dataset", "DatasetNotFoundError", "Standardize", "epoch_order", "load", "take_batch"]
