"""One pass over a whole data set, in equal batches, on the devices."""

from collections.abc import Callable, Iterator
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
    """A data set on devices, and the starts of its batches; a stream is put there in parts.

    The last batch is filled up with copies of the last example; `masked_batch` says which examples are real.

    Args:
      dataset: the data set; every example counts once.
      place: puts arrays on the devices.
      batch_size: examples at a time, on each device.
      parts: number of devices over which each batch is spread. Device d takes the examples from start + d * batch_size.
      wait_every: number of batches after which the host waits for the devices; None for never.
    """

    def __init__(
        self,
        dataset: Dataset | Stream,
        place: Callable[[Any], Any],
        *,
        batch_size: int,
        parts: int = 1,
        wait_every: int | None = None,
    ):
        self.examples = len(dataset)
        self.batch_size = min(batch_size, -(-self.examples // parts))
        self._stride, self._wait_every = self.batch_size * parts, wait_every
        self._place = place
        self._stream = dataset if isinstance(dataset, Stream) else None
        self._data = None if isinstance(dataset, Stream) else place((dataset.inputs, dataset.targets))

    def __call__(self, program: Callable, variables: Any) -> Iterator[Any]:
        """Yields the result of `program(variables, data, start)` for each batch."""
        for number, (data, start) in enumerate(self._parts(), 1):
            found = program(variables, data, np.int32(start))
            if self._wait_every and number % self._wait_every == 0:
                jax.block_until_ready(found)
            yield found

    def _parts(self) -> Iterator[tuple[Any, int]]:
        """Data on the devices, and the row at which a batch starts."""
        if self._stream is None:
            for start in range(0, self.examples, self._stride):
                yield self._data, start
            return
        for (inputs, targets), real in chunks(self._stream, self._stride):
            yield self._place((inputs, targets, np.int32(real))), 0


def masked_batch(data: tuple[Any, ...], start: jax.Array, batch_size: int) -> tuple[Batch, jax.Array]:
    """The batch from `start` on, and which of its examples are real, bool [batch_size]; others repeat the last one.

    Args:
      data: inputs and targets; in a third place how many of these are real, if not all.
      start: the first row.
      batch_size: rows in a batch.
    """
    inputs, targets, *real = data
    rows = start + jnp.arange(batch_size)
    return take_batch(inputs, targets, rows), rows < (real[0] if real else len(jax.tree.leaves(inputs)[0]))
