"""Plots."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
      title, x_label, y_label: words, with units.
      curves: for each name in the legend, x [n] and y [runs, n].
      dashed: names of the curves to draw dashed.
      log_y: whether the y axis is logarithmic.
      y_limits: (lowest, highest) shown; by default what the curves need.
    """

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
    dashed: Collection[str] = ()
    log_y: bool = False
    y_limits: tuple[float | None, float | None] = (None, None)


def plot_curves(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Draws panels side by side to a PNG: the mean over runs as a line, one standard deviation as a band."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

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
        if panel.log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(*panel.y_limits)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    figure.savefig(path)
