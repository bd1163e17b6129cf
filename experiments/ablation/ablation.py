"""An experiment: a claim, the cases that decide it, and how they are compared and shown."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments.ablation import summary
from experiments.ablation.case import Case, Measured
from experiments.ablation.figures import Bars, Figure
from experiments.ablation.measures import Work, train_and_test
from experiments.ablation.rows import Results
from experiments.ablation.settings import BareSettings
from experiments.ablation.store import results_of
from experiments.ablation.sweep import Sweep
from experiments.ablation.verdict import Comparison
from jaxdl import data
from jaxdl.arguments import require


@dataclasses.dataclass(frozen=True)
class Ablation:
    """An experiment. `main` runs it from a command line; `python -m experiments.report` shows all results.

    Attributes:
      name: the module's: `python -m experiments.<name>`.
      doc: the module's docstring. Its first line is the claim in a sentence; "Paper: ..." gives the source.
      variants: settings by name: "default", "smoke" (seconds), "paper" (the published recipe).
      cases: function (settings, train_set) -> the cases.
      comparisons: what makes the verdict.
      measure: what is done in one run.
      table: the metrics in the table.
      figures: what is drawn.
      derive: function (cases, results) -> results with further rows, such as the best rate's of each case.
      note: what the table's numbers are, where their names do not say it.
      picture: function (sweep, results) that draws further pictures into the sweep's folder; returns their file names.
    """

    name: str
    doc: str | None
    variants: Mapping[str, BareSettings]
    cases: Callable[[Any, Any], Sequence[Case]]
    comparisons: Sequence[Comparison] = ()
    measure: Callable[[Work], Measured] = train_and_test
    table: Sequence[str] = ("test_error",)
    figures: Sequence[Figure] = (Bars("test_error"),)
    derive: Callable[[Sequence[Case], Results], Results] | None = None
    note: str = ""
    picture: Callable[[Sweep, Results], list[str]] | None = None

    def __post_init__(self):
        for name in ("default", "smoke"):
            require(name in self.variants, f"{self.name}: variants must have {name!r}, got {sorted(self.variants)}")
        require(bool(self.doc), f"{self.name}: doc must be the module's docstring; its first line is the claim")

    def results(self, sweep: Sweep) -> Results:
        """What the finished runs gave, with what is derived from it."""
        results = results_of([case.name for case in sweep.cases], sweep.finished())
        return self.derive(sweep.cases, results) if self.derive is not None else results

    def run(self, settings: BareSettings, variant: str, until: float | None = None) -> Sweep:
        """Makes the runs that are missing, and writes result and report, also if it is interrupted."""
        sweep = Sweep(self, settings, variant)
        print(
            f"{self.name}: {len(sweep.cases)} cases, {settings.seeds} seeds; results go to {sweep.folder}", flush=True
        )
        try:
            sweep.run(until)
        finally:
            if sweep.finished():
                summary.write(self, sweep)
        return sweep

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Runs the experiment with the settings of `--variant`, changed by the other flags, one for each setting.

        With `--publish` the result is also written to experiments/results/, for `python -m experiments.report`. The
        exit status is 2 for a wrong flag or value, 1 for a missing data set or file (both with a message), and 130 for
        Ctrl-C.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        chooser.add_argument("--variant", choices=self.variants, default="default")
        chooser.add_argument("--publish", action="store_true")
        chosen, rest = chooser.parse_known_args(arguments)
        doc = (
            f"{self.doc}\n\nSettings shown are those of --variant {chosen.variant}; there are "
            f"{', '.join(self.variants)}. --publish also writes the result to experiments/results/."
        )
        is_script = getattr(sys.modules["__main__"], "__spec__", None) is None
        program = f"python {Path(sys.argv[0]).name}" if is_script else f"python -m experiments.{self.name}"
        start = self.variants[chosen.variant]
        settings = tyro.cli(type(start), prog=program, default=start, args=rest, description=doc)
        try:
            sweep = self.run(settings, chosen.variant)
            if chosen.publish:
                print(f"Published as {summary.publish(self, sweep)}")
        except (data.DatasetNotFoundError, FileNotFoundError) as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            print(f"{program}: interrupted; the same command goes on where it stopped", file=sys.stderr)
            sys.exit(130)
