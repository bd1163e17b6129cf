"""Checks that the models share. All raise `ValueError`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdl.arguments import check_integer, looks_channels_first, require, shown
from jaxdl.models.layers.checks import check_images


def check_num_classes(function: str, value: Any) -> int:
    """Returns the number of classes as an int."""
    name = type(value).__name__
    remedy = f"pass the {name}'s num_classes" if hasattr(value, "num_classes") else ""
    return check_integer(function, "num_classes", value, at_least=1, remedy=remedy)


def check_depth(function: str, depth: Any, known: Sequence[int]) -> int:
    """Returns the depth as an int, one of those known."""
    remedy = f"it is one of {', '.join(map(str, known))}"
    depth = check_integer(function, "depth", depth, at_least=1, remedy=remedy)
    require(depth in known, f"{function}: depth must be one of {', '.join(map(str, known))}, got depth={depth}")
    return depth


def check_widths(
    function: str, widths: Any, *, name: str = "widths", count: int | None = None, at_least: int = 0
) -> tuple[int, ...]:
    """Returns the widths of some layers as a tuple of ints: `count` of them, or at least `at_least`."""
    words = {2: "two", 3: "three", 5: "five"}
    expected = "a sequence of numbers of channels" if count is None else f"{words[count]} numbers of channels"
    given = isinstance(widths, Sequence | np.ndarray) and not isinstance(widths, str)
    remedy = f"; use {name}=({shown(widths)},) for a single layer" if not given and count is None else ""
    require(given, f"{function}: {name} must be {expected}, got {name}={shown(widths)}{remedy}")
    singular = name.removesuffix("s")
    found = tuple(check_integer(function, singular, width, at_least=1) for width in widths)
    require(
        len(found) == count if count is not None else len(found) >= at_least,
        f"{function}: {name} must be {expected}{', at least one' if at_least else ''}, got {name}={shown(widths)}",
    )
    return found


def check_channels_last(function: str, x: Any) -> None:
    """Raises unless x is floating-point images [batch, height, width, channels], as far as the shape shows."""
    check_images(function, x, "images")
    require(
        not looks_channels_first(x.shape[1:]),
        f"{function}: images must be [batch, height, width, channels], but shape {tuple(x.shape)} looks like "
        "[batch, channels, height, width]; use images.transpose(0, 2, 3, 1)",
    )
