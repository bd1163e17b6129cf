"""Step 6 of the recipe: what the curves of a run say."""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdl.arguments import check_integer, require, shown
from jaxdl.practice import fit_rules, rate_rules
from jaxdl.practice.diagnosis_plot import plot_diagnosis
from jaxdl.practice.findings import Finding, with_findings
from jaxdl.practice.run_curves import BLOCKS, Curves
from jaxdl.train import History, NonFiniteLossError

Rule = Callable[[Curves], Finding | None]
ALWAYS: tuple[Rule, ...] = (
    rate_rules.diverging,
    rate_rules.rate_too_high,
    rate_rules.not_learning,
    rate_rules.rate_too_low,
    rate_rules.unstable_restarts,
)
IF_IT_LEARNED: tuple[Rule, ...] = (  # the shape of a curve that leads nowhere is of no interest
    fit_rules.overfitting,
    fit_rules.underfitting,
    rate_rules.plateau,
    rate_rules.still_falling,
    fit_rules.large_gap,
    fit_rules.noisy_batches,
    fit_rules.spikes,
)
FEWEST = 2 * BLOCKS  # updates that a shape can be seen in: two for each block


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` returns.

    Attributes:
      findings: what is amiss, serious findings first.
      not_looked_at: what the history could not tell, and why, in words.
      steps: int [n], the updates' numbers.
      loss: float64 [n], the losses of their batches.
      smooth: float64 [n], the mean of a twentieth of the run around each update.
      noise: by how much one batch's loss differs from the smoothed loss, as a standard deviation.
      history: what was diagnosed.
    """

    findings: tuple[Finding, ...]
    not_looked_at: tuple[str, ...]
    steps: np.ndarray
    loss: np.ndarray
    smooth: np.ndarray
    noise: float
    history: History

    @property
    def verdict(self) -> str:
        """The course of the run, what was not looked at, and the findings, in words."""
        n = len(self.loss)
        if not n:
            return with_findings(" ".join(self.not_looked_at), self.findings)
        last = float(np.mean(self.loss[-max(1, n // 10) :]))
        course = f"In {n} updates the training loss went from {self.loss[0]:.3g} to {last:.3g}"
        if len(self.history.eval_loss):
            course += f", the evaluation loss to {self.history.eval_loss[-1]:.3g}"
            if "error" in self.history.eval_metrics:
                course += f" ({self.history.eval_error[-1]:.1%} error)"
        healthy = "" if self.findings else " Nothing is amiss." if n >= FEWEST else " Too few updates to say more."
        return with_findings(" ".join([f"{course}.{healthy}", *self.not_looked_at]), self.findings)

    def __str__(self) -> str:
        return self.verdict

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the curves to a PNG, with marks where something was seen and the findings in words below."""
        plot_diagnosis(path, self)


def diagnose(history: History, *, num_classes: int | None = None, diverged: str | None = None) -> Diagnosis:
    """Finds what is amiss with a run from its history: step 6 of the recipe.

    It looks for: "diverging", "rate too high", "not learning", "rate too low", "unstable restarts", "overfitting",
    "underfitting", "plateau", "still falling", "large gap", "noisy batches" and "spikes". A run may have several. Each
    finding says the numbers that it was found by. Each rule, with its reasons, is a function in
    `jaxdl/practice/rate_rules.py` or `fit_rules.py`; they compare means over parts of the run with their own noise, and
    do not know the model, the data or the chain.

    Args:
      history: what `train.fit` returned, or one of the histories of `train.population`. Histories of 40 updates or more
        can be judged; with four evaluations or more also overfitting.
      num_classes: of a classification with the loss `train.cross_entropy`, so that a guess's loss is known, log C.
      diverged: why the run ended before its time, if it did: `str(error)` of a `train.NonFiniteLossError`, whose
        `.history` is then the history; or an entry of `Population.diverged`.

    Returns:
      The findings, the smoothed curves, and what could not be looked at.

    Raises:
      ValueError: `history` is none, or has no updates and `diverged` is not given; or an argument is wrong.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice, train
      >>> train_set, test_set = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(32,)), optim.momentum(3e-5)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
      >>> _, history = train.fit(state, model, tx, train_set, steps=100, progress=False)
      >>> [finding.name for finding in practice.diagnose(history, num_classes=10).findings]
      ['rate too low']
    """
    _check(history, num_classes, diverged)
    n = len(history.loss)
    finite = bool(np.all(np.isfinite(history.loss)))
    if n and not finite and diverged is None:
        bad = int(np.flatnonzero(~np.isfinite(history.loss))[0])
        diverged = f"The loss is not finite at update {int(history.step[bad])}."
    curves = Curves(history, None if num_classes is None else math.log(num_classes), diverged)
    missing = _missing(curves)
    if n < FEWEST or not finite:  # then no shape can be seen
        first = rate_rules.diverging(curves) if diverged is not None else None
        smooth = np.asarray(history.loss, np.float64)
        return Diagnosis((first,) if first else (), missing, history.step, smooth, smooth, math.nan, history)
    found = [finding for rule in ALWAYS if (finding := rule(curves)) is not None]
    if not {"diverging", "not learning", "unstable restarts"} & {finding.name for finding in found}:
        found += [finding for rule in IF_IT_LEARNED if (finding := rule(curves)) is not None]
    found.sort(key=lambda finding: not finding.serious)
    return Diagnosis(tuple(found), missing, history.step, curves.loss, curves.smooth, curves.noise, history)


def _check(history: Any, num_classes: Any, diverged: Any) -> None:
    if isinstance(history, NonFiniteLossError):
        raise ValueError(
            "diagnose: history must be a train.History, got the error of a run that diverged; write "
            "diagnose(error.history, diverged=str(error))"
        )
    if not isinstance(history, History):
        pair = isinstance(history, tuple) and len(history) == 2 and isinstance(history[1], History)
        remedy = "fit returns two things: write state, history = ..." if pair else "train.fit returns one"
        raise ValueError(f"diagnose: history must be a train.History, got {shown(history)}; {remedy}")
    require(
        diverged is None or isinstance(diverged, str),
        f"diagnose: diverged must be text or None, got diverged={shown(diverged)}; pass str(error)",
    )
    require(
        np.ndim(history.loss) == 1,
        f"diagnose: history must be of one run, got losses {list(np.shape(history.loss))}; pass one of "
        "Population.histories",
    )
    require(
        len(history.loss) > 0 or diverged is not None,
        "diagnose: history has no updates; pass the one that train.fit returned after training",
    )
    if num_classes is not None:
        check_integer("diagnose", "num_classes", num_classes, at_least=2)


def _missing(curves: Curves) -> tuple[str, ...]:
    """What cannot be known from a history, and why."""
    missing, n, evaluations = [], len(curves.loss), len(curves.evaluated)
    if n < FEWEST:
        missing.append(f"The shape of the curve was not looked at: {FEWEST} updates are needed, and there are {n}.")
    if not len(curves.history.eval_loss):
        missing.append("Overfitting and the gap were not looked at: there are no evaluations; pass eval_set to fit.")
    elif evaluations < 4:
        cycles = " that can be compared (the last of each cycle)" if curves.restarts else ""
        missing.append(
            f"Overfitting was not looked at: four evaluations are needed, and there are {evaluations}{cycles}; pass a "
            "smaller eval_every to fit."
        )
    if curves.rate is None:
        missing.append("Restarts were not looked at: the learning rates are not in the history.")
    if curves.chance is None:
        missing.append("The loss was not compared with that of a guess: pass num_classes, if there are classes.")
    return tuple(missing)
