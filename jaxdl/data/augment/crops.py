"""Crops: windows of the images, of one size. Pixels are copied, not interpolated."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdl.arguments import check_choice, check_integer, require
from jaxdl.data.augment.checks import FILLS, check_fits, check_size
from jaxdl.data.augment.resampling import Geometric, Size


@dataclasses.dataclass(frozen=True)
class RandomCrop(Geometric):
    """Shifts each image by up to `padding` pixels in both directions.

    This is padding and cropping to the old size at a random place, as the ResNet paper does with 4 pixels of zeros on
    CIFAR-10 (He et al. 2016, arXiv 1512.03385, sec. 4.2). For a random window that is smaller than the images, 224 of
    256 pixels for example, use `RandomCropTo`.

    Attributes:
      padding: pixels on each side, fewer than the images have.
      fill: what is outside of the images: "zero", "reflect" (mirrored about the border pixels) or "edge".

    Raises:
      ValueError: `padding` is not an integer of at least 0, or `fill` is none of the three; or, when called, an image
        has a side of at most `padding` pixels, or there is not one key for each image.
    """

    exact = True

    padding: int = 4
    fill: str = "zero"

    def __post_init__(self):
        check_integer("RandomCrop", "padding", self.padding, at_least=0)
        check_choice("RandomCrop", "fill", self.fill, FILLS)

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The window's corner (row, column) in the padded image."""
        return jax.random.randint(key, (2,), 0, 2 * self.padding + 1)

    def output_size(self, size: Size) -> Size:
        """The same size."""
        require(
            self.padding < min(size),
            f"RandomCrop: padding must be below the sides of the images, got padding={self.padding} for {size[0]} x "
            f"{size[1]} pixels; 4 is usual for 32 x 32, and RandomCropTo(size) gives windows of a size",
        )
        return size

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """The window moves the origin."""
        return rows + drawn[0] - self.padding, columns + drawn[1] - self.padding


@dataclasses.dataclass(frozen=True)
class RandomCropTo(Geometric):
    """A window of each image at a random place, all places equally likely.

    AlexNet is trained on windows of 224 x 224 from images of 256 x 256 pixels (Krizhevsky et al. 2012, sec. 4.1).

    Attributes:
      size: pixels, one number for both sides or (height, width); at most those of the images.

    Raises:
      ValueError: `size` is not one or two integers of at least 1; or, when called, an image is smaller, or there is
        not one key for each image.
    """

    exact = True

    size: int | tuple[int, int]

    def __post_init__(self):
        object.__setattr__(self, "size", check_size("RandomCropTo", "size", self.size))

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The window's corner (row, column)."""
        height, width = self.output_size(size)
        return jax.random.randint(key, (2,), 0, jnp.array([size[0] - height + 1, size[1] - width + 1]))

    def output_size(self, size: Size) -> Size:
        """The window's size."""
        height, width = check_size("RandomCropTo", "size", self.size)
        check_fits("RandomCropTo", (height, width), size)
        return height, width

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """The window moves the origin."""
        return rows + drawn[0], columns + drawn[1]


@dataclasses.dataclass(frozen=True)
class CenterCrop(Geometric):
    """The window in the middle of each image. If it cannot be in the middle exactly, it is half a pixel up or left.

    Attributes:
      size: pixels, one number for both sides or (height, width); at most those of the images.

    Raises:
      ValueError: as for `RandomCropTo`.
    """

    exact = True

    size: int | tuple[int, int]

    def __post_init__(self):
        object.__setattr__(self, "size", check_size("CenterCrop", "size", self.size))

    def output_size(self, size: Size) -> Size:
        """The window's size."""
        height, width = check_size("CenterCrop", "size", self.size)
        check_fits("CenterCrop", (height, width), size)
        return height, width

    def sources(self, drawn: tuple, rows: jax.Array, columns: jax.Array, size: Size):
        """The window moves the origin."""
        height, width = self.output_size(size)
        return rows + (size[0] - height) // 2, columns + (size[1] - width) // 2
