"""Plain networks train worse the deeper they are; residual networks do not.

Claim: at equal settings a plain convolutional network of 56 layers has a higher training error than one of 20 layers
(the degradation); with shortcuts the deeper network has the lower error, and its layers respond less.

Paper: He et al., Deep Residual Learning for Image Recognition, 2015 (arXiv 1512.03385), fig. 6, table 6 and fig. 7:
CIFAR-10, 64,000 updates of 128 images with crops and flips; the plain nets' errors are in the figure only. Here: half
the channels and a budget of a few epochs on images shrunk to 16 pixels, so compare the order of the errors, not their
height. The responses are the standard deviations of each BatchNorm's outputs on 500 training images, before the
non-linearity and the addition.

Command: python -m experiments.resnet_depth
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ablation import (
    Ablation,
    Bars,
    Case,
    Comparison,
    Curves,
    Measured,
    Settings,
    Work,
    crop_and_flip,
    train_and_test,
)
from experiments.paper import difference, number
from jaxdl import models, optim, train
from jaxdl.models import layers


@dataclasses.dataclass(frozen=True)
class DepthSettings(Settings):
    """Settings, and the networks."""

    depths: tuple[int, ...] = (20, 32, 44, 56)
    """Depths, 6 n + 2."""
    widths: tuple[int, int, int] = (8, 16, 32)
    """Channels of the three stages; the paper's are 16, 32, 64."""
    rate: float = 0.1
    """First learning rate; it falls to a tenth at a half and at three quarters of the run."""


def cases(settings: DepthSettings, train_set) -> list[Case]:
    """Every depth, plain and residual."""
    steps = settings.steps
    rate = optim.step_decay(settings.rate, (steps // 2, 3 * steps // 4))
    tx = optim.momentum(rate, weight_decay=1e-4)
    made = []
    for kind, make in (("plain", models.plain_cifar), ("residual", models.resnet_cifar)):
        for depth in settings.depths:
            model = make(depth, train_set.num_classes, widths=settings.widths, scan=True)
            printed = kind == "residual" and depth in (20, 32, 44, 56)
            paper = {"test_error": number(**TABLE_6, model=f"ResNet-{depth}")} if printed else {}
            made.append(
                Case(
                    f"{kind}-{depth}",
                    model,
                    tx,
                    augment=crop_and_flip(train_set),
                    facts={"kind": kind, "depth": depth},
                    paper=paper,
                )
            )
    return made


def measure(work: Work) -> Measured:
    """Trains and evaluates; measures the responses of the layers."""
    found = train_and_test(work)
    return found if found.state is None else found.add(*responses(work, found.state))


def responses(work: Work, state: train.TrainState) -> tuple[dict[str, float], dict[str, Any]]:
    """The mean over layers of the standard deviation of their responses, and the responses layer by layer."""
    _, seen = work.model.clone(scan=False).apply(
        models.unstack_blocks(state.variables),
        work.inputs(),
        train=False,
        capture_intermediates=lambda module, name: isinstance(module, layers.BatchNorm) and name == "__call__",
    )
    flat = jax.tree_util.tree_leaves_with_path(seen["intermediates"])
    # stem_norm first: then the blocks in the order of their numbers, which is not that of their names.
    order = sorted(flat, key=lambda leaf: [int(n) for n in re.findall(r"(?:stage|block|norm)(\d+)", str(leaf[0]))])
    stds = np.array([float(jnp.std(response)) for _, response in order])
    return {"mean_response": float(stds.mean())}, {"response": (np.arange(1, len(stds) + 1), stds)}


TABLE_6 = {"paper": "Deep Residual", "table": "Table 6", "metric": "test_error_pct"}

ABLATION = Ablation(
    "resnet_depth",
    __doc__,
    variants={
        "default": DepthSettings(train_size=10_000, test_size=2000, pixels=16, steps=468, batch_size=64),
        "smoke": DepthSettings(
            data="fashion_mini", seeds=2, steps=4, batch_size=16, train_size=64, test_size=50, depths=(8, 14)
        ),
        "paper": DepthSettings(seeds=5, steps=64_000, eval_every=1950, widths=(16, 32, 64), checkpoints=True),
    },
    cases=cases,
    measure=measure,
    comparisons=[
        Comparison(
            "the plain net of 56 layers has more training error than that of 20",
            "train_error",
            better="plain-20",
            worse="plain-56",
        ),
        Comparison(
            "the residual net of 56 layers has less training error than the plain one",
            "train_error",
            better="residual-56",
            worse="plain-56",
        ),
        Comparison(
            "the residual net of 56 layers has less training error than that of 20",
            "train_error",
            better="residual-56",
            worse="residual-20",
        ),
        Comparison(
            "the residual net of 56 layers has less test error than that of 20",
            "test_error",
            better="residual-56",
            worse="residual-20",
            paper=difference(number(**TABLE_6, model="ResNet-20"), number(**TABLE_6, model="ResNet-56")),
        ),
        Comparison(
            "the layers of the residual net of 56 layers respond less than the plain net's",
            "mean_response",
            better="residual-56",
            worse="plain-56",
        ),
        Comparison(
            "the layers of the residual net of 56 layers respond less than those of 20",
            "mean_response",
            better="residual-56",
            worse="residual-20",
        ),
    ],
    table=("test_error", "train_error", "train_loss", "mean_response", "seconds"),
    figures=(
        Curves("train_error", "Training error (plain dashed)", dashed=tuple(f"plain-{d}" for d in (20, 32, 44, 56))),
        Bars("train_error", "Training error at the end"),
        Curves("response", "Responses of the layers", "standard deviation", "layer", log_y=True),
    ),
    note="Training error: the mean over the last tenth of the updates, on augmented images.",
)

if __name__ == "__main__":
    ABLATION.main()
