"""The curves of a run, smoothed, with how uncertain they are: what the rules of `diagnose` look at."""

import dataclasses
import functools
import math

import numpy as np

from jaxdl.train import History

BLOCKS = 20  # parts of equal length that a run is divided into; enough for a shape, long enough to average the noise


def centred_means(values: np.ndarray, window: int) -> np.ndarray:
    """float64 [n]: the mean of `window` values around each; of fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    start, stop = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    return (total[stop] - total[start]) / (stop - start)


@dataclasses.dataclass(frozen=True)
class Curves:
    """A run's training loss in smoothed form, its rates and its evaluations.

    Attributes:
      history: of the run.
      chance: the loss of a model that has learned nothing, log C; None if the number of classes is not known.
      diverged: why the run ended before its time, if it did.
    """

    history: History
    chance: float | None
    diverged: str | None

    @property
    def loss(self) -> np.ndarray:
        """float64 [n]: the loss of each update's batch."""
        return np.asarray(self.history.loss, np.float64)

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """Where the blocks begin, and where the last one ends: int [BLOCKS + 1]."""
        return np.linspace(0, len(self.loss), BLOCKS + 1).astype(int)

    @functools.cached_property
    def blocks(self) -> np.ndarray:
        """float64 [BLOCKS]: the mean loss of each block."""
        return np.array([self.mean(start, stop) for start, stop in zip(self.edges, self.edges[1:], strict=False)])

    @property
    def initial(self) -> float:
        """The loss before the first update."""
        return float(self.loss[0])

    @property
    def end(self) -> float:
        """The mean loss of the last two blocks, a tenth of the run."""
        return self.mean(int(self.edges[-3]), len(self.loss))

    @functools.cached_property
    def smooth(self) -> np.ndarray:
        """float64 [n]: the mean over a block's length around each update."""
        return centred_means(self.loss, max(3, len(self.loss) // BLOCKS))

    @functools.cached_property
    def noise(self) -> float:
        """By how much the loss of one batch differs from the smoothed loss, in the second half of the run.

        Half of the distance between the 16th and the 84th percentile, a standard deviation that single spikes do not
        change.
        """
        half = len(self.loss) // 2
        low, high = np.percentile((self.loss - self.smooth)[half:], [16, 84])
        return float(high - low) / 2

    def mean(self, start: int, stop: int) -> float:
        """The mean loss of the updates [start, stop)."""
        return float(np.mean(self.loss[start : max(stop, start + 1)]))

    def trend(self, start: int, stop: int | None = None) -> tuple[float, float]:
        """The change of the loss along a straight line over the updates [start, stop), and its standard error.

        The error is that of independent batches, noise * sqrt(12 / n). The noise is that of these updates.
        """
        part = self.loss[start:stop]
        x = np.linspace(-0.5, 0.5, len(part))
        change = float(np.sum(x * part) / np.sum(x * x))
        rest = part - part.mean() - change * x
        return change, float(np.std(rest)) * math.sqrt(12 / len(part))

    def evaluations_fall(self, start: int, share: float) -> bool | None:
        """Whether the last evaluation is the lowest, and below the last one before update `start` by this share of it.

        None if that cannot be known: fewer than three evaluations, or none before `start`.
        """
        losses, steps = self.history.eval_loss, self.history.eval_step
        if len(losses) < 3 or steps[0] > start or self.restarts:
            return None
        before = losses[steps <= start][-1]
        return bool(losses[-1] <= losses.min() and losses[-1] < (1 - share) * before)

    def falls(self, start: int, share: float) -> bool:
        """Whether the loss falls from `start` on, by this share of itself at the end and beyond its error.

        By four times the error; or by twice where evaluations fall as well, since both are as rare by chance. If they
        can be compared and do not fall, it does not.
        """
        change, error = self.trend(start)
        supported = self.evaluations_fall(start, share / 2)
        times = 4 if supported is None else 2
        return supported is not False and -change > max(times * error, share * self.end)

    @property
    def rate(self) -> np.ndarray | None:
        """float64 [n]: the learning rates; None if they are not known."""
        rate = np.asarray(self.history.learning_rate, np.float64)
        return rate if len(rate) and np.all(np.isfinite(rate)) and rate.max() > 0 else None

    @functools.cached_property
    def restarts(self) -> tuple[int, ...]:
        """The indices of updates whose rate is twice that of the update before, or more, after it had halved.

        A warm-up can double too, but from no higher rate.
        """
        if self.rate is None:
            return ()
        before, highest = self.rate[:-1], np.maximum.accumulate(self.rate)[:-1]
        return tuple(int(index) + 1 for index in np.flatnonzero((self.rate[1:] >= 2 * before) & (before < highest / 2)))

    @property
    def spent(self) -> bool | None:
        """Whether the rate has come down to a fifth of its highest, so that no more progress is expected.

        None if the rates are not known.
        """
        return None if self.rate is None else bool(self.rate[-1] < 0.2 * self.rate.max())

    @functools.cached_property
    def evaluated(self) -> np.ndarray:
        """The indices of the evaluations that can be compared: under cycles, the last one before each restart."""
        steps = self.history.eval_step
        if not self.restarts:
            return np.arange(len(steps))
        ends = [*self.restarts, len(self.loss)]
        last = [np.flatnonzero(steps <= end)[-1] for end in ends if np.any(steps <= end)]
        return np.unique(np.asarray(last, int))

    @functools.cached_property
    def evaluation_noise(self) -> float:
        """By how much an evaluation's loss differs from the mean of its neighbours, as a standard deviation."""
        losses = self.history.eval_loss[self.evaluated]
        if len(losses) < 3:
            return 0.0
        bends = losses[1:-1] - (losses[:-2] + losses[2:]) / 2
        return float(np.median(np.abs(bends)) / 0.6745 / math.sqrt(1.5))


def batch_noise(losses: np.ndarray) -> float:
    """The standard deviation of one batch's loss, from the steps between neighbours in the second half of a run."""
    steps = np.diff(np.asarray(losses, np.float64)[len(losses) // 2 :])
    return float(np.sqrt(np.mean(np.square(steps)) / 2)) if len(steps) else 0.0


def fell(losses: np.ndarray) -> bool:
    """Whether the last tenth of a run is below its first loss by more than batches differ, and by a fiftieth."""
    start, end = float(losses[0]), float(np.mean(losses[-max(1, len(losses) // 10) :]))
    return start - end >= max(0.02 * start, 2 * batch_noise(losses))
