"""Geometric changes: each says where an output pixel comes from, and several are done by one resampling."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxdl.data.augment.checks import check_call, check_pixels
from jaxdl.data.augment.pixels import from_float, to_float

Size = tuple[int, int]  # (height, width) in pixels


class Geometric:
    """A change that moves pixels.

    Coordinates are in pixels from the centre of the top left pixel; row 0.5 is between the first two rows. Rows and
    columns may be integers, and shapes that broadcast to [height, width]: [height, 1] and [1, width] for a crop.

    Attributes:
      exact: whether integer coordinates come from integer coordinates, so that pixels are copied.
      fill: what lies outside of an image: "zero"; "reflect", the image mirrored about its border pixels, as NumPy's
        pad does; "edge", its nearest pixel. None if no pixel comes from outside.
    """

    exact: ClassVar[bool] = False
    fill: Any = None

    def draw(self, key: jax.Array, size: Size) -> Any:
        """The random numbers for one image of this size."""
        return ()

    def output_size(self, size: Size) -> Size:
        """The size of what images of this size become; raises `ValueError` if they do not fit."""
        return size

    def sources(self, drawn: Any, rows: jax.Array, columns: jax.Array, size: Size) -> tuple[jax.Array, jax.Array]:
        """Where in the input, of this size, the output's pixels at these coordinates come from."""
        raise NotImplementedError

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to images of the same dtype."""
        check_call(type(self).__name__, keys, images)
        return resample([(self, keys)], images)


def resample(steps: Sequence[tuple[Geometric, jax.Array]], images: jax.Array) -> jax.Array:
    """Does geometric changes, in their order, by one resampling.

    The result is that of one change after the other, except that pixels are interpolated once (bilinearly), and not at
    all if every change is exact.

    Args:
      steps: pairs of a change and its keys [batch].
      images: [batch, height, width, channels]; uint8 or floating point, for exact changes any dtype.
    """
    exact = all(step.exact for step, _ in steps)
    height, width = images.shape[1:3]
    sizes = [(height, width)]
    for step, _ in steps:
        if not step.exact:
            check_pixels(type(step).__name__, images)
        sizes.append(step.output_size(sizes[-1]))
    height, width = sizes.pop()
    number = jnp.int32 if exact else jnp.float32

    def one(keys, image):
        rows, columns = jnp.arange(height, dtype=number)[:, None], jnp.arange(width, dtype=number)[None]
        coverage = jnp.ones((1, 1), number)
        # The output's pixels are traced back through the last change first.
        for (step, _), key, size in zip(reversed(steps), reversed(keys), reversed(sizes), strict=True):
            rows, columns = step.sources(step.draw(key, size), rows, columns, size)
            if step.fill is not None:
                rows, inside_rows = _bounded(rows, size[0], step.fill)
                columns, inside_columns = _bounded(columns, size[1], step.fill)
                coverage = coverage * inside_rows * inside_columns
        if exact:
            found = image.at[rows, columns].get(mode="promise_in_bounds")
            return jnp.where(coverage[..., None] > 0, found, jnp.zeros_like(found))
        return from_float(_bilinear(image, rows, columns) * coverage[..., None], image.dtype)

    return jax.vmap(one)(tuple(keys for _, keys in steps), jnp.asarray(images))


def _bounded(places: jax.Array, length: int, fill: str) -> tuple[jax.Array, jax.Array]:
    """Coordinates along one axis moved into [0, length - 1], and how much of the pixel at each is there.

    Where zeros are outside, a pixel fades over the distance of one pixel, as bilinear interpolation with zeros gives.
    """
    inside = jnp.ones((1, 1), places.dtype)
    if fill == "zero":
        inside = jnp.clip(1 + jnp.minimum(places, length - 1 - places), 0, 1)
    elif fill == "reflect":
        period = max(2 * (length - 1), 1)
        places = places % period
        places = jnp.minimum(places, period - places)
    return jnp.clip(places, 0, length - 1), inside


def _bilinear(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Values between four pixels, as floats; coordinates are inside the image."""
    height, width = image.shape[:2]
    top, left = jnp.floor(rows).astype(jnp.int32), jnp.floor(columns).astype(jnp.int32)
    bottom, right = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    down, across = (rows - top)[..., None], (columns - left)[..., None]

    def at(rows, columns):
        return to_float(image.at[rows, columns].get(mode="promise_in_bounds"))

    upper = at(top, left) * (1 - across) + at(top, right) * across
    lower = at(bottom, left) * (1 - across) + at(bottom, right) * across
    return upper * (1 - down) + lower * down
