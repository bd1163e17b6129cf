"""Reads torch's files of tensors without torch, and without running what is pickled in them.

`torch.save` writes pickles, and unpickling calls any function that a file names. This reader knows only the names that
make up tensors; everything else that a file names becomes an object that does nothing. It reads the format since torch
1.6 (a zip file) and the one before it (pickles, then the numbers).
"""

import collections
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxdl.arguments import require

_MAGIC = 0x1950A86A20F9469CFC6C  # begins a file in the older format
_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_DAMAGED = (  # what reading a damaged file may raise
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    TypeError,
)


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    """A view of a storage, whose numbers may not have been read yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Inert:
    """Stands for everything that is not part of a tensor; takes any arguments and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> "_Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Unpickling a subclass of list calls this."""

    def extend(self, values: Any) -> None:
        """Unpickling a subclass of list calls this."""

    def add(self, value: Any) -> None:
        """Unpickling a subclass of set calls this."""


def _rebuild_tensor(storage, offset, shape, strides, *_):
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch", "Size"): tuple,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        return _KNOWN.get((module, name), _Inert)

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key = pid[:3]
        require(
            kind == "storage" and isinstance(dtype, np.dtype) and (len(pid) < 6 or pid[5] is None),
            f"a torch file holds a tensor of a kind that is not read here: {dtype!r}; convert it to float32 with torch",
        )
        return _Storage(str(key), dtype)


def read_torch_file(path: Path) -> Any:
    """The object that `torch.save` wrote, with NumPy arrays in the place of tensors.

    Raises:
      ValueError: the file is not a file of torch, or it is damaged.
    """
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_pickles(path)
    except _DAMAGED as error:
        raise ValueError(
            f"{path} is not a file that torch.save wrote, or it is damaged: {type(error).__name__}: {error}"
        ) from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        require(len(names) == 1, f"{path} is a zip file, but not one that torch.save wrote: it has no data.pkl")
        folder = names[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist():
            require(
                archive.read(order) == b"little", f"{path} was written on a big-endian machine; that is not read here"
            )
        tree = _Unpickler(io.BytesIO(archive.read(names[0]))).load()
        return _with_arrays(tree, lambda storage: _numbers(archive.read(f"{folder}data/{storage.key}"), storage.dtype))


def _read_pickles(path: Path) -> Any:
    with path.open("rb") as file:
        magic, protocol, _system = (_Unpickler(file).load() for _ in range(3))
        require(magic == _MAGIC and protocol == 1001, f"{path} is not a file that torch.save wrote")
        tree = _Unpickler(file).load()
        keys = _Unpickler(file).load()
        dtypes: dict[str, np.dtype] = {}
        _with_arrays(tree, lambda storage: dtypes.setdefault(storage.key, storage.dtype))
        storages = {}
        for key in map(str, keys):
            (count,) = struct.unpack("<q", file.read(8))
            require(key in dtypes, f"{path} is damaged: nothing refers to its storage {key!r}")
            storages[key] = _numbers(file.read(count * dtypes[key].itemsize), dtypes[key])
        return _with_arrays(tree, lambda storage: storages[storage.key])


def _numbers(content: bytes, dtype: np.dtype) -> np.ndarray:
    """The numbers in `content`, without a last one that is cut off; a tensor that needs more numbers raises."""
    return np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize], dtype)


def _with_arrays(tree: Any, numbers: Callable[[_Storage], Any]) -> Any:
    """The tree with an array in the place of every tensor, made from the numbers of its storage."""
    if isinstance(tree, _Tensor):
        return _view(tree, numbers(tree.storage))
    if isinstance(tree, dict):
        return {key: _with_arrays(value, numbers) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_with_arrays(value, numbers) for value in tree]
    return tree


def _view(tensor: _Tensor, flat: Any) -> Any:
    if not isinstance(flat, np.ndarray):
        return flat
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    inside = tensor.offset >= 0 and min(tensor.strides, default=0) >= 0 and last < len(flat)
    require(
        inside or 0 in tensor.shape, f"damaged file: a tensor of shape {tensor.shape} passes the end of its numbers"
    )
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, flat.dtype)
    strides = [s * flat.itemsize for s in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides).copy()
