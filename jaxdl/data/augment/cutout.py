"""Random squares that are blotted out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, check_real, require, shown
from jaxdl.data.augment.checks import check_call, check_channels, check_pixels
from jaxdl.data.augment.pixels import from_brightness


@dataclasses.dataclass(frozen=True)
class Cutout:
    """Replaces a square of each image by one colour. Its centre is any pixel, so part of it may be outside.

    DeVries & Taylor 2017, arXiv 1708.04552: 16 pixels on CIFAR-10, 8 on CIFAR-100. Their zeros are those of
    standardised images; `value=train_set.standardize.mean` gives the same here.

    Attributes:
      size: side of the square in pixels. From the centre it reaches size // 2 up and left.
      value: the colour, in units of full brightness; one number, or one for each channel.

    Raises:
      ValueError: `size` is not an integer of at least 1, or `value` is none of these; or, when called, there is not one
        key for each image, or the images are neither uint8 nor floating point, or have another number of channels.
    """

    size: int = 16
    value: float | tuple[float, ...] = 0.0

    def __post_init__(self):
        check_integer("Cutout", "size", self.size, at_least=1)
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        require(len(values) > 0, f"Cutout: value must be one number or one for each channel, got {shown(self.value)}")
        for value in values:
            check_real("Cutout", "value", value)

    def draw(self, key: jax.Array, size: tuple[int, int]) -> jax.Array:
        """The centre (row, column)."""
        return jax.random.randint(key, (2,), 0, jnp.array(size))

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape."""
        check_call("Cutout", keys, images)
        check_pixels("Cutout", images)
        if isinstance(self.value, tuple):
            check_channels("Cutout", images, len(self.value), "value needs one number for each channel")
        height, width, channels = images.shape[1:]
        corners = jax.vmap(lambda key: self.draw(key, (height, width)))(keys) - self.size // 2
        rows = jnp.arange(height) - corners[:, :1]
        columns = jnp.arange(width) - corners[:, 1:]
        inside_rows, inside_columns = ((x >= 0) & (x < self.size) for x in (rows, columns))
        inside = inside_rows[:, :, None, None] & inside_columns[:, None, :, None]
        color = np.broadcast_to(np.asarray(self.value, np.float32), (channels,))
        return jnp.where(inside, from_brightness(jnp.asarray(color), images.dtype), images)
