"""A network with rectified linear units learns several times faster than the same network with tanh units.

Claim: a four-layer convolutional network reaches a training error of 25 % on CIFAR-10 six times sooner with ReLU than
with tanh, each at the learning rate with which it learns fastest, without regularisation.

Paper: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012, fig. 1. It does not
name the network; here it is the four-layer net of cuda-convnet's layers-19pct, with which its authors worked, on pixels
from 0 to 255 minus the mean image. Sigmoid, leaky ReLU (slope 0.01) and PReLU are ours. The default looks at 50 %
training error on images shrunk to 16 pixels, which ReLU reaches within two epochs.

Command: python -m experiments.alexnet_activations
"""

import dataclasses
import math
from collections.abc import Sequence

import flax.linen as nn
import numpy as np
import optax

from experiments.ablation import Ablation, Bars, Case, Comparison, Curves, Measured, Results, Row, Settings, Work
from experiments.ablation.case import grouped
from experiments.ablation.measures import curves_of, diverged, steps_until
from experiments.ablation.rows import best_of
from experiments.paper import number
from jaxdl import data, models, optim, report, train

ACTIVATIONS = {
    "ReLU": nn.relu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "leaky ReLU": nn.leaky_relu,
    "PReLU": models.layers.PReLU,
}
GRIDS = {
    "ReLU": (0.002, 0.004, 0.008, 0.016),
    "tanh": (0.016, 0.064, 0.256),
    "sigmoid": (0.032, 0.125),
    "leaky ReLU": (0.002, 0.004, 0.008, 0.016),
    "PReLU": (0.002, 0.004, 0.008, 0.016),
}
RATES = {"ReLU": (0.004,), "tanh": (0.064,), "sigmoid": (0.125,), "leaky ReLU": (0.008,), "PReLU": (0.008,)}
"""The best of the grids, by --variant rates."""

LAYERS = ("conv1", "conv2", "conv3")


@dataclasses.dataclass(frozen=True)
class ActivationSettings(Settings):
    """Settings, and whether to look for the rates."""

    target: float = 50.0
    """The training error to reach, in percent; 25 in the paper."""
    tune: bool = False
    """Run every activation at every rate of its grid; the one that reaches the target first counts."""


def cases(settings: ActivationSettings, train_set) -> list[Case]:
    """Every activation at its rate, or at every rate of its grid."""
    preprocess = data.SubtractMeanImage.of(train_set)
    tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.01)
    return [
        Case(
            f"{name}, rate {rate:g}",
            models.cuda_convnet(train_set.num_classes, hidden=None, activation=activation),
            tx,
            fit={"preprocess": preprocess, "eval_every": settings.steps, "scan": True},
            hyperparams={"learning_rate": rate},
            facts={"activation": name, "rate": rate},
        )
        for name, activation in ACTIVATIONS.items()
        for rate in (GRIDS[name] if settings.tune else RATES[name])
    ]


class Reached:
    """A watcher that ends a run when the mean error of the last 20 batches is at most `target` percent."""

    def __init__(self, target: float):
        self.target = target
        self.errors: list[float] = []

    def __call__(self, event) -> bool:
        """Whether it is reached."""
        if not isinstance(event, train.Stepped):
            return False
        self.errors += np.asarray(event.metrics.error).tolist()
        return report.steps_to_reach(100 * np.array(self.errors), self.target) is not None


def measure(work: Work) -> Measured:
    """Trains until the target is reached; counts units that are dead or saturated by layer, on 500 training images."""
    assert isinstance(work.settings, ActivationSettings)
    try:
        state, history = work.fit(work.start(), watch=[Reached(work.settings.target)])
    except train.NonFiniteLossError as error:
        return Measured({}, {}, diverged(error))
    steps = steps_until(history, work.settings.target)
    share = history.seconds * steps / len(history.loss)
    metrics = {"steps_to_target": steps, "seconds_to_target": share}
    _, seen = work.model.apply(state.variables, work.inputs(), train=False, capture_intermediates=True)
    for layer in LAYERS:
        before = np.asarray(seen["intermediates"][layer]["__call__"][0], np.float64)
        dead, saturated = idle(work.case.facts["activation"], before)
        metrics |= {f"dead_{layer}": dead, f"saturated_{layer}": saturated}
    return Measured(metrics, curves_of(history), None, state, history)


def idle(activation: str, before: np.ndarray) -> tuple[float, float]:
    """Percent of channels that are 0 everywhere, and of outputs on the flat parts of tanh or sigmoid (2 % from an end).

    `before` are the inputs of the activation, [images, height, width, channels].
    """
    dead = 100 * float(np.mean(before.max((0, 1, 2)) <= 0)) if activation == "ReLU" else 0.0
    flat = {"tanh": np.arctanh(0.98), "sigmoid": math.log(0.98 / 0.02)}.get(activation, math.inf)
    return dead, 100 * float(np.mean(np.abs(before) > flat))


def at_best_rates(cases: Sequence[Case], results: Results) -> Results:
    """Further rows: each activation at the rate with which its mean number of steps is least.

    An activation that reaches the error in no case is shown at its first rate.
    """
    groups = grouped(cases, "activation")
    found = best_of(results, groups, "steps_to_target")
    best = {name: found.get(name, names[0]) for name, names in groups.items()}
    rates = {case.name: case.facts["rate"] for case in cases}
    rows = [Row(name, seed, "rate", rates[case]) for name, case in best.items() for seed in results.seeds(case)]
    return dataclasses.replace(results.copied(best).with_rows(rows), listed=tuple(best))


ABLATION = Ablation(
    "alexnet_activations",
    __doc__,
    variants={
        "default": ActivationSettings(pixels=16, steps=4000),
        "rates": ActivationSettings(pixels=16, steps=4000, seeds=1, tune=True),
        "smoke": ActivationSettings(data="fashion_mini", seeds=2, steps=40, batch_size=32, train_size=256),
        "paper": ActivationSettings(steps=40 * 390, tune=True, target=25.0, checkpoints=True),
    },
    cases=cases,
    measure=measure,
    derive=at_best_rates,
    comparisons=[
        Comparison(
            "with ReLU the training error is reached sooner than with tanh",
            "steps_to_target",
            better="ReLU",
            worse="tanh",
            ratio=True,
            paper=number(paper="AlexNet, 2012", table="Fig. 1"),
        ),
        Comparison(
            "with ReLU it is reached sooner than with sigmoid",
            "steps_to_target",
            better="ReLU",
            worse="sigmoid",
            ratio=True,
        ),
    ],
    table=(
        "rate",
        "steps_to_target",
        *(f"dead_{layer}" for layer in LAYERS),
        *(f"saturated_{layer}" for layer in LAYERS),
    ),
    figures=(
        Curves("train_error", "Training error at the best rate of each", cases=tuple(ACTIVATIONS)),
        Bars("steps_to_target", "Updates to the training error", "updates", cases=tuple(ACTIVATIONS), log=True),
    ),
    note="Steps until the mean training error of 20 batches is at most 50 % (25 % in the variant paper); a run ends "
    "there. Dead: percent of channels that are 0 for all of 500 images; saturated: percent of outputs within 2 % of an "
    "end of tanh or sigmoid.",
)

if __name__ == "__main__":
    ABLATION.main()
