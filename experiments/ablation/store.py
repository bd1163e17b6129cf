"""The folder of a sweep: one file for each finished run. Several processes may share it."""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from experiments.ablation.rows import Curve, Results, Row
from jaxdl import report


class Finished(NamedTuple):
    """A finished run, as it lies in the folder."""

    case: str
    seed: int
    fingerprint: str  # of all that the result depends on; a run with another one is made again
    metrics: dict[str, float | None]
    curves: dict[str, list[list[float]]]
    diverged: str | None
    seconds: float  # of the whole run, with compilation
    environment: dict[str, Any]


class Store:
    """Finished runs in a folder.

    A process that makes a run holds a lock on it, which the system takes back when the process ends, however it ends.

    Args:
      folder: made if it is not there.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        for name in ("done", "locks"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def load(self, case: str, seed: int, fingerprint: str) -> Finished | None:
        """A finished run, or None if there is none, or only one of another fingerprint, or a damaged file."""
        try:
            found = Finished(**json.loads(self._path(case, seed).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return found if found.fingerprint == fingerprint else None

    def save(self, finished: Finished) -> None:
        """Writes a finished run, atomically."""
        report.write_json(self._path(finished.case, finished.seed), finished)

    @contextlib.contextmanager
    def claimed(self, case: str, seed: int) -> Iterator[bool]:
        """Whether this process may make the run: False if another one is making it."""
        lock = FileLock(self.folder / "locks" / f"{slug(case)}-{seed}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def checkpoints(self, case: str, seed: int, fingerprint: str) -> Path:
        """Where a run keeps its checkpoints."""
        return self.folder / "checkpoints" / f"{slug(case)}-{seed}-{fingerprint[:8]}"

    def _path(self, case: str, seed: int) -> Path:
        return self.folder / "done" / f"{slug(case)}-{seed}.json"


def slug(name: str) -> str:
    """A file name for a case; different for different cases.

    Example:
      >>> slug("ReLU, rate 0.1")
      'relu-rate-0.1-929edb'
    """
    words = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")[:60]
    return f"{words}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def results_of(cases: list[str], runs: list[Finished]) -> Results:
    """Rows and curves of finished runs, in the order of the cases and seeds."""
    order = {case: place for place, case in enumerate(cases)}
    runs = sorted(runs, key=lambda run: (order[run.case], run.seed))
    rows = [
        Row(run.case, run.seed, metric, math.nan if value is None or run.diverged else float(value))
        for run in runs
        for metric, value in run.metrics.items()
    ]
    curves = [
        Curve(run.case, run.seed, name, [float(v) for v in x], [math.nan if v is None else float(v) for v in y])
        for run in runs
        for name, (x, y) in run.curves.items()
    ]
    return Results(tuple(cases), rows, curves, {(r.case, r.seed): r.diverged for r in runs if r.diverged})
