"""Writes the result of an experiment as JSON, and a report in Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdl import report


def publish(
    folder: Path,
    *,
    doc: str,
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str,
    remarks: Sequence[str],
    pictures: Sequence[tuple[str, str]] = (),
    **content: Any,
) -> None:
    """Writes `result.json` and `report.md` into `folder`; prints the table, the remarks and where they are.

    Args:
      folder: `out/<experiment>/<time>/`.
      doc: the experiment's docstring: its first line is the claim.
      title: of the table: data, network, budget, seeds.
      header: of the table.
      rows: of the table.
      note: explains the numbers, below the table.
      remarks: conclusions from the numbers.
      pictures: for each picture a caption and its file name in `folder`.
      **content: further entries of the JSON: settings, runs.
    """
    environment = report.environment()
    name = folder.parent.name
    table = {"header": header, "rows": rows}
    content = {"experiment": name, "environment": environment, "table": table, "remarks": remarks, **content}
    report.write_json(folder / "result.json", content)
    claim, _, rest = doc.partition("\n")
    made = (
        f"{environment['date']}, {environment['processor']} ({environment['cores']} cores), {environment['device']}, "
        f"jax {environment['versions']['jax']}, commit {environment['commit']}, `{environment['command']}`"
    )
    shown = [f"![{what}]({file})" for what, file in pictures]
    parts = [f"# {claim}\n{rest}", f"## {title}", report.markdown_table(header, rows), note, *remarks, *shown, made]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    report.print_table(title, header, rows)
    files = ", ".join(["result.json", "report.md", *(file for _, file in pictures)])
    print("\n".join([*remarks, f"Written to {folder}: {files}"]))
