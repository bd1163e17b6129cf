"""Lists the experiments with their claims: `python -m experiments`."""

import ast
from pathlib import Path

from rich.console import Console
from rich.table import Table


def claims() -> dict[str, str]:
    """The first line of the docstring of each experiment, by module: those that define ABLATION."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text())
        targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
        if any(isinstance(target, ast.Name) and target.id == "ABLATION" for target in targets):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> None:
    """Prints the list."""
    table = Table("command", "claim", title="Experiments (add --help for settings)")
    for name, claim in claims().items():
        table.add_row(f"python -m experiments.{name}", claim)
    Console().print(table)


if __name__ == "__main__":
    main()
