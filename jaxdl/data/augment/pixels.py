"""The values of pixels: bytes become float32 to compute with, and the results bytes again.

Bytes go from 0 to 255. Floating-point images are in units of full brightness, where 1 is white.
"""

import jax
import jax.numpy as jnp


def to_float(images: jax.Array) -> jax.Array:
    """The same values in float32, or in float64 if the images are float64."""
    return jnp.asarray(images, jnp.promote_types(images.dtype, jnp.float32))


def from_float(values: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Values in the dtype of the images; for bytes rounded to the nearest integer, and cut off at 0 and 255."""
    if jnp.issubdtype(dtype, jnp.integer):
        values = jnp.clip(jnp.round(values), 0, 255)
    return values.astype(dtype)


def to_brightness(images: jax.Array) -> jax.Array:
    """Values in units of full brightness: bytes are divided by 255."""
    return to_float(images) / 255 if images.dtype == jnp.uint8 else to_float(images)


def from_brightness(values: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The opposite of `to_brightness`."""
    return from_float(values * 255 if dtype == jnp.uint8 else values, dtype)
