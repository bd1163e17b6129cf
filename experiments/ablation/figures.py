"""Figures of results: each is a few words about what to draw, and is drawn from the rows and curves."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from experiments.ablation.case import Case
from experiments.ablation.rows import Results

_LABELS = {
    "test_error": "test error (%)",
    "train_error": "training error (%)",
    "train_loss": "training loss (nats)",
    "test_loss": "test loss (nats)",
}


@dataclasses.dataclass(frozen=True)
class Curves:
    """Curves of that name: the mean over seeds as a line, one standard deviation as a band.

    Attributes:
      name: of the curves.
      title: above the axes.
      y_label, x_label: with units.
      log_y, log_x: whether the axis is logarithmic.
      cases: which to draw; by default all that have the curve.
      dashed: cases whose lines are dashed.
      y_limits: least and greatest number shown.
    """

    name: str
    title: str = ""
    y_label: str = ""
    x_label: str = "updates"
    log_y: bool = False
    log_x: bool = False
    cases: Sequence[str] = ()
    dashed: Sequence[str] = ()
    y_limits: tuple[float | None, float | None] = (None, None)


@dataclasses.dataclass(frozen=True)
class Bars:
    """A metric of each case: a dot for each seed, the mean as a bar across, the paper's number as a diamond.

    Attributes:
      metric: the metric.
      title: above the axes.
      label: of the axis, with unit.
      cases: which to draw; by default all that have the metric.
      log: whether the axis is logarithmic.
    """

    metric: str
    title: str = ""
    label: str = ""
    cases: Sequence[str] = ()
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Heat:
    """The mean of a metric over two facts of the cases, as a map of colours with the numbers in it.

    Attributes:
      metric: the metric.
      x, y: names of facts.
      where: facts that the cases must have: {"rule": "SGD"}.
      title: above the axes.
    """

    metric: str
    x: str
    y: str
    where: dict[str, Any] = dataclasses.field(default_factory=dict)
    title: str = ""


@dataclasses.dataclass(frozen=True)
class Scatter:
    """One metric of every run against another, coloured by a fact of the cases.

    Attributes:
      x, y: names of metrics.
      by: name of a fact.
      title: above the axes.
      log_x, log_y: whether the axis is logarithmic.
    """

    x: str
    y: str
    by: str
    title: str = ""
    log_x: bool = False
    log_y: bool = False


Figure: TypeAlias = Curves | Bars | Heat | Scatter


def draw(path: Path, title: str, figures: Sequence[Figure], cases: Sequence[Case], results: Results) -> bool:
    """Draws the figures that have something to show, side by side, to a PNG; whether there were any."""
    from matplotlib.figure import Figure as Canvas

    shown = [figure for figure in figures if has_content(figure, cases, results)]
    if not shown:
        return False
    rows = -(-len(shown) // 3)
    columns = -(-len(shown) // rows)
    most = max((len(chosen(figure, results)) for figure in shown if isinstance(figure, Bars)), default=0)
    height = max(3.8, 0.28 * most + 1.2)
    canvas = Canvas(figsize=(5.0 * columns + 0.4, height * rows + 0.6), layout="constrained", dpi=140)
    canvas.suptitle(title, fontsize=10)
    grid = canvas.subplots(rows, columns, squeeze=False).ravel()
    colors = {case: f"C{i % 10}" for i, case in enumerate(results.cases)}
    for axes, figure in zip(grid, shown, strict=False):
        if isinstance(figure, Curves):
            _draw_curves(axes, figure, results, colors)
        elif isinstance(figure, Bars):
            _draw_bars(axes, figure, cases, results, colors)
        elif isinstance(figure, Scatter):
            _draw_scatter(axes, figure, cases, results)
        else:
            _draw_heat(canvas, axes, figure, cases, results)
    for axes in grid[len(shown) :]:
        axes.remove()
    canvas.savefig(path)
    return True


def chosen(figure: Figure, results: Results) -> list[str]:
    """The cases that a figure shows."""
    if isinstance(figure, Heat | Scatter):
        return []
    wanted = figure.cases or results.cases
    if isinstance(figure, Curves):
        return [case for case in wanted if results.curve(figure.name, case) is not None]
    return [case for case in wanted if results.values(figure.metric, case)]


def has_content(figure: Figure, cases: Sequence[Case], results: Results) -> bool:
    """Whether there is something to draw."""
    if isinstance(figure, Scatter):
        return bool(_dots(figure, cases, results))
    return bool(_table(figure, cases, results)[2] if isinstance(figure, Heat) else chosen(figure, results))


def label(name: str, given: str = "") -> str:
    """A label for the axis of a metric or curve."""
    return given or _LABELS.get(name, name.replace("_", " "))


def _draw_curves(axes: Any, figure: Curves, results: Results, colors: dict[str, str]) -> None:
    names = chosen(figure, results)
    for number, case in enumerate(names):
        found = results.curve(figure.name, case)
        if found is None:
            continue
        x, y = found
        style = "--" if case in figure.dashed or number >= 10 else "-"
        (line,) = axes.plot(x, np.nanmean(y, 0), style, label=case, color=colors.get(case), linewidth=1.4)
        if len(y) > 1:
            mean, spread = np.nanmean(y, 0), np.nanstd(y, 0, ddof=1)
            low = np.maximum(mean - spread, np.nanmin(y, 0)) if figure.log_y else mean - spread  # not below 0
            axes.fill_between(x, low, mean + spread, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(title=figure.title, xlabel=figure.x_label, ylabel=label(figure.name, figure.y_label))
    if figure.log_x:
        axes.set_xscale("log")
    if figure.log_y:
        axes.set_yscale("log")
    axes.set_ylim(*figure.y_limits)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, ncols=1 + len(names) // 9)


def _draw_bars(axes: Any, figure: Bars, cases: Sequence[Case], results: Results, colors: dict[str, str]) -> None:
    names = chosen(figure, results)
    papers = {case.name: case.paper[figure.metric] for case in cases if figure.metric in case.paper}
    for place, name in enumerate(reversed(names)):
        values = list(results.values(figure.metric, name).values())
        axes.plot(values, [place] * len(values), "o", color=colors.get(name), alpha=0.5, markersize=5)
        axes.plot([np.mean(values)] * 2, [place - 0.3, place + 0.3], color=colors.get(name), linewidth=2.5)
        if name in papers:
            said = axes.plot(papers[name].value, place, "kD", markersize=5, markerfacecolor="none")
            axes.legend(said, ["the paper"], fontsize=7, frameon=False)
    axes.set_yticks(range(len(names)), names[::-1], fontsize=8)
    axes.set(title=figure.title, xlabel=label(figure.metric, figure.label), ylim=(-0.6, len(names) - 0.4))
    if figure.log:
        axes.set_xscale("log")
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right"]].set_visible(False)


def _table(figure: Heat, cases: Sequence[Case], results: Results) -> tuple[list[Any], list[Any], dict]:
    """The facts along x and y, and the means by (x, y)."""
    found = {}
    for case in cases:
        is_there = figure.x in case.facts and figure.y in case.facts
        if is_there and all(case.facts.get(name) == value for name, value in figure.where.items()):
            values = list(results.values(figure.metric, case.name).values())
            found[case.facts[figure.x], case.facts[figure.y]] = float(np.mean(values)) if values else math.nan
    if all(map(math.isnan, found.values())):
        return [], [], {}
    return sorted({x for x, _ in found}), sorted({y for _, y in found}), found


def _draw_heat(canvas: Any, axes: Any, figure: Heat, cases: Sequence[Case], results: Results) -> None:
    xs, ys, found = _table(figure, cases, results)
    means = np.array([[found.get((x, y), math.nan) for x in xs] for y in ys])
    image = axes.imshow(means, cmap="viridis_r", origin="lower", aspect="auto")
    middle = np.nanmin(means) + 0.55 * (np.nanmax(means) - np.nanmin(means))
    for i, j in np.ndindex(means.shape):
        text = "-" if math.isnan(means[i, j]) else f"{means[i, j]:.1f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="w" if means[i, j] > middle else "k")
    axes.set_xticks(range(len(xs)), [f"{x:g}" if isinstance(x, int | float) else str(x) for x in xs], fontsize=8)
    axes.set_yticks(range(len(ys)), [f"{y:g}" if isinstance(y, int | float) else str(y) for y in ys], fontsize=8)
    axes.set(title=figure.title, xlabel=figure.x.replace("_", " "), ylabel=figure.y.replace("_", " "))
    canvas.colorbar(image, ax=axes, label=label(figure.metric))


def _dots(figure: Scatter, cases: Sequence[Case], results: Results) -> dict[Any, list[tuple[float, float]]]:
    """The points of each fact."""
    found: dict[Any, list[tuple[float, float]]] = {}
    for case in cases:
        if figure.by in case.facts:
            xs, ys = results.values(figure.x, case.name), results.values(figure.y, case.name)
            found.setdefault(case.facts[figure.by], []).extend((xs[seed], ys[seed]) for seed in xs if seed in ys)
    return {fact: points for fact, points in found.items() if points}


def _draw_scatter(axes: Any, figure: Scatter, cases: Sequence[Case], results: Results) -> None:
    for fact, points in _dots(figure, cases, results).items():
        axes.plot(*zip(*points, strict=True), "o", label=str(fact), alpha=0.6, markersize=4)
    axes.set(title=figure.title, xlabel=label(figure.x), ylabel=label(figure.y))
    if figure.log_x:
        axes.set_xscale("log")
    if figure.log_y:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
