"""The learning-rate range test: one short run with a rising rate shows which rates train."""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, check_key, check_real, require
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset
from jaxdl.practice.chains import Chain, chain_at, check_takes_schedule, check_used
from jaxdl.practice.findings import Finding, with_findings
from jaxdl.practice.rate_curve import Curve, read_curve
from jaxdl.train.loop import Progress
from jaxdl.train.losses import Loss, Metric, cross_entropy
from jaxdl.train.populations import population
from jaxdl.train.task import Augment, Preprocess, check_task, make_task


@dataclasses.dataclass(frozen=True)
class _Rising:
    """A schedule from `low` to `high`, by the same factor at every update."""

    low: float
    high: float
    steps: int

    def __call__(self, count: Any) -> jax.Array:
        fraction = jnp.asarray(count, jnp.float32) / (self.steps - 1)
        return self.low * jnp.exp(fraction * math.log(self.high / self.low))


@dataclasses.dataclass(frozen=True)
class RateRange:
    """What `find_learning_rate` found.

    Attributes:
      rates: of the updates, float64 [updates].
      losses: of each update's batch, before the update, float64 [seeds, updates]; NaN from where a run ended.
      smooth: the smoothed mean over seeds, float64 [updates]; high losses are cut off at the start plus twice the fall.
      smooth_by_seed: the smoothed curve of each seed, float64 [seeds, updates].
      suggestion: the geometric mean of `steepest` and `divergence` (and of `steepest` and the last rate, if it does not
        diverge); NaN if the loss does not fall.
      steepest: the rate at which the smoothed mean falls steepest per unit of log rate, before its lowest point.
      divergence: the smallest rate after the lowest point from which on the smoothed mean stays above the lowest loss
        plus a quarter of the whole fall; inf if it never does.
      suggestions: the suggestion of each seed alone, float64 [seeds].
      findings: what is amiss.
      verdict: all in words.
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    smooth_by_seed: np.ndarray
    suggestion: float
    steepest: float
    divergence: float
    suggestions: np.ndarray
    findings: tuple[Finding, ...]
    verdict: str

    def __str__(self) -> str:
        return self.verdict

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the losses over the rates to a PNG, with the two rates as lines."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=150)
        axes = figure.subplots()
        for losses in self.losses:
            axes.plot(self.rates, losses, color="0.75", linewidth=0.8)
        axes.plot([], [], color="0.75", linewidth=0.8, label=f"{len(self.losses)} seeds")
        axes.plot(self.rates, self.smooth, color="C0", linewidth=1.8, label="smoothed mean")
        if len(self.smooth_by_seed) > 1:
            spread = self.smooth_by_seed.std(0, ddof=1)
            low, high = self.smooth - spread, self.smooth + spread
            axes.fill_between(self.rates, low, high, color="C0", alpha=0.15, linewidth=0)
        if math.isfinite(self.suggestion):
            axes.axvline(self.suggestion, color="C2", linewidth=1.8, label=f"suggestion {self.suggestion:.2g}")
            label = f"steepest descent {self.steepest:.2g}"
            axes.axvline(self.steepest, color="C1", linestyle="--", label=label)
        if math.isfinite(self.divergence):
            axes.axvline(self.divergence, color="C3", linestyle=":", label=f"divergence {self.divergence:.2g}")
        low, high = float(self.smooth.min()), float(self.smooth.max())
        margin = 0.1 * (high - low) + 1e-12
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss of the batch", ylim=(low - margin, high + margin))
        axes.set_title("Learning-rate range test", fontsize=11)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        figure.savefig(Path(path))


def find_learning_rate(
    model: nn.Module,
    chain: Chain,
    train_set: Dataset | Stream,
    key: jax.Array,
    *,
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 100,
    seeds: int = 3,
    batch_size: int = 128,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    progress: bool | Progress = True,
) -> RateRange:
    """Trains with a learning rate that rises from update to update, and suggests a rate.

        rate_i = low (high / low)^(i / (steps - 1)),   i = 0 ... steps - 1

    Each seed has an initialisation and an order of the examples of its own; all share one compiled step. The curves are
    averaged, and smoothed by local straight lines under a Gaussian kernel of 3% of the updates. `steepest` is where the
    smoothed loss falls steepest; `divergence` is where it has lost a quarter of its fall again, for good. An easy task
    is half learned before the rate is as high as it could be, so `steepest` alone is too low: the suggestion is in the
    middle of the two, on the log scale.

    Args:
      model: as for `train.fit`.
      chain: a function from a learning rate to an optimizer, `optim.momentum`, or
        `lambda rate: optim.adamw(rate, weight_decay=1e-4)`; here it is given a schedule.
      train_set: as for `train.fit`.
      key: `jax.random.key(0)`.
      low: the first rate.
      high: the last rate.
      steps: updates of each seed.
      seeds: runs that are averaged.
      batch_size: as for `train.fit`; another batch size has another best rate.
      loss: as for `train.fit`.
      metrics: as for `train.fit`; they are not used, but a loss for other targets may need other ones.
      preprocess: as for `train.fit`.
      augment: as for `train.fit`.
      progress: as for `train.fit`.

    Returns:
      The curves, the two rates, findings and a verdict. The rate found belongs to a constant rate; of a schedule it is
      the peak.

    Raises:
      ValueError: an argument is wrong.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice
      >>> train_set, _ = data.load("fashion_mini")
      >>> model = models.mlp(widths=(32,))
      >>> found = practice.find_learning_rate(model, optim.momentum, train_set, jax.random.key(0), progress=False)
      >>> 0.001 < found.suggestion < 0.3, found.suggestion < found.divergence
      (True, True)

    Reference: Smith, `Cyclical Learning Rates for Training Neural Networks`, 2017 (arXiv 1506.01186), sec. 3.3. There
    the rate rises linearly; here by a factor, so that several orders of magnitude fit into one run.
    """
    name = "find_learning_rate"
    check_key(name, "key", key)
    check_dataset(name, "train_set", train_set)
    check_real(name, "low", low, at_least=0)
    check_real(name, "high", high, at_least=0)
    require(0 < low < high, f"{name}: rates must rise, 0 < low < high, got low={low} and high={high}")
    check_integer(name, "steps", steps, at_least=20, remedy="a smoothed curve needs so many")
    check_integer(name, "seeds", seeds, at_least=1)
    rising = _Rising(float(low), float(high), steps)
    tx = chain_at(name, chain, rising)
    preprocess = preprocess or train_set.standardize
    task = make_task(name, model, loss=loss, metrics=metrics, preprocess=preprocess, augment=augment)
    shapes = check_task(name, task, train_set, batch_size)
    check_takes_schedule(name, chain, rising, shapes.variables)
    check_used(name, lambda rate: chain(lambda step: rate), {"rate": float(low)}, shapes.variables, injected=False)
    found = population(
        model,
        tx,
        train_set,
        keys=jax.random.split(key, seeds),
        steps=steps,
        batch_size=batch_size,
        loss=loss,
        metrics=metrics,
        preprocess=preprocess,
        augment=augment,
        progress=progress,
    )
    rates = np.geomspace(low, high, steps)
    losses = np.full((seeds, steps), np.nan)
    for seed, history in enumerate(found.histories):
        losses[seed, : len(history.loss)] = np.where(np.isfinite(history.loss), history.loss, np.nan)
    require(
        bool(np.isfinite(losses[:, : max(3, steps // 10)]).all()),
        f"{name}: the loss was not finite within the first tenth of the updates, at rates from low={low:g} on; check "
        "inputs and targets for NaN and for large numbers (practice.check_data does), or pass a smaller low",
    )
    return _read(rates, losses)


def _read(rates: np.ndarray, losses: np.ndarray) -> RateRange:
    each = [read_curve(rates, one) for one in losses]
    by_seed = np.stack([curve.smooth for curve in each])
    # The mean where most seeds still train; a seed that ended counts as high, as its own curve is cut off.
    capped = np.stack([_capped(one, curve) for one, curve in zip(losses, each, strict=True)])
    mean = read_curve(rates, capped.mean(0))
    suggestions = np.array([curve.suggestion for curve in each])
    findings = _findings(rates, mean, suggestions)
    fall = f"The loss of {len(losses)} seeds falls from {mean.start:.3g} to {mean.lowest:.3g}"
    if math.isnan(mean.suggestion):
        verdict = f"The loss does not fall at any rate from {rates[0]:.2g} to {rates[-1]:.2g}."
    else:
        verdict = f"{fall}, steepest at a rate of {mean.steepest:.2g}; "
        edge = f"it diverges from {mean.divergence:.2g} on."
        verdict += edge if math.isfinite(mean.divergence) else f"up to {rates[-1]:.2g} it does not diverge."
        verdict += f" Suggested, between the two: {mean.suggestion:.2g}."
    verdict = with_findings(verdict, findings)
    numbers = (mean.suggestion, mean.steepest, mean.divergence, suggestions)
    return RateRange(rates, losses, mean.smooth, by_seed, *numbers, tuple(findings), verdict)


def _capped(losses: np.ndarray, curve: Curve) -> np.ndarray:
    cap = curve.start + 2 * max(curve.start - curve.lowest, 1e-12)
    return np.where(np.isfinite(losses), np.minimum(losses, cap), cap)


def _findings(rates: np.ndarray, mean: Curve, suggestions: np.ndarray) -> list[Finding]:
    findings = []
    low, high = rates[0], rates[-1]
    if math.isnan(mean.suggestion):
        text = (
            f"the loss is {mean.start:.4g} at first and {mean.lowest:.4g} at its lowest, no more than noise. Make more"
            " updates, or pass a larger high; if both do not help, look at data, loss and initialisation."
        )
        return [Finding("loss does not fall", text, {"start": mean.start, "lowest": mean.lowest})]
    if mean.steepest < 10 ** (math.log10(low) + 0.1 * math.log10(high / low)):
        text = (
            f"the loss falls steepest at {mean.steepest:.2g}, at the lower end of the range; pass low={low / 100:.0e}."
        )
        findings.append(Finding("range begins too high", text, {"steepest": mean.steepest}, serious=False))
    if math.isinf(mean.divergence):
        text = f"the loss does not diverge up to {high:.2g}; pass high={100 * high:.0e} to see where it does."
        findings.append(Finding("range ends too low", text, {"high": float(high)}, serious=False))
    known = suggestions[np.isfinite(suggestions)]
    if len(known) > 1 and known.max() > 10 * known.min():
        text = (
            f"seeds alone suggest rates from {known.min():.2g} to {known.max():.2g}; more steps or more seeds make the"
            " curve smoother."
        )
        numbers = {"lowest": float(known.min()), "highest": float(known.max())}
        findings.append(Finding("seeds disagree", text, numbers, serious=False))
    return findings
