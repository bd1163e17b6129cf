"""Adaptive rules learn faster at first, but well-tuned momentum ends with the lower test error.

Claim: on image classification with a convolutional network, SGD and momentum with tuned rates reach a lower test
error than AdaGrad, RMSProp and Adam with tuned rates, even where those lead in training loss.

Paper: Wilson et al., The Marginal Value of Adaptive Gradient Methods in Machine Learning, 2017 (arXiv 1705.08292):
VGG with BatchNorm and dropout on CIFAR-10, 250 epochs, five seeds. Here: a small CNN without BatchNorm and dropout, and
a short budget, the same for all rules, with rates that fall to 0 along a cosine. The paper's errors are shown for their
order, not their height. The rates are the best of a grid on held-out training images (`--variant rates`): four for each
rule, about a factor of 3 apart.

Command: python -m experiments.optimizers
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import optax

from experiments.ablation import Ablation, Case, Comparison, Curves, Measured, Results, Settings, Work, train_and_test
from experiments.ablation.case import grouped
from experiments.ablation.rows import best_of
from experiments.paper import number
from jaxdl import models, optim, report
from jaxdl.arguments import check_real

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "SGD": optim.sgd,
    "momentum": optim.momentum,
    "Nesterov": optim.nesterov,
    "AdaGrad": optim.adagrad,
    "RMSProp": optim.rmsprop,
    "Adam": optim.adam,
}
ADAPTIVE = ("AdaGrad", "RMSProp", "Adam")
GRIDS = {
    "SGD": (0.03, 0.1, 0.3, 1.0),
    "momentum": (0.01, 0.03, 0.1, 0.3),
    "Nesterov": (0.01, 0.03, 0.1, 0.3),
    "AdaGrad": (0.003, 0.01, 0.03, 0.1),
    "RMSProp": (0.0003, 0.001, 0.003, 0.01),
    "Adam": (0.0003, 0.001, 0.003, 0.01),
}
IN_PAPER = {
    "SGD": "SGD",
    "momentum": "Heavy ball (HB)",
    "AdaGrad": "AdaGrad",
    "RMSProp": "RMSProp",
    "Adam": "Adam (tuned)",
}


@dataclasses.dataclass(frozen=True)
class Rates:
    """Peak learning rate of each rule."""

    SGD: float = 0.1
    momentum: float = 0.03
    Nesterov: float = 0.03
    AdaGrad: float = 0.03
    RMSProp: float = 0.001
    Adam: float = 0.003


@dataclasses.dataclass(frozen=True)
class OptimizerSettings(Settings):
    """Settings, and the rates."""

    target_loss: float = 0.4
    """A training loss (mean of the last 20 batches); the steps until a rule reaches it are reported."""
    rates: Rates = Rates()
    """Peak learning rates; they fall to 0 along a cosine."""
    tune: bool = False
    """Run every rule at every rate of its grid instead; the one with the lowest error counts."""

    def __post_init__(self):
        """Refuses what cannot be run."""
        super().__post_init__()
        for name, rate in dataclasses.asdict(self.rates).items():
            check_real("optimizers", f"rates.{name}", rate, at_least=0)


def cases(settings: OptimizerSettings, train_set) -> list[Case]:
    """Every rule at its rate, or at every rate of its grid."""
    model, made = models.convnet(train_set.num_classes), []
    for name, rule in OPTIMIZERS.items():

        def falling(peak, rule=rule):
            return rule(optax.cosine_decay_schedule(peak, settings.steps))

        tx = optax.inject_hyperparams(falling, static_args=("rule",))(peak=0.1)
        paper = {"test_error": number(paper="Marginal Value", setting=IN_PAPER[name])} if name in IN_PAPER else {}
        for rate in GRIDS[name] if settings.tune else (getattr(settings.rates, name),):
            of_rate = f"{name}, rate {rate:g}" if settings.tune else name
            facts = {"rule": name, "rate": rate}
            made.append(Case(of_rate, model, tx, hyperparams={"peak": rate}, facts=facts, paper=paper))
    return made


def measure(work: Work) -> Measured:
    """Trains and tests; adds the rate, the steps to the target, and a curve of the mean loss of 20 batches."""
    found = train_and_test(work)
    metrics = {"rate": work.case.facts["rate"]}
    if found.history is None:
        return found.add(metrics)
    steps = report.steps_to_reach(found.history.loss, work.settings.target_loss)
    x, _ = found.curves["train_loss"]
    smooth = report.running_mean(found.history.loss, 20)[x - 1]
    return found.add({**metrics, "steps_to_target": math.nan if steps is None else steps}, {"smooth_loss": (x, smooth)})


def with_best(cases: Sequence[Case], results: Results) -> Results:
    """Adds each rule at its best rate, if there are several, and the best rule of each kind."""
    if any(case.name not in OPTIMIZERS for case in cases):
        results = results.copied(best_of(results, grouped(cases, "rule"), "test_error"))
    listed = results.cases
    kinds = {
        "best adaptive": ADAPTIVE,
        "best without adaptation": [name for name in OPTIMIZERS if name not in ADAPTIVE],
    }
    return dataclasses.replace(results.copied(best_of(results, kinds, "test_error")), listed=listed)


ABLATION = Ablation(
    "optimizers",
    __doc__,
    variants={
        "default": OptimizerSettings(data="fashion_mini", steps=468, eval_every=39),
        "cifar10": OptimizerSettings(steps=1950, eval_every=195, target_loss=1.0),  # 5 epochs; rates as by default
        "rates": OptimizerSettings(data="fashion_mini", seeds=2, steps=468, eval_every=468, held_out=0.2, tune=True),
        "smoke": OptimizerSettings(data="fashion_mini", seeds=2, steps=12, eval_every=6, batch_size=32, train_size=256),
    },
    cases=cases,
    measure=measure,
    derive=with_best,
    comparisons=[
        Comparison(
            "the best rule without adaptation has a lower test error than the best adaptive one",
            "test_error",
            better="best without adaptation",
            worse="best adaptive",
        ),
        Comparison(
            "the best adaptive rule reaches the target loss sooner than the best without adaptation",
            "steps_to_target",
            better="best adaptive",
            worse="best without adaptation",
            ratio=True,
        ),
    ],
    table=("rate", "test_error", "steps_to_target", "seconds"),
    figures=(
        Curves(
            "smooth_loss",
            "Training loss (adaptive rules dashed)",
            "cross-entropy, mean of 20 batches (nats)",
            log_y=True,
            cases=tuple(OPTIMIZERS),
            dashed=ADAPTIVE,
            y_limits=(None, 2.0),
        ),
        Curves("test_error", "Test error", cases=tuple(OPTIMIZERS), dashed=ADAPTIVE),
    ),
    note="Rate: the peak. Steps to target: until the mean training loss of 20 batches is at most 0.4 (1 on CIFAR-10). "
    "Seconds: training of one run, without compilation and evaluations. Paper: another network, on CIFAR-10.",
)

if __name__ == "__main__":
    ABLATION.main()
