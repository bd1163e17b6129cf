"""The verdict: one rule for all experiments."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments.ablation.case import Paper
from experiments.ablation.rows import Results

Word = Literal["reproduced", "direction only", "not decided", "contradicted"]

RULE = (
    "Runs from the same seed are compared with each other; only finished runs count. From the differences comes their "
    "mean and its 95 % interval (Student's t). *Contradicted*: the whole interval is on the other side of the claim. "
    "*Not decided*: it holds zero, or there are fewer than two pairs. *Direction only*: it is on the claim's side, and "
    "the interval does not hold the paper's size, or the run is not the paper's. *Reproduced*: a run of the variant "
    "`paper`, on the claim's side, whose interval holds the paper's size."
)
"""How verdicts are made, for reports."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A claim that one case is ahead of another.

    Attributes:
      claim: in words: "response normalisation lowers the test error".
      metric: what is compared; less is better.
      better: the case that the claim has ahead.
      worse: the other one.
      ratio: whether worse / better is looked at, in the place of worse - better.
      more: whether more of the metric is better.
      paper: the paper's difference (or ratio), in the units of ours.
    """

    claim: str
    metric: str
    better: str
    worse: str
    ratio: bool = False
    more: bool = False
    paper: Paper | None = None


class Verdict(NamedTuple):
    """What the runs say of a comparison."""

    claim: str
    metric: str
    better: str
    worse: str
    word: Word
    mean: float  # of the differences worse - better (or ratios worse / better); above 0 (or 1) for the claim
    low: float  # of the 95 % interval
    high: float
    pairs: int  # seeds that both cases finished
    runs: int  # seeds of the case with more runs
    ratio: bool
    paper: Paper | None

    @property
    def is_exact(self) -> bool:
        """Whether all seeds gave the same difference, as in runs without noise."""
        return math.isclose(self.low, self.high, rel_tol=1e-9)

    def sentence(self) -> str:
        """The verdict in words, with its numbers."""
        if self.pairs == 0:
            return f"{self.claim}: *not decided* (no seed was finished by both)."
        unit = " times" if self.ratio else ""
        size = f"{self.mean:.3g}{unit}"
        if self.is_exact:
            size += ", the same from every seed"
        elif math.isfinite(self.low):
            size += f", 95 % interval {self.low:.3g} to {self.high:.3g}"
        of = f"{self.pairs} of {self.runs} seeds" if self.pairs < self.runs else f"{self.pairs} seeds"
        paper = f"; the paper: {self.paper}" if self.paper else ""
        what = "ratio" if self.ratio else "difference"
        return f"{self.claim}: *{self.word}* ({what} of {self.metric.replace('_', ' ')} {size}; {of}{paper})."


def judge(comparison: Comparison, results: Results, variant: str = "paper") -> Verdict:
    """Compares two cases seed by seed. Only runs of the variant "paper" can reproduce the paper's size."""
    better, worse = (results.values(comparison.metric, case) for case in (comparison.better, comparison.worse))
    if comparison.more:
        better, worse = worse, better
    seeds = sorted(set(better) & set(worse))
    ours, theirs = (np.array([found[seed] for seed in seeds]) for found in (better, worse))
    if comparison.ratio:
        keep = (ours > 0) & (theirs > 0)
        differences = np.log(theirs[keep] / ours[keep])
    else:
        differences = theirs - ours
    mean, low, high = interval(differences)
    if not math.isfinite(low) or low <= 0 <= high:
        word: Word = "not decided"
    elif high < 0:
        word = "contradicted"
    else:
        word = "direction only"
    if comparison.ratio:
        mean, low, high = (math.exp(value) for value in (mean, low, high))
    paper = comparison.paper
    if word == "direction only" and variant == "paper" and paper is not None and low <= paper.value <= high:
        word = "reproduced"
    runs = max(len(results.seeds(comparison.better)), len(results.seeds(comparison.worse)))
    return Verdict(
        comparison.claim,
        comparison.metric,
        comparison.better,
        comparison.worse,
        word,
        mean,
        low,
        high,
        len(differences),
        runs,
        comparison.ratio,
        paper,
    )


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """The mean, and the ends of its 95 % interval by Student's t; NaN where there are too few values.

    Example:
      >>> print("{:.3f}, {:.3f} to {:.3f}".format(*interval([1.0, 2.0, 3.0])))
      2.000, -0.484 to 4.484
    """
    from scipy import stats

    if not len(values):
        return math.nan, math.nan, math.nan
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half
