"""Examples of a data set as NumPy arrays, what kind of targets it has, and check sums of examples."""

import hashlib
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

from jaxdl.data import Dataset, Stream
from jaxdl.data.streams.order import chunks
from jaxdl.typing import Batch

TargetKind: TypeAlias = Literal["classes", "soft", "labels", "numbers", "other"]


def sample_rows(examples: int, most: int, *, seed: int = 0) -> np.ndarray:
    """At most `most` rows drawn without replacement, in rising order; all rows if there are no more."""
    if examples <= most:
        return np.arange(examples)
    return np.sort(np.random.default_rng(seed).choice(examples, most, replace=False))


def pieces(dataset: Dataset | Stream, rows: np.ndarray, size: int = 256) -> Iterator[Batch]:
    """The examples at these rows as NumPy arrays, so many at a time; a stream decodes them."""
    if isinstance(dataset, Stream):
        for batch, real in chunks(dataset.take(rows), min(len(rows), size)):
            yield Batch(*jax.tree.map(lambda array, real=int(real[0]): np.asarray(array)[:real], tuple(batch)))
        return
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        yield Batch(*jax.tree.map(lambda array, some=some: array[some], (dataset.inputs, dataset.targets)))


def joined(parts: list[Any]) -> Any:
    """Trees of arrays, one after the other."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def target_kind(targets: Any) -> TargetKind:
    """What targets are: class numbers, rows of probabilities, several labels of 0 or 1, numbers, or something else."""
    dtype = getattr(targets, "dtype", None)
    if dtype is None or targets.ndim == 0:
        return "other"
    if targets.ndim == 1 and np.issubdtype(dtype, np.integer):
        return "classes"
    if targets.ndim == 2 and targets.shape[1] > 1:
        if bool(np.all((targets == 0) | (targets == 1))) and not bool(np.all(np.sum(targets, 1) == 1)):
            return "labels"
        if bool(np.all(targets >= 0)) and bool(np.allclose(np.sum(targets, 1, dtype=np.float64), 1, atol=0.02)):
            return "soft"
    if np.issubdtype(dtype, np.bool_):
        return "labels"
    return "numbers" if np.issubdtype(dtype, np.number) else "other"


def file_sums(stream: Stream, rows: np.ndarray) -> np.ndarray:
    """A check sum of each encoded image's bytes, bytes [n]. Crops of equal files differ, so files are compared."""
    return np.array([_digest(stream.source.read(int(row)).load()) for row in rows], dtype="S32")


def check_sums(inputs: Any) -> np.ndarray:
    """A check sum of each example's bytes, bytes [n]: examples with equal ones are equal."""
    leaves = [np.ascontiguousarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(inputs)]
    rows = range(len(leaves[0]))
    return np.array([_digest(b"".join(leaf[row].tobytes() for leaf in leaves)) for row in rows], dtype="S32")


def _digest(content: bytes) -> bytes:
    # Hexadecimal, because NumPy cuts zero bytes off the end.
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


def equal_targets(targets: Any, first: np.ndarray, second: np.ndarray, others: Any = None) -> np.ndarray:
    """Whether the targets at the rows `first` equal those of `others` (by default the same) at `second`, bool [m]."""
    others = targets if others is None else others
    same = np.ones(len(first), bool)
    for mine, theirs in zip(jax.tree.leaves(targets), jax.tree.leaves(others), strict=True):
        different = np.asarray(mine)[first] != np.asarray(theirs)[second]
        same &= ~different.reshape(len(first), -1).any(1) if len(first) else same
    return same
