"""Runs all experiments, one after the other. What is finished already is not run again.

    python -m experiments.all --publish
    python -m experiments.all --variant paper --only alexnet_activations --minutes 30 --checkpoints

An experiment that fails does not stop the others.
"""

import argparse
import dataclasses
import json
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.ablation import Ablation, summary
from experiments.ablation.sweep import Sweep
from experiments.published import ablations


@dataclasses.dataclass(frozen=True)
class Left:
    """What is left of an experiment.

    Attributes:
      finished: runs.
      planned: runs in all, or None if that is not known, as its cases or its data could not be made.
      minutes: for the runs that are not finished, from the mean of those that are; None if there are none.
      error: the last line of the traceback, if it failed.
    """

    finished: int = 0
    planned: int | None = None
    minutes: float | None = None
    error: str = ""

    def __str__(self) -> str:
        if self.planned is None:
            return f"failed: {self.error}"
        missing = self.planned - self.finished
        text = f"{self.finished} of {self.planned} runs finished"
        if missing:
            text += f", {missing} left" + (f" (about {self.minutes:.0f} minutes)" if self.minutes is not None else "")
        return text + (f"; failed: {self.error}" if self.error else "")


def cheapest_first(known: Mapping[str, Ablation], variant: str) -> list[str]:
    """The names of the experiments that have the variant, by the minutes of the committed results; others come last."""
    minutes = {}
    for name in known:
        path = summary.RESULTS / f"{summary.key_of(name, variant)}.json"
        if path.is_file():
            minutes[name] = json.loads(path.read_text()).get("minutes") or math.inf
    names = [name for name, ablation in known.items() if variant in ablation.variants]
    return sorted(names, key=lambda name: (minutes.get(name, math.inf), name))


def run(ablation: Ablation, settings: Any, variant: str, *, until: float | None, publish: bool) -> Left:
    """Runs one experiment; an error does not end the program, but is told."""
    sweep, error = None, ""
    try:
        sweep = ablation.run(settings, variant, until)
        if publish and len(sweep.finished()) == sweep.planned:
            print(f"Published as {summary.publish(ablation, sweep)}")
    except Exception as exception:
        error = last_line(exception)
        print(f"{ablation.name} failed: {error}", file=sys.stderr, flush=True)
    try:
        return left_of(sweep or Sweep(ablation, settings, variant), error)
    except Exception as exception:  # without its data, say
        return Left(error=error or last_line(exception))


def last_line(exception: Exception) -> str:
    """The end of its traceback: type and message, in one line."""
    return " ".join(traceback.format_exception_only(exception)[-1].split())


def left_of(sweep: Sweep, error: str = "") -> Left:
    """What is left of a sweep."""
    finished = sweep.finished()
    mean = sum(run.seconds for run in finished) / len(finished) / 60 if finished else None
    minutes = mean * (sweep.planned - len(finished)) if mean is not None else None
    return Left(len(finished), sweep.planned, minutes, error)


def main(arguments: Sequence[str] | None = None, find: Callable[[], Mapping[str, Ablation]] = ablations) -> None:
    """Runs what is asked for. The exit status is 1 if an experiment failed, 2 for a wrong flag, and 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m experiments.all", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--variant", default="default", help="of the settings: default, smoke, paper, ...")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these experiments, in this order")
    parser.add_argument("--minutes", type=float, help="start no run later than so many minutes from now")
    parser.add_argument("--publish", action="store_true", help="write complete results to experiments/results/")
    parser.add_argument("--checkpoints", action="store_true", help="a run that was killed continues in its middle")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where the runs are kept (default: runs)")
    asked = parser.parse_args(arguments)
    until = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes
    known = find()
    able = cheapest_first(known, asked.variant)
    for name in asked.only or ():
        if name not in able:
            what = f"has no variant {asked.variant!r}" if name in known else "is not an experiment of the form"
            parser.error(f"--only: {name} {what}; there are {', '.join(able) or 'none'}")
    found: dict[str, Left] = {}
    try:
        for name in asked.only or able:
            settings = dataclasses.replace(known[name].variants[asked.variant], out=asked.out)
            if asked.checkpoints and any(field.name == "checkpoints" for field in dataclasses.fields(settings)):
                settings = dataclasses.replace(settings, checkpoints=True)
            found[name] = run(known[name], settings, asked.variant, until=until, publish=asked.publish)
    except KeyboardInterrupt:
        print("python -m experiments.all: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    finally:
        lines = [f"  {name}: {found.get(name, 'not finished')}" for name in asked.only or able]
        print("\n".join(["", f"Variant {asked.variant}:", *lines]), flush=True)
    if any(left.error for left in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is finished is written and told
    main()
