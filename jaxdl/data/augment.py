"""Random changes of training images, on the device: pure functions of one key per image and the images."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from jaxdl.arguments import check_integer, require

Augment: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(keys [batch], images [batch, height, width, channels]) -> images of the same shape and dtype."""


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Shifts each image by up to `padding` pixels in both directions; what comes in from outside is 0.

    The same as padding with zeros and cropping to the old size at a random place, which is what ResNet's paper does
    with 4 pixels on CIFAR-10 (He et al. 2016, arXiv 1512.03385, sec. 4.2).

    Attributes:
      padding: pixels on each side.
    """

    padding: int = 4

    def __post_init__(self):
        check_integer("RandomCrop", "padding", self.padding, at_least=0)

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape."""
        p = self.padding
        padded = jnp.pad(images, ((0, 0), (p, p), (p, p), (0, 0)))
        corners = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * p + 1))(keys)
        height, width = images.shape[1:3]
        rows = corners[:, :1] + jnp.arange(height)
        columns = corners[:, 1:] + jnp.arange(width)
        batch = jnp.arange(len(images))[:, None, None]
        return padded[batch, rows[:, :, None], columns[:, None, :]]


@dataclasses.dataclass(frozen=True)
class RandomFlip:
    """Mirrors each image, left to right, with probability 1/2."""

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape."""
        flip = jax.vmap(jax.random.bernoulli)(keys)
        return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


@dataclasses.dataclass(frozen=True)
class Compose:
    """Several changes one after the other, each with random numbers of its own.

    Attributes:
      changes: what to apply, in order.
    """

    changes: tuple[Augment, ...]

    def __post_init__(self):
        require(
            isinstance(self.changes, tuple) and all(map(callable, self.changes)),
            f"Compose: changes must be a tuple of functions (keys, images) -> images, got {self.changes!r}",
        )

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape."""
        for number, change in enumerate(self.changes):
            images = change(jax.vmap(lambda key, number=number: jax.random.fold_in(key, number))(keys), images)
        return images


CROP_AND_FLIP = Compose((RandomCrop(4), RandomFlip()))
"""The usual change for CIFAR: a crop out of 4 pixels of padding, and a mirror image half the time."""
