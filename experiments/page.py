"""Makes one page with the curves of every run of all results, to look at in a browser, also without a network.

Command: python -m experiments.page [--out FILE], after pip install -e ".[page]"; by default FILE is runs/page.html.
"""

import argparse
import html
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.ablation import Curves
from experiments.ablation.figures import label
from experiments.published import Published, command_of, published

TEMPLATE = Path(__file__).with_name("page.html")


def page(found: Sequence[Published]) -> str:
    """The page, with plotly.js in it.

    Raises:
      ModuleNotFoundError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('the page needs plotly; install it with: pip install -e ".[page]"') from error
    # In a script "<" could end it.
    content = json.dumps([_experiment(one) for one in found], allow_nan=False).replace("<", "\\u003c")
    text = TEMPLATE.read_text()
    for mark, part in (
        ("<!--TEXTS-->", "\n".join(map(_text, found))),
        ("/*CONTENT*/", content),
        ("/*PLOTLY*/", get_plotlyjs()),
    ):
        text = text.replace(mark, part)
    return text


def _experiment(one: Published) -> dict[str, Any]:
    """What the page's script draws from."""
    figures = {figure.name: figure for figure in one.ablation.figures if isinstance(figure, Curves)}
    names = list(dict.fromkeys(curve.name for curve in one.results.curves))
    diverged = one.results.diverged
    return {
        "key": one.key,
        "title": one.content["title"],
        "cases": list(one.results.cases),
        "listed": list(one.results.listed),
        "curves": {name: _axes(name, figures.get(name, Curves(name))) for name in names},
        "runs": [
            {
                "case": curve.case,
                "seed": curve.seed,
                "curve": curve.name,
                "diverged": (curve.case, curve.seed) in diverged,
                "x": curve.x,
                "y": [None if math.isnan(value) else value for value in curve.y],
            }
            for curve in one.results.curves
        ],
    }


def _axes(name: str, figure: Curves) -> dict[str, Any]:
    return {
        "x": figure.x_label,
        "y": label(name, figure.y_label),
        "log_x": figure.log_x,
        "log_y": figure.log_y,
    }


def _text(one: Published) -> str:
    """Claim, setting and verdicts of a result, as HTML."""
    claim, *rest = (one.ablation.doc or "").strip().split("\n\n")
    about = [part for part in rest if not part.startswith("Command:")]
    sentences = [re.sub(r"\*(.+?)\*", r"<strong>\1</strong>", html.escape(text)) for text in one.sentences()]
    return "\n".join(
        [
            f'<article id="verdict-{one.key}">',
            f"<h3>{html.escape(one.key)}</h3>",
            f"<p><em>{html.escape(claim)}</em></p>",
            *(f"<p>{html.escape(part)}</p>" for part in about if one.variant == "default"),
            f"<p>{html.escape(one.content['title'])}. <code>{html.escape(command_of(one))}</code></p>",
            "<ul>",
            *(f"<li>{sentence}</li>" for sentence in sentences),
            "</ul>",
            f'<p><a href="#top" data-show="{one.key}">Show its curves</a></p>',
            "</article>",
        ]
    )


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(prog="python -m experiments.page", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/page.html"))
    out = parser.parse_args().out
    try:
        text = page(published())
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"Written to {out} ({out.stat().st_size / 2**20:.1f} MiB); open it in a browser")


if __name__ == "__main__":
    main()
