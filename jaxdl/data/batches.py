"""Batches as a pure function of (key, epoch, step): no iterator, no state to save."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, check_key, require, shown
from jaxdl.typing import Batch

_SHUFFLE = 0  # the stream of random numbers that shuffling draws from; `train.step` draws from another


def epoch_order(key: jax.Array, epoch: jax.Array | int, *, examples: int, batch_size: int) -> jax.Array:
    """Which examples make up each batch of an epoch: a permutation that depends on the key and the epoch alone.

    Args:
      key: the training state's key.
      epoch: number of the epoch, from 0.
      examples: size of the data set.
      batch_size: examples in a batch, at most `examples`.

    Returns:
      int32 [examples // batch_size, batch_size], each example at most once.

    Raises:
      ValueError: `key` is not one typed key, or a number is out of its range.
    """
    check_key("epoch_order", "key", key)
    if not isinstance(epoch, jax.Array):
        check_integer("epoch_order", "epoch", epoch, at_least=0)
    check_integer("epoch_order", "examples", examples, at_least=1)
    check_integer("epoch_order", "batch_size", batch_size, at_least=1)
    require(
        batch_size <= examples,
        f"epoch_order: batch_size must be at most examples={examples}, got batch_size={batch_size}; pass a smaller one",
    )
    return _order(key, epoch, examples=examples, batch_size=batch_size)


@functools.partial(jax.jit, static_argnames=("examples", "batch_size"))
def _order(key: jax.Array, epoch: jax.Array | int, *, examples: int, batch_size: int) -> jax.Array:
    shuffle_key = jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), epoch)
    steps = examples // batch_size
    return jax.random.permutation(shuffle_key, examples)[: steps * batch_size].reshape(steps, batch_size)


def take_batch(images: jax.Array, labels: jax.Array, rows: jax.Array) -> Batch:
    """The examples at `rows` (int [batch]) of a data set that lies on the device.

    Raises:
      ValueError: `rows` are no integers, or images and labels are not of one length. Rows beyond the data are seen
        only where they are a NumPy array: on the device they would have to be waited for.
    """
    require(
        isinstance(rows, jax.Array | np.ndarray) and jnp.issubdtype(rows.dtype, jnp.integer),
        f"take_batch: rows must be an array of integers, got rows={shown(rows)}; pass np.array([0, 1]) for example",
    )
    require(
        None in (_length(images), _length(labels)) or _length(images) == _length(labels),
        f"take_batch: images and labels must be of one length, got {_length(images)} and {_length(labels)}",
    )
    if isinstance(rows, np.ndarray) and rows.size:
        require(
            bool(rows.min() >= 0) and bool(rows.max() < len(images)),
            f"take_batch: rows must be in 0..{len(images) - 1}, got {rows.min()}..{rows.max()}",
        )
    return Batch(jnp.take(images, rows, axis=0, mode="clip"), jnp.take(labels, rows, axis=0, mode="clip"))


def _length(array: Any) -> int | None:
    shape = getattr(array, "shape", ())
    return shape[0] if shape else None
