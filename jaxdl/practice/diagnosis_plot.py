"""The picture of a diagnosis."""

import os
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from jaxdl.practice.run_curves import BLOCKS, centred_means

if TYPE_CHECKING:
    from jaxdl.practice.diagnosis import Diagnosis

MARKS = ("at", "since", "restart")  # the numbers of a finding that are an update


def plot_diagnosis(path: str | os.PathLike, found: "Diagnosis") -> None:
    """Draws losses, errors and rates, one panel each, and the findings in words below."""
    from matplotlib.figure import Figure

    history = found.history
    rated = len(history.learning_rate) > 0 and bool(np.all(np.isfinite(history.learning_rate)))
    judged = "error" in history.metrics or "error" in history.eval_metrics
    columns = 1 + judged + rated
    words = [textwrap.fill(str(finding), 85 * columns) for finding in found.findings] or ["Nothing is amiss."]
    lines = sum(text.count("\n") + 1 for text in words)
    figure = Figure(figsize=(5.2 * columns, 4.0 + 0.19 * lines), layout="constrained", dpi=150)
    top, bottom = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=(4.0, 0.1 + 0.19 * lines))))
    grid = list(top.subplots(1, columns, squeeze=False)[0])
    axes = grid[0]
    axes.plot(found.steps, found.loss, color="0.75", linewidth=0.7, label="of each batch")
    axes.plot(found.steps, found.smooth, linewidth=1.8, label="smoothed")
    if len(history.eval_step):
        axes.plot(history.eval_step, history.eval_loss, "o-", color="tab:orange", markersize=3, label="evaluations")
    finite = found.loss[np.isfinite(found.loss)]
    if len(finite) and finite.max() > 20 * np.median(finite):  # one great loss must not flatten all others
        axes.set_yscale("log")
    axes.set(title="Loss", xlabel="updates", ylabel="loss")
    if judged:
        axes = grid[1]
        if "error" in history.metrics:
            axes.plot(found.steps, 100 * _means(history.error), linewidth=1.8, label="training, smoothed")
        if "error" in history.eval_metrics:
            axes.plot(
                history.eval_step, 100 * history.eval_error, "o-", color="tab:orange", markersize=3, label="evaluations"
            )
        axes.set(title="Error", xlabel="updates", ylabel="error (%)")
    if rated:
        grid[-1].plot(found.steps, history.learning_rate, color="tab:green", linewidth=1.6)
        grid[-1].set(title="Learning rate", xlabel="updates")
        grid[-1].set_ylim(0, 1.05 * float(np.max(history.learning_rate)) or 1)
    for number, finding in enumerate(found.findings):
        for name in MARKS:
            if name in finding.numbers:
                grid[0].axvline(finding.numbers[name], color=f"C{3 + number}", linestyle=":", label=finding.name)
    for axes in grid:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[: 1 + judged]:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    bottom.text(0.01, 0.98, "\n".join(words), va="top", fontsize=8.5)
    figure.savefig(path)


def _means(values: np.ndarray) -> np.ndarray:
    """The mean of a twentieth of the values around each."""
    return centred_means(np.asarray(values, np.float64), max(3, len(values) // BLOCKS))
