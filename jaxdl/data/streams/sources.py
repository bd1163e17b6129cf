"""Where the encoded images of a stream are: in class folders, or in the records of tensorflow-datasets."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Encoded(NamedTuple):
    """One example, not decoded yet."""

    load: Callable[[], bytes]  # reads the image
    label: int
    where: str  # its path, or its number in a split, for messages


class Source(Protocol):
    """Encoded images by number. It is sent to worker processes, so it must be picklable."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> Encoded:
        """One example."""
        ...

    def labels(self) -> np.ndarray:
        """All labels, int32 [n]."""
        ...

    def digest(self) -> str:
        """A check sum that changes if other examples are meant."""
        ...


class Files:
    """Image files with labels.

    Args:
      root: the folder below which they are.
      paths: below the root.
      labels: int32, one for each path.
    """

    def __init__(self, root: Path, paths: list[str], labels: np.ndarray):
        # Names that are not UTF-8 have surrogates in the place of their bytes, as `os` gives them.
        self._paths = np.char.encode(np.asarray(paths), "utf-8", "surrogateescape")
        self._root, self._labels = str(root), labels

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, row: int) -> Encoded:
        """One file."""
        path = Path(self._root, self._paths[row].decode("utf-8", "surrogateescape"))
        return Encoded(path.read_bytes, int(self._labels[row]), str(path))

    def labels(self) -> np.ndarray:
        """All labels, int32 [n]."""
        return self._labels

    def digest(self) -> str:
        """Of the paths below the root and the labels; the files are not read."""
        return hashlib.sha256(self._paths.tobytes() + self._labels.tobytes()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Records:
    """A split prepared by tensorflow-datasets, with the features "image" and "label".

    Attributes:
      folder: <data_dir>/<name>/<version>.
      split: "train", or "train[:90%]" for example.
      key: names the prepared version.
    """

    folder: str
    split: str
    key: str

    @functools.cached_property
    def _records(self) -> Any:
        import tensorflow_datasets as tfds

        builder: Any = tfds.builder_from_directory(builder_dir=self.folder)
        return builder.as_data_source(self.split, decoders={"image": tfds.decode.SkipDecoding()})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_records"}

    def __len__(self) -> int:
        return len(self._records)

    def read(self, row: int) -> Encoded:
        """One record."""
        record = self._records[row]
        return Encoded(lambda: record["image"], int(record["label"]), f"record {row} of {self.key} ({self.split})")

    def labels(self) -> np.ndarray:
        """All labels, int32 [n]; every record is read for it."""
        return np.array([self.read(row).label for row in range(len(self))], np.int32)

    def digest(self) -> str:
        """The prepared version and the split."""
        return f"{self.key} {self.split}"


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a source, in an order.

    Attributes:
      whole: the source.
      rows: int [n].
    """

    whole: Source
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> Encoded:
        """One example."""
        return self.whole.read(int(self.rows[row]))

    def labels(self) -> np.ndarray:
        """All labels, int32 [n]."""
        return self.whole.labels()[self.rows]

    def digest(self) -> str:
        """Of the whole and the rows."""
        rows = np.ascontiguousarray(self.rows, np.int64)  # whatever their dtype is
        return f"{self.whole.digest()}[{hashlib.sha256(rows.tobytes()).hexdigest()[:12]}]"
