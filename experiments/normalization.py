"""BatchNorm lets a network learn at higher rates, and depends on the batch; GroupNorm does not.

Claim: networks with normalisation train at rates at which the same network without diverges or stands still. With small
batches BatchNorm's error rises, while LayerNorm's, InstanceNorm's and GroupNorm's stay.

Papers: Ioffe and Szegedy, Batch Normalization, 2015 (arXiv 1502.03167), sec. 4.2.1: rates 5 and 30 times higher. Wu and
He, Group Normalization, 2018 (arXiv 1803.08494), fig. 1: ResNet-50 on ImageNet, with 2 images a GPU BatchNorm's error
is 10.6 points above GroupNorm's. Here: a ResNet of 8 layers on images shrunk to 16 pixels; the rate is constant, and
for the batches it is in proportion to the batch (the linear scaling rule), with the same number of epochs.

Command: python -m experiments.normalization
"""

import dataclasses
import math
from collections.abc import Sequence

import optax

from experiments.ablation import Ablation, Case, Comparison, Heat, Results, Row, Settings
from jaxdl import models, optim
from jaxdl.models import layers

NORMS = {
    "none": None,
    "BatchNorm": layers.BatchNorm,
    "LayerNorm": layers.LayerNorm,
    "InstanceNorm": layers.InstanceNorm,
    "GroupNorm": layers.GroupNorm,
}

TRAINED = 80.0
"""A run has trained if its training error ends below so many percent."""


@dataclasses.dataclass(frozen=True)
class NormSettings(Settings):
    """Settings, rates and batches."""

    depth: int = 8
    """Depth of the ResNet, 6 n + 2."""
    widths: tuple[int, int, int] = (8, 16, 32)
    """Channels of the three stages."""
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)
    """Constant rates that are tried with the batch of the settings."""
    rate: float = 0.1
    """The rate for a batch of 128 in the runs with other batches, which falls to 0 along a cosine."""
    batches: tuple[int, ...] = (2, 8, 32, 256)
    """Other batches; all runs see as many images."""


def cases(settings: NormSettings, train_set) -> list[Case]:
    """Every normalisation at every rate, and with every batch."""
    made = []
    images = settings.steps * settings.batch_size
    for name, norm in NORMS.items():
        model = models.resnet_cifar(settings.depth, train_set.num_classes, widths=settings.widths, norm=norm)
        tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.1)
        for rate in settings.rates:
            facts = {"norm": name, "rate": rate}
            made.append(Case(f"{name}, rate {rate:g}", model, tx, hyperparams={"learning_rate": rate}, facts=facts))
        for batch in settings.batches:
            steps = images // batch
            schedule = optim.cosine_decay(settings.rate * batch / 128, steps)
            made.append(
                Case(
                    f"{name}, batch {batch}",
                    model,
                    optim.momentum(schedule),
                    steps=steps,
                    batch_size=batch,
                    fit={"scan": True},
                    facts={"norm": name, "batch": batch},
                )
            )
    return made


def highest_rates(cases: Sequence[Case], results: Results) -> Results:
    """Further rows: for each normalisation and seed the highest rate at which the run trained."""
    rows = []
    for name in NORMS:
        tried = {case.facts["rate"]: case.name for case in cases if case.facts["norm"] == name and "rate" in case.facts}
        for seed in sorted({seed for case in tried.values() for seed in results.seeds(case)}):
            errors = {rate: results.values("train_error", case).get(seed, math.inf) for rate, case in tried.items()}
            found = [rate for rate, error in errors.items() if error < TRAINED]
            rows.append(Row(name, seed, "highest_rate", max(found, default=math.nan)))
    further = results.with_rows(rows, tuple(NORMS))
    return dataclasses.replace(further, listed=(*NORMS, *(c.name for c in cases if "batch" in c.facts)))


ABLATION = Ablation(
    "normalization",
    __doc__,
    variants={
        "default": NormSettings(train_size=10_000, test_size=2000, pixels=16, steps=156, eval_every=156),
        "smoke": NormSettings(
            data="fashion_mini",
            seeds=2,
            steps=4,
            batch_size=16,
            train_size=64,
            test_size=50,
            rates=(0.1,),
            batches=(8,),
        ),
        "paper": NormSettings(depth=20, widths=(16, 32, 64), steps=9750, batches=(2, 8, 32, 256, 1024)),
    },
    cases=cases,
    derive=highest_rates,
    comparisons=[
        *(
            Comparison(
                f"with {name} the highest rate that trains is higher than without normalisation",
                "highest_rate",
                better=name,
                worse="none",
                more=True,
                ratio=True,
            )
            for name in ("BatchNorm", "GroupNorm")
        ),
        Comparison(
            "with 2 images a batch GroupNorm has less test error than BatchNorm",
            "test_error",
            better="GroupNorm, batch 2",
            worse="BatchNorm, batch 2",
        ),
        Comparison(
            "BatchNorm has more test error with 2 images a batch than with 32",
            "test_error",
            better="BatchNorm, batch 32",
            worse="BatchNorm, batch 2",
        ),
        Comparison(
            "with 32 images a batch BatchNorm has less test error than GroupNorm",
            "test_error",
            better="BatchNorm, batch 32",
            worse="GroupNorm, batch 32",
        ),
    ],
    table=("highest_rate", "test_error", "train_error"),
    figures=(
        Heat("train_error", "rate", "norm", title="Training error by rate"),
        Heat("test_error", "batch", "norm", title="Test error by batch"),
    ),
    note=f"Highest rate: of the constant rates tried, at which the training error ends below {TRAINED:g} %.",
)

if __name__ == "__main__":
    ABLATION.main()
