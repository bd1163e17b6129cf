"""Mixup and CutMix: images and labels of two examples mixed.

The examples of a batch are paired by their places: 0 with 1, 2 with 3, and so on; the last of an odd number is mixed
with the one before it. Batches are in random order, so the pairs are random. No pair crosses from one device to another
if each device has an even number of examples, and then the same key gives the same pixels on any number of devices;
with an odd number each device pairs its own examples. (A permutation of the whole batch would need all images on every
device.) Each example draws a weight of its own from its own key; the papers' programs draw one for the whole batch,
which gives the loss the same mean and a larger variance.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.arguments import check_integer, require, shown
from jaxdl.data.augment.checks import check_call, check_pixels, check_positive
from jaxdl.data.augment.pixels import from_float, to_float


@dataclasses.dataclass(frozen=True)
class Mixup:
    """Mixes each example with its partner: w x + (1 - w) x', and the labels in the same way; w ~ Beta(alpha, alpha).

    Zhang et al. 2018, arXiv 1710.09412: alpha = 1 on CIFAR-10 and 0.2 on ImageNet. Examples are
    partners in pairs by their places in the batch: 0 and 1, 2 and 3, and so on.

    Attributes:
      alpha: above 0; the smaller, the closer the weights are to 0 and 1.
      num_classes: needed for labels that are class numbers, which become soft labels float32 [batch, num_classes].
        Floating-point targets are mixed as they are.

    Raises:
      ValueError: `alpha` is not above 0, or `num_classes` is not an integer of at least 2; or, when called, there is
        not one key for each image, the images are neither uint8 nor floating point, or labels are class numbers without
        `num_classes`.
    """

    alpha: float = 1.0
    num_classes: int | None = None

    def __post_init__(self):
        _check_fields("Mixup", self.alpha, self.num_classes)

    def draw(self, key: jax.Array) -> jax.Array:
        """The weight of the example itself."""
        return jax.random.beta(key, self.alpha, self.alpha)

    def __call__(self, keys: jax.Array, images: jax.Array, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Maps images [batch, height, width, channels] and labels [batch] or targets [batch, ...] to mixed ones."""
        check_call("Mixup", keys, images)
        check_pixels("Mixup", images)
        soft = _soft("Mixup", len(images), targets, self.num_classes)
        weights = jax.vmap(self.draw)(keys)
        mixed = _mixed(to_float(images), weights)
        return from_float(mixed, images.dtype), _mixed(soft, weights)


@dataclasses.dataclass(frozen=True)
class CutMix:
    """Replaces a rectangle of each image by its partner's pixels; labels are mixed by the share of pixels.

    Yun et al. 2019, arXiv 1905.04899, with alpha = 1: the rectangle has the image's shape, the share 1 - w of its area
    with w ~ Beta(alpha, alpha), and any pixel as its centre; what is outside of the image is cut off, and the labels'
    weights are the shares that are left. Partners are those of `Mixup`.

    Attributes:
      alpha, num_classes: as for `Mixup`.

    Raises:
      ValueError: as for `Mixup`, but images may have any dtype.
    """

    alpha: float = 1.0
    num_classes: int | None = None

    def __post_init__(self):
        _check_fields("CutMix", self.alpha, self.num_classes)

    def draw(self, key: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        """The rectangle's first rows and columns, and those after its last, inside the image: two integers each."""
        shares, places = jax.random.split(key)
        weight = jax.random.beta(shares, self.alpha, self.alpha)
        sides = jnp.array(size)
        half = (jnp.sqrt(1 - weight) * sides).astype(jnp.int32) // 2
        centre = jax.random.randint(places, (2,), 0, sides)
        return jnp.clip(centre - half, 0, sides), jnp.clip(centre + half, 0, sides)

    def __call__(self, keys: jax.Array, images: jax.Array, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Maps images [batch, height, width, channels] and labels [batch] or targets [batch, ...] to mixed ones."""
        check_call("CutMix", keys, images)
        soft = _soft("CutMix", len(images), targets, self.num_classes)
        height, width = images.shape[1:3]
        starts, ends = jax.vmap(lambda key: self.draw(key, (height, width)))(keys)
        rows, columns = (
            (jnp.arange(side) >= starts[:, axis, None]) & (jnp.arange(side) < ends[:, axis, None])
            for axis, side in enumerate((height, width))
        )
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        images = jnp.asarray(images)
        kept = 1 - (ends - starts).prod(1) / (height * width)
        return jnp.where(inside, images[_partners(len(images))], images), _mixed(soft, kept)


def _partners(count: int) -> jax.Array:
    """The place of each example's partner."""
    places = jnp.arange(count) ^ 1
    return jnp.where(places < count, places, max(count - 2, 0))


def _mixed(values: jax.Array, weights: jax.Array) -> jax.Array:
    weights = weights.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return weights * values + (1 - weights) * values[_partners(len(values))]


def _check_fields(function: str, alpha: Any, num_classes: Any) -> None:
    check_positive(function, "alpha", alpha, "1 is usual")
    if num_classes is not None:
        check_integer(function, "num_classes", num_classes, at_least=2, remedy="pass train_set.num_classes")


def _soft(function: str, count: int, targets: Any, num_classes: int | None) -> jax.Array:
    """Floating-point targets [batch, ...]; class numbers as rows of zeros and a one."""
    require(
        hasattr(targets, "dtype") and targets.ndim >= 1,
        f"{function}: targets must be an array [batch, ...], got {shown(targets)}; the arguments are (keys, images, "
        "targets)",
    )
    require(
        len(targets) == count,
        f"{function}: targets must be one for each of the {count} images, got {targets.dtype} {list(targets.shape)}; "
        "pass those of the same examples",
    )
    if jnp.issubdtype(targets.dtype, jnp.floating):
        return jnp.asarray(targets)
    require(
        targets.ndim == 1 and jnp.issubdtype(targets.dtype, jnp.integer),
        f"{function}: targets must be class numbers [batch] or floating point, got {targets.dtype} "
        f"{list(targets.shape)}; use targets.astype(numpy.float32)",
    )
    if num_classes is None:
        raise ValueError(
            f"{function}: num_classes must be given for labels that are class numbers, got num_classes=None; use "
            f"{function}(num_classes=train_set.num_classes)"
        )
    return jax.nn.one_hot(targets, num_classes)
