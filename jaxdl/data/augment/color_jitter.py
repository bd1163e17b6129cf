"""Random brightness, contrast, saturation and hue."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_real, require
from jaxdl.data.augment.checks import check_call, check_channels, check_pixels
from jaxdl.data.augment.pixels import from_brightness, to_brightness


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and hue of each image, with torchvision's definitions.

    Brightness multiplies by a factor; contrast blends with the mean of the grey image; saturation blends with the grey
    image; hue turns the colour circle. A factor is uniform in [max(0, 1 - x), 1 + x], the hue's turn in [-hue, hue].
    The changes are made in this fixed order, and values are cut off at 0 and full brightness after each (torchvision
    draws an order for each image, and rounds bytes after each change; here bytes are rounded once).

    Attributes:
      brightness, contrast, saturation: at least 0; 0 for no change.
      hue: in turns of the colour circle, in [0, 0.5]; 0 for no change.

    Raises:
      ValueError: an attribute is out of range; or, when called, there is not one key for each image, or the images are
        neither uint8 nor floating point. Images must have 3 channels (red, green, blue) for saturation and hue, and 1
        or 3 otherwise.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self):
        for name in ("brightness", "contrast", "saturation", "hue"):
            check_real("ColorJitter", name, getattr(self, name), at_least=0)
        require(
            self.hue <= 0.5,
            f"ColorJitter: hue must be in [0, 0.5], in turns of the colour circle, got hue={self.hue}; "
            "0.1 is 36 degrees",
        )

    def draw(self, key: jax.Array) -> jax.Array:
        """The factors of brightness, contrast and saturation, and the hue's turn."""
        widths = np.array([self.brightness, self.contrast, self.saturation, self.hue], np.float32)
        lowest = np.append(np.maximum(1 - widths[:3], 0), -widths[3])
        highest = np.append(1 + widths[:3], widths[3])
        return jax.random.uniform(key, (4,), minval=lowest, maxval=highest)

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape; floats are in units of full brightness."""
        check_call("ColorJitter", keys, images)
        check_pixels("ColorJitter", images)
        if self.saturation or self.hue or images.shape[3] != 1:
            remedy = "grey images, of 1 channel, have brightness and contrast only"
            check_channels("ColorJitter", images, 3, remedy)
        brightness, contrast, saturation, turn = jax.vmap(self.draw)(keys).T[..., None, None, None]
        values = to_brightness(images)
        if self.brightness:
            values = jnp.clip(values * brightness, 0, 1)
        if self.contrast:
            mean = _grey(values.mean((1, 2), keepdims=True))  # the mean of the grey image
            values = _blend(values, mean, contrast)
        if self.saturation:
            values = _blend(values, _grey(values), saturation)
        if self.hue:
            values = _turn_hue(values, turn[..., 0])
        return from_brightness(values, images.dtype)


def _grey(values: jax.Array) -> jax.Array:
    if values.shape[-1] == 1:
        return values
    # torchvision's weights. Written out, as a sum over three channels is a slow loop on the CPU.
    return 0.2989 * values[..., :1] + 0.587 * values[..., 1:2] + 0.114 * values[..., 2:]


def _blend(values: jax.Array, other: jax.Array, factor: jax.Array) -> jax.Array:
    return jnp.clip(factor * values + (1 - factor) * other, 0, 1)


def _turn_hue(values: jax.Array, turn: jax.Array) -> jax.Array:
    """Turns the hue of images [..., 3] in the HSV model by a part of the circle."""
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    high, low = jnp.maximum(jnp.maximum(red, green), blue), jnp.minimum(jnp.minimum(red, green), blue)
    span = high - low
    # Not high == red: the compiler may compute the two by different roundings.
    red_is_high, green_is_high = (red >= green) & (red >= blue), green >= blue
    divisor = jnp.where(span == 0, 1, span)
    sector = jnp.where(
        red_is_high,
        (green - blue) / divisor,
        jnp.where(green_is_high, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    # Smith 1978, "Color gamut transform pairs", in the form with one formula for the three channels.
    place = jnp.array([5.0, 3.0, 1.0]) + (sector + 6 * turn)[..., None]
    place = place - 6 * jnp.floor(place / 6)  # many times as fast as %
    return high[..., None] - span[..., None] * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)
