"""The papers' numbers, from `paper_targets.json`: published tables, each number marked by how far it was verified."""

import functools
import json
from pathlib import Path
from typing import Any

from experiments.ablation import Paper
from jaxdl.arguments import require


@functools.cache
def _targets() -> list[dict[str, Any]]:
    return json.loads(Path(__file__).with_name("paper_targets.json").read_text())


def number(**where: Any) -> Paper:
    """The number of the one entry that fits.

    Args:
      **where: parts of the entry's texts ("paper", "table", "model", "setting", "metric"); "dataset" and other values
        must be equal.

    Raises:
      ValueError: no entry or more than one fits.

    Example:
      >>> number(paper="AlexNet, 2012", setting="LRN on vs off", metric="top1").value
      1.4
    """

    def fits(entry: dict[str, Any]) -> bool:
        return all(
            isinstance(entry.get(name), str) and value in entry[name]
            if isinstance(value, str) and name != "dataset"
            else entry.get(name) == value
            for name, value in where.items()
        )

    found = [entry for entry in _targets() if fits(entry)]
    texts = [f"{entry['paper']}, {entry['table']}, {entry['model']}, {entry['setting']}" for entry in found]
    require(
        len(found) == 1,
        f"number: one entry of paper_targets.json must fit {where}, got {len(found)}"
        + (f": {'; '.join(texts[:4])}" if texts else ""),
    )
    (entry,) = found
    mark = "" if entry["verified"] else " (not verified)"
    return Paper(float(entry["value"]), entry.get("std"), f"{texts[0]}{mark}")


def difference(worse: Paper, better: Paper) -> Paper:
    """The paper's worse number less its better one.

    Example:
      >>> table = {"paper": "Deep Residual", "table": "Table 6", "metric": "test_error_pct"}
      >>> round(difference(number(**table, model="ResNet-20"), number(**table, model="ResNet-56")).value, 2)
      1.78
    """
    return Paper(round(worse.value - better.value, 6), None, f"{worse.where} less {better.where}")
