"""The picture of a search."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.practice.spaces import Uniform, place, value_at

if TYPE_CHECKING:
    from jaxdl.practice.search_result import SearchResult


def plot_search(path: str | os.PathLike, found: "SearchResult") -> None:
    """Draws the map of two hyperparameters, or the error over the only one, and parallel coordinates."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    trials = [trial for trial in found.trials if trial.diverged is None]
    diverged = [trial for trial in found.trials if trial.diverged is not None]
    scores = np.array([trial.score for trial in trials])
    in_percent = bool(trials) and not np.isnan(trials[0].error)
    label = "held-out error (%)" if in_percent else "held-out loss"
    scores = 100 * scores if in_percent else scores
    colors, norm = colormaps["viridis_r"], Normalize(0, 1)
    if trials:  # a few very bad trials must not take all the colours
        norm = Normalize(scores.min(), 2 * np.median(scores) - scores.min() + 1e-9)
    names = list(found.space)
    figure = Figure(figsize=(11.5, 4.4), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    if len(names) == 1:
        _one(left, names[0], found, trials, diverged, scores, label)
    else:
        _two(left, names[:2], found, trials, diverged, scores, colors, norm)
    _parallel(right, names, found, trials, diverged, scores, label, colors, norm)
    if trials:
        figure.colorbar(ScalarMappable(norm, colors), ax=right, label=label, extend="max", pad=0.12)
    left.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _scale(found: "SearchResult", name: str) -> str:
    return "linear" if isinstance(found.space[name], Uniform) else "log"


def _one(axes: Any, name: str, found: "SearchResult", trials: list, diverged: list, scores: Any, label: str) -> None:
    axes.plot([trial.hyperparameters[name] for trial in trials], scores, "o", markersize=6)
    for trial in diverged:
        axes.axvline(trial.hyperparameters[name], color="tab:red", linestyle=":", linewidth=1)
    axes.set(xscale=_scale(found, name), xlabel=name, ylabel=label, title="Trials (dotted: diverged)")
    axes.grid(alpha=0.3)


def _two(axes, names: list, found: "SearchResult", trials: list, diverged: list, scores, colors, norm) -> None:
    """Tiles, each in the colour of its nearest trial, and the trials as dots; larger dots made more updates."""
    grid = (np.arange(160) + 0.5) / 160
    edges = [value_at(found.space[name], np.linspace(0, 1, 161)) for name in names]
    places = np.array([[place(found.space[name], t.hyperparameters[name]) for name in names] for t in trials])
    if trials:
        points = np.stack(np.meshgrid(grid, grid), -1)
        nearest = np.argmin(((points[:, :, None] - places) ** 2).sum(-1), -1)
        axes.pcolormesh(*edges, scores[nearest], cmap=colors, norm=norm, alpha=0.45, linewidth=0, rasterized=True)
        most = max(trial.updates for trial in trials)
        x, y = ([trial.hyperparameters[name] for trial in trials] for name in names)
        sizes = [20 + 60 * trial.updates / most for trial in trials]
        axes.scatter(x, y, sizes, scores, cmap=colors, norm=norm, edgecolors="black", linewidths=0.7)
        axes.scatter(x[:1], y[:1], 260, facecolors="none", edgecolors="black", linewidths=1.5)
    x, y = ([trial.hyperparameters[name] for trial in diverged] for name in names)
    axes.scatter(x, y, 40, "tab:red", marker="x")
    title = "Trials (ring: the best" + ("; cross: diverged)" if diverged else ")")
    axes.set(xscale=_scale(found, names[0]), yscale=_scale(found, names[1]), xlabel=names[0], ylabel=names[1])
    axes.set(title=title, xlim=edges[0][[0, -1]], ylim=edges[1][[0, -1]])


def _parallel(axes, names: list, found: "SearchResult", trials: list, diverged: list, scores, label, colors, norm):
    """One line for each trial, over an axis for each hyperparameter and one for the error, the best at the bottom."""
    places = range(len(names) + 1)
    for trial in diverged:
        heights = [float(place(found.space[name], trial.hyperparameters[name])) for name in names]
        axes.plot(places[:-1], heights, ":", color="tab:red", linewidth=1)
    if trials:
        low, high = scores.min(), min(scores.max(), float(norm.vmax))
        heights = np.clip((scores - low) / (high - low + 1e-12), 0, 1)
        for rank in reversed(range(len(trials))):
            values = [float(place(found.space[name], trials[rank].hyperparameters[name])) for name in names]
            width = 2.5 if rank == 0 else 1.2
            axes.plot(places, [*values, heights[rank]], color=colors(norm(scores[rank])), linewidth=width)
        axes.text(places[-1] + 0.04, 0, f"{low:.3g}", va="center", fontsize=8)
        axes.text(
            places[-1] + 0.04, 1, f"{high:.3g}" + (" or more" if high < scores.max() else ""), va="center", fontsize=8
        )
    for number, name in enumerate(names):
        axes.axvline(number, color="0.3", linewidth=0.8)
        for where in (0, 0.5, 1):
            value = float(value_at(found.space[name], where))
            axes.text(number + 0.02, where, f"{value:.2g}", fontsize=8, va="bottom" if where < 1 else "top")
    axes.axvline(places[-1], color="0.3", linewidth=0.8)
    axes.set(ylim=(-0.03, 1.03), xlim=(-0.1, places[-1] + 0.3), yticks=[], title="Each line is a trial")
    axes.set_xticks(places, [*names, label])
    axes.spines[:].set_visible(False)
