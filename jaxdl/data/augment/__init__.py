"""Random changes of training images, on the device: pure functions of one key per image and the images.

Bytes (uint8) stay bytes: they are computed with in float32, rounded to the nearest and cut off at 0 and 255.
Floating-point images stay floats, and are in units of full brightness, where 1 is white. Call them from compiled code:
`train.fit` does, and by hand `jax.jit(augment)(keys, images)`.
"""

from jaxdl.data.augment.affine import Rotate, Scale, Shear, Stretch, Translate
from jaxdl.data.augment.color_jitter import ColorJitter
from jaxdl.data.augment.compose import Compose
from jaxdl.data.augment.crops import CenterCrop, RandomCrop, RandomCropTo
from jaxdl.data.augment.cutout import Cutout
from jaxdl.data.augment.flips import AlternatingFlip, RandomFlip
from jaxdl.data.augment.lens import LensDistortion
from jaxdl.data.augment.mixing import CutMix, Mixup
from jaxdl.data.augment.pca_color import PcaColor
from jaxdl.data.augment.protocol import Augment, at_step, takes_targets
from jaxdl.data.augment.recipes import CROP_AND_FLIP, alexnet_test, alexnet_train
from jaxdl.data.augment.resampling import Geometric
from jaxdl.data.augment.resized_crop import RandomResizedCrop
from jaxdl.data.augment.views import FiveCrop, FlipView, TenCrop

__all__ = [
    "CROP_AND_FLIP",
    "AlternatingFlip",
    "Augment",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
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
    "Stretch",
    "TenCrop",
    "Translate",
    "alexnet_test",
    "alexnet_train",
    "at_step",
    "takes_targets",
]
