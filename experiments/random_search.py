"""Random search finds better hyperparameters than a grid of the same cost, since few of them matter.

Claim: with 9 trials, random draws of rate and decay in their ranges find a lower error than a 3 x 3 grid, because 9
values of the important one (the rate) are tried and not 3.

Paper: Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13, 2012, fig. 1 and sec. 4. Here: a
small network on images shrunk to 16 pixels; peak rate from 0.001 to 1, weight decay from 1e-6 to 1e-3, both in
logarithmic scale. For each seed the trial with the least error on one half of held-out images is chosen, and its error
on the other half counts: choosing by few images favours lucky trials.

Command: python -m experiments.random_search
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import optax

from experiments.ablation import (
    Ablation,
    Bars,
    Case,
    Comparison,
    Measured,
    Results,
    Row,
    Scatter,
    Settings,
    Work,
    train_and_test,
)
from experiments.ablation.case import grouped
from jaxdl import models, optim, train

KINDS = ("grid", "random")


@dataclasses.dataclass(frozen=True)
class SearchSettings(Settings):
    """Settings, and the ranges."""

    trials: int = 9
    """Trials of each search, a square number."""
    rates: tuple[float, float] = (0.001, 1.0)
    """Least and greatest peak rate."""
    decays: tuple[float, float] = (1e-6, 1e-3)
    """Least and greatest L2."""


def cases(settings: SearchSettings, train_set) -> list[Case]:
    """The trials of both searches; a case is the n-th trial, and draws its numbers from its seed."""
    model = models.convnet(train_set.num_classes)

    def make(peak, decay):
        return optim.momentum(optim.cosine_decay(peak, settings.steps), weight_decay=decay)

    tx = optax.inject_hyperparams(make)(peak=0.1, decay=1e-4)
    return [
        Case(f"{kind}, trial {trial}", model, tx, facts={"search": kind, "trial": trial})
        for kind in KINDS
        for trial in range(settings.trials)
    ]


def point(settings: SearchSettings, search: str, trial: int, seed: int) -> tuple[float, float]:
    """Rate and decay of a trial. The grid has the middles of equal parts of the ranges, and is moved with the seed.

    A grid's luck is where it lies: each seed moves it by up to half of a part, so the mean over seeds is over grids.
    """
    side = round(settings.trials**0.5)
    generator = np.random.default_rng([seed, 1])
    if search == "grid":
        shift = generator.uniform(-0.5, 0.5, 2)
        places = (np.array([trial % side, trial // side]) + 0.5 + shift) / side
    else:
        places = generator.uniform(size=(settings.trials, 2))[trial]
    ends = np.log([settings.rates, settings.decays])
    rate, decay = np.exp(ends[:, 0] + places * (ends[:, 1] - ends[:, 0]))
    return float(rate), float(decay)


def measure(work: Work) -> Measured:
    """Trains with the trial's numbers; errors on the two halves of the held-out images."""
    assert isinstance(work.settings, SearchSettings)
    rate, decay = point(work.settings, work.case.facts["search"], work.case.facts["trial"], work.seed)
    found = train_and_test(work, train.set_hyperparams(work.start(), peak=rate, decay=decay))
    errors = {"choosing_error": 90.0, "error": 90.0}  # of a run that diverged: it is never chosen
    if found.state is not None:
        half = len(work.test_set) // 2
        for name, part in (("choosing_error", work.test_set[:half]), ("error", work.test_set[half:])):
            tested = train.evaluate(work.model, found.state, part, preprocess=work.train_set.standardize)
            errors[name] = 100 * tested.error
    return Measured({**errors, "rate": rate, "decay": decay})


def searches(cases: Sequence[Case], results: Results) -> Results:
    """Further rows: for each search and seed the chosen trial's error, rate and decay."""
    rows = []
    for kind, mine in grouped(cases, "search").items():
        choosing = {name: results.values("choosing_error", name) for name in mine}
        for seed in sorted({seed for found in choosing.values() for seed in found}):
            if all(seed in found for found in choosing.values()):
                chosen = min(mine, key=lambda name, seed=seed: choosing[name][seed])
                rows += [
                    Row(kind, seed, metric, results.values(metric, chosen)[seed])
                    for metric in ("error", "rate", "decay")
                ]
    return dataclasses.replace(results.with_rows(rows, KINDS), listed=KINDS)


ABLATION = Ablation(
    "random_search",
    __doc__,
    variants={
        "default": SearchSettings(seeds=20, train_size=6000, pixels=16, steps=150, held_out=0.33),
        "smoke": SearchSettings(
            data="fashion_mini", seeds=2, steps=3, batch_size=16, train_size=96, held_out=0.5, trials=4
        ),
        "paper": SearchSettings(seeds=20, steps=3900, held_out=0.2, trials=16),
    },
    cases=cases,
    measure=measure,
    derive=searches,
    comparisons=[
        Comparison(
            "random search finds a lower error than a grid of equal cost", "error", better="random", worse="grid"
        )
    ],
    table=("error", "rate", "decay"),
    figures=(
        Bars("error", cases=KINDS),
        Scatter("rate", "error", "search", "The important parameter", log_x=True),
        Scatter("decay", "error", "search", "The unimportant one", log_x=True),
    ),
    note="Error of the chosen trial on held-out images that did not choose it.",
)

if __name__ == "__main__":
    ABLATION.main()
