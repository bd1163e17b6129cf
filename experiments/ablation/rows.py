"""Results as tidy rows: case, seed, metric, value; and curves."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """One number of one run."""

    case: str
    seed: int
    metric: str
    value: float  # NaN if the run does not have it


class Curve(NamedTuple):
    """One curve of one run."""

    case: str
    seed: int
    name: str
    x: list[float]
    y: list[float]


@dataclasses.dataclass(frozen=True)
class Results:
    """What the finished runs of an experiment gave.

    Attributes:
      cases: their names, in the order of the experiment.
      rows: the numbers.
      curves: the curves.
      diverged: why a run stopped before its end, by (case, seed).
      listed: the cases that tables show; by default all.
    """

    cases: tuple[str, ...]
    rows: Sequence[Row]
    curves: Sequence[Curve] = ()
    diverged: dict[tuple[str, int], str] = dataclasses.field(default_factory=dict)
    listed: tuple[str, ...] = ()

    def values(self, metric: str, case: str) -> dict[int, float]:
        """The numbers of a case by seed; runs that do not have them are left out."""
        return {
            row.seed: row.value
            for row in self.rows
            if row.metric == metric and row.case == case and math.isfinite(row.value)
        }

    def seeds(self, case: str) -> list[int]:
        """The seeds of a case's runs, also of those that diverged."""
        return sorted({row.seed for row in self.rows if row.case == case} | {s for c, s in self.diverged if c == case})

    def curve(self, name: str, case: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The x [n] and y [seeds, n] of a case's curves of that name, or None if it has none.

        Runs that diverged are left out, unless all of them did. All curves are read at the points of the one that ends
        first, between their own points along straight lines.
        """
        found = [curve for curve in self.curves if curve.name == name and curve.case == case and curve.x]
        found = [curve for curve in found if (case, curve.seed) not in self.diverged] or found
        if not found:
            return None
        x = np.array(min(found, key=lambda curve: curve.x[-1]).x, float)
        return x, np.array([np.interp(x, curve.x, curve.y) for curve in found])

    def copied(self, names: Mapping[str, str]) -> "Results":
        """With the rows and curves of some cases once more, under further names: {"SGD": "SGD, rate 0.1"}."""
        rows = [row._replace(case=name) for name, case in names.items() for row in self.rows if row.case == case]
        curves = [
            curve._replace(case=name) for name, case in names.items() for curve in self.curves if curve.case == case
        ]
        return dataclasses.replace(self.with_rows(rows, tuple(names)), curves=[*self.curves, *curves])

    def with_rows(self, rows: Iterable[Row], cases: Sequence[str] = ()) -> "Results":
        """With further rows, of further cases too."""
        return dataclasses.replace(self, rows=[*self.rows, *rows], cases=(*self.cases, *cases))


def best_of(results: Results, groups: Mapping[str, Sequence[str]], metric: str) -> dict[str, str]:
    """For each group of cases the one with the least mean of a metric; only cases all of whose runs have it count.

    Args:
      results: what was measured.
      groups: names of cases, by the name of the group.
      metric: the metric that decides.
    """
    best: dict[str, str] = {}
    for group, cases in groups.items():
        means: dict[str, float] = {}
        for case in cases:
            found = results.values(metric, case)
            if found and len(found) == len(results.seeds(case)):
                means[case] = float(np.mean(list(found.values())))
        if means:
            best[group] = min(means, key=means.__getitem__)
    return best
