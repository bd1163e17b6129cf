"""Ranges of hyperparameters: drawing from them, and narrowing them around the best values."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxdl.arguments import check_function, check_real, require, shown


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A range that is drawn from evenly, where the logarithm is no good scale: `Uniform(0.8, 0.99)` for a momentum.

    Attributes:
      low, high: the ends, finite numbers with low < high.

    Raises:
      ValueError: an end is not finite, or low >= high.
    """

    low: float
    high: float

    def __post_init__(self):
        for name in ("low", "high"):
            check_real("Uniform", name, getattr(self, name))
        require(
            self.low < self.high, f"Uniform: low must be below high, got {self}; pass Uniform(0.8, 0.99) for example"
        )


Range: TypeAlias = tuple[float, float] | Uniform
"""(low, high), both above 0, to be drawn from evenly in the logarithm; or `Uniform(low, high)`."""


def check_space(function: str, space: Any, chain: Any) -> dict[str, Range]:
    """Returns the ranges by name; raises `ValueError` for a wrong range, or one of something that is no argument."""
    check_function(function, "chain", chain, "lambda learning_rate: optim.momentum(learning_rate)")
    example = 'pass space={"learning_rate": (1e-4, 1.0)} for example'
    require(
        isinstance(space, Mapping) and len(space) > 0,
        f"{function}: space must be ranges by name, got space={shown(space)}; {example}",
    )
    takes = _arguments(chain)
    for name in space:
        require(
            takes is None or name in takes,
            f"{function}: space has {name!r}, which is no argument of chain; it takes {sorted(takes or ())}. Each name "
            "is passed to chain: lambda learning_rate, decay: optim.momentum(learning_rate, weight_decay=decay)",
        )
    needed = [name for name in _arguments(chain, needed=True) or () if name not in space]
    require(
        not needed,
        f"{function}: chain needs {', '.join(sorted(needed))}, which space lacks; add its range, or give it a default",
    )
    return {name: _checked(function, name, value) for name, value in space.items()}


def _checked(function: str, name: str, given: Any) -> Range:
    if isinstance(given, Uniform):
        return given
    low, high = given if isinstance(given, Sequence) and len(given) == 2 else (None, None)
    numbers = [end for end in (low, high) if isinstance(end, int | float | np.number) and not isinstance(end, bool)]
    require(
        len(numbers) == 2 and bool(0 < numbers[0] < numbers[1] < math.inf),
        f"{function}: space[{name!r}] must be (low, high) with 0 < low < high, drawn from evenly in the logarithm, got "
        f"{shown(given)}; for a range that has 0 in it pass practice.Uniform(low, high)",
    )
    return float(numbers[0]), float(numbers[1])


def _arguments(chain: Callable, *, needed: bool = False) -> set[str] | None:
    """The names that a function can be called with, or with `needed` must be; None if it takes any."""
    parameters = inspect.signature(chain).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if takes_any and not needed:
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in parameters if p.kind in named and not (needed and p.default is not p.empty)}


def ends(range_: Range) -> tuple[float, float]:
    """The lower and the upper end."""
    return (range_.low, range_.high) if isinstance(range_, Uniform) else range_


def place(range_: Range, value: Any) -> Any:
    """Where values lie: 0 at the lower end, 1 at the upper, in the scale that the range is drawn from."""
    low, high = ends(range_)
    if isinstance(range_, Uniform):
        return (np.asarray(value) - low) / (high - low)
    return np.log(np.asarray(value) / low) / math.log(high / low)


def value_at(range_: Range, where: Any) -> np.ndarray:
    """The values at places in [0, 1]: the inverse of `place`."""
    low, high = ends(range_)
    if isinstance(range_, Uniform):
        return low + (high - low) * np.asarray(where)
    return low * np.exp(np.asarray(where) * math.log(high / low))


def draw(space: Mapping[str, Range], key: jax.Array, trials: int) -> dict[str, np.ndarray]:
    """`trials` values of each hyperparameter, float32, as the optimizer keeps them."""
    places = np.asarray(jax.random.uniform(key, (trials, len(space))), np.float64)
    return {
        name: value_at(range_, places[:, number]).astype(np.float32)
        for number, (name, range_) in enumerate(space.items())
    }


EDGE = 0.1  # the part of a range, at each end, in which a value counts as lying at the edge


def narrowed(range_: Range, values: Sequence[float]) -> Range:
    """A range around the values of the best trials, the best of all first.

    It reaches from the least to the greatest of them and a tenth of the old range further. If the best one lies at an
    edge, the range is moved so that the best is in its middle: a logarithmic one then goes on beyond the old edge. A
    `Uniform` stays within its old ends, which may be the only sensible ones (a momentum is below 1).
    """
    places = np.asarray(place(range_, np.asarray(values, np.float64)))
    low, high = float(places.min()) - EDGE, float(places.max()) + EDGE
    if not EDGE <= places[0] <= 1 - EDGE:
        low, high = places[0] - (high - low) / 2, places[0] + (high - low) / 2
    if isinstance(range_, Uniform):
        new = value_at(range_, np.clip([low, high], 0, 1))
        return Uniform(float(new[0]), float(new[1]))
    new = value_at(range_, [low, high])
    return float(new[0]), float(new[1])
