"""Reads the batches of a stream ahead, by threads or worker processes of grain."""

import atexit
import dataclasses
import logging
import multiprocessing
import os
import queue
import re
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any

import numpy as np

from jaxdl.arguments import shown
from jaxdl.data.streams.sources import Source
from jaxdl.data.streams.stream import Stream
from jaxdl.data.streams.views import View
from jaxdl.typing import Batch

_AHEAD = 2  # batches that wait for the devices
_LARGE = 20_000  # images from which on worker processes are worth their start
_PATIENCE = 10.0  # seconds without a batch after which the log says so
_WARNED = 3  # damaged images that are named one by one
_GUARD = (
    'worker processes import the main script again: put what it does under `if __name__ == "__main__":`, or pass '
    "workers=0"
)
_HOPELESS = 4  # a batch of at least so many images, all of them damaged, is an error: the view or the disk is at fault


class StreamError(RuntimeError):
    """A stream could not be read: a worker process died, no image of a batch could be read, or with `strict` one."""


class DamagedImageWarning(UserWarning):
    """An image could not be read or decoded, and a black one took its place."""


@dataclasses.dataclass(frozen=True)
class Positions:
    """Decoded examples by their position in the order in which they are used: grain's random-access source.

    Attributes:
      source: reads the encoded images.
      view: decodes them.
      rows: int [n]: the number in the source of each position.
      numbers: int64 [n]: with the seed they are the seeds of the view's random numbers.
      seed: below 2^64.
      strict: whether an image that cannot be decoded raises.
    """

    source: Source
    view: View
    rows: np.ndarray
    numbers: np.ndarray
    seed: int
    strict: bool

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
        """The image, the label, and what is wrong with the image, or ""."""
        encoded = self.source.read(int(self.rows[index]))
        generator = np.random.Generator(np.random.Philox(key=[self.seed, self.numbers[index]]))
        try:
            image = self.view(encoded.load(), generator)
        except Exception as error:  # of many kinds: the file's, Pillow's, the view's
            # Pillow names an object in memory, by its address.
            text = re.sub(r" <_io.BytesIO object at \w+>", "", str(error))
            problem = f"{encoded.where} cannot be read: {type(error).__name__}: {text}"
            if self.strict:
                raise StreamError(problem) from error
            return np.zeros((self.view.size, self.view.size, 3), np.uint8), encoded.label, problem
        size, shape, dtype = self.view.size, np.shape(image), getattr(image, "dtype", type(image).__name__)
        if shape != (size, size, 3) or dtype != np.uint8:
            raise StreamError(
                f"the view must return uint8 {[size, size, 3]}, as its field size={size} says, got {dtype} "
                f"{list(shape)} from {shown(self.view)} for {encoded.where}"
            )
        return image, encoded.label, ""


def stacked(examples: Sequence[tuple[np.ndarray, int, str]]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A batch of examples, and what is wrong with their images."""
    images, labels, problems = zip(*examples, strict=True)
    return np.stack(images), np.array(labels, np.int32), [problem for problem in problems if problem]


class Reader:
    """An iterator over the batches of a stream, which are read ahead. `close` ends its threads and processes.

    Args:
      stream: the stream.
      rows: int [n]: the numbers of the images, in the order of the batches.
      numbers: int64 [n], as for `Positions`.
      batch_size: images in a batch; the last batch may have fewer.
      seed: as for `Positions`.
    """

    def __init__(self, stream: Stream, rows: np.ndarray, numbers: np.ndarray, batch_size: int, *, seed: int = 0):
        import grain
        from absl import flags

        self._stream, self._damaged = stream, 0
        workers = workers_of(stream)
        positions: Any = Positions(stream.source, stream.view, rows, numbers, seed, stream.strict)
        batches: Any = grain.MapDataset.source(positions).batch(batch_size, batch_fn=stacked)
        threads = 2 if workers else cores()
        batches = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1))
        if workers:
            if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing asks itself
                raise StreamError(f"reading {stream!r}: a worker process may not start others; {_GUARD}")
            if not flags.FLAGS.is_parsed():  # grain's processes read flags, which only absl.app would parse
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_AHEAD)
            batches = batches.mp_prefetch(options, worker_init_fn=_end_with_parent)
            if hasattr(signal, "pthread_sigmask"):
                # A thread that starts it lets SIGINT through from then on, which `_fill` blocks.
                resource_tracker.ensure_running()
        self._queue: queue.Queue = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(batches,), daemon=True, name="jaxdl stream")
        self._thread.start()
        # Before what multiprocessing registered, which ends the workers under the thread that still reads.
        atexit.register(self.close)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while True:
            try:
                found = self._queue.get(timeout=_PATIENCE)
            except queue.Empty:
                logging.getLogger(__name__).warning("no batch of %r for %g s; still waiting", self._stream, _PATIENCE)
                continue
            if found is None:
                self.close()
                raise StopIteration
            if isinstance(found, BaseException):
                self.close()
                # A worker ends with 1 if it cannot import the main script; later errors are sent as they are.
                text = str(found).rstrip(".")
                remedy = f"; {_GUARD}" if "unexpectedly with exit code 1." in text else ""
                raise StreamError(f"reading {self._stream!r} failed: {text}{remedy}") from found
            images, labels, problems = found
            if len(problems) == len(labels) >= _HOPELESS:
                self.close()
                raise StreamError(f"no image of a batch of {self._stream!r} could be read: {problems[0]}")
            self._warn(problems)
            return Batch(images, labels)

    def close(self) -> None:
        """Ends reading. It may be called more than once, also while Python ends and takes modules apart."""
        if self._closed.is_set():
            return
        atexit.unregister(self.close)
        self._closed.set()
        while True:  # the thread may wait for room in the queue
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._thread.join(_PATIENCE)  # it may hang with the disk; it does not outlive this process
        if self._damaged > _WARNED:
            warnings.warn(
                f"{self._damaged} images of {self._stream!r} could not be read; black images took their places",
                DamagedImageWarning,
                stacklevel=3,
            )
            self._damaged = 0

    def _warn(self, problems: list[str]) -> None:
        for problem in problems:
            self._damaged += 1
            if self._damaged <= _WARNED:
                warnings.warn(
                    f"{problem}; a black image takes its place (damaged images so far: {self._damaged})",
                    DamagedImageWarning,
                    stacklevel=4,
                )

    def _fill(self, batches: Any) -> None:
        """The thread: puts batches into the queue, then None, or the exception that ended reading."""
        if hasattr(signal, "pthread_sigmask"):
            # Inherited by the workers: Ctrl-C is the main process's, which ends them. One that Ctrl-C ended while it
            # was starting was waited for without an end.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        end: Any = None
        iterator = None
        try:
            iterator = iter(batches)
            for images, labels, problems in iterator:
                if not self._put((_owned(images), _owned(labels), problems)):
                    break
        except BaseException as error:
            end = error
        try:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # the reader waits for the end all the same
            end = end or error
        self._put(end)

    def _put(self, item: Any) -> bool:
        """Whether there was room before the reader was closed."""
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


def _end_with_parent(worker: int, workers: int) -> None:
    """In a worker process: a thread that ends it when its parent is gone, killed for example."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="jaxdl parent").start()


def _owned(array: Any) -> np.ndarray:
    """An array of a worker process, copied out of the shared memory in which it came, which is given back.

    grain gives it back when the array is deleted. So each array that a caller keeps would hold a file open, and what is
    there when Python ends would be lost, with a warning of multiprocessing's resource tracker.
    """
    shared = getattr(array, "shm", None)
    if shared is None:
        return array
    copy = np.array(array)
    if getattr(array, "_unlink_on_del", False):
        shared.unlink()
        array._unlink_on_del = False
    return copy


def workers_of(stream: Stream) -> int:
    """How many worker processes read a stream; 0 for threads."""
    if stream.workers is not None:
        return stream.workers
    return cores() - 1 if len(stream) >= _LARGE and cores() >= 4 else 0


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
