"""Radial distortion, as wide and narrow lenses give."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdl.arguments import check_choice, check_real
from jaxdl.data.augment.checks import FILLS
from jaxdl.data.augment.resampling import Geometric, Size


@dataclasses.dataclass(frozen=True)
class LensDistortion(Geometric):
    """Moves pixels along the lines through the centre: what is seen at radius r comes from radius r (1 + k r^2).

    k is uniform in [-k1, k1], and r is 1 at the corners. With k > 0 the picture bulges as a barrel and what is outside
    comes into view; with k < 0 it is a pincushion. This is the first term of Brown's model of radial distortion (Brown
    1971, Close-range camera calibration); OpenCV calls the coefficient k1.

    Attributes:
      k1: the largest |k|, below 1/3. From there on the picture would fold over itself at the corners.
      fill: what is outside of the images: "zero", "reflect" (mirrored about the border pixels) or "edge".

    Raises:
      ValueError: `k1` is not in [0, 1/3), or `fill` is none of the three; or, when called, there is not one key for
        each image, or the images are neither uint8 nor floating point.
    """

    k1: float = 0.1
    fill: Literal["zero", "reflect", "edge"] = "zero"

    def __post_init__(self):
        check_real("LensDistortion", "k1", self.k1, at_least=0, below=1 / 3)
        check_choice("LensDistortion", "fill", self.fill, FILLS)

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The coefficient k."""
        return jax.random.uniform(key, minval=-self.k1, maxval=self.k1)

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """Farther from the centre where k > 0."""
        middle_row, middle_column = (size[0] - 1) / 2, (size[1] - 1) / 2
        y, x = rows - middle_row, columns - middle_column
        corner = max(middle_row**2 + middle_column**2, 1.0)
        factor = 1 + drawn * (jnp.square(y) + jnp.square(x)) / corner
        return y * factor + middle_row, x * factor + middle_column
