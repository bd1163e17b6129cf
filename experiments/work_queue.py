"""A queue of commands on a machine that is lent for minutes: it stops in time, and the next call goes on."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ("benchmarks/results", "experiments/results")
GRACE = 20.0
"""Seconds between asking a command to end and killing it. A run saves itself in them."""


@dataclasses.dataclass(frozen=True)
class Item:
    """Something to run.

    Attributes:
      name: of its files.
      command: words.
      least: seconds; with less time left it is not started.
      most: seconds; if it takes more, it has failed.
      continues: whether it goes on where it was stopped; if not, it is started again only if it then has more time.
      environment: further variables.
    """

    name: str
    command: Sequence[str]
    least: float = 60.0
    most: float = math.inf
    continues: bool = False
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def run_queue(items: Sequence[Item], out: Path, seconds: float, *, grace: float = GRACE, root: Path = ROOT) -> None:
    """Runs what is not done or failed, for so many seconds; results and queue.md go to `out`."""
    end = time.monotonic() + seconds - grace
    (out / "items").mkdir(parents=True, exist_ok=True)
    before = _sums(root)
    try:
        for item in items:
            known = state(item, out)
            left = end - time.monotonic()
            least = max(item.least, 0 if item.continues else 1.1 * known.get("given", 0))
            if known["state"] in ("done", "failed") or left < least:
                continue
            print(f"{item.name}: {shlex.join(item.command)}", flush=True)
            try:
                found = _run(item, out, left, grace, root, known.get("seconds", 0))
            finally:
                _copy_changed(root, before, out)
            _marker(item, out).write_text(json.dumps(found, indent=1) + "\n")
            print(f"{item.name}: {found['state']}, exit status {found['exit']}, {found['seconds']:.0f} s", flush=True)
    finally:
        (out / "queue.md").write_text(text(items, out))


def state(item: Item, out: Path) -> dict[str, Any]:
    """What is known of an item: "state" is "left", "stopped" (out of time), "done" or "failed"."""
    try:
        return json.loads(_marker(item, out).read_text())
    except (OSError, ValueError):
        return {"state": "left"}


def forget(item: Item, out: Path) -> None:
    """Makes an item one that is left."""
    _marker(item, out).unlink(missing_ok=True)


def text(items: Sequence[Item], out: Path) -> str:
    """The content of queue.md."""
    found = {item.name: state(item, out) for item in items}
    counts = {word: sum(known["state"] == word for known in found.values()) for word in ("done", "failed")}
    lines = [
        "# GPU queue",
        "",
        f"{counts['done']} done, {counts['failed']} failed, {len(items) - sum(counts.values())} left.",
        "",
        "| item | state | exit status | seconds | log | command |",
        "|:---|:---|---:|---:|:---|:---|",
    ]
    for item in items:
        known = found[item.name]
        log = f"[log](items/{item.name}.log)" if _log(item, out).exists() else "-"
        seconds = f"{known['seconds']:.0f}" if "seconds" in known else "-"
        status = known.get("exit", "-")
        lines.append(
            f"| {item.name} | {known['state']} | {status} | {seconds} | {log} | `{shlex.join(item.command)}` |"
        )
    return "\n".join(lines) + "\n"


def _run(item: Item, out: Path, limit: float, grace: float, root: Path, before: float) -> dict[str, Any]:
    """Runs an item for at most `limit` seconds; what its marker says."""
    start = time.monotonic()
    with _log(item, out).open("a") as log:
        process = subprocess.Popen(
            item.command,
            cwd=root,
            env={**os.environ, **item.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the processes that it starts end with it
        )
        stopped = False
        try:
            process.wait(min(limit, item.most))
        except subprocess.TimeoutExpired:
            stopped = limit < item.most
        finally:
            _end(process, grace)
    word = "done" if process.returncode == 0 else "stopped" if stopped else "failed"
    seconds = time.monotonic() - start
    return {
        "state": word,
        "exit": process.returncode,
        "seconds": round(before + seconds, 1),
        "given": round(limit, 1),
        "command": list(item.command),
    }


def _end(process: subprocess.Popen, grace: float) -> None:
    """Ends the process, and what it started and left behind."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _marker(item: Item, out: Path) -> Path:
    return out / "items" / f"{item.name}.json"


def _log(item: Item, out: Path) -> Path:
    return out / "items" / f"{item.name}.log"


def _sums(root: Path) -> dict[str, str]:
    """Check sums of the results in the tree."""
    return {
        f"{folder}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in RESULTS
        for path in (root / folder).glob("*.json")
    }


def _copy_changed(root: Path, before: Mapping[str, str], out: Path) -> None:
    for name, found in _sums(root).items():
        if before.get(name) != found:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, out / name)
