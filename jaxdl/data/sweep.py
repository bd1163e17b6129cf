"""One pass over a whole data set, in equal batches, on the devices."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.batching import take_batch
from jaxdl.data.dataset import Dataset
from jaxdl.data.streams.order import chunks
from jaxdl.data.streams.stream import Stream
from jaxdl.typing import Batch


class Sweep:
    """A data set on devices, and the starts of its batches; a stream is put there batch by batch.

    The last batch is filled up; `masked_batch` says which examples are real.

    Args:
      dataset: the data set; every example counts once.
      place: puts a set in memory on the devices, or a batch of a stream: inputs, targets, and how many examples of each
        part are real, int32 [parts].
      batch_size: examples at a time, on each device.
      parts: number of devices over which each batch is spread. Device d takes the examples from start + d * batch_size.
      mine: numbers of the parts that this process reads of a stream, and passes to `place`.
      wait_every: number of batches after which the host waits for the devices; None for never.
    """

    def __init__(
        self,
        dataset: Dataset | Stream,
        place: Callable[[Any], Any],
        *,
        batch_size: int,
        parts: int = 1,
        mine: Sequence[int] = (0,),
        wait_every: int | None = None,
    ):
        self.examples = len(dataset)
        self.batch_size = min(batch_size, -(-self.examples // parts))
        self._parts, self._mine, self._wait_every = parts, mine, wait_every
        self._place = place
        self._stream = dataset if isinstance(dataset, Stream) else None
        self._data = None if isinstance(dataset, Stream) else place((dataset.inputs, dataset.targets))

    def __call__(self, program: Callable, variables: Any) -> Iterator[Any]:
        """Yields the result of `program(variables, data, start)` for each batch."""
        for number, (data, start) in enumerate(self._batches(), 1):
            found = program(variables, data, np.int32(start))
            if self._wait_every and number % self._wait_every == 0:
                jax.block_until_ready(found)
            yield found

    def _batches(self) -> Iterator[tuple[Any, int]]:
        """Data on the devices, and the row at which a batch starts."""
        if self._stream is None:
            for start in range(0, self.examples, self.batch_size * self._parts):
                yield self._data, start
            return
        for batch, real in chunks(self._stream, self.batch_size, parts=self._parts, mine=self._mine):
            yield self._place((*batch, real)), 0


def masked_batch(data: tuple[Any, ...], start: jax.Array, batch_size: int) -> tuple[Batch, jax.Array]:
    """The batch from `start` on, and which of its examples are real, bool [batch_size]; past the end the last repeats.

    Args:
      data: inputs and targets; in a third place how many of these are real, int32 [1], if not all.
      start: the first row.
      batch_size: rows in a batch.
    """
    inputs, targets, *real = data
    rows = start + jnp.arange(batch_size)
    return take_batch(inputs, targets, rows), rows < (real[0] if real else len(jax.tree.leaves(inputs)[0]))
