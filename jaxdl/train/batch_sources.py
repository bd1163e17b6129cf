"""Where the compiled steps get their batches: from a set on the devices, or from streams."""

from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np

from jaxdl.data import Dataset, Stream, batches, epoch_order
from jaxdl.mesh import Members
from jaxdl.train.sharding import Layout
from jaxdl.train.state import TrainState


class Batches(Protocol):
    """What the compiled functions take in the place of data."""

    def of(self, state: TrainState, step: int) -> Any:
        """The data of a step."""
        ...

    def forget(self) -> None:
        """Forgets what depends on the state's key."""
        ...


class ResidentBatches:
    """A data set on the devices, and the order of its examples in an epoch: the same for all steps of an epoch."""

    def __init__(self, train_set: Dataset, layout: Layout, batch_size: int):
        self._layout, self._examples, self._batch_size = layout, len(train_set), batch_size
        self._steps_per_epoch = train_set.steps_per_epoch(batch_size)
        self._data = layout.replicate((train_set.inputs, train_set.targets))
        self._epoch, self._order = -1, None

    def of(self, state: TrainState, step: int) -> Any:
        """The data set and the order."""
        if self._epoch != step // self._steps_per_epoch:
            self._epoch = step // self._steps_per_epoch
            key = self._layout.collect(state.key)
            order = epoch_order(key, self._epoch, examples=self._examples, batch_size=self._batch_size)
            self._order = self._layout.place_order(order)
        return self._data, self._order

    def forget(self) -> None:
        """The order is made anew at the next step."""
        self._epoch = -1


class StreamedBatches:
    """The batches of a stream, one for each step, which is put on the devices."""

    def __init__(self, train_set: Stream, layout: Layout, batch_size: int, steps: int):
        self._stream, self._layout, self._batch_size, self._steps = train_set, layout, batch_size, steps
        self._batches: Any = None
        self._next = 0  # the step of the batch that comes next

    def of(self, state: TrainState, step: int) -> Any:
        """The batch."""
        if self._batches is None or self._next != step:
            self.forget()
            key = self._layout.collect(state.key)
            self._batches = batches(self._stream, key, self._batch_size, start=step, steps=self._steps)
        self._next = step + 1
        return self._layout.place_batch(next(self._batches))

    def forget(self) -> None:
        """Ends the reading; it begins anew at the next step."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


class MemberBatches:
    """The batches of a stream for each member, [members, batch, ...]. Members with the same key share their reading."""

    def __init__(self, train_set: Stream, where: Members, batch_size: int, steps: int):
        self._stream, self._where, self._batch_size, self._steps = train_set, where, batch_size, steps
        self._readers: list[Iterator[Any]] = []
        self._of_member: np.ndarray = np.zeros(0, int)
        self._next = -1

    def of(self, state: TrainState, step: int) -> Any:
        """The batches of a step."""
        if step != self._next:
            self.forget()
            data = np.asarray(jax.random.key_data(state.key))
            _, first, self._of_member = np.unique(data, axis=0, return_index=True, return_inverse=True)
            self._readers = [
                batches(self._stream, state.key[i], self._batch_size, start=step, steps=self._steps)
                for i in first.tolist()
            ]
        self._next = step + 1
        found = [next(reader) for reader in self._readers]
        mine = [found[number] for number in self._of_member.ravel()]
        return self._where.place(jax.tree.map(lambda *parts: np.stack(parts), *mine))

    def forget(self) -> None:
        """Ends the reading; it begins anew at the next step."""
        for reader in self._readers:
            reader.close()  # type: ignore[attr-defined]
        self._readers, self._next = [], -1
