"""One pass over a whole data set, in equal batches, on the devices."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.batching import take_batch
from jaxdl.data.dataset import Dataset
from jaxdl.typing import Arrays, Batch


class Sweep:
    """A data set on devices, and the starts of its batches.

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
        dataset: Dataset,
        place: Callable[[Any], Any],
        *,
        batch_size: int,
        parts: int = 1,
        wait_every: int | None = None,
    ):
        self.examples = len(dataset)
        self.batch_size = min(batch_size, -(-self.examples // parts))
        self._stride, self._wait_every = self.batch_size * parts, wait_every
        self._data = place((dataset.inputs, dataset.targets))

    def __call__(self, program: Callable, variables: Any) -> Iterator[Any]:
        """Yields the result of `program(variables, data, start)` for each batch."""
        for number, start in enumerate(range(0, self.examples, self._stride), 1):
            found = program(variables, self._data, np.int32(start))
            if self._wait_every and number % self._wait_every == 0:
                jax.block_until_ready(found)
            yield found


def masked_batch(data: tuple[Arrays, Arrays], start: jax.Array, batch_size: int) -> tuple[Batch, jax.Array]:
    """The batch from `start` on, and which of its examples are real, bool [batch_size]; others repeat the last one."""
    rows = start + jnp.arange(batch_size)
    return take_batch(*data, rows), rows < len(jax.tree.leaves(data)[0])
