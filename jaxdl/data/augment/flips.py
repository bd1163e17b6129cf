"""Mirror images: at random, or in every second epoch."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.arguments import check_integer, require
from jaxdl.data.augment.checks import check_call, check_pixels
from jaxdl.data.augment.protocol import Augment
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


@dataclasses.dataclass(frozen=True)
class AlternatingFlip:
    """Mirrors each image, left to right, in every second epoch: two epochs in a row show it both ways.

    Half of the images, at random, are mirrored in the first epoch, the others in the second, and so on in turn
    (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, sec. 3.6).

    The epoch follows from the step, which `train.fit`, `train.population` and `train.make_step` tell it. In which of
    two epochs an image is mirrored is a bit of a hash of its pixels and `seed`, so:

    - Its pixels must reach it unchanged: in a `Compose` it stands first, before what changes them at random. For a
      stream whose view is random the pixels are new in each epoch, so it does not alternate: it is a random flip.
    - Equal images are mirrored together, and all members of a population see the same images mirrored.

    Attributes:
      steps_per_epoch: updates in an epoch, `train_set.steps_per_epoch(batch_size)`.
      seed: from 0 to 2**32 - 1; with another seed other images are mirrored in the first epoch.

    Raises:
      ValueError: an attribute is not such an integer; or, when called, it does not know the step (by hand call
        `flip.at_step(step)(keys, images)`), there is not one key for each image, or the images are neither uint8 nor
        floating point.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxdl import data
      >>> flip, images = data.AlternatingFlip(steps_per_epoch=100), jnp.arange(6, dtype=jnp.uint8).reshape(2, 1, 3, 1)
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> first, second = (flip.at_step(step)(keys, images) for step in (99, 100))
      >>> bool(jnp.all(first == second[:, :, ::-1]))
      True
    """

    steps_per_epoch: int
    seed: int = 0

    def __post_init__(self):
        remedy = "pass train_set.steps_per_epoch(batch_size)"
        check_integer("AlternatingFlip", "steps_per_epoch", self.steps_per_epoch, at_least=1, remedy=remedy)
        check_integer("AlternatingFlip", "seed", self.seed, at_least=0)
        require(self.seed < 2**32, f"AlternatingFlip: seed must be below 2**32, got seed={self.seed}")

    def at_step(self, step: Any) -> Augment:
        """The change (keys, images) -> images of an update.

        Args:
          step: number of the update, int32 [], from 0; it may be traced.
        """
        return functools.partial(self._flipped, step // self.steps_per_epoch % 2 == 1)

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Raises `ValueError`: without the step it would be the same in all epochs."""
        raise ValueError(
            "AlternatingFlip: the step is not known; pass it as augment=, alone or in a Compose, and by hand call "
            "flip.at_step(step)(keys, images). A function that calls it needs a method at_step of its own"
        )

    def _flipped(self, odd: Any, keys: jax.Array, images: jax.Array) -> jax.Array:
        check_call("AlternatingFlip", keys, images)
        check_pixels("AlternatingFlip", images)
        images = jnp.asarray(images)
        flip = (_hashes(images, self.seed) >> 31 == 1) ^ odd
        return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


def _hashes(images: jax.Array, seed: int) -> jax.Array:
    """A hash of each image's bits, uint32 [batch]: sums with odd weights that depend on the place and the seed.

    Sums of integers modulo 2^32 do not depend on their order, so it is the same on every device.
    """
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(images.dtype.itemsize, jnp.uint32)
    words = lax.bitcast_convert_type(images, unsigned).reshape(len(images), -1).astype(jnp.uint32)
    start = _stirred(jnp.uint32(seed))
    weights = _stirred(start + jnp.arange(words.shape[1], dtype=jnp.uint32)) | 1
    return _stirred(start + jnp.sum(words * weights, 1, dtype=jnp.uint32))


def _stirred(bits: jax.Array) -> jax.Array:
    """Each bit of the result depends on all bits, uint32: the end of MurmurHash3 (Appleby, public domain)."""
    bits = (bits ^ bits >> 16) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ bits >> 13) * jnp.uint32(0xC2B2AE35)
    return bits ^ bits >> 16
