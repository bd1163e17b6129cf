"""What the README says to do works, and CI does the same."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = dict(re.findall(r"```(python|bash)\n(.*?)```", README, re.DOTALL))


def test_ci_calls_the_second_command():
    run_it, test_it = BLOCKS["bash"].strip().splitlines()
    assert run_it == "pip install -c constraints.txt -e . && python -m experiments.optimizers"
    assert test_it == 'pip install -c constraints.txt -e ".[test]" && python -m pytest'
    assert test_it in (ROOT / ".ci/run").read_text().splitlines()


def test_script(tmp_path):
    script = BLOCKS["python"]
    assert len([line for line in script.splitlines() if line.strip()]) <= 15
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    together = [float(line.split()[1]) for line in done.stdout.splitlines()[-3:]]
    assert together[2] < 20  # % of the test images, three members


def test_links_to_files_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) > 3
    for link in links:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize(
    "path",
    sorted(ROOT.glob("experiments/results/*.json")) + sorted(ROOT.glob("benchmarks/results/*.json")),
    ids=lambda p: p.stem,
)
def test_committed_results_say_where_they_come_from(path):
    text = path.read_text()
    for part in ('"environment"', '"date"', '"command"', '"commit"', '"versions"', '"processor"'):
        assert part in text


def test_tables_are_those_of_the_committed_results():
    text = (ROOT / "experiments/README.md").read_text()
    for path in ROOT.glob("experiments/results/*.json"):
        for row in json.loads(path.read_text()).get("table", {"rows": []})["rows"]:
            assert "| " + " | ".join(row) + " |" in text, (path, row)


def test_results_table_is_that_of_the_committed_results():
    text = (ROOT / "experiments/README.md").read_text()
    for path in ROOT.glob("experiments/results/optimizers*.json"):
        for entry in json.loads(path.read_text())["summary"]:
            error = f"{entry['test_error_percent']:.2f} ± {entry['test_error_std']:.2f}"
            assert error in text, (path, entry["optimizer"])
