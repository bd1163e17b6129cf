"""The mean of the weights along the end of a run is better than its last ones, if BatchNorm is estimated again.

Claim: stochastic weight averaging at a constant, high rate has a lower test error than SGD whose rate falls to almost
0, within the same budget or 1.25 or 1.5 of it; a network with BatchNorm needs its statistics estimated again for the
mean.

Paper: Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, 2018 (arXiv 1803.05407),
table 1, and the code released with it: PreResNet-164 on CIFAR-10, test error of SGD 4.72 %, SWA at 1.5 budgets 4.17 %.
Here: a narrow ResNet-8 with BatchNorm on the bundled images, and a budget of eight epochs; and with --variant cifar10 a
ResNet-8 of full width on 10,000 images of CIFAR-10, shrunk to 16 pixels, with crops and flips, and a budget of 24
epochs. Averaging starts at the same share of the budget as in the paper, 126 of 150 epochs, and takes one iterate per
epoch. The rate is held until half of that start, falls along a line until nine tenths of it, and is held again, as in
the paper. The paper's errors are shown for their order, not their height. An exponential moving average of the same
run, which the paper does not have, is shown too.

Command: python -m experiments.weight_averaging
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import optax

from experiments.ablation import (
    Ablation,
    Bars,
    Case,
    Comparison,
    Measured,
    Paper,
    Results,
    Row,
    Settings,
    Work,
    crop_and_flip,
)
from experiments.ablation.measures import diverged
from experiments.paper import number
from jaxdl import ensemble, models, optim, train
from jaxdl.arguments import check_real, require

OWN, AGAIN = "error_with_statistics_of_the_run", "error_estimated_again"
OTHER = "with the other statistics"
BUDGETS = (1.0, 1.25, 1.5)
WEIGHTS = ("last weights of that run", "SWA", "EMA")


@dataclasses.dataclass(frozen=True)
class AveragingSettings(Settings):
    """Settings, network and averages; `steps` is the budget."""

    depth: int = 8
    """Depth of the CIFAR ResNet, 6 n + 2; with `preactivation` 9 n + 2."""
    widths: tuple[int, int, int] = (8, 16, 32)
    """Channels of its three stages."""
    preactivation: bool = False
    """The paper's PreResNet: bottlenecks, normalised and activated before each convolution."""
    augment: bool = False
    """Random crops (an eighth of the side) and flips."""
    rate: float = 0.1
    """The first learning rate."""
    swa_rate: float = 0.06
    """The rate while averaging (the paper's: 0.01 for PreResNet, 0.05 for a wide one); SGD's falls to a hundredth of
    the first. Of 0.01, 0.03 and 0.06 the best in a short look at held-out training images."""
    weight_decay: float = 3e-4
    """L2, as in the paper."""
    ema_decay: float = 0.99
    """Decay of the moving average, per update."""

    def __post_init__(self):
        """Refuses what cannot be run."""
        super().__post_init__()
        for name in ("rate", "swa_rate", "weight_decay", "ema_decay"):
            check_real("weight_averaging", name, getattr(self, name), at_least=0)


def cases(settings: AveragingSettings, train_set) -> list[Case]:
    """SGD with one budget, and a run with averages and one and a half; the budget is in whole epochs."""
    epoch = train_set.steps_per_epoch(settings.batch_size)
    epochs = settings.steps // epoch
    require(epochs >= 1, f"--steps must be at least an epoch, {epoch} steps, got {settings.steps}")
    start = max(round(126 / 150 * epochs), 1) * epoch

    def momentum(last_rate: float, until: int) -> optax.GradientTransformation:
        schedule = optim.swa_schedule(settings.rate, last_rate, until)
        return optim.momentum(schedule, weight_decay=settings.weight_decay)

    averaging = optax.chain(
        momentum(settings.swa_rate, start),
        optim.swa(start - epoch, period=epoch),  # the first average is the iterate at `start`
        optim.ema(settings.ema_decay),
    )
    model = models.resnet_cifar(
        settings.depth,
        train_set.num_classes,
        widths=settings.widths,
        bottleneck=settings.preactivation,
        preactivation=settings.preactivation,
        shortcut=models.layers.shortcut_b if settings.preactivation else models.layers.shortcut_a,
    )
    plan = {
        "SGD, 1 budget": (momentum(0.01 * settings.rate, epochs * epoch), (1.0,), OWN, "SGD"),
        "SWA, 1.5 budgets": (averaging, BUDGETS, AGAIN, "SWA 1.5 budgets"),
    }
    return [
        Case(
            name,
            model,
            tx,
            steps=int(budgets[-1] * epochs) * epoch,
            augment=crop_and_flip(train_set) if settings.augment else None,
            facts={"steps": {share: int(share * epochs) * epoch for share in budgets}},
            paper={form: error_in_paper(setting)},
        )
        for name, (tx, budgets, form, setting) in plan.items()
    ]


def error_in_paper(setting: str) -> Paper:
    """The test error in percent of PreResNet-164 on CIFAR-10; the paper gives accuracies."""
    found = number(paper="Averaging Weights", dataset="CIFAR-10", model="PreResNet164", setting=setting)
    return dataclasses.replace(found, value=round(100 - found.value, 2))


def measure(work: Work) -> Measured:
    """Trains, and at each budget tests each set of weights with both kinds of batch statistics.

    Metrics are "<case>: <metric>"; `by_weights` takes them apart.
    """
    state, metrics = work.start(), {}
    for share, steps in work.case.facts["steps"].items():
        try:
            state, _ = work.fit(state, steps=steps, eval_set=None, eval_every=None, **work.saving(f"{share:g}"))
        except train.NonFiniteLossError as error:
            return Measured({}, {}, diverged(error))
        for what, params in weights(state, work.case.name).items():
            again = ensemble.update_batch_stats(work.model, params, work.train_set)
            for form, stats in ((OWN, state.batch_stats), (AGAIN, again)):
                tested = state._replace(params=params, batch_stats=stats)
                error = 100 * train.evaluate(work.model, tested, work.test_set).error
                metrics[f"{named(what, share)}: {form}"] = error
    return Measured(metrics)


def weights(state: train.TrainState, case: str) -> dict[str, Any]:
    """The sets of weights of a run, by name."""
    if case.startswith("SGD"):
        return {"SGD": state.params}
    averages = optim.swa_params(state.opt_state, state.params), optim.ema_params(state.opt_state, state.params)
    return dict(zip(WEIGHTS, (state.params, *averages), strict=True))


def named(what: str, share: float) -> str:
    """The table's name for a set of weights."""
    return f"{what}, {share:g} budget{'s' if share > 1 else ''}"


def by_weights(cases: Sequence[Case], results: Results) -> Results:
    """A case for each set of weights at each budget.

    `test_error` is that with the run's own statistics for SGD, as in the paper, and with those estimated again for all
    others; their errors without that are those of further cases.
    """
    rows = []
    for row in results.rows:
        name, _, form = row.metric.partition(": ")
        usual = form == (OWN if name.startswith("SGD") else AGAIN)
        rows.append(Row(name, row.seed, form, row.value))
        rows.append(Row(name if usual else f"{name}, {OTHER}", row.seed, "test_error", row.value))
    names = tuple(dict.fromkeys(row.case for row in rows))
    listed = tuple(name for name in names if OTHER not in name)
    return dataclasses.replace(results, rows=rows, cases=names, listed=listed)


ABLATION = Ablation(
    "weight_averaging",
    __doc__,
    variants={
        "default": AveragingSettings(data="fashion_mini", steps=8 * 78),
        "cifar10": AveragingSettings(
            seeds=5,
            train_size=10_000,
            pixels=16,
            widths=(16, 32, 64),
            augment=True,
            steps=24 * 78,
            rate=0.2,
            swa_rate=0.1,
            weight_decay=5e-4,
        ),
        "paper": AveragingSettings(
            depth=164, widths=(16, 32, 64), preactivation=True, augment=True, steps=150 * 390, swa_rate=0.01
        ),
        "smoke": AveragingSettings(data="fashion_mini", seeds=1, steps=8, batch_size=32, train_size=64, test_size=100),
    },
    cases=cases,
    measure=measure,
    derive=by_weights,
    comparisons=[
        *(
            Comparison(
                f"the mean of the weights ({named('SWA', share)}) has a lower test error than SGD with one budget",
                "test_error",
                better=named("SWA", share),
                worse="SGD, 1 budget",
            )
            for share in BUDGETS
        ),
        Comparison(
            "the mean of the weights needs its batch statistics estimated again",
            "test_error",
            better="SWA, 1.5 budgets",
            worse=f"SWA, 1.5 budgets, {OTHER}",
        ),
    ],
    table=(OWN, AGAIN),
    figures=(Bars(OWN, "BatchNorm's statistics of the run"), Bars(AGAIN, "Estimated again")),
    note="Test errors in percent. Last weights, SWA and EMA are of one run. Paper: PreResNet-164 on CIFAR-10.",
)

if __name__ == "__main__":
    ABLATION.main()
