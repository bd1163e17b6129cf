"""Writes experiments/README.md and the figures in docs/experiments/ from the results in experiments/results/.

Command: python -m experiments.report
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.ablation import Verdict, summary
from experiments.ablation.figures import draw, has_content
from experiments.ablation.verdict import RULE
from experiments.published import Published, command_of, published
from jaxdl import report

ROOT = Path(__file__).parents[1]
README = ROOT / "experiments" / "README.md"
FIGURES = ROOT / "docs" / "experiments"

INTRODUCTION = f"""# Experiments: claims and results

One module for each published claim. `python -m experiments` lists them; `--help` shows an experiment's settings, and
`--variant smoke` runs it in seconds. `python -m experiments.all` runs all of them. `python -m experiments.page` makes a
page with the curves of every run, to look at in a browser.

A run's results go to `runs/`, and with `--publish` to [results](results). `python -m experiments.report` writes this
file from them: no number in it was typed by hand.

## Verdicts

{RULE}

Size is how far the claim's case is ahead, with the 95 % interval. The cases' numbers are means ± standard deviations
over seeds."""


def text(found: Sequence[Published]) -> str:
    """The whole of README.md."""
    sections, last = [], None
    for one in found:
        if one.ablation.name != last:
            sections += [f"## {one.ablation.name}", *_about(one)]
        if one.variant != "default":
            sections.append(f"### {one.ablation.name}, variant {one.variant}")
        sections += _result(one)
        last = one.ablation.name
    # Where rates were tuned, there are too few seeds for a verdict.
    rows = [_verdict_row(one, verdict) for one in found if one.variant != "rates" for verdict in one.verdicts()]
    table = _table(
        ["claim", "paper", "size", "cases", "seeds", "verdict", "minutes", "machine", "commit", "command"], rows
    )
    return "\n\n".join([INTRODUCTION, table, *sections]) + "\n"


def draw_figures(found: Sequence[Published], folder: Path) -> None:
    """Draws the figure of each result, and removes figures of results that there are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in found:
        title = f"{one.key}: {one.content['title']}"
        draw(folder / f"{one.key}.png", title, one.ablation.figures, one.cases, one.results)
    for path in folder.glob("*.png"):
        if path.stem not in figure_names(found):
            path.unlink()


def figure_names(found: Sequence[Published]) -> set[str]:
    """The names of the figures, without ".png"; a result without anything to draw has none."""
    return {
        one.key for one in found if any(has_content(figure, one.cases, one.results) for figure in one.ablation.figures)
    }


def machine(environment: dict[str, Any]) -> str:
    """What computed, in short.

    Example:
      >>> machine({"device": "1 x cpu (cpu)", "processor": "Intel(R) Xeon(R) Gold 6132 CPU @ 2.60GHz", "cores": 2})
      'Intel Xeon Gold 6132, 2 cores'
      >>> machine({"device": "1 x gpu (NVIDIA H200)", "processor": "AMD EPYC", "cores": 16})
      '1 x NVIDIA H200'
    """
    device = re.fullmatch(r"(\d+) x (\S+) \((.*)\)", environment["device"])
    if device is not None and device[2] != "cpu":
        return f"{device[1]} x {device[3]}"
    name = re.sub(r"\((R|TM)\)| CPU| Processor| @.*", "", environment["processor"])
    return f"{name}, {environment['cores']} cores"


def _about(one: Published) -> list[str]:
    """Claim, paper and setting from the docstring; the command is shown with each result."""
    claim, *rest = (one.ablation.doc or "").strip().split("\n\n")
    return [f"*{' '.join(claim.split())}*", *(part.strip() for part in rest if not part.startswith("Command:"))]


def _result(one: Published) -> list[str]:
    content = one.content
    header, rows = summary.table(one.ablation.table, one.cases, one.results)
    parts = [f"`{command_of(one)}` ([result](results/{one.key}.json)), {content['title']}."]
    parts += [report.markdown_table(_escaped(header), list(map(_escaped, rows)))] if rows else []
    parts.append(summary.notes(one.ablation))
    parts.append("\n".join(f"- {sentence}" for sentence in one.sentences()))
    if figure_names([one]):
        parts.append(f"![{one.key}](../docs/experiments/{one.key}.png)")
    environment = content["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    by = f" (convolutions by {environment['convolutions']})" if "convolutions" in environment else ""
    minutes = f"{_minutes(content)} minutes, " if content["minutes"] else ""
    parts.append(
        f"{machine(environment)}{by}, {minutes}{environment['date'][:10]}, commit {_commits(content)}; "
        f"Python {environment['python']}, {versions}."
    )
    return list(filter(None, parts))


def _verdict_row(one: Published, verdict: Verdict) -> list[str]:
    what = "ratio" if verdict.ratio else "difference"
    size = f"{what} of {verdict.metric.replace('_', ' ')} {verdict.mean:.3g}" if verdict.pairs else "-"
    if verdict.is_exact:
        size += " (each seed)"
    elif verdict.pairs > 1:
        size += f" ({verdict.low:.3g} to {verdict.high:.3g})"
    cases = [
        f"{case} {summary.cell(list(one.results.values(verdict.metric, case).values()), len(one.results.seeds(case)))}"
        for case in (verdict.better, verdict.worse)
    ]
    return [
        f"[{verdict.claim[:1].upper()}{verdict.claim[1:]}](#{one.ablation.name})",
        str(verdict.paper or "-"),
        size,
        "; ".join(cases),
        str(verdict.pairs) if verdict.pairs == verdict.runs else f"{verdict.pairs} of {verdict.runs}",
        verdict.word,
        _minutes(one.content),
        machine(one.content["environment"]),
        _commits(one.content),
        f"`{command_of(one)}`",
    ]


def _minutes(content: dict[str, Any]) -> str:
    if not content["minutes"]:  # not taken down
        return "-"
    return f"{content['minutes']:.0f}" if content["minutes"] >= 10 else f"{content['minutes']:.1f}"


def _commits(content: dict[str, Any]) -> str:
    return ", ".join(re.sub("^([0-9a-f]{7})[0-9a-f]*", r"\1", commit) for commit in content["commits"])


def _table(header: list[str], rows: list[list[str]]) -> str:
    """A table whose columns are all to the left: they hold words."""
    lines = report.markdown_table(header, list(map(_escaped, rows))).split("\n")
    return "\n".join([lines[0], lines[1].replace("---:", ":---"), *lines[2:]])


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", r"\|") for cell in cells]


def main() -> None:
    """Writes the file and the figures."""
    found = published()
    README.write_text(text(found))
    draw_figures(found, FIGURES)
    print(f"Written: {README.relative_to(ROOT)}, {len(figure_names(found))} figures in {FIGURES.relative_to(ROOT)}/")


if __name__ == "__main__":
    main()
