"""Checks of what a caller passed: each says what is wrong, the value received and the remedy.

Every check raises `ValueError` before anything compiles. JAX arrays pass unchecked, so that hyperparameters
injected with `optax.inject_hyperparams` (which are traced) go through the same constructors as plain numbers.
"""

import math
import operator
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def require(condition: bool, message: str) -> None:
    """Raises `ValueError(message)` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def check_integer(function: str, name: str, value: Any, *, at_least: int, remedy: str = "") -> int:
    """Returns `value` as an int; raises unless it is an integer (a bool is not one) of `at_least` or more."""
    try:
        number = operator.index(value) if not isinstance(value, bool) else None
    except TypeError:
        number = None
    if number is None or number < at_least:
        raise ValueError(_message(function, name, f"an integer >= {at_least}", value, remedy))
    return number


def check_real(
    function: str,
    name: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    below: float = math.inf,
    remedy: str = "",
) -> None:
    """Raises unless `value` is a finite number in [at_least, below). JAX arrays pass unchecked."""
    if isinstance(value, jax.Array):
        return
    expected = f" >= {at_least:g}" if below == math.inf else f" in [{at_least:g}, {below:g})"
    expected = "" if at_least == -math.inf and below == math.inf else expected
    try:
        number = float(value) if not isinstance(value, bool | str) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and at_least <= number < below):
        raise ValueError(_message(function, name, f"a finite number{expected}", value, remedy))


def check_flag(function: str, name: str, value: Any) -> None:
    """Raises unless `value` is True or False. Other values that count as true, such as "no", are refused."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(_message(function, name, "True or False", value, ""))


def check_choice(function: str, name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises unless `value` is one of `choices`."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(_message(function, name, f"one of {', '.join(map(repr, choices))}", value, ""))


def check_function(function: str, name: str, value: Any, example: str) -> None:
    """Raises unless `value` can be called; `example` is one that can: "flax.linen.tanh"."""
    if not callable(value):
        raise ValueError(_message(function, name, "a function", value, f"pass {example} for example"))


def check_dtype(function: str, name: str, dtype: Any, *, optional: bool = False) -> None:
    """Raises unless `dtype` is a floating-point or complex dtype, or None if `optional`."""
    try:
        good = (optional and dtype is None) or jnp.issubdtype(jnp.dtype(dtype), jnp.inexact)
    except TypeError:
        good = False
    if not good:
        expected = "a floating-point dtype or None" if optional else "a floating-point dtype"
        raise ValueError(_message(function, name, expected, dtype, "pass jax.numpy.float32 for example"))


def check_key(function: str, name: str, value: Any, *, several: bool = False) -> None:
    """Raises unless `value` is one typed PRNG key, or with `several` a vector of one or more keys."""
    is_typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if several and not (is_typed and value.ndim == 1 and len(value) > 0):
        remedy = "pass jax.random.split(jax.random.key(0), 8)"
        raise ValueError(_message(function, name, "typed PRNG keys [members]", value, remedy))
    if not several and not (is_typed and value.ndim == 0):
        raise ValueError(_message(function, name, "one typed PRNG key", value, "pass jax.random.key(seed)"))


def looks_channels_first(image_shape: Sequence[int]) -> bool:
    """Whether the shape of an image looks like (channels, height, width): 1 or 3, then two equal sides."""
    first, second, last = image_shape
    return first in (1, 3) and second == last and last not in (1, 3, 4)


def looks_like_path(text: str) -> bool:
    """Whether a text looks like a path, or is one that is there."""
    return "/" in text or os.sep in text or os.path.isdir(text)


def check_devices(function: str, devices: Any) -> tuple[Any, ...]:
    """Returns `devices` as a tuple; raises unless they are one or more different JAX devices."""
    chosen = tuple(devices) if isinstance(devices, Sequence | np.ndarray) else ()
    if not (0 < len(chosen) == len(set(chosen)) and all(isinstance(device, jax.Device) for device in chosen)):
        expected = "a list of different JAX devices"
        raise ValueError(_message(function, "devices", expected, devices, "pass jax.devices()[:2]"))
    return chosen


def shown(value: Any) -> str:
    """A value as an error message shows it: an array of more than 8 numbers by dtype and shape, long text cut off."""
    if isinstance(value, jax.Array | np.ndarray) and value.size > 8:
        return f"an array {value.dtype} {list(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _message(function: str, name: str, expected: str, value: Any, remedy: str) -> str:
    return f"{function}: {name} must be {expected}, got {name}={shown(value)}" + (f"; {remedy}" if remedy else "")
