"""Crops of a random size and shape, resized to one size."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxdl.data.augment.checks import check_interval, check_size
from jaxdl.data.augment.resampling import Geometric, Size

_TRIES = 10  # torchvision's


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """A window of random area, shape and place, resized to `size` by bilinear interpolation.

    The usual crop for ImageNet (Szegedy et al. 2015, arXiv 1409.4842, sec. 6). Windows are drawn as torchvision draws
    them: ten are drawn, and the first one that fits into the image is taken; if none fits, it is the largest window in
    the middle whose shape is within `ratio`. There is no antialiasing: where the window is larger than `size`, pixels
    between the four neighbours are not averaged, as torchvision does for Pillow images. It matters for windows of more
    than about twice the size.

    Attributes:
      size: pixels of the result, one number for both sides or (height, width).
      scale: (lowest, highest) share of the image's area, in (0, 1].
      ratio: (lowest, highest) width over height; its logarithm is uniform.

    Raises:
      ValueError: an attribute is none of these; or, when called, there is not one key for each image, or the images are
        neither uint8 nor floating point.
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        object.__setattr__(self, "size", check_size("RandomResizedCrop", "size", self.size))
        check_interval("RandomResizedCrop", "scale", self.scale, "(0.08, 1.0)", at_most=1)
        check_interval("RandomResizedCrop", "ratio", self.ratio, "(3 / 4, 4 / 3)")

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The window: top row, left column, height and width, integers."""
        height, width = size
        shapes, place = jax.random.split(key)
        lowest = jnp.array([self.scale[0], math.log(self.ratio[0])])
        highest = jnp.array([self.scale[1], math.log(self.ratio[1])])
        share, log_ratio = jax.random.uniform(shapes, (_TRIES, 2), minval=lowest, maxval=highest).T
        area, ratio = share * height * width, jnp.exp(log_ratio)
        heights, widths = jnp.round(jnp.sqrt(area / ratio)), jnp.round(jnp.sqrt(area * ratio))
        fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
        first = jnp.argmax(fits)
        drawn = jnp.stack([heights[first], widths[first]]).astype(jnp.int32)
        window = jnp.where(fits.any(), drawn, jnp.array(self._fallback(size)))
        room = jnp.array(size) - window
        corner = jnp.where(fits.any(), jax.random.randint(place, (2,), 0, room + 1), room // 2)
        return jnp.concatenate([corner, window])

    def output_size(self, size: Size) -> Size:
        """The same for all images."""
        return check_size("RandomResizedCrop", "size", self.size)

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """The window's corners are put on the output's; its border pixels continue outside of it."""
        found = []
        for places, start, length, output in zip(
            (rows, columns), drawn[:2], drawn[2:], self.output_size(size), strict=True
        ):
            inside = jnp.clip((places + 0.5) * length / output - 0.5, 0, length - 1)
            found.append(start + inside)
        return tuple(found)

    def _fallback(self, size: Size) -> Size:
        height, width = size
        if width / height < self.ratio[0]:
            return max(1, min(height, round(width / self.ratio[0]))), width
        if width / height > self.ratio[1]:
            return height, max(1, min(width, round(height * self.ratio[1])))
        return height, width
