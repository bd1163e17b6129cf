"""What a value is, by its structure: as a key within this process, and as text that every process writes alike.

Functions that a factory makes, `optim.cosine_decay(0.1, 100)` for example, are new objects at every call, and their
`repr` holds an address. But what they compute is known: it is their code, and the values that they close over.
"""

import dataclasses
import functools
import hashlib
import inspect
import sys
import types
import zlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_LIBRARIES = {"jaxdl", "jax", "jaxlib", "flax", "optax", "orbax", "chex", "numpy", "scipy", *sys.stdlib_module_names}
_LIBRARIES -= {"__main__"}
_SMALL = 1024  # elements of a NumPy array that a key compares by content; larger ones by identity
_PYTHON = "python {}.{}".format(*sys.version_info)


def structural_key(value: Any) -> Hashable:
    """A key that is equal for values which compute the same: equal fields, equal code that closes over equal values.

    Keys hold what they were made of. Values that cannot be looked into are compared by `==` if they can be hashed, and
    else by identity. What is equal here may still be two objects: two calls of one factory with equal arguments.

    Example:
      >>> import optax
      >>> structural_key(optax.sgd(0.1)) == structural_key(optax.sgd(0.1))
      True
      >>> structural_key(optax.sgd(0.1)) == structural_key(optax.sgd(0.2))
      False
    """
    return _key(value, {})


def describe(value: Any) -> tuple[Any, list[str]]:
    """What a value is, as a tree of dicts, lists and strings that JSON can hold, the same in every process.

    Functions are told by their qualified names and the values that they close over or take by default; those of a
    user's own also by their code and the global values that they read. Nothing depends on an address.

    Returns:
      The tree, and the names of types of which two values cannot be told apart.

    Example:
      >>> describe((1, "a"))
      (['1', "'a'"], [])
    """
    unknown: list[str] = []
    return _describe(value, {}, unknown), unknown


def differences(there: Any, here: Any, place: str = "") -> list[str]:
    """Where two trees of `describe` differ, a line each: "model.norm: there ..., here ..."."""
    if isinstance(there, dict) and isinstance(here, dict) and there.get("is") == here.get("is"):
        lines = []
        for name in dict.fromkeys([*there, *here]):
            old, new = there.get(name, "nothing"), here.get(name, "nothing")
            if name == "code" and isinstance(old, str) and isinstance(new, str):
                # Another Python compiles the same source to other code.
                if old.split(":")[0] == new.split(":")[0] and old != new:
                    lines.append(f"{place}: its code has changed")
            else:
                lines += differences(old, new, f"{place}.{name}" if place else name)
        return lines
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return [
            line
            for number, (old, new) in enumerate(zip(there, here, strict=True))
            for line in differences(old, new, f"{place}[{number}]")
        ]
    return [] if there == here else [f"{place}: there {_short(there)}, here {_short(here)}"]


def remembered(maxsize: int) -> Callable[[Callable], Callable]:
    """A cache of a function's last `maxsize` results, found by the structure of its arguments (by position only)."""

    def decorate(function: Callable) -> Callable:
        cached = functools.lru_cache(maxsize)(lambda arguments: function(*arguments.values))

        @functools.wraps(function)
        def call(*values: Any) -> Any:
            return cached(_Arguments(values))

        call.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
        return call

    return decorate


class _Arguments:
    """Arguments that are equal where their structures are."""

    def __init__(self, values: tuple):
        self.values, self._key = values, structural_key(values)
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        return self._hash == other._hash and self._key == other._key


class _Same:
    """Equal to what holds the very same object."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def _parts(value: Any) -> dict[str, Any] | None:
    """What a value is made of, if it can be looked into and does not change."""
    if isinstance(value, types.FunctionType):
        return _function_parts(value)
    if isinstance(value, types.MethodType):
        return {"function": value.__func__, "self": value.__self__}
    if isinstance(value, functools.partial):
        return {"function": value.func, "arguments": value.args, "keywords": value.keywords}
    if isinstance(value, nn.Module):
        fields = [field.name for field in dataclasses.fields(value) if field.init and field.name != "parent"]
        return {name: getattr(value, name) for name in fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(getattr(value, "_fields"), value, strict=True))  # noqa: B009
    if isinstance(value, Mapping):
        return {str(key) if isinstance(key, str) else repr(key): item for key, item in value.items()}
    return None


def _function_parts(function: types.FunctionType) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            parts[name] = cell.cell_contents
        except ValueError:  # not filled yet
            parts[name] = None
    for name, default in _defaults(function).items():
        parts[f"default of {name}"] = default
    if not _of_library(function):
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__ and not isinstance(function.__globals__[name], types.ModuleType):
                parts[f"global {name}"] = function.__globals__[name]
    return parts


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    code, defaults = function.__code__, function.__defaults__ or ()
    named = code.co_varnames[: code.co_argcount]
    return dict(zip(named[len(named) - len(defaults) :], defaults, strict=True)) | (function.__kwdefaults__ or {})


def _names(code: types.CodeType) -> set[str]:
    """Global names, and attributes, that code and the functions inside it refer to."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*inner)


def _of_library(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").partition(".")[0] in _LIBRARIES


def _key(value: Any, seen: dict[int, int]) -> Hashable:
    if isinstance(value, np.ndarray) and value.size <= _SMALL and value.dtype != object:
        return np.ndarray, value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value), *(_key(item, seen) for item in value)
    parts = _parts(value)
    if parts is not None:
        if id(value) in seen:  # a function that calls itself
            return "seen", seen[id(value)]
        seen[id(value)] = len(seen)
        what = (type(value),)
        if isinstance(value, types.FunctionType):
            what = (value.__code__, _Same(value.__globals__))
        return *what, *((name, _key(part, seen)) for name, part in parts.items())
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return type(value), value


def _describe(value: Any, seen: dict[int, str], unknown: list[str]) -> Any:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _describe_array(value)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_describe(item, seen, unknown) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(str(_describe(item, seen, unknown)) for item in value)
    if isinstance(value, types.ModuleType):
        return value.__name__
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, type):
        name = _qualified(value)
        seen[id(value)] = name
        return name if _of_library(value) else {"is": name, **_class_parts(value, seen, unknown)}
    parts, name = _parts(value), _qualified(value)
    wrapped = getattr(value, "__wrapped__", None)  # of jax.jit, jax.custom_jvp, functools.lru_cache, ...
    if parts is None and wrapped is not None:
        return _describe(wrapped, seen, unknown)
    if parts is None and (callable(value) or " at 0x" in repr(value)):
        parts = _state_of(value)
        if parts is None and not hasattr(value, "__qualname__") and not isinstance(value, np.ufunc):
            unknown.append(name)
    if parts is None:
        text = repr(value)
        return name if callable(value) or " at 0x" in text else text
    seen[id(value)] = name
    described = {part: _describe(item, seen, unknown) for part, item in parts.items()}
    if isinstance(value, types.FunctionType) and not _of_library(value):
        described["code"] = _digest_of_code(value)
    if not isinstance(value, types.FunctionType | types.MethodType | functools.partial) and not _of_library(
        type(value)
    ):
        described |= {f"class {part}": item for part, item in _class_parts(type(value), seen, unknown).items()}
    return {"is": name, **described} if described or isinstance(value, Mapping) else name


def _class_parts(kind: type, seen: dict[int, str], unknown: list[str]) -> dict[str, Any]:
    """The methods of a user's class, those of its own bases too."""
    found = {}
    for base in kind.__mro__:
        if _of_library(base):
            continue
        for name, method in vars(base).items():
            function = inspect.unwrap(getattr(method, "__func__", method))
            written = isinstance(function, types.FunctionType) and function.__code__.co_filename != "<string>"
            if written and not _of_library(function) and name not in found:
                found[name] = _describe(function, seen, unknown)
    return found


def _state_of(value: Any) -> dict[str, Any] | None:
    """The attributes of an object of a class written in Python; None for what keeps its state elsewhere."""
    if not type(value).__flags__ & (1 << 9):  # not made by a class statement
        return None
    slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
    return {**{name: getattr(value, name) for name in slots if hasattr(value, name)}, **getattr(value, "__dict__", {})}


def _describe_array(value: Any) -> str:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if isinstance(value, Tracer):
        return f"traced {value.dtype} {list(value.shape)}"
    array = np.asarray(value)
    if array.size == 1:
        return f"{array.dtype} {array.item()!r}"
    crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return f"{array.dtype} {list(array.shape)}, CRC-32 {crc:08x}"


def _digest_of_code(function: types.FunctionType) -> str:
    def plain(code: types.CodeType) -> list:
        constants = [
            plain(c) if isinstance(c, types.CodeType) else sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c)
            for c in code.co_consts
            if c is None or c != function.__doc__
        ]
        return [code.co_code.hex(), code.co_names, code.co_varnames, constants]

    digest = hashlib.sha256(repr(plain(function.__code__)).encode()).hexdigest()[:12]
    return f"{_PYTHON}: {digest}"


def _qualified(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _short(tree: Any) -> str:
    if isinstance(tree, dict):
        tree = tree.get("is", tree)
    text = tree if isinstance(tree, str) else repr(tree)
    return text if len(text) <= 100 else f"{text[:100]}..."
