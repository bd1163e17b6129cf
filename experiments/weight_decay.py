"""L2 and decoupled weight decay are the same for SGD and different for Adam, where the decoupled one is better.

Claim: for Adam decoupled decay reaches a lower test error than L2 at the best settings of each, and its best decay
depends less on the rate; for SGD with momentum the two are the same up to a scaling of the decay by the rate.

Paper: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (arXiv 1711.05101), figs. 1 and 2: maps of
rate against decay on CIFAR-10; about 15 % less test error, relative, for AdamW than for Adam with L2. Here: a ResNet of
8 layers, a cosine, images shrunk to 16 pixels. The best settings are chosen by the mean test error over the seeds, as
in the paper's maps.

Command: python -m experiments.weight_decay
"""

import dataclasses
from collections.abc import Sequence

import optax

from experiments.ablation import Ablation, Case, Comparison, Heat, Results, Settings, crop_and_flip
from experiments.ablation.rows import best_of
from jaxdl import models, optim


@dataclasses.dataclass(frozen=True)
class DecaySettings(Settings):
    """Settings, and the grid."""

    depth: int = 8
    """Depth of the ResNet, 6 n + 2."""
    sgd_rates: tuple[float, ...] = (0.05, 0.2, 0.8)
    """Peak rates of SGD with momentum."""
    adam_rates: tuple[float, ...] = (0.001, 0.004, 0.016)
    """Peak rates of Adam."""
    decays: tuple[float, ...] = (0.0002, 0.002, 0.02)
    """Decays under L2."""
    decoupled: tuple[float, ...] = (0.002, 0.02, 0.2)
    """Decoupled decays; they are multiplied by the rate."""


def chain(rule: str, kind: str, steps: int) -> optax.GradientTransformation:
    """SGD with momentum or Adam, with L2 in the gradient or with decoupled decay, under a cosine; both are injected."""

    def make(peak, decay):
        direction = optim.scale_by_adam() if rule == "Adam" else optim.scale_by_momentum(0.9)
        rate = optax.scale_by_learning_rate(optim.cosine_decay(peak, steps))
        if kind == "L2":
            return optax.chain(optim.add_l2(decay), direction, rate)
        return optax.chain(direction, optim.decoupled_weight_decay(decay), rate)

    return optax.inject_hyperparams(make)(peak=0.1, decay=0.001)


def cases(settings: DecaySettings, train_set) -> list[Case]:
    """Every rule and kind of decay at every rate and decay."""
    model = models.resnet_cifar(settings.depth, train_set.num_classes)
    # Momentum makes steps ten times as long, and with them what L2 takes away: the decoupled decays are larger.
    grids = {
        ("SGD", "L2"): (settings.sgd_rates, settings.decays),
        ("SGD", "decoupled"): (settings.sgd_rates, settings.decoupled),
        ("Adam", "L2"): (settings.adam_rates, settings.decays),
        ("Adam", "decoupled"): (settings.adam_rates, settings.decoupled),
    }
    return [
        Case(
            f"{rule}, {kind} {decay:g}, rate {rate:g}",
            model,
            chain(rule, kind, settings.steps),
            augment=crop_and_flip(train_set),
            hyperparams={"peak": rate, "decay": decay},
            facts={"rule": rule, "kind": kind, "rate": rate, "decay": decay},
        )
        for (rule, kind), (rates, decays) in grids.items()
        for rate in rates
        for decay in decays
    ]


def best_settings(cases: Sequence[Case], results: Results) -> Results:
    """Further rows: each rule with each kind of decay at its best settings."""
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(f"{case.facts['rule']}, {case.facts['kind']}, best", []).append(case.name)
    return results.copied(best_of(results, groups, "test_error"))


MAPS = tuple(
    Heat("test_error", "decay", "rate", {"rule": rule, "kind": kind}, f"{rule}, {kind}")
    for rule in ("SGD", "Adam")
    for kind in ("L2", "decoupled")
)

ABLATION = Ablation(
    "weight_decay",
    __doc__,
    variants={
        "default": DecaySettings(train_size=5000, test_size=5000, pixels=16, steps=390, batch_size=64),
        "smoke": DecaySettings(
            data="fashion_mini",
            seeds=2,
            steps=3,
            batch_size=16,
            train_size=64,
            test_size=50,
            sgd_rates=(0.1,),
            adam_rates=(0.01,),
            decays=(0.001,),
            decoupled=(0.01,),
        ),
        "paper": DecaySettings(depth=20, steps=39_000, eval_every=1950, checkpoints=True),
    },
    cases=cases,
    derive=best_settings,
    comparisons=[
        Comparison(
            "with Adam decoupled decay has less test error than L2",
            "test_error",
            better="Adam, decoupled, best",
            worse="Adam, L2, best",
        ),
        Comparison(
            "with SGD decoupled decay has less test error than L2",
            "test_error",
            better="SGD, decoupled, best",
            worse="SGD, L2, best",
        ),
        Comparison(
            "SGD with L2 has less test error than Adam with L2",
            "test_error",
            better="SGD, L2, best",
            worse="Adam, L2, best",
        ),
    ],
    table=("test_error", "train_loss"),
    figures=MAPS,
)

if __name__ == "__main__":
    ABLATION.main()
