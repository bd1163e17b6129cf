"""Random shifts, rotations, scalings and shears about the centre of the image."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdl.arguments import check_choice, check_real
from jaxdl.data.augment.checks import FILLS, check_interval
from jaxdl.data.augment.resampling import Geometric, Size

Fill = Literal["zero", "reflect", "edge"]


@dataclasses.dataclass(frozen=True)
class Translate(Geometric):
    """Shifts each image down and to the right by numbers that are uniform in [-pixels, pixels], not only integers.

    Attributes:
      pixels: the largest shift.
      fill: what is outside of the images: "zero", "reflect" (mirrored about the border pixels) or "edge".

    Raises:
      ValueError: `pixels` is not a finite number of at least 0, or `fill` is none of the three; or, when called, there
        is not one key for each image, or the images are neither uint8 nor floating point.
    """

    pixels: float = 4.0
    fill: Fill = "zero"

    def __post_init__(self):
        check_real("Translate", "pixels", self.pixels, at_least=0)
        check_choice("Translate", "fill", self.fill, FILLS)

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The shifts (down, right), in pixels."""
        return jax.random.uniform(key, (2,), minval=-self.pixels, maxval=self.pixels)

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """Against the shift."""
        return rows - drawn[0], columns - drawn[1]


@dataclasses.dataclass(frozen=True)
class Rotate(Geometric):
    """Rotates each image about its centre by an angle that is uniform in [-degrees, degrees].

    Attributes:
      degrees: the largest angle; positive angles are counter-clockwise.
      fill: as for `Translate`.

    Raises:
      ValueError: `degrees` is not a finite number of at least 0; otherwise as for `Translate`.
    """

    degrees: float = 15.0
    fill: Fill = "zero"

    def __post_init__(self):
        check_real("Rotate", "degrees", self.degrees, at_least=0)
        check_choice("Rotate", "fill", self.fill, FILLS)

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The angle, in degrees."""
        return jax.random.uniform(key, minval=-self.degrees, maxval=self.degrees)

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """Rotated back; rows count downwards."""
        sine, cosine = jnp.sin(jnp.radians(drawn)), jnp.cos(jnp.radians(drawn))
        y, x = rows - (size[0] - 1) / 2, columns - (size[1] - 1) / 2
        return sine * x + cosine * y + (size[0] - 1) / 2, cosine * x - sine * y + (size[1] - 1) / 2


@dataclasses.dataclass(frozen=True)
class Scale(Geometric):
    """Enlarges or shrinks each image about its centre; the output keeps its size in pixels.

    Attributes:
      factors: (lowest, highest) factor; its logarithm is uniform, and 2 doubles what is seen.
      fill: as for `Translate`.

    Raises:
      ValueError: `factors` is no tuple of two numbers in order and above 0; otherwise as for `Translate`.
    """

    factors: tuple[float, float] = (0.8, 1.25)
    fill: Fill = "zero"

    def __post_init__(self):
        check_interval("Scale", "factors", self.factors, "(0.8, 1.25)")
        check_choice("Scale", "fill", self.fill, FILLS)

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The factors (of the height, of the width): the same one twice."""
        return jnp.broadcast_to(_log_uniform(key, (), self.factors), (2,))

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """Divided by the factors, from the centre."""
        return _stretched(drawn, rows, columns, size)


@dataclasses.dataclass(frozen=True)
class Stretch(Geometric):
    """As `Scale`, with two factors that are drawn independently: one for the height and one for the width.

    Attributes:
      factors: (lowest, highest) of both factors.
      fill: as for `Translate`.

    Raises:
      ValueError: as for `Scale`.
    """

    factors: tuple[float, float] = (0.8, 1.25)
    fill: Fill = "zero"

    def __post_init__(self):
        check_interval("Stretch", "factors", self.factors, "(0.8, 1.25)")
        check_choice("Stretch", "fill", self.fill, FILLS)

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The factors (of the height, of the width)."""
        return _log_uniform(key, (2,), self.factors)

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """Divided by the factors, from the centre."""
        return _stretched(drawn, rows, columns, size)


@dataclasses.dataclass(frozen=True)
class Shear(Geometric):
    """Slides rows sideways in proportion to their distance from the centre, or columns up and down.

    Vertical lines become lines at an angle that is uniform in [-degrees, degrees]; at positive angles they lean to
    the right. With `axis="vertical"` horizontal lines do, and at positive angles they rise to the right.

    Attributes:
      degrees: the largest angle, below 90.
      axis: "horizontal" slides rows, "vertical" slides columns.
      fill: as for `Translate`.

    Raises:
      ValueError: `degrees` is not in [0, 90), or `axis` is none of the two; otherwise as for `Translate`.
    """

    degrees: float = 15.0
    axis: Literal["horizontal", "vertical"] = "horizontal"
    fill: Fill = "zero"

    def __post_init__(self):
        check_real("Shear", "degrees", self.degrees, at_least=0, below=90)
        check_choice("Shear", "axis", self.axis, ("horizontal", "vertical"))
        check_choice("Shear", "fill", self.fill, FILLS)

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """The angle, in degrees."""
        return jax.random.uniform(key, minval=-self.degrees, maxval=self.degrees)

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """Slid back; rows count downwards."""
        slope = jnp.tan(jnp.radians(drawn))
        if self.axis == "horizontal":
            return rows, columns + slope * (rows - (size[0] - 1) / 2)
        return rows + slope * (columns - (size[1] - 1) / 2), columns


def _log_uniform(key: jax.Array, shape: tuple[int, ...], interval: tuple[float, float]) -> jax.Array:
    return jnp.exp(jax.random.uniform(key, shape, minval=math.log(interval[0]), maxval=math.log(interval[1])))


def _stretched(factors: jax.Array, rows: jax.Array, columns: jax.Array, size: Size) -> tuple[jax.Array, jax.Array]:
    middle_row, middle_column = (size[0] - 1) / 2, (size[1] - 1) / 2
    return (
        (rows - middle_row) / factors[0] + middle_row,
        (columns - middle_column) / factors[1] + middle_column,
    )
