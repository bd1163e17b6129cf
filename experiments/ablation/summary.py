"""Result and report of a sweep: JSON with rows, Markdown, a picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.ablation.case import Case
from experiments.ablation.figures import draw
from experiments.ablation.rows import Curve, Results, Row
from experiments.ablation.verdict import RULE, Verdict, judge
from jaxdl import report
from jaxdl.arguments import require

if TYPE_CHECKING:
    from experiments.ablation.ablation import Ablation
    from experiments.ablation.sweep import Sweep

RESULTS = Path(__file__).parents[1] / "results"
"""Where the committed results are."""


def write(ablation: "Ablation", sweep: "Sweep") -> None:
    """Writes result.json, report.md and figures.png into the sweep's folder; prints the table and the verdicts."""
    results = ablation.results(sweep)
    verdicts = judged(ablation, results, sweep.variant)
    title = sweep.settings.title()
    header, rows = table(ablation.table, sweep.cases, results)
    drawn = draw(sweep.folder / "figures.png", f"{ablation.name}: {title}", ablation.figures, sweep.cases, results)
    content = content_of(ablation, sweep, results, verdicts)
    report.write_json(sweep.folder / "result.json", content)
    claim, _, rest = (ablation.doc or "").partition("\n")
    sentences = [verdict.sentence() for verdict in verdicts]
    parts = [f"# {claim}\n{rest.rstrip()}", f"## {title}", report.markdown_table(header, rows), notes(ablation)]
    parts += [*(f"- {sentence}" for sentence in sentences), RULE]
    pictures = ["figures.png"] if drawn else []
    pictures += ablation.picture(sweep, results) if ablation.picture is not None else []
    parts += [f"![{Path(picture).stem}]({picture})" for picture in pictures]
    (sweep.folder / "report.md").write_text("\n\n".join(filter(None, parts)) + "\n")
    report.print_table(title, header, rows)
    missing = content["planned"] - content["finished"]
    print("\n".join(sentences))
    if missing:
        print(f"{missing} of {content['planned']} runs are missing; the same command makes them")
    print(f"Written to {sweep.folder}: {', '.join(['result.json', 'report.md', *pictures])}")


def publish(ablation: "Ablation", sweep: "Sweep") -> Path:
    """Writes the result, which must be complete, to experiments/results/; returns its path."""
    results = ablation.results(sweep)
    content = content_of(ablation, sweep, results, judged(ablation, results, sweep.variant))
    require(
        content["finished"] == content["planned"],
        f"{ablation.name}: only complete results are published, got {content['finished']} of {content['planned']} runs",
    )
    path = RESULTS / f"{key_of(ablation.name, sweep.variant)}.json"
    report.write_json(path, content)
    return path


def key_of(name: str, variant: str) -> str:
    """The name of a published result."""
    return name if variant == "default" else f"{name}_{variant}"


def judged(ablation: "Ablation", results: Results, variant: str) -> list[Verdict]:
    """The verdicts on the comparisons whose cases there are."""
    return [
        judge(comparison, results, variant)
        for comparison in ablation.comparisons
        if {comparison.better, comparison.worse} <= set(results.cases)
    ]


def content_of(ablation: "Ablation", sweep: "Sweep", results: Results, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What the JSON file holds."""
    finished = sweep.finished()
    environments = [run.environment for run in finished]
    newest = max(environments, key=lambda environment: environment["date"])
    return {
        "experiment": ablation.name,
        "variant": sweep.variant,
        "settings": sweep.settings,
        "environment": newest,
        "commits": sorted({str(environment["commit"]) for environment in environments}),
        "title": sweep.settings.title(),
        "planned": sweep.planned,
        "finished": len(finished),
        "minutes": sum(run.seconds for run in finished) / 60,
        "cases": [{"name": case.name, "facts": case.facts, "paper": case.paper} for case in sweep.cases],
        "names": list(results.cases),
        "listed": list(results.listed or results.cases),
        "diverged": [
            {"case": case, "seed": seed, "why": why} for (case, seed), why in sorted(results.diverged.items())
        ],
        "verdicts": [{**verdict._asdict(), "sentence": verdict.sentence()} for verdict in verdicts],
        "columns": ["case", "seed", "metric", "value"],
        "rows": [list(row) for row in results.rows],
        "curves": [curve._asdict() for curve in results.curves],
    }


def table(metrics: Sequence[str], cases: Sequence[Case], results: Results) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for each case the metrics' means and deviations over seeds, and the paper's numbers."""
    papers = {case.name: case.paper for case in cases}
    shown = [metric for metric in metrics if any(row.metric == metric for row in results.rows)]
    with_paper = [metric for metric in shown if any(metric in paper for paper in papers.values())]
    header = [
        "case",
        *(name.replace("_", " ") for name in shown),
        *(f"paper's {m.replace('_', ' ')}" for m in with_paper),
    ]
    rows = []
    for case in results.listed or results.cases:
        cells = [cell(list(results.values(metric, case).values()), len(results.seeds(case))) for metric in shown]
        stated = [str(papers.get(case, {}).get(metric, "-")) for metric in with_paper]
        if any(content != "-" for content in cells):
            rows.append([case, *cells, *stated])
        elif results.seeds(case):
            diverged = any(name == case for name, _ in results.diverged)
            rows.append([case, *["diverged" if diverged and i == 0 else "-" for i in range(len(shown))], *stated])
    return header, rows


def cell(values: Sequence[float], runs: int) -> str:
    """Mean ± deviation (if any) with digits that fit the size of the numbers, and how many runs have one, if not all.

    Example:
      >>> cell([1.0, 3.0], 3), cell([], 2), cell([1234.5], 1)
      ('2.00 ± 1.41 (2/3)', '-', '1,234')
    """
    if not values:
        return "-"
    mean, std = report.mean_and_std(list(values))
    size = abs(mean) if mean else 1.0
    form = ",.0f" if size >= 100 else ".2f" if size >= 0.1 else ".2g"
    text = format(mean, form) + (f" ± {std:{form}}" if std > 1e-6 * size else "")
    return text + (f" ({len(values)}/{runs})" if len(values) < runs else "")


def notes(ablation: "Ablation") -> str:
    """What the table's numbers are."""
    return f"Mean ± standard deviation over seeds. {ablation.note}".strip()


def results_from(content: dict[str, Any]) -> Results:
    """The results in a JSON file that `publish` wrote."""
    rows = [
        Row(case, seed, metric, math.nan if value is None else value) for case, seed, metric, value in content["rows"]
    ]
    curves = [
        Curve(c["case"], c["seed"], c["name"], c["x"], [np.nan if y is None else y for y in c["y"]])
        for c in content["curves"]
    ]
    diverged = {(entry["case"], entry["seed"]): entry["why"] for entry in content["diverged"]}
    return Results(tuple(content["names"]), rows, curves, diverged, tuple(content["listed"]))
