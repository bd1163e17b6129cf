"""A report of sections with words, tables and figures, as Markdown and as a page that holds its figures."""

import base64
import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path

from jaxdl import report

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
img { max-width: 100%; } pre { background: #f4f4f4; padding: 0.8rem; overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; display: block; overflow-x: auto; }
td, th { padding: 0.2rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
.serious { border-left: 4px solid #c0392b; padding-left: 0.8rem; }
.note { border-left: 4px solid #d4a017; padding-left: 0.8rem; }
.about { color: #555; } nav a { margin-right: 1rem; }
"""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: header and rows of text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
      title: of the section.
      about: what was done, for a reader who does not know the step.
      verdict: what was found, with the numbers.
      serious: findings that need an answer before one goes on.
      notes: findings that are worth a look.
      tables: with numbers.
      figures: names of PNG files in the report's folder, with what each shows.
      code: a script to copy.
    """

    title: str
    about: str = ""
    verdict: str = ""
    serious: Sequence[str] = ()
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[tuple[str, str]] = ()
    code: str = ""


def markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The report as Markdown; figures are links to the files beside it."""
    parts = [f"# {title}", lead]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += [f"*{section.about}*"] if section.about else []
        parts += [section.verdict] if section.verdict else []
        listed = [f"- **{text}**" for text in section.serious] + [f"- {text}" for text in section.notes]
        parts += ["\n".join(listed)] if listed else []
        parts += [report.markdown_table(table.header, table.rows) for table in section.tables]
        parts += [f"```python\n{section.code}\n```"] if section.code else []
        parts += [f"![{caption}]({name})\n\n{caption}" for name, caption in section.figures]
    return "\n\n".join(parts) + "\n"


def page(title: str, lead: str, sections: Sequence[Section], folder: Path) -> str:
    """The report as one HTML page that needs no other file; the figures are read from the folder."""
    links = "".join(f'<a href="#s{i}">{html.escape(s.title)}</a>' for i, s in enumerate(sections))
    parts = [f"<h1>{html.escape(title)}</h1>", _paragraph(lead), f"<nav>{links}</nav>"]
    for number, section in enumerate(sections):
        parts.append(f'<h2 id="s{number}">{html.escape(section.title)}</h2>')
        parts += [_paragraph(section.about, "about")] if section.about else []
        parts += [_paragraph(section.verdict)] if section.verdict else []
        parts += [_paragraph(text, "serious") for text in section.serious]
        parts += [_paragraph(text, "note") for text in section.notes]
        parts += [_table(table) for table in section.tables]
        parts += [f"<pre>{html.escape(section.code)}</pre>"] if section.code else []
        for name, caption in section.figures:
            encoded = base64.b64encode((folder / name).read_bytes()).decode()
            image = f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{encoded}">'
            parts.append(f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>")
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n{body}\n'
        "</body></html>\n"
    )


def _paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{html.escape(text)}</p>"


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return f"<table><thead>{row(table.header, 'th')}</thead><tbody>{body}</tbody></table>"
