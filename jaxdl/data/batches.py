"""Batches as a pure function of (key, epoch, step): no iterator, no state to save."""

import functools

import jax
import jax.numpy as jnp

from jaxdl.typing import Batch

_SHUFFLE = 0  # the stream of random numbers that shuffling draws from; `train.step` draws from another


@functools.partial(jax.jit, static_argnames=("examples", "batch_size"))
def epoch_order(key: jax.Array, epoch: jax.Array | int, *, examples: int, batch_size: int) -> jax.Array:
    """Which examples make up each batch of an epoch: a permutation that depends on the key and the epoch alone.

    Args:
      key: the training state's key.
      epoch: number of the epoch, from 0.
      examples: size of the data set.
      batch_size: examples in a batch, at most `examples`.

    Returns:
      int32 [examples // batch_size, batch_size], each example at most once.
    """
    shuffle_key = jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), epoch)
    steps = examples // batch_size
    return jax.random.permutation(shuffle_key, examples)[: steps * batch_size].reshape(steps, batch_size)


def take_batch(images: jax.Array, labels: jax.Array, rows: jax.Array) -> Batch:
    """The examples at `rows` (int [batch]) of a data set that lies on the device."""
    return Batch(jnp.take(images, rows, axis=0, mode="clip"), jnp.take(labels, rows, axis=0, mode="clip"))
