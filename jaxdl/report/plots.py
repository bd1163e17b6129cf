"""Plots."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.arguments import require


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
      title, x_label, y_label: words, with units.
      curves: for each name in the legend, x [n] and y [runs, n].
      dashed: names of the curves to draw dashed.
      log_y, log_x: whether the axis is logarithmic.
      y_limits: (lowest, highest) value shown; by default the axis fits the curves.
      own_legend: whether the panel has a legend of its own, rather than a shared one.
    """

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
    dashed: Collection[str] = ()
    log_y: bool = False
    y_limits: tuple[float | None, float | None] = (None, None)
    own_legend: bool = False
    log_x: bool = False


@dataclasses.dataclass(frozen=True)
class Landscape:
    """A function of two variables and paths through it.

    Attributes:
      title: words.
      function: from x and y, arrays of one shape, to heights.
      x_limits, y_limits: the part that is shown.
      paths: for each name in the legend, the points visited [steps, 2].
      minima: points to mark, [n, 2].
    """

    title: str
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    paths: Mapping[str, np.ndarray]
    minima: np.ndarray


def plot_landscapes(path: Path, title: str, landscapes: Sequence[Landscape]) -> None:
    """Draws landscapes in two columns to a PNG: contours, paths that begin at black dots, and minima as stars."""
    from matplotlib.figure import Figure

    require(len(landscapes) > 0, "plot_landscapes: there is no landscape to draw")
    for landscape in landscapes:
        require(
            len(landscape.paths) > 0,
            f"plot_landscapes: the landscape {landscape.title!r} has no paths; its legend and its start come from them",
        )
        for name, points in landscape.paths.items():
            _check_points("plot_landscapes", name, points)
    rows = -(-len(landscapes) // 2)
    figure = Figure(figsize=(11, 4.2 * rows), layout="constrained", dpi=130)
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, landscape in zip(grid, landscapes, strict=False):
        x, y = np.meshgrid(np.linspace(*landscape.x_limits, 200), np.linspace(*landscape.y_limits, 200))
        heights = landscape.function(x, y)
        levels = heights.min() + (heights.max() - heights.min()) * np.geomspace(1e-4, 1, 16)
        axes.contour(x, y, heights, levels, colors="0.8", linewidths=0.7)
        for name, points in landscape.paths.items():
            axes.plot(*points.T, label=name, linewidth=1.3, marker=".", markersize=2.5)
        axes.plot(*next(iter(landscape.paths.values()))[0], "ko", markersize=5)
        axes.plot(*np.asarray(landscape.minima).T, "k*", markersize=10)
        axes.set(title=landscape.title, xlabel="x", ylabel="y", xlim=landscape.x_limits, ylim=landscape.y_limits)
    for axes in grid[len(landscapes) :]:
        axes.remove()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 9), frameon=False)
    figure.savefig(path)


def plot_paths(path: Path, title: str, paths: Mapping[str, np.ndarray]) -> None:
    """Draws paths [points, 2] in one plane to a PNG, from a ring to a dot; axes have no unit."""
    from matplotlib.figure import Figure

    require(len(paths) > 0, "plot_paths: there are no paths to draw")
    for name, points in paths.items():
        _check_points("plot_paths", name, points)
    figure = Figure(figsize=(6, 5), layout="constrained", dpi=130)
    axes = figure.subplots()
    for name, points in paths.items():
        (line,) = axes.plot(*points.T, label=name, linewidth=1.3, marker=".", markersize=4)
        axes.plot(*points[0], "o", color=line.get_color(), markerfacecolor="white", markersize=8)
        axes.plot(*points[-1], "o", color=line.get_color(), markersize=8)
    axes.set(title=title, xticks=[], yticks=[])
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)


def plot_curves(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Draws panels side by side to a PNG: the mean over runs as a line, one standard deviation as a band."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    require(len(panels) > 0, "plot_curves: there is no panel to draw")
    for panel in panels:
        require(len(panel.curves) > 0, f"plot_curves: the panel {panel.title!r} has no curves")
        for name, (x, y) in panel.curves.items():
            fits = np.ndim(x) == 1 and np.ndim(y) == 2 and np.shape(y)[1] == len(x) and np.size(y) > 0
            require(
                fits,
                f"plot_curves: the curve {name!r} must be x [n] and y [runs, n], got shapes {list(np.shape(x))} and "
                f"{list(np.shape(y))}; of one run pass y[None]",
            )
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained", dpi=150)
    figure.suptitle(title, fontsize=11)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, (x, y) in panel.curves.items():
            mean = np.mean(y, axis=0)
            (line,) = axes.plot(x, mean, label=name, linewidth=1.6, linestyle="--" if name in panel.dashed else "-")
            if len(y) > 1:
                spread = np.std(y, axis=0, ddof=1)
                axes.fill_between(x, mean - spread, mean + spread, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        if panel.log_x:
            axes.set_xscale("log")
        elif all(np.all(np.mod(x, 1) == 0) for x, _ in panel.curves.values()):
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if panel.log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(*panel.y_limits)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if panel.own_legend:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False, fontsize=8)
    shared = [axes for axes, panel in zip(figure.axes, panels, strict=True) if not panel.own_legend]
    if shared:
        handles, labels = shared[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    figure.savefig(path)


def _check_points(function: str, name: str, points: Any) -> None:
    require(
        np.ndim(points) == 2 and np.shape(points)[1] == 2 and len(points) > 0,
        f"{function}: the path {name!r} must be points [n, 2], got shape {list(np.shape(points))}",
    )
