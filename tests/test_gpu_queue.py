"""The queue for a GPU stops in time, goes on in the next call, and tells what is done, failed and left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import gpu_queue
from experiments.published import ablations
from experiments.work_queue import Item, run_queue, state

ROOT = Path(__file__).parents[1]
COUNT = """
import pathlib, sys, time
path = pathlib.Path("counted")
number = int(path.read_text()) if path.exists() else 0
while number < 30:
    time.sleep(0.05)
    number += 1
    pathlib.Path("draft").write_text(str(number))
    pathlib.Path("draft").replace(path)
print("counted to", number)
"""


def item(name, code, **changes):
    return Item(name, [sys.executable, "-c", code], **{"least": 0.2, **changes})


def states(items, out):
    return [state(one, out)["state"] for one in items]


@pytest.fixture
def tree(tmp_path):
    """A repository with results."""
    for folder in ("benchmarks/results", "experiments/results"):
        (tmp_path / "tree" / folder).mkdir(parents=True)
    (tmp_path / "tree/benchmarks/results/old.json").write_text("{}")
    (tmp_path / "tree/benchmarks/results/step.json").write_text("{}")
    return tmp_path / "tree"


def run(items, tmp_path, seconds=20.0):
    run_queue(items, tmp_path / "out", seconds, grace=1.0, root=tmp_path / "tree")


def test_a_failing_item_does_not_stop_the_queue_and_none_is_run_twice(tree, tmp_path):
    again = "open('log', 'a').write('{} ')"
    items = [
        item("bad", f"print('so it is'); {again.format('bad')}; raise SystemExit(3)"),
        item("good", f"{again.format('good')}; open('benchmarks/results/step.json', 'w').write('[1]')"),
        item("new", "open('experiments/results/new.json', 'w').write('[2]'); print(__import__('os').environ['WITH'])"),
    ]
    items[2] = Item("new", items[2].command, 0.2, environment={"WITH": "a variable"})
    run(items, tmp_path)
    out = tmp_path / "out"
    assert states(items, out) == ["failed", "done", "done"]
    assert state(items[0], out)["exit"] == 3
    assert "so it is" in (out / "items/bad.log").read_text()
    assert "a variable" in (out / "items/new.log").read_text()
    copied = {path.relative_to(out).as_posix(): path.read_text() for path in out.glob("*/results/*.json")}
    assert copied == {"benchmarks/results/step.json": "[1]", "experiments/results/new.json": "[2]"}
    summary = (out / "queue.md").read_text()
    assert "2 done, 1 failed, 0 left." in summary
    assert "| bad | failed | 3 |" in summary
    run(items, tmp_path)
    assert (tree / "log").read_text() == "bad good "


def test_stops_in_time_and_continues(tree, tmp_path):
    items = [
        item("counts", COUNT, continues=True),
        item("long", "pass", least=100.0),
        item("whole", "import time; time.sleep(0.1)"),
    ]
    out = tmp_path / "out"
    start = time.monotonic()
    run(items, tmp_path, seconds=2.2)  # of which one is the grace
    assert time.monotonic() - start < 2.2
    assert states(items, out) == ["stopped", "left", "left"]
    assert state(items[0], out)["exit"] == -signal.SIGTERM
    so_far = int((tree / "counted").read_text())
    assert 0 < so_far < 30
    run(items, tmp_path)
    assert states(items, out) == ["done", "left", "done"]
    assert (tree / "counted").read_text() == "30"
    assert "2 done, 0 failed, 1 left." in (out / "queue.md").read_text()


def test_what_begins_anew_is_started_again_only_with_more_time(tree, tmp_path):
    items = [item("whole", "import time; open('log', 'a').write('x'); time.sleep(1.5)")]
    for _ in range(2):
        run(items, tmp_path, seconds=2.0)
    assert (tree / "log").read_text() == "x"
    run(items, tmp_path, seconds=10)
    assert (tree / "log").read_text() == "xx"
    assert states(items, tmp_path / "out") == ["done"]


def test_what_hangs_has_failed(tree, tmp_path):
    items = [item("hangs", "import time; time.sleep(60)", most=0.3), item("next", "pass")]
    run(items, tmp_path)
    assert states(items, tmp_path / "out") == ["failed", "done"]


def test_what_ignores_sigterm_is_killed_with_its_children(tree, tmp_path):
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("pid", "w").write(str(child.pid))
time.sleep(60)
"""
    items = [item("stubborn", code)]
    start = time.monotonic()
    run(items, tmp_path, seconds=2.0)
    assert time.monotonic() - start < 3.5
    assert state(items[0], tmp_path / "out")["exit"] == -signal.SIGKILL
    for _ in range(100):  # it may be a zombie until it is reaped
        status = Path(f"/proc/{(tree / 'pid').read_text()}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child still runs")


def test_a_queue_that_is_ended_ends_its_item_and_writes_what_it_knows(tree, tmp_path):
    code = f"""
import signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from experiments.work_queue import Item, run_queue
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
code = "import os, time; open('pid', 'w').write(f'{{os.getpid()}} '); time.sleep(60)"
item = Item("sleeps", [sys.executable, "-c", code], 0)
run_queue([item], Path({str(tmp_path / "out")!r}), 60, grace=1.0, root=Path("."))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tree)
    path = tree / "pid"
    while not (path.exists() and path.read_text().endswith(" ")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)
    assert "0 done, 0 failed, 1 left." in (tmp_path / "out/queue.md").read_text()


def test_a_damaged_marker_counts_as_none(tree, tmp_path):
    items = [item("good", "pass")]
    (tmp_path / "out/items").mkdir(parents=True)
    (tmp_path / "out/items/good.json").write_text("{")
    run(items, tmp_path)
    assert json.loads((tmp_path / "out/items/good.json").read_text())["state"] == "done"


def test_the_queue_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_queue, "with_paper_variant", lambda: ["alexnet_activations"])
    items = gpu_queue.queue(tmp_path)
    assert len({one.name for one in items}) == len(items)
    for one in items:
        words = list(one.command)
        if "pytest" in words:
            assert (ROOT / words[-1]).is_file()
        else:
            module = words[words.index("-m") + 1]
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert [one.name for one in items if one.continues] == ["paper_alexnet_activations"]
    gpu_queue.main(["--out", str(tmp_path), "--list"])
    assert "| paper_alexnet_activations | left |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu_queue.main(["--out", str(tmp_path), "--only", "nothing"])
    assert "there is no item 'nothing'; there are test_layers," in capsys.readouterr().err


@pytest.mark.slow
def test_papers_variants_are_found():
    assert gpu_queue.with_paper_variant() == [name for name, one in ablations().items() if "paper" in one.variants]
