"""Describes a value as text that is the same in every process, so that a resumed run can be compared with the old one.

Functions that a factory makes, `optim.cosine_decay(0.1, 100)` for example, are new objects at every call, and their
`repr` holds an address. What they compute is known all the same: from their code and the values that they close over.
"""

import dataclasses
import dis
import functools
import hashlib
import inspect
import logging
import operator
import sys
import types
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_LIBRARIES = {"jaxdl", "jax", "jaxlib", "flax", "optax", "orbax", "chex", "numpy", "scipy", *sys.stdlib_module_names}
_LIBRARIES -= {"__main__"}
_PYTHON = "python {}.{}".format(*sys.version_info)
_CODE = "its code"  # no argument or field can have this name


_known: ContextVar[tuple[str, ...]] = ContextVar("known", default=())  # of the call of `describe` that is under way


def describe(value: Any, *, known: Collection[str] = ()) -> tuple[Any, list[str]]:
    """Describes a value as a tree of dicts, lists and strings that JSON can hold, the same in every process.

    A function is described by its qualified name and the values that it closes over or takes by default, a user's own
    function also by its code and the global values that it reads. An object is described by its class and attributes.
    Nothing depends on an address.

    Args:
      value: anything.
      known: names of modules and packages that count as libraries: what is in them is described by its name alone.

    Returns:
      The tree, and the names of the types whose values hide their contents: two of them look the same.

    Example:
      >>> describe((1, "a"))
      (['1', "'a'"], [])
    """
    description, token = _Description(), _known.set(tuple(known))
    try:
        return description.of(value), description.unknown
    finally:
        _known.reset(token)


def differences(there: Any, here: Any, place: str) -> list[str]:
    """Where two trees of `describe` differ, one line for each place: "model.norm: there ..., here ..."."""
    if isinstance(there, dict) and isinstance(here, dict) and there.get("is") == here.get("is"):
        lines = []
        for name in dict.fromkeys([*there, *here]):
            old, new = there.get(name, "nothing"), here.get(name, "nothing")
            if name == _CODE:
                # Another Python compiles the same source to other code.
                if str(old).partition(":")[0] == str(new).partition(":")[0] and old != new:
                    lines.append(f"{place}: its code has changed")
            else:
                lines += differences(old, new, f"{place}{name}" if name.startswith("[") else f"{place}.{name}")
        return lines
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = enumerate(zip(there, here, strict=True))
        return [line for number, (old, new) in pairs for line in differences(old, new, f"{place}[{number}]")]
    if isinstance(there, str) and isinstance(here, str) and there != here and _short(there) == _short(here):
        # They differ where they would be cut off, so their common beginning is cut off.
        pairs = enumerate(zip(there, here, strict=False))
        first = next((place for place, (old, new) in pairs if old != new), min(len(there), len(here))) - 30
        there, here = f"...{there[first:]}", f"...{here[first:]}"
    return [] if there == here else [f"{place}: there {_short(there)}, here {_short(here)}"]


def is_of_library(value: Any) -> bool:
    """Whether a function, class or module comes with a library, which does not change while it is used."""
    if isinstance(value, types.FunctionType):
        # Not __module__: functools.wraps copies that of what is wrapped.
        module = value.__globals__.get("__name__", "")
    elif isinstance(value, types.ModuleType):
        module = value.__name__
    else:
        module = getattr(value, "__module__", None) or ""
    return module.partition(".")[0] in _LIBRARIES or any(f"{module}.".startswith(f"{name}.") for name in _known.get())


def function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function computes with, by name, apart from its code and its arguments.

    These are the values that it closes over, the defaults of its arguments, its attributes and, for a user's function,
    the global values that it reads.
    """
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            yield name, None
    named, defaults = function.__code__.co_varnames[: function.__code__.co_argcount], function.__defaults__ or ()
    by_position = dict(zip(named[len(named) - len(defaults) :], defaults, strict=True))
    for name, default in {**by_position, **(function.__kwdefaults__ or {})}.items():
        yield f"default of {name}", default
    for name, attribute in vars(function).items():
        if name != "__wrapped__":  # this function is among the values that it closes over
            yield f"attribute {name}", attribute
    if not is_of_library(function):
        for name in sorted(_globals_read(function.__code__)):
            if name in function.__globals__:
                yield f"global {name}", function.__globals__[name]


def module_fields(module: nn.Module) -> dict[str, Any]:
    """The fields of a Flax module that say what it computes."""
    return {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.init and field.name != "parent"
    }


def dataclass_attributes(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, and of a user's own also its other attributes.

    Other attributes of a library's dataclass are left out: they may be computed from its fields, as cached properties.
    """
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return fields if is_of_library(type(value)) else fields | getattr(value, "__dict__", {})


def _globals_read(code: types.CodeType) -> set[str]:
    """Names of global values that code, and the functions inside it, read."""
    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(_globals_read(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)))


class _Description:
    """One call of `describe`."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self._ancestors: list[int] = []  # of the value that is being described
        self._finished: dict[int, tuple[Any, Any]] = {}  # by id: the value, which keeps the id its own, and its tree

    def of(self, value: Any) -> Any:
        """The tree."""
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return repr(value)
        if id(value) in self._ancestors:  # a function that calls itself
            return f"the same as {len(self._ancestors) - self._ancestors.index(id(value))} above"
        if id(value) not in self._finished:
            self._ancestors.append(id(value))
            self._finished[id(value)] = value, self._new(value)
            self._ancestors.pop()
        return self._finished[id(value)][1]

    def _new(self, value: Any) -> Any:
        if isinstance(value, jax.Array | np.ndarray):
            return self._array(value)
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return [self.of(item) for item in value]
        if isinstance(value, set | frozenset):
            return sorted(str(self.of(item)) for item in value)
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, type):
            return self._class(value)
        name = _name(value)
        wrapped = getattr(value, "__wrapped__", None)  # of jax.jit, jax.custom_jvp, functools.lru_cache, ...
        if wrapped is not None and not isinstance(value, types.FunctionType):
            return self.of(wrapped)
        parts = self._parts(value)
        if parts is None:
            by_name = isinstance(value, np.ufunc) or hasattr(value, "__qualname__") or " at 0x" in repr(value)
            return name if by_name else repr(value)
        described = {part: self.of(item) for part, item in parts}
        if isinstance(value, types.FunctionType):
            if not is_of_library(value):
                described[_CODE] = _digest_of_code(value)
        elif not is_of_library(type(value)):
            methods = self._class(type(value))
            described |= {} if isinstance(methods, str) else {f"class {k}": v for k, v in methods.items() if k != "is"}
        return {"is": name, **described} if described else name

    def _parts(self, value: Any) -> list[tuple[str, Any]] | None:
        """What a value is made of, by name; None if there is nothing inside, or nothing that can be seen."""
        if isinstance(value, types.FunctionType):
            return [(name, part) for name, part in function_parts(value) if not isinstance(part, types.ModuleType)]
        if isinstance(value, types.MethodType):
            return [("function", value.__func__), ("self", value.__self__)]
        if isinstance(value, functools.partial):
            return [("function", value.func), ("arguments", value.args), ("keywords", value.keywords)]
        if isinstance(value, nn.Module):
            bound = [("variables", value.variables)] if value.scope is not None else []
            return [*module_fields(value).items(), *bound]
        if dataclasses.is_dataclass(value):
            return list(dataclass_attributes(value).items())
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return list(zip(value._fields, value, strict=True))  # type: ignore[attr-defined]
        if isinstance(value, Mapping):
            return [(f"[{key!r}]", item) for key, item in value.items()]
        if isinstance(value, logging.Logger):
            return [("name", value.name)]
        if isinstance(value, operator.itemgetter | operator.attrgetter | operator.methodcaller) or (
            not callable(value) and " at 0x" not in repr(value)
        ):
            return None
        attributes = _attributes(value)
        if attributes or not is_of_library(type(value)):
            return attributes
        if not hasattr(value, "__qualname__"):
            self.unknown.append(_name(value))  # its state, if it has one, is not in Python
        return None

    def _class(self, kind: type) -> Any:
        """Describes a class by its name; a user's own also by its methods, properties, attributes and own bases."""
        if is_of_library(kind):
            return _name(kind)
        found: dict[str, Any] = {}
        for base in kind.__mro__:
            if is_of_library(base):
                continue
            for name, member in vars(base).items():
                member = getattr(member, "fget", getattr(member, "__func__", member))
                function = inspect.unwrap(member) if callable(member) else member
                if isinstance(function, types.FunctionType):
                    # Not what dataclasses write.
                    if function.__code__.co_filename != "<string>" and not is_of_library(function):
                        found.setdefault(name, self.of(function))
                elif not (name.startswith("_") or callable(member) or inspect.isdatadescriptor(member)):
                    found.setdefault(name, self.of(member))
        return {"is": _name(kind), **found} if found else _name(kind)

    def _array(self, value: Any) -> str:
        if isinstance(value, Tracer) or not getattr(value, "is_fully_addressable", True):
            self.unknown.append(_name(value))
            return f"{value.dtype} {list(value.shape)}"
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        if array.size == 1:
            return f"{array.dtype} {array.item()!r}"
        crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return f"{array.dtype} {list(array.shape)}, CRC-32 {crc:08x}"


def _attributes(value: Any) -> list[tuple[str, Any]]:
    slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    return [(name, item) for name, item in found.items() if name not in ("__dict__", "__weakref__")]


def _digest_of_code(function: types.FunctionType) -> str:
    """A digest of what the code does. Comments, docstrings and line numbers do not change it."""

    def plain(code: types.CodeType) -> list:
        found = []
        for instruction in dis.get_instructions(code):
            value = instruction.argval
            if isinstance(value, types.CodeType):
                value = plain(value)
            elif isinstance(value, frozenset):
                value = sorted(map(repr, value))
            found.append((instruction.opname, repr(value)))
        return found

    digest = hashlib.sha256(repr(plain(function.__code__)).encode()).hexdigest()[:12]
    return f"{_PYTHON}: {digest}"


def _name(value: Any) -> str:
    """The name of a function, a class or a value's class; a library's with its module.

    The module of a user's own function is left out: its name changes when it is moved or run as a script.
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    if isinstance(value, types.FunctionType):
        module, name = value.__globals__.get("__name__", ""), getattr(value.__code__, "co_qualname", value.__name__)
    else:
        module, name = named.__module__ or "", named.__qualname__
    return f"{module}.{name}" if is_of_library(named) else name


def _short(tree: Any) -> str:
    text = tree.get("is", repr(tree)) if isinstance(tree, dict) else tree if isinstance(tree, str) else repr(tree)
    return text if len(text) <= 100 else f"{text[:100]}..."
