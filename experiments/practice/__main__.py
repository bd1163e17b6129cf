"""Takes the six steps of the training recipe on a data set, and writes a report on which one can act.

    python -m experiments.practice --data cifar10 --train-size 10000
    python -m experiments.practice --folder pictures

Data checks, initial loss, a few batches by heart, a learning rate, coarse and refining search, whole runs with their
diagnosis, a look inside: jaxdl.practice has each step as a function. Everything is decided by images held out of the
training set; the test set is only looked at for duplicates. The report is OUT/<name>/report.md, and page.html is the
same with its figures inside. advice.json holds the advice for programs. A run that was killed goes on with the same
command; searches and whole runs are not made again.
"""

import dataclasses
import sys
import time
from pathlib import Path

import tyro

from experiments.practice.advice import Net
from experiments.practice.document import Section, markdown, page
from experiments.practice.recipe import Budget, Recipe, environment
from experiments.practice.sets import Sets
from jaxdl import data, report


@dataclasses.dataclass(frozen=True)
class PracticeSettings(Sets):
    """What to practise on, with which net, for how long."""

    model: Net = "resnet8"
    """The net: models.resnet_cifar(8), or the faster models.convnet (the small CNN)."""
    batch_size: int = 128
    """Images in a batch."""
    seed: int = 0
    """Of everything that is drawn."""
    out: Path = Path("runs/practice")
    """Folder for the report."""
    publish: Path | None = None
    """Also write the advice to this file."""
    budget: Budget = dataclasses.field(default_factory=Budget)
    """How long the steps last."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the recipe; the exit status is 1 for a missing or unusable data set or folder, and 130 for Ctrl-C."""
    settings = tyro.cli(PracticeSettings, args=arguments, prog="python -m experiments.practice", description=__doc__)
    start = time.perf_counter()
    out = settings.out / settings.name
    try:
        recipe = Recipe(settings, settings.model, settings.batch_size, settings.seed, settings.budget, out, tell=_print)
    except (data.DatasetNotFoundError, FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    out.mkdir(parents=True, exist_ok=True)
    problem = ""
    try:
        recipe.run()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    except ValueError as error:
        problem = f"The recipe could not go on after {len(recipe.sections)} sections: {error}"
    write(settings, recipe, out, time.perf_counter() - start, problem)
    if problem:
        sys.exit(f"error: {problem}")


def write(settings: PracticeSettings, recipe: Recipe, out: Path, seconds: float, problem: str) -> None:
    """Writes the report, and the advice if there is one."""
    first = Section(
        "What to do", verdict=problem, serious=[text for section in recipe.sections for text in section.serious]
    )
    if not problem:
        advice, runs = recipe.best.advice, len(recipe.runs)
        verdict = (
            f"{advice.sentence()} Its error on held-out images is {recipe.best.error:.2f} %, the best of {runs} runs."
        )
        first = dataclasses.replace(first, verdict=verdict, code=advice.code(_load(settings), recipe.train_set))
        for path in (out / "advice.json", settings.publish):
            if path is not None:
                advice.save(path, environment(recipe, seconds))
    title = f"Practice: {settings.name}"
    lead = f"{len(recipe.train_set):,} images to train on, {len(recipe.held_out):,} held out, "
    lead += f"{recipe.train_set.num_classes} classes; {seconds / 60:.1f} minutes. {report.environment()['command']}"
    (out / "report.md").write_text(markdown(title, lead, [first, *recipe.sections]))
    (out / "page.html").write_text(page(title, lead, [first, *recipe.sections], out))
    print(f"\n{first.verdict}\nWritten to {out}: report.md, page.html{'' if problem else ', advice.json'}")


def _print(section: Section) -> None:
    """Says what a step found."""
    print(f"\n{section.title}\n{section.verdict}", flush=True)
    for text in (*section.serious, *section.notes):
        print(f"- {text}", flush=True)


def _load(settings: PracticeSettings) -> str:
    """Code that loads the whole sets."""
    given = {"data": settings.data, "data_dir": settings.data_dir, "pixels": settings.pixels}
    if settings.folder is not None:
        given = {"folder": settings.folder.expanduser().absolute(), "pixels": settings.pixels}
    given = {name: value for name, value in given.items() if value is not None}
    if set(given) == {"data"}:
        return f"train_set, test_set = data.load({settings.data!r})"
    words = [
        f"{name}={f'Path({str(value)!r})' if isinstance(value, Path) else repr(value)}" for name, value in given.items()
    ]
    lines = ["from pathlib import Path", "from experiments.practice.sets import Sets", ""]
    return "\n".join([*lines, f"train_set, test_set = Sets({', '.join(words)}).whole()"])


if __name__ == "__main__":
    main()
