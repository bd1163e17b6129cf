"""Data sets as plain arrays: the bundled "fashion_mini", those of tensorflow-datasets, and your own; and streams."""

from jaxdl.data.arrays import from_arrays
from jaxdl.data.augment import (
    CROP_AND_FLIP,
    AlternatingFlip,
    Augment,
    CenterCrop,
    ColorJitter,
    Compose,
    CutMix,
    Cutout,
    FiveCrop,
    FlipView,
    Geometric,
    LensDistortion,
    Mixup,
    PcaColor,
    RandomCrop,
    RandomCropTo,
    RandomFlip,
    RandomResizedCrop,
    Rotate,
    Scale,
    Shear,
    Stretch,
    TenCrop,
    Translate,
    alexnet_test,
    alexnet_train,
)
from jaxdl.data.batching import batches, epoch_order, take_batch
from jaxdl.data.dataset import Dataset
from jaxdl.data.datasets import DATASETS, load
from jaxdl.data.mean_image import SubtractMeanImage
from jaxdl.data.standardization import Standardize
from jaxdl.data.streams.memory import in_memory
from jaxdl.data.streams.opening import folder, stream
from jaxdl.data.streams.reading import DamagedImageWarning, StreamError
from jaxdl.data.streams.stream import IMAGENET_STANDARDIZE, Stream
from jaxdl.data.streams.views import DecodeCenterCrop, DecodeRandomCrop, DecodeRandomResizedCrop
from jaxdl.data.tfds_reader import DatasetNotFoundError

__all__ = [
    "CROP_AND_FLIP",
    "DATASETS",
    "IMAGENET_STANDARDIZE",
    "AlternatingFlip",
    "Augment",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "DamagedImageWarning",
    "Dataset",
    "DatasetNotFoundError",
    "DecodeCenterCrop",
    "DecodeRandomCrop",
    "DecodeRandomResizedCrop",
    "FiveCrop",
    "FlipView",
    "Geometric",
    "LensDistortion",
    "Mixup",
    "PcaColor",
    "RandomCrop",
    "RandomCropTo",
    "RandomFlip",
    "RandomResizedCrop",
    "Rotate",
    "Scale",
    "Shear",
    "Standardize",
    "Stream",
    "StreamError",
    "Stretch",
    "SubtractMeanImage",
    "TenCrop",
    "Translate",
    "alexnet_test",
    "alexnet_train",
    "batches",
    "epoch_order",
    "folder",
    "from_arrays",
    "in_memory",
    "load",
    "stream",
    "take_batch",
]
