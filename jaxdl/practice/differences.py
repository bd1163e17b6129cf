"""Central differences of a function of many arrays, along entries and directions of one array at a time."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_EPS = float(np.finfo(np.float64).eps)
# About eps^(1/3), the best for central differences; then smaller ones, which cross fewer kinks: cuda-convnet's first
# activations are as small as 1e-4.
_STEPS = (6e-6, 2e-7, 1e-8)
_SINGLE_STEPS = (5e-3, 2e-2)  # for functions that compute partly in float32


class Difference(NamedTuple):
    """A derivative along one direction, found in two ways."""

    analytic: float
    numeric: float  # (f(x + h v) - f(x - h v)) / (2 h)
    noise: float  # how wrong `numeric` may be by rounding
    kink: float  # how far the differences to both sides are apart

    @property
    def relative_error(self) -> float:
        """|analytic - numeric| over the larger of the two; above 1e-7 only what rounding does not explain."""
        apart, size = abs(self.analytic - self.numeric), max(abs(self.analytic), abs(self.numeric))
        if not math.isfinite(apart):
            return math.inf
        if apart == 0 or apart <= 1e-7 * size:
            return apart / size if size else 0.0
        return max(0.0, apart - self.noise) / size

    @property
    def at_kink(self) -> bool:
        """Whether the function bends here so that both sides together explain the error."""
        return abs(self.analytic - self.numeric) <= 0.75 * self.kink + self.noise and self.relative_error > 1e-4


def difference(
    f: Callable[[np.ndarray], float], x: np.ndarray, v: np.ndarray, analytic: float, at_x: float, *, single: bool
) -> Difference:
    """The derivative of `f` at `x` along `v`, against the analytic one.

    Smaller steps are tried if the first one does not agree; the best counts, because one that crosses a kink, or is
    lost in rounding, says nothing.

    Args:
      f: function of one array.
      x: float64 [...].
      v: a direction of the same shape, of norm 1.
      analytic: the derivative along it by autodiff.
      at_x: f(x).
      single: whether f computes partly in float32.
    """
    found = []
    for step in _SINGLE_STEPS if single else _STEPS:
        h = step * max(1.0, float(np.abs(x).max(initial=0, where=v != 0)) if np.count_nonzero(v) == 1 else 1.0)
        above, below = f(x + h * v), f(x - h * v)
        rounding = 1e-7 if single else 30 * _EPS
        noise = rounding * max(abs(above), abs(below), abs(at_x)) / h
        sides = (above - at_x) / h, (at_x - below) / h
        apart = max(0.0, abs(sides[0] - sides[1]) - 2 * noise)
        found.append(Difference(analytic, (above - below) / (2 * h), noise, apart))
        if found[-1].relative_error <= 1e-6:
            break
    return min(found, key=lambda each: (each.relative_error > 1e-4 and not each.at_kink, each.relative_error))
