"""Snapshots at the ends of learning-rate cycles make a better ensemble than one run of the same length is.

Claim: at equal cost, the mean prediction of the last m snapshots of a run with M cosine cycles has a lower test error
than a single model trained with one cycle, and than snapshots at equal distances of that one-cycle run ("no cycle").

Paper: Huang et al., Snapshot Ensembles: Train 1, get M for free, 2017 (arXiv 1704.00109), table 1: ResNet-110 on
CIFAR-10, 200 epochs, batch 64: single model 5.52 %, no-cycle snapshots 5.49 %, snapshot ensemble of 5 cycles 5.73 % at
peak rate 0.1 and 5.32 % at 0.2. Here: a small CNN on the bundled images, a few epochs a cycle, each kind at the rate
that is best on held-out training images (--variant rates); and with --variant cifar10 a ResNet of 8 layers on 10,000
images of CIFAR-10, shrunk to 16 pixels, with crops and flips, in cycles of 12 epochs. The paper's errors are shown for
their order, not their height. The paper's baseline steps its rate down at a half and three quarters; here it falls
along one cosine.

Command: python -m experiments.snapshot_ensembles
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import optax

from experiments.ablation import (
    Ablation,
    Bars,
    Case,
    Comparison,
    Curves,
    Measured,
    Results,
    Row,
    Settings,
    Work,
    crop_and_flip,
)
from experiments.ablation.case import grouped
from experiments.ablation.measures import curves_of, diverged, ensemble_scores
from experiments.ablation.rows import best_of
from experiments.paper import number
from jaxdl import models, optim, train
from jaxdl.arguments import check_integer, check_real, require

SCORES = {"no cycle": "error_of_1", "snapshots": "test_error"}
"""What chooses the rate: the error of the last weights, and of all snapshots together."""


@dataclasses.dataclass(frozen=True)
class SnapshotSettings(Settings):
    """Settings, network and cycles."""

    depth: int | None = None
    """Depth of a CIFAR ResNet, 6 n + 2; by default the small CNN."""
    cycles: int = 6
    """M: cycles of equal length in a run, and snapshots."""
    rate: float = 0.01
    """First learning rate of the run without cycles."""
    baseline: Literal["cosine", "steps"] = "cosine"
    """How it falls: along one cosine to 0, or to a tenth at a half and at three quarters of the run."""
    cycle_rate: float = 0.04
    """Peak learning rate of every cycle; falls to 0 along a cosine."""
    weight_decay: float = 5e-4
    """L2; the paper has 1e-4."""
    augment: bool = False
    """Random crops (an eighth of the side) and flips."""
    rate_grid: tuple[float, ...] = ()
    """If given: run both kinds at every rate of it instead."""

    def __post_init__(self):
        """Refuses what cannot be run."""
        super().__post_init__()
        check_integer("snapshot_ensembles", "cycles", self.cycles, at_least=1)
        require(self.steps >= self.cycles, f"--steps must be at least --cycles, got {self.steps} and {self.cycles}")
        for value in (self.rate, self.cycle_rate, self.weight_decay, *self.rate_grid):
            check_real("snapshot_ensembles", "rates and weight_decay", value, at_least=0)


def cases(settings: SnapshotSettings, train_set) -> list[Case]:
    """Both kinds at their rate, or at every rate of the grid."""
    if settings.depth is None:
        model = models.convnet(train_set.num_classes)
    else:
        model = models.resnet_cifar(settings.depth, train_set.num_classes)
    period = settings.steps // settings.cycles
    table = {"paper": "Snapshot Ensembles", "dataset": "CIFAR-10", "model": "ResNet-110"}
    papers = {
        "no cycle": {
            "error_of_1": number(**table, setting="Single model"),
            "test_error": number(**table, setting="NoCycle"),
        },
        "snapshots": {"test_error": number(**table, setting="a0=0.2")},
    }
    return [
        Case(
            f"{kind}, rate {rate:g}" if settings.rate_grid else kind,
            model,
            chain(kind, rate, settings, period),
            steps=settings.cycles * period,
            augment=crop_and_flip(train_set) if settings.augment else None,
            fit={"eval_every": period},
            facts={"kind": kind, "rate": rate},
            paper=papers[kind],
        )
        for kind, peak in (("no cycle", settings.rate), ("snapshots", settings.cycle_rate))
        for rate in settings.rate_grid or (peak,)
    ]


def chain(kind: str, peak: float, settings: SnapshotSettings, period: int) -> optax.GradientTransformation:
    """Nesterov's momentum with L2, without cycles or with, and a snapshot after every period."""
    steps = settings.cycles * period
    if kind == "snapshots":
        rate = optim.cosine_cycles(peak, period=period)
    elif settings.baseline == "cosine":
        rate = optim.cosine_decay(peak, steps)
    else:
        rate = optim.step_decay(peak, (steps // 2, 3 * steps // 4))
    return optax.chain(
        optim.nesterov(rate, weight_decay=settings.weight_decay), optim.snapshots(period=period, keep=settings.cycles)
    )


def measure(work: Work) -> Measured:
    """Trains, and scores the snapshots."""
    try:
        state, history = work.fit(work.start())
    except train.NonFiniteLossError as error:
        return Measured({}, curves_of(error.history), diverged(error))
    found = ensemble_scores(work.model, optim.snapshot_variables(state.opt_state), work.test_set)
    return found.add({}, curves_of(history))


def with_single_model(cases: Sequence[Case], results: Results) -> Results:
    """Adds each kind at its best rate, if there are several, and the last weights of the run without cycles."""
    for kind, names in grouped(cases, "kind").items():
        if kind not in names:
            results = results.copied(best_of(results, {kind: names}, SCORES[kind]))
    errors = results.values("error_of_1", "no cycle")
    rows = [Row("single model", seed, "test_error", error) for seed, error in errors.items()]
    return dataclasses.replace(results.with_rows(rows, ("single model",)), listed=results.cases)


ABLATION = Ablation(
    "snapshot_ensembles",
    __doc__,
    variants={
        "default": SnapshotSettings(data="fashion_mini", seeds=5, steps=6 * 4 * 156, batch_size=64),
        "cifar10": SnapshotSettings(
            seeds=5,
            train_size=10_000,
            pixels=16,
            depth=8,
            cycles=4,
            steps=4 * 12 * 78,
            rate=0.2,
            cycle_rate=0.2,
            augment=True,
        ),
        "paper": SnapshotSettings(
            seeds=1,
            depth=110,
            cycles=5,
            steps=5 * 40 * 781,
            batch_size=64,
            rate=0.1,
            baseline="steps",
            cycle_rate=0.2,
            weight_decay=1e-4,
            augment=True,
        ),
        "rates": SnapshotSettings(
            data="fashion_mini",
            seeds=2,
            steps=6 * 4 * 125,
            batch_size=64,
            held_out=0.2,
            rate_grid=(0.005, 0.01, 0.02, 0.04, 0.08),
        ),
        "smoke": SnapshotSettings(data="fashion_mini", seeds=2, cycles=2, steps=8, batch_size=32, train_size=128),
    },
    cases=cases,
    measure=measure,
    derive=with_single_model,
    comparisons=[
        Comparison(
            "the ensemble of all snapshots has a lower test error than a single model of the same cost",
            "test_error",
            better="snapshots",
            worse="single model",
        ),
        Comparison(
            "the ensemble of all snapshots has a lower test error than that of a run without cycles",
            "test_error",
            better="snapshots",
            worse="no cycle",
        ),
    ],
    table=(*(f"error_of_{m}" for m in range(1, 10)), "test_error", "disagreement"),
    figures=(
        Curves("error_of_members", "The last m snapshots", "test error (%)", "members m", cases=tuple(SCORES)),
        Bars("test_error", cases=("single model", *SCORES)),
    ),
    note="Error of m: of the last m snapshots together, in percent; test error: of all. A single model as costly is "
    "the last snapshot of the run without cycles, its error of 1. Disagreement: percent of the images that two "
    "snapshots name differently. Paper: ResNet-110 on CIFAR-10.",
)

if __name__ == "__main__":
    ABLATION.main()
