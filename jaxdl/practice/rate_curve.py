"""The curve of a range test: smoothed, with its steepest descent and the edge of divergence."""

import math
from typing import NamedTuple

import numpy as np

_WIDTH = 0.03  # standard deviation of the smoothing kernel, as a share of the updates
_RISE = 0.25  # a curve diverges where it has lost this share of its whole fall again


class Curve(NamedTuple):
    """A smoothed curve and what is read off it."""

    smooth: np.ndarray  # float64 [updates]
    start: float  # the loss before the first updates
    lowest: float  # the least smoothed loss
    steepest: float  # the rate of the steepest descent; NaN if the loss does not fall
    divergence: float  # the smallest rate from which on the loss stays high; inf if there is none
    suggestion: float  # the geometric mean of the two (of the steepest and the last rate, if it does not diverge)


def read_curve(rates: np.ndarray, losses: np.ndarray) -> Curve:
    """Smooths a curve of losses over rates, and reads two rates off it.

    The loss of update i + 1 is the first that has felt the rate of update i. So the fall at rate i is the slope of the
    smoothed loss just after i, per unit of the rate's logarithm; the steepest is before the lowest point. The
    divergence is the smallest rate after the lowest point from which on the smoothed loss stays above
    lowest + max(start - lowest, 4 noise) / 4, or is not finite. The noise is the standard deviation of start - lowest
    that the differences of neighbouring losses let expect; a fall of less than 4 of them is none.

    Args:
      rates: float [updates], rising geometrically.
      losses: float [updates]; NaN from where a run ended.
    """
    n = len(losses)
    head = max(3, round(_WIDTH * n))
    start = float(np.mean(losses[:head]))
    finite = losses[np.isfinite(losses)]
    fall = max(start - float(np.median(np.sort(finite)[: 2 * head])), 1e-12)
    cap = start + 2 * fall  # so that a loss of 1e9 does not reach far through the kernel
    clipped = np.where(np.isfinite(losses), np.minimum(losses, cap), cap)
    smooth = _smoothed(clipped, _WIDTH * n)
    # Of normal numbers of deviation 1 the median of |x - y| is 0.954; the kernel averages 3.5 of its widths.
    of_one = float(np.median(np.abs(np.diff(clipped)))) / 0.954
    noise = of_one * math.sqrt(1 / head + 1 / max(1.0, 3.5 * _WIDTH * n))
    bottom = int(np.argmin(smooth))
    lowest = float(smooth[bottom])
    if start - lowest <= max(4 * noise, 1e-3 * abs(start)):
        edge = _edge(rates, smooth, 0, start + max(4 * noise, fall))
        return Curve(smooth, start, lowest, math.nan, edge, math.nan)
    edge = _edge(rates, smooth, bottom, lowest + _RISE * max(start - lowest, 4 * noise))
    slope = np.gradient(smooth)
    steepest = float(rates[max(int(np.argmin(slope[: bottom + 1])) - 1, 0)])
    return Curve(smooth, start, lowest, steepest, edge, math.sqrt(steepest * min(edge, float(rates[-1]))))


def _edge(rates: np.ndarray, smooth: np.ndarray, first: int, limit: float) -> float:
    """The rate of the first update from `first` on after which all are above the limit."""
    low = np.flatnonzero(smooth[first:] <= limit)
    place = first + (int(low[-1]) + 1 if len(low) else 0)
    return float(rates[place]) if place < len(rates) else math.inf


def _smoothed(values: np.ndarray, width: float) -> np.ndarray:
    """Local straight lines under a Gaussian kernel: unlike a mean they do not bend the ends."""
    at = np.arange(len(values), dtype=np.float64)
    distance = at[None, :] - at[:, None]
    weight = np.exp(-0.5 * np.square(distance / max(width, 0.5)))
    s0, s1, s2 = (np.sum(weight * distance**k, 1) for k in range(3))
    t0, t1 = weight @ values, np.sum(weight * distance * values, 1)
    return (s2 * t0 - s1 * t1) / np.where(s0 * s2 - s1**2 == 0, 1, s0 * s2 - s1**2)
