"""Ready watchers: they write the events of a run to files, print them, or end the run."""

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.arguments import check_integer, check_real, require, shown
from jaxdl.train.events import Ended, Evaluated, Event, RolledBack, Saved, Started, Stepped
from jaxdl.train.history import History


class EarlyStopping:
    """Ends a run whose evaluations have not improved for a while.

    It also counts the evaluations before a run was resumed. One object may watch a population, or several runs one
    after the other.

    Attributes:
      metric: the name of a metric of the evaluations, or "loss"; less is better.
      patience: evaluations in a row without a new best value before the run ends.
      least: a new best value must be lower than the old one by more than this.

    Raises:
      ValueError: an attribute is out of its range; or, from `fit` and `population`, there is no such metric.

    Reference: Prechelt, `Early Stopping - but when?`, 1998 (criterion UP, without its strips).
    """

    def __init__(self, metric: str = "error", *, patience: int = 5, least: float = 0.0):
        require(
            isinstance(metric, str) and bool(metric),
            f"EarlyStopping: metric must be a metric's name, got metric={shown(metric)}; pass "
            'EarlyStopping("error", patience=5) for example',
        )
        check_integer("EarlyStopping", "patience", patience, at_least=1)
        check_real("EarlyStopping", "least", least, at_least=0)
        self.metric, self.patience, self.least = metric, patience, least

    def __call__(self, event: Event) -> bool:
        """Whether to end the run."""
        return isinstance(event, Started | Evaluated) and self._waited(event.history) >= self.patience

    def check(self, names: Sequence[str]) -> None:
        """Raises `ValueError` unless the metric is one of those that a run has."""
        require(
            self.metric in names,
            f"EarlyStopping: there is no metric {self.metric!r} in the evaluations; there are {', '.join(names)}",
        )

    def _waited(self, history: History) -> int:
        """Evaluations since the best one."""
        values = history.eval_loss
        if self.metric != "loss" and len(history.eval_step):
            self.check(["loss", *history.eval_metrics])
            values = history.eval_metrics[self.metric]
        best, waited = np.inf, 0
        for value in values:
            waited = waited + 1 if not value < best - self.least else 0
            best = min(best, value)
        return waited


class JsonLines:
    """Writes a line of JSON for each update and each evaluation, during the run.

        {"event": "step", "step": 1, "loss": 2.31, "error": 0.9, "learning_rate": 0.1}
        {"event": "evaluation", "step": 78, "loss": 0.52, "error": 0.18, "seconds": 1.9}

    When a run is resumed or rolled back, the lines of updates that are made again are moved to a file beside it, PATH
    with ".taken_back" at its end; a new run moves the lines of an older one there. Numbers that are not finite are
    null. With several processes the first one writes.

    Attributes:
      path: the file; its folder must exist. For a population each line has its "member".

    Raises:
      ValueError: `path` is not a path, or its folder does not exist.
    """

    def __init__(self, path: str | os.PathLike):
        require(isinstance(path, str | os.PathLike), f"JsonLines: path must be a file's path, got path={shown(path)}")
        self.path = Path(path)
        require(
            self.path.parent.is_dir(),
            f"JsonLines: there is no folder {self.path.parent}; make it first, or use another",
        )
        require(not self.path.is_dir(), f"JsonLines: path={str(path)!r} is a folder; name a file in it")
        _check_writable("JsonLines", "path", self.path, self.path.parent)

    def __call__(self, event: Event) -> None:
        """Writes the numbers of an event."""
        if jax.process_index() != 0:
            return
        if isinstance(event, Started | RolledBack):
            self._keep_until(event.step, event.member)
        elif isinstance(event, Stepped | Evaluated):
            lines = [{k: v for k, v in line.items() if k != "member" or v is not None} for line in as_lines(event)]
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(line)}\n" for line in lines)

    def _keep_until(self, step: int, member: int | None) -> None:
        """Removes the lines after a step, and a line that a crash cut off."""
        if not self.path.exists():
            return
        kept, taken_back = [], []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found = json.loads(line)
                stays = found.get("member") != member or found.get("step", 0) <= step
            except (ValueError, AttributeError):
                stays = False
            (kept if stays else taken_back).append(line)
        if not taken_back:
            return
        with self.path.with_name(f"{self.path.name}.taken_back").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in taken_back)
        draft = self.path.with_name(f".{self.path.name}.new")
        draft.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        draft.replace(self.path)


class TensorBoard:
    """Writes scalars for TensorBoard: `tensorboard --logdir FOLDER` shows them.

    Tags are "train/loss", "train/learning_rate", "train/error" and so on for each update, "eval/loss", "eval/error" and
    so on for each evaluation. When a run is resumed or rolled back, TensorBoard drops the scalars of updates that are
    made again. Scalars are on the disk at each evaluation and each checkpoint, so a killed run that goes on from its
    checkpoint has all of them. With several processes the first one writes. It needs tensorboardX
    (`pip install "jaxdl[tensorboard]"`), not TensorFlow.

    Attributes:
      folder: where to write; it is made if it does not exist. Each member of a population has a folder of its own in
        it.

    Raises:
      ValueError: `folder` is not a path.
      ImportError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike):
        require(
            isinstance(folder, str | os.PathLike) and str(folder) != "",
            f"TensorBoard: folder must be a path, got folder={shown(folder)}",
        )
        there = next(place for place in (Path(folder).absolute(), *Path(folder).absolute().parents) if place.exists())
        require(
            there.is_dir(), f"TensorBoard: folder={str(folder)!r} must be a folder, got the file {there}; name another"
        )
        _check_writable("TensorBoard", "folder", Path(folder), there)
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise ImportError('TensorBoard: tensorboardX is missing; pip install "jaxdl[tensorboard]"') from error
        self.folder = Path(folder)
        self._files: dict[int | None, Any] = {}

    def __call__(self, event: Event) -> None:
        """Writes the numbers of an event."""
        if jax.process_index() != 0:
            return
        if isinstance(event, Started | RolledBack):
            self._close(event.member)
            folder = self.folder if event.member is None else self.folder / f"member_{event.member:04d}"
            self._files[event.member] = _new_scalar_file(folder, event.step + 1)
        elif isinstance(event, Stepped | Evaluated):
            group = "train" if isinstance(event, Stepped) else "eval"
            for line in as_lines(event):
                for name, value in line.items():
                    if name not in ("event", "step", "member", "seconds") and value is not None:
                        _write_scalar(self._files[event.member], f"{group}/{name}", value, line["step"])
        elif isinstance(event, Ended):
            self._close(event.member)
        if isinstance(event, Evaluated):
            self._files[event.member].flush()
        elif isinstance(event, Saved):  # one checkpoint holds all members of a population
            for file in self._files.values():
                file.flush()

    def _close(self, member: int | None) -> None:
        file = self._files.pop(member, None)
        if file is not None:
            file.close()


def _new_scalar_file(folder: Path, first_step: int) -> Any:
    """A new file of scalars; TensorBoard drops those of older files from `first_step` on.

    `tensorboardX.SummaryWriter` is not used: it names a file by the second, so that a second file within the same one
    replaces the first, and it writes in a thread, so that a flush does not reach what waits for it. TensorBoard reads
    the files in the order of their names.
    """
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

    folder.mkdir(parents=True, exist_ok=True)
    file = EventsWriter(str(folder / "events"), f".{time.time_ns()}.{os.getpid()}")
    file.write_event(Event(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START)))
    return file


def _write_scalar(file: Any, tag: str, value: float, step: int) -> None:
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.summary import scalar

    file.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))


def _check_writable(function: str, name: str, path: Path, folder: Path) -> None:
    """Raises `ValueError` if no file can be made in `folder`, or the one at `path` cannot be written to."""
    reason = "it is read-only" if path.is_file() and not os.access(path, os.W_OK) else ""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
    require(not reason, f"{function}: {name}={str(path)!r} cannot be written to: {reason}; name another")


def print_evaluations(event: Event) -> None:
    """A watcher that prints a line for each evaluation (with several processes, in the first one)."""
    if isinstance(event, Evaluated) and jax.process_index() == 0:
        values = {"loss": event.metrics.loss, **event.metrics.metrics}
        member = "" if event.member is None else f"member {event.member}, "
        print(f"{member}step {event.step:,}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))


def as_lines(event: Stepped | Evaluated) -> list[dict[str, Any]]:
    """The numbers of an event, one dict for each update or evaluation; numbers that are not finite are None."""
    found = event.metrics
    if isinstance(event, Evaluated):
        line = {"event": "evaluation", "step": event.step, "member": event.member, "loss": found.loss, **found.metrics}
        return [_finite({**line, "seconds": event.history.seconds})]
    columns: dict[str, Any] = {"loss": found.loss, **found.metrics, "learning_rate": found.learning_rate}
    if found.gradient_norm is not None:
        columns["gradient_norm"] = found.gradient_norm
    steps = range(event.step - len(found.loss) + 1, event.step + 1)
    return [
        _finite({"event": "step", "step": step, "member": event.member} | {name: v[i] for name, v in columns.items()})
        for i, step in enumerate(steps)
    ]


def _finite(line: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value):
        if value is None or isinstance(value, str | int):
            return value
        return float(value) if np.isfinite(value) else None

    return {name: plain(value) for name, value in line.items()}
