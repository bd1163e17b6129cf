"""With the wrong scale of its first weights a deep network does not learn; He's suits ReLU.

Claim: in a plain network with ReLU and without normalisation, activations and gradients vanish layer by layer with
small weights (N(0, 0.01^2)) and shrink with Xavier's, and keep their size with He's, so that only the latter trains
quickly. In a residual network, starting each block at zero ("zero-gamma") does not harm, and helps at high rates.

Papers: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010; He et al.,
Delving Deep into Rectifiers, 2015 (arXiv 1502.01852), fig. 3: a net of 30 layers learns with He's initialisation and
stands still with Xavier's; Goyal et al. 2017 (arXiv 1706.02677), sec. 5.1, for zero-gamma. Here: 13 convolutions on
images shrunk to 16 pixels.

Command: python -m experiments.initialization
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ablation import Ablation, Case, Comparison, Curves, Measured, Settings, Work, train_and_test
from jaxdl import models, optim, train
from jaxdl.models import layers

SCALES = {
    "small": lambda fan_in, fan_out: 0.01,
    "Xavier": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
    "He": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
}
"""Standard deviations of the weights of a convolution."""


@dataclasses.dataclass(frozen=True)
class InitializationSettings(Settings):
    """Settings, and the networks."""

    depth: int = 14
    """Depth of the plain network, 6 n + 2."""
    widths: tuple[int, int, int] = (16, 32, 64)
    """Channels of the three stages."""
    rate: float = 0.02
    """Constant rate of the plain networks."""
    high_rate: float = 1.0
    """Constant rate of the residual networks."""


def cases(settings: InitializationSettings, train_set) -> list[Case]:
    """The plain network with each scale; the residual one with and without zero-gamma."""
    plain = models.plain_cifar(settings.depth, train_set.num_classes, widths=settings.widths, norm=None)
    made = [Case(name, plain, optim.momentum(settings.rate), facts={"scale": name}) for name in SCALES]
    for name, zero in (("residual, gamma 1", False), ("residual, zero-gamma", True)):
        model = models.resnet_cifar(settings.depth, train_set.num_classes, widths=settings.widths, zero_gamma=zero)
        made.append(Case(name, model, optim.momentum(settings.high_rate)))
    return made


def drawn(state: train.TrainState, scale: str, key: jax.Array) -> train.TrainState:
    """The state with new weights of all convolutions, normal with that scale's deviation."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(state.params)
    made = []
    for number, (_, leaf) in enumerate(leaves):
        if leaf.ndim == 4:
            window = leaf.shape[0] * leaf.shape[1]
            std = SCALES[scale](window * leaf.shape[2], window * leaf.shape[3])
            leaf = std * jax.random.normal(jax.random.fold_in(key, number), leaf.shape, leaf.dtype)
        made.append(leaf)
    return state._replace(params=jax.tree_util.tree_unflatten(structure, made))


def measure(work: Work) -> Measured:
    """Trains from the drawn weights; the deviations of activations and gradients by layer, before and after."""
    start = work.start()
    if "scale" in work.case.facts:
        start = drawn(start, work.case.facts["scale"], jax.random.fold_in(work.key, 1))
    found = train_and_test(work, start)
    curves: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    for when, state in (("before", start), ("after", found.state)):
        if state is not None:
            activations, gradients = by_layer(work, state)
            depth = np.arange(1, len(activations) + 1)
            curves |= {f"activations_{when}": (depth, activations), f"gradients_{when}": (depth, gradients)}
            metrics[f"last_activation_{when}"] = float(activations[-1])
    return found.add(metrics, curves)


def by_layer(work: Work, state: train.TrainState) -> tuple[np.ndarray, np.ndarray]:
    """The standard deviations of each convolution's outputs and of its weights' gradients, on 500 training images."""
    model: Any = work.model
    inputs = work.inputs()
    labels = jnp.asarray(work.train_set.labels[:500])
    _, seen = model.apply(
        state.variables,
        inputs,
        train=False,
        capture_intermediates=lambda module, name: isinstance(module, layers.Conv) and name == "__call__",
    )

    def loss(params):
        logits = model.apply({**state.variables, "params": params}, inputs, train=False)
        return jnp.mean(train.cross_entropy(logits, labels))

    gradients = [(path, leaf) for path, leaf in leaves_of(jax.grad(loss)(state.params)) if leaf.ndim == 4]
    return tuple(
        np.array([float(jnp.std(leaf)) for _, leaf in sorted(tree, key=lambda item: order(item[0]))])
        for tree in (leaves_of(seen["intermediates"]), gradients)
    )  # type: ignore[return-value]


def leaves_of(tree: Any) -> list[tuple[str, Any]]:
    """The arrays of a tree with their paths."""
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def order(path: str) -> list[int]:
    """Sorts layers from the first to the last."""
    return [int(number) for number in re.findall(r"(?:stage|block|conv)(\d+)", path)]


ABLATION = Ablation(
    "initialization",
    __doc__,
    variants={
        "default": InitializationSettings(seeds=5, train_size=10_000, test_size=2000, pixels=16, steps=312),
        "smoke": InitializationSettings(
            data="fashion_mini", seeds=2, steps=4, batch_size=16, train_size=64, test_size=50, depth=8
        ),
        "paper": InitializationSettings(depth=32, steps=19_500, checkpoints=True),
    },
    cases=cases,
    measure=measure,
    comparisons=[
        Comparison(
            "He's initialisation trains to a lower loss than Xavier's", "train_loss", better="He", worse="Xavier"
        ),
        Comparison(
            "He's initialisation trains to a lower loss than N(0, 0.01^2)", "train_loss", better="He", worse="small"
        ),
        Comparison(
            "the last layer's first activations are larger with He's initialisation than with Xavier's",
            "last_activation_before",
            better="He",
            worse="Xavier",
            more=True,
            ratio=True,
        ),
        Comparison(
            "at a high rate zero-gamma lowers the training loss of the residual net",
            "train_loss",
            better="residual, zero-gamma",
            worse="residual, gamma 1",
        ),
    ],
    table=("train_loss", "test_error", "last_activation_before", "last_activation_after"),
    figures=(
        Curves("train_loss", "Training loss"),
        Curves("activations_before", "Activations before training", "standard deviation", "layer", log_y=True),
        Curves("gradients_before", "Gradients before training", "standard deviation", "layer", log_y=True),
        Curves("activations_after", "Activations after training", "standard deviation", "layer", log_y=True),
        Curves("gradients_after", "Gradients after training", "standard deviation", "layer", log_y=True),
    ),
    note="Last activation: deviation of the last convolution's outputs on 500 training images, before training "
    "and after it.",
)

if __name__ == "__main__":
    ABLATION.main()
