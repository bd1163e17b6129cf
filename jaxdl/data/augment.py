"""Random changes of training images, on the device: pure functions of one key per image and the images."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, require, shown

Augment: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(keys [batch], images [batch, height, width, channels]) -> images of the same shape and dtype."""


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Shifts each image by up to `padding` pixels in both directions; pixels from outside the image are 0.

    This is padding with zeros and cropping to the old size at a random place, as the ResNet paper does with 4 pixels on
    CIFAR-10 (He et al. 2016, arXiv 1512.03385, sec. 4.2).

    Attributes:
      padding: pixels on each side, fewer than the images have.

    Raises:
      ValueError: `padding` is not an integer of at least 0; or, when called, an image has a side of at most `padding`
        pixels, or there is not one key for each image.
    """

    padding: int = 4

    def __post_init__(self):
        check_integer("RandomCrop", "padding", self.padding, at_least=0)

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape."""
        _check_call("RandomCrop", keys, images)
        p = self.padding
        require(
            p < min(images.shape[1:3]),
            f"RandomCrop: padding must be below the sides of the images, got padding={p} for {images.shape[1]} x "
            f"{images.shape[2]} pixels; 4 is usual for 32 x 32",
        )
        padded = jnp.pad(images, ((0, 0), (p, p), (p, p), (0, 0)))
        corners = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * p + 1))(keys)
        height, width = images.shape[1:3]
        rows = corners[:, :1] + jnp.arange(height)
        columns = corners[:, 1:] + jnp.arange(width)
        batch = jnp.arange(len(images))[:, None, None]
        return padded[batch, rows[:, :, None], columns[:, None, :]]


@dataclasses.dataclass(frozen=True)
class RandomFlip:
    """Mirrors each image, left to right, with probability 1/2.

    Raises:
      ValueError: when called, there is not one key for each image.
    """

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape."""
        _check_call("RandomFlip", keys, images)
        flip = jax.vmap(jax.random.bernoulli)(keys)
        return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


@dataclasses.dataclass(frozen=True)
class Compose:
    """Several changes one after the other, each with random numbers of its own.

    Attributes:
      changes: the changes, in the order in which they are applied.

    Raises:
      ValueError: `changes` is not a tuple of functions; or, when called, there is not one key for each image.
    """

    changes: tuple[Augment, ...]

    def __post_init__(self):
        require(
            isinstance(self.changes, tuple) and all(map(callable, self.changes)),
            "Compose: changes must be a tuple of functions (keys, images) -> images, got "
            f"changes={shown(self.changes)}; pass (RandomCrop(4), RandomFlip()) for example",
        )
        for change in self.changes:
            require(
                not isinstance(change, type),
                f"Compose: {getattr(change, '__name__', change)} is a class; pass one of its objects, "
                f"{getattr(change, '__name__', change)}()",
            )

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape."""
        _check_call("Compose", keys, images)
        for number, change in enumerate(self.changes):
            images = change(jax.vmap(lambda key, number=number: jax.random.fold_in(key, number))(keys), images)
        return images


def _check_call(function: str, keys: Any, images: Any) -> None:
    """Raises `ValueError` unless there are images [batch, height, width, channels] and a key for each."""
    arrays = jax.Array | np.ndarray
    require(
        isinstance(images, arrays) and images.ndim == 4,
        f"{function}: images must be an array [batch, height, width, channels], got {_described(images)}; "
        "the arguments are (keys, images), and one image is images[None]",
    )
    # Raw keys, which jax.random.PRNGKey makes, have an axis of their own.
    raw = isinstance(keys, arrays) and not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    require(
        isinstance(keys, arrays)
        and keys.shape[: keys.ndim - raw] == images.shape[:1]
        and (not raw or keys.dtype == jnp.uint32),
        f"{function}: keys must be one for each of the {len(images)} images, got {_described(keys)}; "
        f"pass jax.random.split(key, {len(images)})",
    )


def _described(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, jax.Array | np.ndarray) else shown(value)


CROP_AND_FLIP = Compose((RandomCrop(4), RandomFlip()))
"""The usual augmentation for CIFAR: 4 pixels of padding and a random crop, then a random flip."""
