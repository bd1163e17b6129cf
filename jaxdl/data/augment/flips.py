"""Random mirror images."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdl.data.augment.resampling import Geometric, Size


@dataclasses.dataclass(frozen=True)
class RandomFlip(Geometric):
    """Mirrors each image, left to right, with probability 1/2.

    Raises:
      ValueError: when called, there is not one key for each image.
    """

    exact = True

    def draw(self, key: jax.Array, size: Size) -> jax.Array:
        """Whether to flip."""
        return jax.random.bernoulli(key)

    def sources(self, drawn: jax.Array, rows: jax.Array, columns: jax.Array, size: Size):
        """Columns count from the other side."""
        return rows, jnp.where(drawn, size[1] - 1 - columns, columns)
