"""Batches as a pure function of (key, epoch, step): no iterator, no state to save."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, check_key, require, shown
from jaxdl.data.checks import check_dataset
from jaxdl.data.dataset import Dataset
from jaxdl.data.streams.order import training_batches
from jaxdl.data.streams.stream import Stream
from jaxdl.typing import Arrays, Batch

_SHUFFLE = 0  # the stream of random numbers that shuffling draws from; `train.step` draws from another


def epoch_order(key: jax.Array, epoch: jax.Array | int, *, examples: int, batch_size: int) -> jax.Array:
    """Which examples are in each batch of an epoch: a permutation that depends only on the key and the epoch.

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


def take_batch(inputs: Arrays, targets: Arrays, rows: jax.Array) -> Batch:
    """The examples at `rows` (int [batch]) of a data set that lies on the device.

    Raises:
      ValueError: `rows` are not integers, or inputs and targets are not of one length. Rows out of range raise only if
        `rows` is a NumPy array; a check of a JAX array would have to wait for the device. There they are clipped.
    """
    require(
        isinstance(rows, jax.Array | np.ndarray) and jnp.issubdtype(rows.dtype, jnp.integer),
        f"take_batch: rows must be an array of integers, got rows={shown(rows)}; pass np.array([0, 1]) for example",
    )
    shapes: list[Any] = [getattr(leaf, "shape", ()) for leaf in jax.tree.leaves((inputs, targets))]
    require(
        bool(shapes) and all(shapes),
        f"take_batch: inputs and targets must be arrays [n, ...], got {shown(inputs)} and {shown(targets)}",
    )
    lengths = list(dict.fromkeys(shape[0] for shape in shapes))
    require(
        len(lengths) == 1,
        f"take_batch: images and labels must be of one length, got {' and '.join(map(str, lengths))}",
    )
    if isinstance(rows, np.ndarray) and rows.size:
        require(
            bool(rows.min() >= 0) and bool(rows.max() < lengths[0]),
            f"take_batch: rows must be in 0..{lengths[0] - 1}, got {rows.min()}..{rows.max()}",
        )
    return Batch(*jax.tree.map(lambda array: jnp.take(array, rows, axis=0, mode="clip"), (inputs, targets)))


def batches(
    dataset: Dataset | Stream, key: jax.Array, batch_size: int, *, start: int = 0, steps: int | None = None
) -> Iterator[Batch]:
    """The batches that `train.fit` would train on, for a loop of your own.

    Each epoch has an order of its own. Examples at its end that do not fill a batch are left out of that epoch. The
    batch of a step depends only on the key and the number of the step, so a loop that was stopped goes on with
    `start=int(state.step)`.

    Args:
      dataset: what to train on. A stream is read ahead by threads or processes, which end when the iterator is closed
        or exhausted.
      key: the training state's, `state.key`.
      batch_size: examples in a batch, over all devices and processes.
      start: number of the first step, from 0.
      steps: number of the step at which to end, which is not included; by default there is no end.

    Returns:
      An iterator over batches (inputs, targets) of NumPy arrays [batch_size, ...]. With several processes each process
      gets its own part, [batch_size / processes, ...], as `train.make_step` wants it.

    Raises:
      ValueError: an argument is wrong.

    Example:
      >>> import jax
      >>> from jaxdl import data
      >>> train_set, _ = data.load("fashion_mini")
      >>> [batch.inputs.shape for batch in data.batches(train_set, jax.random.key(0), 128, start=80, steps=82)]
      [(128, 28, 28, 1), (128, 28, 28, 1)]
    """
    check_dataset("batches", "dataset", dataset)
    check_key("batches", "key", key)
    start = check_integer("batches", "start", start, at_least=0)
    per_epoch = dataset.steps_per_epoch(batch_size)
    if steps is not None:
        check_integer("batches", "steps", steps, at_least=0)
        require(
            start <= steps,
            f"batches: start={start} is past steps={steps}, up to which there are batches; pass steps >= {start}",
        )
    processes = jax.process_count()
    require(
        batch_size % processes == 0,
        f"batches: batch_size={batch_size} cannot be divided among {processes} processes; pass a multiple",
    )
    key = jnp.copy(key)  # a step that is given the state reuses the memory of its key
    share = batch_size // processes
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    if isinstance(dataset, Stream):

        def order(epoch):
            return np.asarray(epoch_order(key, epoch, examples=len(dataset), batch_size=batch_size))

        return training_batches(dataset, order, key, batch_size, start=start, until=steps, mine=mine)
    return _batches(
        dataset, key, batch_size, per_epoch, itertools.count(start) if steps is None else range(start, steps), mine
    )


def _batches(dataset, key, batch_size, per_epoch, numbers, mine) -> Iterator[Batch]:
    epoch, order = -1, np.zeros((0, 0), np.int32)
    for step in numbers:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = np.asarray(epoch_order(key, epoch, examples=len(dataset), batch_size=batch_size))
        rows = order[step % per_epoch][mine]
        yield Batch(*jax.tree.map(lambda array, rows=rows: array[rows], (dataset.inputs, dataset.targets)))
