"""The picture of an inspection: histograms over depth, sizes over depth, update ratios."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.practice.inspection_verdict import series

_BINS = 61


def plot_inspection(path: str | os.PathLike, inspection: Any) -> None:
    """Draws an inspection to a PNG."""
    from matplotlib.figure import Figure

    layers = series(inspection.layers) or list(inspection.layers)
    ratios = [w for w in inspection.weights if w.update_ratio is not None and len(w.shape) > 1]
    columns = 3 if ratios else 2
    figure = Figure(figsize=(5.4 * columns, 7.6), layout="constrained", dpi=130)
    figure.suptitle(f"Activations and gradients over depth, {inspection.examples} examples", fontsize=12)
    grid = figure.subplots(2, columns, squeeze=False)
    for column, (what, unit) in enumerate(
        (("activation", "standard deviation"), ("gradient", "norm of the gradient (per example)"))
    ):
        parts = [getattr(layer, what) for layer in layers]
        image = _histograms(grid[0, column], [part.sample for part in parts])
        grid[0, column].set(title=f"Histogram of each layer's {what}s", ylabel=what)
        figure.colorbar(image, ax=grid[0, column], label="share of numbers in a bin")
        sizes = np.array([part.std if what == "activation" else part.norm for part in parts])
        _line(grid[1, column], sizes, unit)
        for row in (0, 1):
            _name_layers(grid[row, column], [layer.name for layer in layers])
    if ratios:
        _shares(grid[0, 2], layers)
        _name_layers(grid[0, 2], [layer.name for layer in layers])
        axes = grid[1, 2]
        _line(axes, np.array([w.update_ratio for w in ratios]), "norm of update / norm of weight")
        axes.axhline(1e-3, color="0.4", linestyle="--", linewidth=1)
        axes.annotate("1e-3, usual", (0, 1e-3), (0, 3), textcoords="offset points", fontsize=8, color="0.3")
        _name_layers(axes, [w.name.removesuffix("/kernel") for w in ratios])
    figure.savefig(Path(path))


def _histograms(axes: Any, samples: Sequence[np.ndarray]) -> Any:
    """A column for each layer: the shares of its numbers in bins that all layers have in common."""
    from matplotlib.colors import LogNorm

    finite = [sample[np.isfinite(sample)] for sample in samples]
    reach = max((float(np.quantile(np.abs(sample), 0.995)) for sample in finite if len(sample)), default=0.0) or 1.0
    low = 0.0 if all((sample >= 0).all() for sample in finite) else -reach
    edges = np.linspace(low, reach, _BINS + 1)
    # What lies beyond the ends is counted in the last bins.
    counts = [np.histogram(np.clip(sample, low, reach), edges)[0] / max(len(sample), 1) for sample in finite]
    x = np.arange(len(samples) + 1) - 0.5
    return axes.pcolormesh(x, edges, np.array(counts).T, norm=LogNorm(1e-3, 1), cmap="viridis")


def _line(axes: Any, values: np.ndarray, label: str) -> None:
    shown = np.where(values > 0, values, np.nan)  # zeros have no place on a logarithmic axis
    axes.plot(np.arange(len(values)), shown, marker="o", markersize=4, linewidth=1.4, color="#0072b2")
    if np.isfinite(shown).any():
        axes.set_yscale("log")
        low, high = np.nanmin(shown), np.nanmax(shown)
        if high < 10 * low:  # at least a decade, so that small changes look small
            middle = np.sqrt(low * high)
            axes.set_ylim(middle / 4, middle * 4)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)


def _shares(axes: Any, layers: Sequence[Any]) -> None:
    x = np.arange(len(layers))
    axes.plot(x, [100 * layer.activation.zeros for layer in layers], "o-", ms=4, lw=1.4, color="#0072b2", label="zeros")
    axes.plot(x, [100 * layer.dead_share for layer in layers], "s--", ms=4, lw=1.4, color="#d55e00", label="dead units")
    if any(layer.saturated is not None for layer in layers):
        shares = [np.nan if layer.saturated is None else 100 * layer.saturated for layer in layers]
        axes.plot(x, shares, "^:", ms=4, lw=1.4, color="#009e73", label="saturated")
    axes.set(title="Zeros, dead and saturated", ylabel="percent", ylim=(-3, 103))
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _name_layers(axes: Any, names: Sequence[str]) -> None:
    step = -(-len(names) // 24)
    ticks = list(range(0, len(names), step))
    axes.set_xticks(ticks, [names[tick] for tick in ticks], rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_xlim(-0.6, len(names) - 0.4)
