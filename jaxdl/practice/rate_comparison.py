"""Trains with a few learning rates side by side."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.arguments import check_integer, check_key, check_real, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset
from jaxdl.practice.chains import Chain, chain_at, check_used
from jaxdl.practice.findings import Finding, with_findings
from jaxdl.practice.run_curves import batch_noise, fell
from jaxdl.report.curves import running_mean
from jaxdl.train.history import History
from jaxdl.train.loop import Progress
from jaxdl.train.losses import Loss, Metric, cross_entropy
from jaxdl.train.populations import population
from jaxdl.train.task import Augment, Preprocess, check_task, make_task


@dataclasses.dataclass(frozen=True)
class RateComparison:
    """What `compare_rates` found.

    Attributes:
      rates: float64 [rates], in the order given.
      histories: of each rate; that of a rate that diverged ends there.
      diverged: why a run ended early, or that its loss grew; None if neither.
      final: the mean loss of the last tenth of the updates, float64 [rates]; inf for a run that ended early.
      best: the rate of the least `final`; NaN if all diverged.
      findings: what is amiss.
      verdict: all in words.
    """

    rates: np.ndarray
    histories: tuple[History, ...]
    diverged: tuple[str | None, ...]
    final: np.ndarray
    best: float
    findings: tuple[Finding, ...]
    verdict: str

    def __str__(self) -> str:
        return self.verdict

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the losses, means of the last 10 updates, to a PNG; those that grow far above the first are cut off."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=150)
        axes = figure.subplots()
        for rate, history, why in zip(self.rates, self.histories, self.diverged, strict=True):
            label = f"{rate:g}" + (" (diverged)" if why else "")
            style = ":" if why else "-"
            axes.plot(history.step, running_mean(history.loss, 10), label=label, linewidth=1.6, linestyle=style)
        first = max((float(history.loss[0]) for history in self.histories if len(history.loss)), default=1.0)
        lowest = min((float(np.min(running_mean(h.loss, 10))) for h in self.histories if len(h.loss)), default=0.0)
        margin = 0.05 * abs(first - lowest) + 1e-12
        limits = (lowest - margin, first + 5 * margin)  # matplotlib would take in curves of 1e34
        axes.set(xlabel="updates", ylabel="loss, mean of 10 updates", ylim=limits)
        axes.set_title("Learning rates side by side", fontsize=11)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right center", frameon=False, title="learning rate")
        figure.savefig(Path(path))


def compare_rates(
    model: nn.Module,
    chain: Chain,
    train_set: Dataset | Stream,
    key: jax.Array,
    *,
    rates: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
    steps: int = 100,
    batch_size: int = 128,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    progress: bool | Progress = True,
) -> RateComparison:
    """Trains from the same initialisation, with the same batches, at each of a few learning rates.

    Args:
      model: as for `train.fit`.
      chain: a function from a learning rate to an optimizer, `optim.momentum` for example; the rate that it is given is
        traced, as `optax.inject_hyperparams` does it.
      train_set: as for `train.fit`.
      key: `jax.random.key(0)`.
      rates: two or more.
      steps: updates at each rate.
      batch_size: as for `train.fit`.
      loss: as for `train.fit`.
      metrics: as for `train.fit`.
      preprocess: as for `train.fit`.
      augment: as for `train.fit`.
      progress: as for `train.fit`.

    Returns:
      The histories, the best rate, findings and a verdict: whether the best is at an edge of those tried, and which
      diverged.

    Raises:
      ValueError: an argument is wrong.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice
      >>> train_set, _ = data.load("fashion_mini")
      >>> model = models.mlp(widths=(32,))
      >>> found = practice.compare_rates(model, optim.sgd, train_set, jax.random.key(0), progress=False)
      >>> found.best, [finding.name for finding in found.findings]
      (0.1, ['best rate at the edge'])

    Reference: the lecture notes, `Find a learning rate that makes the loss go down`.
    """
    name = "compare_rates"
    check_key(name, "key", key)
    check_dataset(name, "train_set", train_set)
    check_integer(name, "steps", steps, at_least=2)
    require(
        isinstance(rates, Sequence | np.ndarray) and not isinstance(rates, str) and len(rates) >= 2,
        f"{name}: rates must be two or more numbers, got rates={shown(rates)}; pass (1e-1, 1e-2, 1e-3)",
    )
    for rate in rates:
        check_real(name, "rates", rate, at_least=0)
    tried = np.asarray(rates, np.float64)
    require(
        bool(np.all(tried > 0)) and len(set(tried.tolist())) == len(tried),
        f"{name}: rates must be above 0 and differ, got rates={shown(rates)}",
    )
    chain_at(name, chain, float(tried[0]))

    def at(rate):
        return chain(rate)

    preprocess = preprocess or train_set.standardize
    task = make_task(name, model, loss=loss, metrics=metrics, preprocess=preprocess, augment=augment)
    shapes = check_task(name, task, train_set, batch_size)
    check_used(name, at, {"rate": float(tried[0])}, shapes.variables)
    found = population(
        model,
        optax.inject_hyperparams(at)(rate=float(tried[0])),
        train_set,
        keys=jnp.stack([key] * len(tried)),
        hyperparams={"rate": tried},
        steps=steps,
        batch_size=batch_size,
        loss=loss,
        metrics=metrics,
        preprocess=preprocess,
        augment=augment,
        progress=progress,
    )
    return _judged(tried, found.histories, found.diverged, steps)


def _judged(rates: np.ndarray, histories: Sequence[History], ended: Sequence[str | None], steps: int) -> RateComparison:
    tail = max(1, steps // 10)
    final = np.array([np.inf if why else np.mean(h.loss[-tail:]) for h, why in zip(histories, ended, strict=True)])
    starts = [float(history.loss[0]) for history in histories if len(history.loss)]
    start = starts[0] if starts else math.nan
    diverged = tuple(
        why or (f"the loss grew from {start:.3g} to {last:.3g}" if last > 1.1 * start else None)
        for why, last in zip(ended, final, strict=True)
    )
    numbers = {f"{rate:g}": float(last) for rate, last in zip(rates, final, strict=True)}
    findings = []
    lost = [f"{rate:g}" for rate, why in zip(rates, diverged, strict=True) if why]
    words = ", ".join(f"{last:.3g} at {rate:g}" for rate, last in zip(rates, final, strict=True) if np.isfinite(last))
    if len(lost) == len(rates):
        text = f"all of {', '.join(lost)} diverged; try rates below {rates.min():g}."
        findings.append(Finding("every rate diverged", text, numbers))
        verdict = with_findings("No rate trains: all diverged.", findings)
        return RateComparison(rates, tuple(histories), diverged, final, math.nan, tuple(findings), verdict)
    allowed = np.where([why is None for why in diverged], final, np.inf)
    chosen = int(np.argmin(allowed))
    best = float(rates[chosen])
    if not fell(histories[chosen].loss):
        text = (
            f"the loss is {start:.3g} at first and {words} at the end, and that of one batch varies by "
            f"{batch_noise(histories[chosen].loss):.2g}. Make more updates, or try other rates."
        )
        findings.append(Finding("loss does not fall", text, numbers))
    elif best in (rates.min(), rates.max()):
        side, beyond = ("smallest", best / 10) if best == rates.min() else ("largest", 10 * best)
        text = f"the best rate, {best:g}, is the {side} one tried; try {best:g} and {beyond:g} side by side too."
        findings.append(Finding("best rate at the edge", text, numbers, serious=False))
    verdict = f"After {steps} updates {best:g} is best; the loss is {words} ({start:.3g} at first)."
    verdict += f" Diverged: {', '.join(lost)}." if lost else " None diverged."
    verdict = with_findings(verdict, findings)
    return RateComparison(rates, tuple(histories), diverged, final, best, tuple(findings), verdict)
