"""Numbers computed from curves."""

import math
from collections.abc import Sequence

import numpy as np

from jaxdl.arguments import check_integer, check_real, require


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each point (of all values so far, if they are fewer).

    Example:
      >>> print(running_mean(np.array([4.0, 2.0, 0.0, 1.0]), 2))
      [4.  3.  1.  0.5]
    """
    check_integer("running_mean", "window", window, at_least=1)
    require(np.ndim(values) == 1, f"running_mean: values must be [n], got shape {list(np.shape(values))}")
    total = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
    stop = np.arange(1, len(total))
    start = np.maximum(stop - window, 0)
    return (total[stop] - total[start]) / (stop - start)


def steps_to_reach(losses: np.ndarray, target: float, *, window: int = 20) -> int | None:
    """Steps until the mean of the last `window` losses is at most `target`; None if it never is.

    Args:
      losses: [n], the losses of the steps 1, 2, ..., n.
      target: the loss to reach.
      window: how many losses to average; the first `window - 1` steps cannot count.

    Example:
      >>> steps_to_reach(np.array([3.0, 2.0, 1.0, 0.0]), 1.5, window=2)
      3
    """
    check_integer("steps_to_reach", "window", window, at_least=1)
    check_real("steps_to_reach", "target", target)
    smooth = running_mean(losses, window)
    reached = np.flatnonzero(smooth[window - 1 :] <= target)
    return int(reached[0]) + window if len(reached) else None


def mean_and_std(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); a result is NaN if there are too few values for it.

    Example:
      >>> mean_and_std([1.0, 3.0])
      (2.0, 1.4142135623730951)
    """
    require(
        np.ndim(values) == 1 and (len(values) == 0 or np.issubdtype(np.asarray(values).dtype, np.number)),
        f"mean_and_std: values must be a list of numbers, got {values!r}",
    )
    mean = float(np.mean(values)) if len(values) else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def show_mean_and_std(values: Sequence[float] | np.ndarray) -> str:
    """Mean and standard deviation as a table's cell shows them.

    Example:
      >>> show_mean_and_std([1.0, 3.0]), show_mean_and_std([1.0]), show_mean_and_std([])
      ('2.00 ± 1.41', '1.00', '-')
    """
    mean, std = mean_and_std(values)
    return (f"{mean:.2f}" if math.isfinite(mean) else "-") + (f" ± {std:.2f}" if math.isfinite(std) else "")
