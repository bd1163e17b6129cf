"""Runs every case from every seed; what is finished already is not run again."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.ablation.case import Case
from experiments.ablation.measures import Work
from experiments.ablation.settings import UNIMPORTANT, BareSettings
from experiments.ablation.store import Finished, Store
from jaxdl import report
from jaxdl.arguments import require
from jaxdl.identity import describe
from jaxdl.progress import progress_bar

if TYPE_CHECKING:
    from experiments.ablation.ablation import Ablation

_FORM = "experiments.ablation"  # its own code does not make runs again
_VERSION = 1
"""Of what the form computes: to be raised when `train_and_test`, for example, gives other numbers than before."""

_BLOCK = 16  # cases whose compiled programs are kept until all of their seeds are run


class Sweep:
    """An experiment with settings, and the folder of its finished runs.

    Attributes:
      cases: what is compared.
      folder: OUT/<experiment>/<variant>-<hash of the settings>/.
    """

    def __init__(self, ablation: "Ablation", settings: BareSettings, variant: str):
        self._ablation, self.variant = ablation, variant
        self.settings: Any = settings
        self._sets = settings.sets()
        self.cases: Sequence[Case] = tuple(ablation.cases(settings, self._sets[0]))
        names = [case.name for case in self.cases]
        twice = {name for name in names if names.count(name) > 1}
        require(len(names) > 0, f"{ablation.name}: there are no cases")
        require(not twice, f"{ablation.name}: cases must have different names, got {', '.join(sorted(twice))} twice")
        self.folder = Path(settings.out) / ablation.name / f"{variant}-{_hash(important(settings))[:6]}"
        self._store = Store(self.folder)
        self._fingerprints = {case.name: self._fingerprint(case) for case in self.cases}

    def finished(self) -> list[Finished]:
        """The runs that are finished, of any process."""
        found = [
            self._store.load(case.name, seed, self._fingerprints[case.name])
            for case in self.cases
            for seed in range(self.settings.seeds)
        ]
        return [run for run in found if run is not None]

    @property
    def planned(self) -> int:
        """How many runs there are in all."""
        return len(self.cases) * self.settings.seeds

    def run(self, until: float | None = None) -> None:
        """Makes the runs that are not finished, and that no other process is making.

        Args:
          until: the `time.monotonic()` after which no run is started.
        """
        plan = [
            (case, seed)
            for start in range(0, len(self.cases), _BLOCK)
            for seed in range(self.settings.seeds)
            for case in self.cases[start : start + _BLOCK]
        ]
        total = sum(self._steps(case) for case, _ in plan)
        ready = {(run.case, run.seed) for run in self.finished()}
        done = sum(self._steps(case) for case, seed in plan if (case.name, seed) in ready)
        if ready:
            print(f"{len(ready)} of {len(plan)} runs are in {self.folder} already", flush=True)
        with progress_bar(self._ablation.name, total, done=done) as update:
            for case, seed in plan:
                if (case.name, seed) in ready:
                    continue
                if until is not None and time.monotonic() > until:
                    return
                with self._store.claimed(case.name, seed) as mine:
                    # Another process may have finished it in the meantime.
                    if mine and self._store.load(case.name, seed, self._fingerprints[case.name]) is None:
                        self._run(case, seed, lambda step, note, done=done: update(done + step, note))
                done += self._steps(case)
                update(done, "")

    def _run(self, case: Case, seed: int, update: Any) -> None:
        fingerprint = self._fingerprints[case.name]
        checkpoints = self._store.checkpoints(case.name, seed, fingerprint) if self.settings.checkpoints else None
        label = f"{case.name}, seed {seed}"
        work = Work(
            case,
            seed,
            self.settings,
            *self._sets,
            progress=lambda step, loss: update(step, f"{label}, loss {loss:.3f}"),
            checkpoint_dir=checkpoints,
        )
        update(0, label)
        start = time.perf_counter()
        found = self._ablation.measure(work)
        finished = Finished(
            case.name,
            seed,
            fingerprint,
            {name: float(value) for name, value in found.metrics.items()},
            {name: [list(map(float, x)), list(map(float, y))] for name, (x, y) in found.curves.items()},
            found.diverged,
            time.perf_counter() - start,
            report.environment(),
        )
        self._store.save(finished)
        if checkpoints is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(checkpoints)
        shown = [
            f"{name.replace('_', ' ')} {found.metrics[name]:.4g}"
            for name in self._ablation.table
            if name in found.metrics
        ]
        print(f"{label}: {found.diverged or ', '.join(shown) or 'finished'} ({finished.seconds:.0f} s)", flush=True)

    def _steps(self, case: Case) -> int:
        return case.steps or self.settings.steps

    def _fingerprint(self, case: Case) -> str:
        """A check sum of all that the result of a run depends on: settings, case, measure."""
        fields = {field.name: getattr(case, field.name) for field in dataclasses.fields(case) if field.name != "paper"}
        parts = [describe(part, known=[_FORM])[0] for part in (fields, self._ablation.measure)]
        return _hash([_VERSION, important(self.settings), *parts])


def important(settings: BareSettings) -> dict[str, str]:
    """The settings that change the result of a run, as text."""
    return {
        field.name: repr(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
        if field.name not in UNIMPORTANT
    }


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
