"""Several views of each image for testing: crops and mirror images, whose predictions are averaged.

AlexNet averages the softmax outputs of ten views (Krizhevsky et al. 2012, sec. 4.1).
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdl.data.augment.checks import check_fits, check_images, check_size


@dataclasses.dataclass(frozen=True)
class FlipView:
    """Each image, and then its mirror image.

    Raises:
      ValueError: when called, the images are no array of four axes.
    """

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to [batch, 2, height, width, channels]."""
        check_images("FlipView", images)
        images = jnp.asarray(images)
        return jnp.stack([images, images[:, :, ::-1]], 1)


@dataclasses.dataclass(frozen=True)
class FiveCrop:
    """The windows in the corners (top left, top right, bottom left, bottom right) and in the middle, in this order.

    Attributes:
      size: pixels, one number for both sides or (height, width); at most those of the images.

    Raises:
      ValueError: `size` is not one or two integers of at least 1; or, when called, an image is smaller, or the images
        are no array of four axes.
    """

    size: int | tuple[int, int]

    def __post_init__(self):
        object.__setattr__(self, "size", check_size("FiveCrop", "size", self.size))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to [batch, 5, *size, channels]."""
        return _five("FiveCrop", self.size, images)


@dataclasses.dataclass(frozen=True)
class TenCrop:
    """The five windows of `FiveCrop`, and then their mirror images in the same order.

    Attributes:
      size: as for `FiveCrop`.

    Raises:
      ValueError: as for `FiveCrop`.
    """

    size: int | tuple[int, int]

    def __post_init__(self):
        object.__setattr__(self, "size", check_size("TenCrop", "size", self.size))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to [batch, 10, *size, channels]."""
        views = _five("TenCrop", self.size, images)
        return jnp.concatenate([views, views[:, :, :, ::-1]], 1)


def _five(function: str, size: int | tuple[int, int], images: jax.Array) -> jax.Array:
    check_images(function, images)
    height, width = check_size(function, "size", size)
    images = jnp.asarray(images)
    rows, columns = images.shape[1:3]
    check_fits(function, (height, width), (rows, columns))
    bottom, right = rows - height, columns - width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return jnp.stack([images[:, y : y + height, x : x + width] for y, x in corners], 1)
