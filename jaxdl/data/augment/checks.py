"""Checks of what the random changes are made with and called with."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, check_real, require, shown

FILLS = ("zero", "reflect", "edge")


def check_call(function: str, keys: Any, images: Any) -> None:
    """Raises `ValueError` unless there are images [batch, height, width, channels] and a key for each."""
    check_images(function, images, "the arguments are (keys, images), and ")
    # Raw keys, which jax.random.PRNGKey makes, have an axis of their own.
    arrays = jax.Array | np.ndarray
    raw = isinstance(keys, arrays) and not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    require(
        isinstance(keys, arrays)
        and keys.shape[: keys.ndim - raw] == images.shape[:1]
        and (not raw or keys.dtype == jnp.uint32),
        f"{function}: keys must be one for each of the {len(images)} images, got {described(keys)}; "
        f"pass jax.random.split(key, {len(images)})",
    )


def check_images(function: str, images: Any, before: str = "") -> None:
    """Raises `ValueError` unless there are images [batch, height, width, channels]."""
    require(
        isinstance(images, jax.Array | np.ndarray) and images.ndim == 4,
        f"{function}: images must be an array [batch, height, width, channels], got {described(images)}; "
        f"{before}one image is images[None]",
    )


def check_pixels(function: str, images: Any) -> None:
    """Raises `ValueError` unless the images are uint8 or floating point, as new values of pixels need."""
    require(
        images.dtype == jnp.uint8 or jnp.issubdtype(images.dtype, jnp.floating),
        f"{function}: images must be uint8, of 0 to 255, or floating point, got {described(images)}; "
        "use images.astype(numpy.uint8)",
    )


def check_channels(function: str, images: Any, channels: int, remedy: str) -> None:
    """Raises `ValueError` unless the images have so many channels."""
    require(
        images.shape[3] == channels,
        f"{function}: images must have {channels} channels, got {described(images)}; {remedy}",
    )


def check_size(function: str, name: str, value: Any) -> tuple[int, int]:
    """Returns (height, width); raises unless `value` is one integer of at least 1 for both, or two of them."""
    sides = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    remedy = "pass one number of pixels for both sides, or (height, width)"
    require(len(sides) == 2, f"{function}: {name} must be two integers, got {name}={shown(value)}; {remedy}")
    height, width = (check_integer(function, name, side, at_least=1, remedy=remedy) for side in sides)
    return height, width


def check_fits(function: str, size: tuple[int, int], images: tuple[int, int]) -> None:
    """Raises `ValueError` unless a window of this size lies inside images of that size."""
    require(
        size[0] <= images[0] and size[1] <= images[1],
        f"{function}: size must be at most that of the images, got size={size} for {images[0]} x {images[1]} pixels; "
        "use a smaller size or larger images",
    )


def check_interval(function: str, name: str, value: Any, example: str, *, at_most: float = float("inf")) -> None:
    """Raises unless `value` is a tuple (lowest, highest) of numbers with 0 < lowest <= highest <= at_most."""
    try:
        low, high = map(float, value)
        good = isinstance(value, tuple) and 0 < low <= high <= at_most and high < float("inf")
    except (TypeError, ValueError):
        good = False
    limit = "" if at_most == float("inf") else f" <= {at_most:g}"
    require(
        good,
        f"{function}: {name} must be a tuple (lowest, highest) with 0 < lowest <= highest{limit}, got "
        f"{name}={shown(value)}; pass {example} for example",
    )


def check_positive(function: str, name: str, value: Any, remedy: str) -> None:
    """Raises unless `value` is a finite number above 0."""
    check_real(function, name, value, at_least=0, remedy=remedy)
    require(value > 0, f"{function}: {name} must be above 0, got {name}={shown(value)}; {remedy}")


def described(value: Any) -> str:
    """An array by dtype and shape, for messages."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, jax.Array | np.ndarray) else shown(value)
