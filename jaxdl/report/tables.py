"""Tables for people, in the terminal and in Markdown."""

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub-flavoured Markdown table; the first column to the left, the others to the right.

    Example:
      >>> print(markdown_table(["rule", "error"], [["sgd", "15.1"]]))
      | rule | error |
      |:---|---:|
      | sgd | 15.1 |
    """
    lines = [header, [":---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(
        "|" + "|".join(cells) + "|" if i == 1 else "| " + " | ".join(cells) + " |" for i, cells in enumerate(lines)
    )


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
