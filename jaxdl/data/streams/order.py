"""The order of a stream's images: in training a function of key and epoch, in evaluation that of the rows."""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from jaxdl.data.streams.reading import Reader
from jaxdl.data.streams.stream import Stream
from jaxdl.typing import Batch

_PLANNED = 2_000_000  # images whose order is made at once; the readers start anew after so many


def training_batches(
    stream: Stream,
    order: Callable[[int], np.ndarray],
    key: jax.Array,
    batch_size: int,
    *,
    start: int,
    until: int | None,
    mine: slice,
) -> Iterator[Batch]:
    """The batches of the steps from `start` up to `until`, which is not included; None for no end.

    Args:
      stream: the stream.
      order: the numbers [steps in an epoch, batch_size] of an epoch's images, by the number of the epoch.
      key: the training state's. The random numbers of a view depend on it, on the step and on the place in the batch.
      batch_size: images in a batch, of all processes.
      start: number of the first step.
      until: number of the step after the last one.
      mine: the part of a batch that this process reads.
    """
    seed = int(np.random.SeedSequence(np.asarray(jax.random.key_data(key)).ravel().tolist()).generate_state(1, "u8")[0])
    step, per_epoch = start, stream.steps_per_epoch(batch_size)
    epochs = max(1, _PLANNED // len(stream))
    while until is None or step < until:
        begin = step // per_epoch
        end = (begin + epochs) * per_epoch
        end = end if until is None else min(end, until)
        orders = [order(epoch) for epoch in range(begin, -(-end // per_epoch))]
        rows = np.concatenate(orders)[step - begin * per_epoch : end - begin * per_epoch, mine]
        places = np.arange(step, end, dtype=np.int64)[:, None] * batch_size + np.arange(batch_size)[mine]
        reader = Reader(stream, rows.ravel(), places.ravel(), rows.shape[1], seed=seed)
        try:
            for batch in reader:
                step += 1
                yield batch
        finally:
            reader.close()


def chunks(stream: Stream, size: int) -> Iterator[tuple[Batch, int]]:
    """All images in the order of the rows: chunks of `size`, and how many of each are real; the last is filled up."""
    rows = np.arange(len(stream))
    reader = Reader(stream, rows, rows, size)
    try:
        for images, labels in reader:
            real = len(labels)
            yield Batch(*(np.concatenate([x, np.repeat(x[-1:], size - real, 0)]) for x in (images, labels))), real
    finally:
        reader.close()
