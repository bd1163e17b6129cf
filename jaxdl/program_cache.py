"""A cache of compiled functions, whose keys are what the arguments are made of.

Two calls of `optim.sgd(0.1)` give two objects that compute the same, so both can use one compiled program. In doubt,
keys differ: a wrong match would give wrong numbers, a missed match costs a compilation.
"""

import dataclasses
import enum
import functools
import types
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdl.identity import dataclass_attributes, function_parts, is_of_library, module_fields

_SMALL = 1024  # NumPy arrays of up to this many elements are compared by content, larger ones by identity


def remembered(maxsize: int = 32) -> Callable[[Callable], Callable]:
    """Makes a function keep its last `maxsize` results, by the structure of its (positional) arguments."""

    def decorate(function: Callable) -> Callable:
        cached = functools.lru_cache(maxsize)(lambda arguments: function(*arguments.values))

        @functools.wraps(function)
        def call(*values: Any) -> Any:
            return cached(_Arguments(values))

        return call

    return decorate


def structural_key(value: Any) -> Hashable:
    """A key that is equal only for values which compute the same.

    A library's function is compared by its code and the values that it closes over. So is a user's function, if all
    that it closes over and reads cannot change; otherwise it is compared by identity. Flax modules and frozen
    dataclasses are compared by their fields. Other values are compared by `==` if they can be hashed, else by identity.

    Example:
      >>> import optax
      >>> structural_key(optax.sgd(0.1)) == structural_key(optax.sgd(0.1))
      True
      >>> structural_key(optax.sgd(0.1)) == structural_key(optax.sgd(0.2))
      False
    """
    return _key(value, {}, frozen=False)


class _Arguments:
    """Arguments that are equal if their structures are. It holds the arguments, so that no id in a key is reused."""

    def __init__(self, values: tuple):
        self.values, self._key = values, structural_key(values)
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        return self._hash == other._hash and self._key == other._key


class _Same:
    """A wrapper that equals another one only if both hold the same object."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Same) and self.value is other.value


class _MayChangeError(Exception):
    """A value is part of a user's function, and could be changed from elsewhere."""


def _key(value: Any, seen: dict[int, int], *, frozen: bool) -> Hashable:
    """The key of a value; with `frozen` it raises `_MayChangeError` for a value that may change."""
    if value is None or isinstance(value, bool | int | str | bytes):
        return type(value), value
    if isinstance(value, float | complex | np.generic):
        return type(value), repr(value)  # 0.0 equals -0.0, but does not compute the same
    if isinstance(value, jax.Array):
        return _Same(value)
    if isinstance(value, type | enum.Enum | np.dtype):
        if frozen and not is_of_library(value if isinstance(value, type) else type(value)):
            raise _MayChangeError
        return _Same(value) if isinstance(value, type) else (type(value), value)
    if isinstance(value, types.ModuleType | np.ufunc | types.BuiltinFunctionType):
        owner = value if isinstance(value, types.ModuleType) else getattr(value, "__self__", None)  # of a method
        if frozen and owner is not None and not (isinstance(owner, types.ModuleType) and is_of_library(owner)):
            raise _MayChangeError
        return _Same(value)
    if id(value) in seen:  # a function that calls itself
        return "seen", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, types.FunctionType):
        return _function_key(value, seen, frozen=frozen)
    part = functools.partial(_key, seen=seen, frozen=frozen)
    if isinstance(value, tuple):
        return type(value), *map(part, value)
    if isinstance(value, functools.partial):
        keywords = tuple((name, part(item)) for name, item in value.keywords.items())
        return functools.partial, part(value.func), tuple(map(part, value.args)), keywords
    if isinstance(value, nn.Module) and value.scope is None:
        return type(value), *((name, part(item)) for name, item in module_fields(value).items())
    if dataclasses.is_dataclass(value) and type(value).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return type(value), *((name, part(item)) for name, item in dataclass_attributes(value).items())
    if frozen and not (is_of_library(type(value)) and hasattr(value, "__wrapped__")):  # as jax.jit and jax.custom_jvp
        raise _MayChangeError
    # Nobody changes the lists and dicts that a library's objects hold.
    if isinstance(value, list | Mapping):
        items = value.items() if isinstance(value, Mapping) else value
        return type(value), *(part(item) for item in items)
    if isinstance(value, np.ndarray) and value.size <= _SMALL and value.dtype != object:
        return np.ndarray, value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, types.MethodType):
        return types.MethodType, part(value.__func__), part(value.__self__)
    if not is_of_library(type(value)) and hasattr(value, "__dict__"):
        # The object itself, as it is now: a loss whose weight was changed computes something else.
        return type(value), _Same(value), *((name, part(item)) for name, item in vars(value).items())
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return type(value), value


def _function_key(function: types.FunctionType, seen: dict[int, int], *, frozen: bool) -> Hashable:
    what = function.__code__, _Same(function.__globals__)
    if is_of_library(function):
        return *what, *((name, _key(item, seen, frozen=frozen)) for name, item in function_parts(function))
    before = dict(seen)
    try:
        return *what, *((name, _key(item, seen, frozen=True)) for name, item in function_parts(function))
    except _MayChangeError:
        if frozen:
            raise
        seen.clear()
        seen.update(before)
        return _Same(function)
