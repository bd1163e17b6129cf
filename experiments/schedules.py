"""A rate that falls ends lower than a constant one; which way it falls matters less.

Claim: with tuned peak rates and the same budget every decaying schedule (steps, exponential, 1/t, plateau, cosine,
warm-up cosine, one-cycle) ends with less test error than a constant rate; a cosine is at least as good as steps.

Papers: Loshchilov and Hutter, SGDR, 2017 (arXiv 1608.03983), table 1: WRN-28-10 on CIFAR-10, 4.24 % with steps, 3.86 %
with one cosine (T_0 = 200). Smith and Topin, Super-Convergence, 2018 (arXiv 1708.07120): one-cycle. Here: a ResNet of 8
layers, a few epochs, images shrunk to 16 pixels. The peak rates are the best of three
for each schedule, by the error on held-out training images (--variant rates).

Command: python -m experiments.schedules
"""

import dataclasses
from collections.abc import Sequence

import optax

from experiments.ablation import Ablation, Bars, Case, Comparison, Curves, Results, Row, Settings, crop_and_flip
from experiments.ablation.case import grouped
from experiments.ablation.rows import best_of
from jaxdl import models, optim

GRID = (0.05, 0.2, 0.8)
RATES = {
    "constant": 0.05,
    "steps": 0.2,
    "exponential": 0.2,
    "1/t": 0.2,
    "plateau": 0.2,
    "cosine": 0.2,
    "cosine cycles": 0.2,
    "warm-up cosine": 0.2,
    "one-cycle": 0.8,
}
"""Peak rates: the best of the grid on held-out training images."""


@dataclasses.dataclass(frozen=True)
class ScheduleSettings(Settings):
    """Settings, the network, and whether to look for the rates."""

    depth: int = 8
    """Depth of the ResNet, 6 n + 2."""
    tune: bool = False
    """Run every schedule at every rate of the grid."""


def chain(name: str, peak: float, steps: int, interval: int) -> optax.GradientTransformation:
    """Momentum with L2 under a schedule."""
    # The exponential and 1/t end at a hundredth and a thirtieth of their peak.
    schedule = {
        "constant": peak,
        "steps": optim.step_decay(peak, (steps // 2, 3 * steps // 4)),
        "exponential": optim.exponential_decay(peak, 4.6 / steps),
        "1/t": optim.inverse_time_decay(peak, 29 / steps),
        "plateau": peak,
        "cosine": optim.cosine_decay(peak, steps),
        "cosine cycles": optim.cosine_cycles(peak, steps // 3),
        "warm-up cosine": optim.warmup_cosine(peak, steps // 20, steps),
        "one-cycle": optim.one_cycle(peak, steps),
    }[name]
    tx = optim.momentum(schedule, weight_decay=5e-4)
    if name == "plateau":  # the mean training loss of an interval of updates decides, so that no test image does
        tx = optax.chain(tx, optim.reduce_on_plateau(factor=0.3, patience=0, threshold=0.02, every=interval))
    return tx


def cases(settings: ScheduleSettings, train_set) -> list[Case]:
    """Every schedule at its rate, or at every rate of the grid."""
    model = models.resnet_cifar(settings.depth, train_set.num_classes)
    interval = max(1, settings.steps // 15)
    return [
        Case(
            f"{name}, peak {peak:g}" if settings.tune else name,
            model,
            chain(name, peak, settings.steps, interval),
            augment=crop_and_flip(train_set),
            facts={"schedule": name, "peak": peak},
        )
        for name in RATES
        for peak in (GRID if settings.tune else (RATES[name],))
    ]


def best_rates(cases: Sequence[Case], results: Results) -> Results:
    """Further rows, where rates were tuned: the best one of each schedule."""
    groups = grouped(cases, "schedule")
    if not any(len(group) > 1 for group in groups.values()):
        return results
    peaks = {case.name: case.facts["peak"] for case in cases}
    best = best_of(results, groups, "test_error")
    rows = [Row(f"{name}, best", 0, "best_peak", peaks[case]) for name, case in best.items()]
    return results.with_rows(rows, tuple(row.case for row in rows))


ABLATION = Ablation(
    "schedules",
    __doc__,
    variants={
        "default": ScheduleSettings(train_size=10_000, test_size=5000, pixels=16, steps=780),
        "rates": ScheduleSettings(seeds=2, train_size=10_000, pixels=16, steps=780, held_out=0.2, tune=True),
        "smoke": ScheduleSettings(data="fashion_mini", seeds=2, steps=6, batch_size=16, train_size=64, test_size=50),
        "paper": ScheduleSettings(depth=20, steps=64_000, eval_every=1950, checkpoints=True),
    },
    cases=cases,
    derive=best_rates,
    comparisons=[
        *(
            Comparison(f"{name} has less test error than a constant rate", "test_error", better=name, worse="constant")
            for name in RATES
            if name != "constant"
        ),
        Comparison("one cosine has less test error than steps", "test_error", better="cosine", worse="steps"),
        Comparison("one cosine has less test error than cycles", "test_error", better="cosine", worse="cosine cycles"),
    ],
    table=("best_peak", "test_error", "train_loss", "seconds"),
    figures=(Bars("test_error"), Curves("test_error"), Curves("train_loss")),
)

if __name__ == "__main__":
    ABLATION.main()
