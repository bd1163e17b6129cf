"""The order of a stream's images: in training a function of key and epoch, in evaluation that of the rows."""

from collections.abc import Callable, Iterator, Sequence

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


def chunks(
    stream: Stream, size: int, *, parts: int = 1, mine: Sequence[int] = (0,)
) -> Iterator[tuple[Batch, np.ndarray]]:
    """All images in the order of the rows, in chunks of `parts` parts. The last chunk is filled up with black images.

    Args:
      stream: the stream.
      size: images in a part.
      parts: parts in a chunk: as many as devices share it.
      mine: numbers of the parts that this process reads; it decodes no others.

    Yields:
      The images of these parts [len(mine) * size, ...] with their labels, and how many of each part are real, int32
      [len(mine)].
    """
    count = -(-len(stream) // (parts * size))
    starts = np.arange(count)[:, None] * parts + np.asarray(mine)
    rows = (starts[..., None] * size + np.arange(size)).reshape(count, -1)
    real = rows < len(stream)
    reader = Reader(stream, rows[real], rows[real], rows.shape[1]) if real.any() else None
    try:
        for now in real:
            found = Batch(*(np.zeros((len(now), *kind.shape[1:]), kind.dtype) for kind in stream.example))
            if reader is not None and now.any():
                read = next(reader)
                if now.all():
                    found = read
                else:
                    found.inputs[now], found.targets[now] = read
            yield found, now.reshape(len(mine), size).sum(1, dtype=np.int32)
    finally:
        if reader is not None:
            reader.close()
