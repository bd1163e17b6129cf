"""Runs the six steps on a data set; each gives a section of the report, and the last one the advice."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.practice.advice import Advice, Change, Net, net
from experiments.practice.document import Section
from experiments.practice.runs import Run, best_of, table_of, whole_run
from experiments.practice.sets import Sets
from jaxdl import optim, practice, report, train
from jaxdl.arguments import require

CHANGES: tuple[Change, ...] = ("flips", "crops", "crops and flips")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long the steps last. The default takes minutes."""

    range_test: int = 100
    """Updates of the learning-rate range test."""
    coarse_trials: int = 12
    """Trials of the coarse search."""
    coarse_steps: int = 100
    """Updates of each."""
    refine_trials: int = 6
    """Trials of the refining search; half of them stop after a quarter of it, half of the rest after a half."""
    refine_steps: int = 400
    """Updates of those that are not stopped."""
    steps: int = 750
    """Updates of the whole runs of step 6."""


@dataclasses.dataclass
class Recipe:
    """The six steps on one data set, in their order.

    Attributes:
      sets: where the images come from.
      model: "convnet" or "resnet8".
      batch_size: images in a batch.
      seed: of everything that is drawn.
      budget: how long the steps last.
      out: folder for figures, searches and checkpoints, so that the same command goes on after a kill.
      tell: called with each section when it is finished.
    """

    sets: Sets
    model: Net
    batch_size: int
    seed: int
    budget: Budget
    out: Path
    tell: Callable[[Section], None] = lambda section: None

    def __post_init__(self):
        self.train_set, self.held_out, self.test_set = self.sets.load(self.seed)
        require(
            self.batch_size <= len(self.train_set),
            f"--batch-size must be at most the {len(self.train_set)} training images, got {self.batch_size}",
        )
        self.net = net(self.model, self.train_set.num_classes)
        names = ("start", "range test", "rates", "coarse", "fine", "runs")
        self.keys = dict(zip(names, jax.random.split(jax.random.key(self.seed), 6), strict=True))
        self.runs: list[Run] = []
        self.sections: list[Section] = []
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        """Makes all steps; `best` is then the run that was best, and `sections` tell of all."""
        steps = (self.check_data, self.initial_loss, self.overfit, self.rates, self.searches, self.train)
        for step in (*steps, self.look_inside):
            start = time.perf_counter()
            step()
            self.seconds[step.__name__] = time.perf_counter() - start

    def check_data(self) -> None:
        """Before the first step: the data."""
        found = practice.check_data(self.train_set, self.test_set)
        about = (
            "Before a net is trained: class balance, duplicates, constant images, and whether labels fit the images."
        )
        self._add("Data", about, found)

    def initial_loss(self) -> None:
        """Step 1."""
        state = train.init_state(self.net, optim.sgd(0.0), self.keys["start"], self.train_set)
        found = practice.check_initial_loss(
            state, self.net, self.train_set, weight_decay=5e-4, batch_size=self.batch_size
        )
        before = practice.inspect(self.net, state, self.train_set)
        before.plot(self.out / "inspection_before.png")
        about = "The loss of the net before training, against that of a guess."
        section = self._section("Step 1: the initial loss", about, found)
        self._keep(
            dataclasses.replace(
                section,
                verdict=f"{section.verdict} {_words(before)}",
                serious=[*section.serious, *_texts(before, True)],
                notes=[*section.notes, *_texts(before, False)],
                figures=[("inspection_before.png", "Activations and gradients over depth before training.")],
            )
        )

    def overfit(self) -> None:
        """Step 2."""
        tx = optim.adam(1e-3)
        state = train.init_state(self.net, tx, self.keys["start"], self.train_set)
        found = practice.overfit_batch(state, self.net, tx, self.train_set, batch_size=min(32, self.batch_size))
        self._add(
            "Step 2: overfit a few batches",
            "Adam with rate 0.001 on a few batches. A net that cannot learn them by heart cannot learn the rest.",
            found,
            "overfit.png",
            "Loss and error on the few batches.",
        )

    def rates(self) -> None:
        """Step 3."""
        arguments: dict[str, Any] = {"batch_size": self.batch_size}
        found = practice.find_learning_rate(
            self.net, optim.momentum, self.train_set, self.keys["range test"], steps=self.budget.range_test, **arguments
        )
        side = practice.compare_rates(self.net, optim.momentum, self.train_set, self.keys["rates"], **arguments)
        # Where no rate lowers the loss in the range test, the best of the four is a place to begin.
        usable = [rate for rate in (found.suggestion, side.best) if np.isfinite(rate)]
        self.suggestion = usable[0] if usable else 1e-3
        self._add(
            "Step 3: a learning rate at which the loss falls",
            "SGD with momentum 0.9. The rate rises from update to update until the loss grows (range test).",
            found,
            "range_test.png",
            "The range test: loss against rate.",
        )
        self._add(
            "Step 3: rates side by side",
            "The same net from the same start, at four rates.",
            side,
            "rates.png",
            "Training loss at four rates.",
        )

    def searches(self) -> None:
        """Steps 4 and 5."""
        low, high = self.suggestion / 30, self.suggestion * 10
        common: dict[str, Any] = {"held_out": self.held_out, "batch_size": self.batch_size}
        budget = self.budget

        def constant(rate, weight_decay):
            return optim.momentum(rate, weight_decay=weight_decay)

        coarse = practice.coarse_search(
            self.net,
            constant,
            self.train_set,
            self.keys["coarse"],
            space={"rate": (low, high), "weight_decay": (1e-5, 1e-2)},
            trials=budget.coarse_trials,
            steps=budget.coarse_steps,
            folder=self.out / "coarse",
            **common,
        )
        self._add(
            "Step 4: coarse search",
            f"{budget.coarse_trials} pairs of rate and L2 weight decay, drawn at random, {budget.coarse_steps} updates "
            "each.",
            coarse,
            "coarse.png",
            "The trials of the coarse search.",
        )
        refined = practice.refine_search(
            self.net,
            constant,
            self.train_set,
            self.keys["fine"],
            around=coarse,
            trials=budget.refine_trials,
            steps=budget.refine_steps,
            folder=self.out / "refine",
            **common,
        )
        self.found = refined.best
        self._add(
            "Step 5: search around the best",
            f"{budget.refine_trials} pairs around the best ones, up to {budget.refine_steps} updates; the worse half "
            "stops at each rung.",
            refined,
            "refine.png",
            "The trials of the refining search.",
        )

    def train(self) -> None:
        """Step 6: whole runs, what is amiss with them, and what helps."""
        rate, decay = float(self.found["rate"]), float(self.found["weight_decay"])
        first = Advice(self.model, rate, decay, "none", self.budget.steps, self.batch_size)
        # Under a cosine the rate is lower most of the time than the constant one of the searches.
        runs = self._runs([first, dataclasses.replace(first, rate=3 * rate)])
        best = self._best(runs)
        runs += self._runs([dataclasses.replace(best.advice, augment=change) for change in CHANGES])
        best = self._best(runs)
        names = {finding.name for finding in best.diagnosis.findings}
        if names & {"overfitting", "large gap"}:
            remedy = dataclasses.replace(best.advice, weight_decay=5 * max(best.advice.weight_decay, 1e-4))
        else:
            remedy = dataclasses.replace(best.advice, steps=2 * best.advice.steps)
        runs += self._runs([remedy])
        self.runs, self.best = runs, self._best(runs)
        self.best.diagnosis.plot(self.out / "diagnosis.png")
        self._keep(
            Section(
                "Step 6: whole runs, and what their curves say",
                "The best rate under a cosine, and three times it; then changes of the images; then what the best "
                "run's curves ask for. Of the runs within one standard error of the least held-out error, the one with "
                "the least held-out loss is kept.",
                f"Held-out error {self.best.error:.2f} % (first run {runs[0].error:.2f} %). "
                f"{_words(self.best.diagnosis)}",
                _texts(self.best.diagnosis, True),
                _texts(self.best.diagnosis, False),
                [table_of(runs)],
                [("diagnosis.png", "The curves of the best run.")],
            )
        )

    def look_inside(self) -> None:
        """The trained net: layers, filters, mistakes."""
        variables = self.best.state.variables
        after = practice.inspect(self.net, variables, self.held_out)
        after.plot(self.out / "inspection_after.png")
        practice.filters(variables).plot(self.out / "filters.png")
        mistakes = practice.mistakes(self.net, variables, self.held_out)
        mistakes.plot(self.out / "confusion.png")
        pictures = []
        if len(mistakes.rows):
            mistakes.plot_images(self.out / "mistakes.png")
            pictures.append(("mistakes.png", "The most confident mistakes."))
        self._keep(
            Section(
                "Inside the trained net",
                "Layers, filters of the first layer, and the most confident mistakes on held-out images.",
                f"{_words(after)} {_words(mistakes)}",
                [*_texts(after, True), *_texts(mistakes, True)],
                [*_texts(after, False), *_texts(mistakes, False)],
                figures=[
                    ("inspection_after.png", "Activations and gradients over depth after training."),
                    ("filters.png", "Filters of the first layer."),
                    ("confusion.png", "What is taken for what."),
                    *pictures,
                ],
            )
        )

    def _runs(self, plans: Sequence[Advice]) -> list[Run]:
        return [
            whole_run(plan, self.net, self.train_set, self.held_out, self.keys["runs"], self.out / "runs" / plan.name)
            for plan in plans
        ]

    def _best(self, runs: Sequence[Run]) -> Run:
        return best_of(runs, len(self.held_out))

    def _add(self, title: str, about: str, found: Any, figure: str = "", caption: str = "") -> None:
        section = self._section(title, about, found)
        if figure:
            found.plot(self.out / figure)
            section = dataclasses.replace(section, figures=[(figure, caption)])
        self._keep(section)

    def _section(self, title: str, about: str, found: Any) -> Section:
        return Section(title, about, _words(found), _texts(found, True), _texts(found, False))

    def _keep(self, section: Section) -> None:
        self.sections.append(section)
        self.tell(section)


def _texts(found: Any, serious: bool) -> list[str]:
    return [str(finding) for finding in found.findings if finding.serious == serious]


def _words(found: Any) -> str:
    """The verdict without the findings, which the report lists."""
    return found.verdict.partition("\n- ")[0]


def environment(recipe: Recipe, seconds: float) -> dict[str, Any]:
    """Machine, versions, date, and how long the steps took."""
    return {
        "environment": report.environment(),
        "minutes": round(seconds / 60, 2),
        "seconds_by_step": {name: round(value, 1) for name, value in recipe.seconds.items()},
        "held_out_error": round(recipe.best.error, 3),
        "held_out_loss": round(recipe.best.loss, 4),
        "first_run_error": round(recipe.runs[0].error, 3) if np.isfinite(recipe.runs[0].error) else None,
    }
