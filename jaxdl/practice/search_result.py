"""What a search found: its trials in order, what is amiss with the ranges, a table and a picture."""

import dataclasses
import math
import os
from collections.abc import Mapping

import numpy as np

from jaxdl.practice.findings import Finding, with_findings
from jaxdl.practice.run_curves import batch_noise, fell
from jaxdl.practice.search_plot import plot_search
from jaxdl.practice.spaces import EDGE, Range, ends, place
from jaxdl.report import markdown_table
from jaxdl.train import History


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
      number: from 0, in the order in which the trials were drawn.
      hyperparameters: by name.
      error: share of the held-out examples classified wrongly after the last update; NaN if there is no such metric, or
        the trial diverged.
      loss: mean loss over the held-out examples after the last update; NaN if the trial diverged.
      updates: how many it made.
      diverged: why it counts as diverged: its loss or gradient was not finite, or its held-out loss is three times the
        training loss that it began with. None if it did not diverge.
      history: of its training, with the evaluations on the held-out examples.
    """

    number: int
    hyperparameters: Mapping[str, float]
    error: float
    loss: float
    updates: int
    diverged: str | None
    history: History

    @property
    def score(self) -> float:
        """What decides which trial is better, less is better: the error, or the loss where there is no error."""
        return self.loss if math.isnan(self.error) else self.error


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What `coarse_search` and `refine_search` return.

    Attributes:
      space: the ranges that were searched.
      trials: the best first. Trials with fewer updates come after those with more, since they were stopped for being
        worse, and trials that diverged come last.
      chance: the held-out error of always naming the most frequent class; None if it is not known.
      held_out: number of held-out examples.
    """

    space: Mapping[str, Range]
    trials: tuple[Trial, ...]
    chance: float | None
    held_out: int

    @property
    def best(self) -> dict[str, float]:
        """The hyperparameters of the best trial, to be passed on: `chain(**found.best)`.

        Raises:
          ValueError: all trials diverged.
        """
        if self.trials[0].diverged is not None:
            raise ValueError(
                f"best: all {len(self.trials)} trials diverged, so none is the best; search lower rates, "
                f"{self.trials[0].diverged}"
            )
        return dict(self.trials[0].hyperparameters)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is amiss with the ranges; empty if nothing is."""
        return tuple(finding for rule in (_diverged, _at_chance, _none_learns, _at_an_edge) for finding in rule(self))

    @property
    def verdict(self) -> str:
        """The best trial and the findings, in words."""
        best, finished = self.trials[0], [trial for trial in self.trials if trial.diverged is None]
        if not finished:
            return with_findings(f"None of {len(self.trials)} trials can be used.", self.findings)
        what = f"{best.error:.1%} error" if not math.isnan(best.error) else f"a loss of {best.loss:.4g}"
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in best.hyperparameters.items())
        first = f"The best of {len(self.trials)} trials has {what} on {self.held_out:,} held-out examples: {numbers}."
        others = [trial for trial in finished if trial.updates == best.updates]
        close = sum(trial.error - best.error <= _one_std(best, self.held_out) for trial in others[1:])
        if close:
            first += f" {close} other{'s are' if close > 1 else ' is'} within one standard error of it."
        return with_findings(first, self.findings)

    def table(self, rows: int | None = None) -> str:
        """The trials as a Markdown table, the best first; with `rows` only the first ones."""
        header = ["trial", *self.space, "error", "loss", "updates", ""]
        lines = [
            [
                str(trial.number),
                *(f"{value:.3g}" for value in trial.hyperparameters.values()),
                "-" if math.isnan(trial.error) else f"{trial.error:.2%}",
                "-" if math.isnan(trial.loss) else f"{trial.loss:.4g}",
                str(trial.updates),
                "" if trial.diverged is None else "diverged",
            ]
            for trial in self.trials[:rows]
        ]
        return markdown_table(header, lines)

    def __str__(self) -> str:
        return f"{self.verdict}\n\n{self.table()}"

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the trials to a PNG: a map of two hyperparameters (or the error over one), and parallel coordinates.

        The map is of the two that come first in `space`. Each place has the colour of the nearest trial.
        """
        plot_search(path, self)


def _one_std(trial: Trial, examples: int) -> float:
    """The standard error of an error that was counted on so many examples; NaN without an error."""
    return math.sqrt(max(trial.error * (1 - trial.error), 0.0) / examples)


def _diverged(found: SearchResult) -> list[Finding]:
    """Half of the trials or more: they tell nothing but that the rate may not be so high."""
    diverged = [trial for trial in found.trials if trial.diverged is not None]
    share = len(diverged) / len(found.trials)
    if share < 0.5:
        return []
    name = "all diverged" if share == 1 else "many diverged"
    text = f"{len(diverged)} of {len(found.trials)} trials diverged. "
    numbers = {"share": share}
    for parameter in found.space:
        finished = [t.hyperparameters[parameter] for t in found.trials if t.diverged is None]
        lost = [t.hyperparameters[parameter] for t in diverged]
        if finished and min(lost) > np.median(finished):  # then this one decides, and not another
            numbers[f"least {parameter} that diverged"] = min(lost)
            text += f"The least {parameter} that diverged is {min(lost):.3g}: end its range about there."
            break
    else:
        text += "Search lower rates."
    return [Finding(name, text, numbers, serious=share == 1)]


def _at_chance(found: SearchResult) -> list[Finding]:
    """No trial is better than naming one class, beyond three standard errors of such a count."""
    best = found.trials[0]
    if found.chance is None or best.diverged is not None or math.isnan(best.error):
        return []
    spread = math.sqrt(found.chance * (1 - found.chance) / found.held_out)
    if best.error < found.chance - 3 * spread:
        return []
    text = (
        f"the best error is {best.error:.1%}, and always naming the most frequent class has {found.chance:.1%}. The "
        "ranges hold no rate that learns, or the data or the model is at fault: try practice.overfit_batch."
    )
    return [Finding("all at chance", text, {"error": best.error, "chance": found.chance})]


def _none_learns(found: SearchResult) -> list[Finding]:
    """Where there is no error: the training loss of the best trial does not fall by more than batches differ."""
    best = found.trials[0]
    losses = best.history.loss
    if best.diverged is not None or not math.isnan(best.error) or not len(losses) or fell(losses):
        return []
    last = float(np.mean(losses[-max(1, len(losses) // 10) :]))
    text = (
        f"the training loss of the best trial went from {losses[0]:.4g} to {last:.4g} in {len(losses)} updates, and "
        f"that of one batch varies by {batch_noise(losses):.2g}. Search higher rates, or train for longer; if "
        "that does not help, try practice.overfit_batch."
    )
    return [Finding("no trial learns", text, {"first": float(losses[0]), "last": last})]


def _at_an_edge(found: SearchResult) -> list[Finding]:
    """The best lies at an edge, and the best few lean to that side too.

    Of a hyperparameter that hardly matters the best value lies at some edge in a fifth of all searches, by chance; that
    the best few agree is then rare.
    """
    findings = []
    if found.trials[0].diverged is not None or _at_chance(found) or _none_learns(found):
        return findings
    few = [trial for trial in found.trials if trial.diverged is None][: few_of(len(found.trials))]
    for name, range_ in found.space.items():
        where = np.asarray(place(range_, [trial.hyperparameters[name] for trial in few]))
        for side, distance in (("lower", where), ("upper", 1 - where)):
            if distance[0] < EDGE and distance.mean() < 1 / 3:
                low, high = ends(range_)
                edge = low if side == "lower" else high
                text = (
                    f"the best {name}, {few[0].hyperparameters[name]:.3g}, lies at the {side} edge of its range, "
                    f"{low:.3g} to {high:.3g}; move the range "
                    f"{'down' if side == 'lower' else 'up'}, so that {edge:.3g} is in its middle."
                )
                numbers = {"best": few[0].hyperparameters[name], "low": low, "high": high}
                findings.append(Finding("best at an edge", text, numbers, serious=False))
    return findings


def few_of(trials: int) -> int:
    """How many trials count as the best few: a quarter, and three or more."""
    return max(3, math.ceil(trials / 4))
