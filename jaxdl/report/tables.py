"""Tables for people, in the terminal and in Markdown."""

from collections.abc import Sequence

from jaxdl.arguments import require


def check_table(function: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Raises `ValueError` unless all cells are text, and every row has as many as the header."""
    require(
        not isinstance(header, str) and len(header) > 0,
        f"{function}: header must be a list of column names, got {header!r}",
    )
    for number, row in enumerate([header, *rows]):
        where = f"row {number}" if number else "the header"
        require(
            not isinstance(row, str) and len(row) == len(header) and all(isinstance(cell, str) for cell in row),
            f"{function}: {where} must be {len(header)} strings, one for each column, got {row!r}",
        )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub-flavoured Markdown table; the first column to the left, the others to the right.

    Raises:
      ValueError: a row does not have as many cells as the header, or a cell is not a string.

    Example:
      >>> print(markdown_table(["rule", "error"], [["sgd", "15.1"]]))
      | rule | error |
      |:---|---:|
      | sgd | 15.1 |
    """
    check_table("markdown_table", header, rows)
    lines = [header, [":---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(
        "|" + "|".join(cells) + "|" if i == 1 else "| " + " | ".join(cells) + " |" for i, cells in enumerate(lines)
    )


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table to the terminal."""
    check_table("print_table", header, rows)
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
