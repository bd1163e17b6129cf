"""Shortcuts need no parameters, and work best where nothing stands on them.

Claim: projections on the shortcuts (options B and C) are slightly better than the parameter-free option A, not
essential; normalisation and activation before each convolution ("pre-activation") lower the error of deep networks;
without shortcuts it is much higher.

Papers: He et al., Deep Residual Learning for Image Recognition, 2015 (arXiv 1512.03385), table 3: ResNet-34 on
ImageNet, top-1 error of 25.03 (A), 24.52 (B), 24.19 (C) and 28.54 % (plain). He et al., Identity Mappings in Deep
Residual Networks, 2016 (arXiv 1603.05027), table 2: CIFAR-10, ResNet-110 original 6.61 %, pre-activation 6.37 %.
Here: a ResNet of 20 layers with half the channels, a few epochs, images shrunk to 16 pixels. Concatenation against
addition is not in these papers: it is measured on a smaller net, which has as many parameters with both.

Command: python -m experiments.resnet_shortcuts
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn

from experiments.ablation import Ablation, Bars, Case, Comparison, Curves, Settings, crop_and_flip
from experiments.paper import number
from jaxdl import models, optim
from jaxdl.models import layers


@dataclasses.dataclass(frozen=True)
class ShortcutSettings(Settings):
    """Settings, and the network."""

    depth: int = 20
    """Depth, 6 n + 2."""
    widths: tuple[int, int, int] = (8, 16, 32)
    """Channels of the three stages; the paper's are 16, 32, 64."""
    rate: float = 0.1
    """Peak learning rate; it falls to 0 along a cosine."""


KINDS = {
    "A": {"shortcut": layers.shortcut_a},
    "B": {"shortcut": layers.shortcut_b},
    "C": {"shortcut": layers.shortcut_c},
    "plain": {"shortcut": None},
    "A, pre-activation": {"shortcut": layers.shortcut_a, "preactivation": True},
}


class SkipNet(nn.Module):
    """Three stages of three layers (BatchNorm, ReLU, convolution), each of which joins its input and its output.

    Attributes:
      num_classes: logits.
      width: channels of each layer's output.
      join: `layers.add_skip`, `layers.concatenate_skip`, or None for the output alone.
    """

    num_classes: int
    width: int
    join: Callable | None

    @nn.compact
    def __call__(self, x, *, train):
        """Images to logits."""
        x = layers.Conv(self.width, (3, 3), use_bias=False, kernel_init=layers.he_normal)(x)
        for stage in range(3):
            for _ in range(3):
                y = nn.relu(layers.BatchNorm()(x, train=train))
                y = layers.Conv(self.width, (3, 3), use_bias=False, kernel_init=layers.he_normal)(y)
                x = y if self.join is None else self.join(x, y)
            if stage < 2:
                x = layers.avg_pool(x, window=2)
        x = nn.relu(layers.BatchNorm()(x, train=train))
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


JOINS = {"9 layers, addition": (25, layers.add_skip), "9 layers, concatenation": (11, layers.concatenate_skip)}
"""Widths with about as many parameters: 52,000."""


def cases(settings: ShortcutSettings, train_set) -> list[Case]:
    """The network with each kind of shortcut; and a smaller one that adds or concatenates."""
    tx = optim.momentum(optim.cosine_decay(settings.rate, settings.steps), weight_decay=1e-4)
    classes = train_set.num_classes
    made = {
        name: models.resnet_cifar(settings.depth, classes, widths=settings.widths, scan=True, **fields)
        for name, fields in KINDS.items()
    }
    made |= {name: SkipNet(classes, width, join) for name, (width, join) in JOINS.items()}
    return [Case(name, model, tx, augment=crop_and_flip(train_set)) for name, model in made.items()]


TABLE_3 = {"paper": "Deep Residual", "table": "Tables 2-3", "metric": "top1_error_pct"}
OF_34 = {kind: number(**TABLE_3, model=f"ResNet-34 ({kind})") for kind in "ABC"}

ABLATION = Ablation(
    "resnet_shortcuts",
    __doc__,
    variants={
        "default": ShortcutSettings(train_size=10_000, test_size=5000, pixels=16, steps=1170, batch_size=64),
        "smoke": ShortcutSettings(
            data="fashion_mini", seeds=2, steps=4, batch_size=16, train_size=64, test_size=50, depth=8
        ),
        "paper": ShortcutSettings(
            seeds=5, depth=110, widths=(16, 32, 64), steps=64_000, eval_every=1950, checkpoints=True
        ),
    },
    cases=cases,
    comparisons=[
        Comparison("shortcuts lower the test error", "test_error", better="A", worse="plain"),
        Comparison("projections where channels grow (B) are better than none (A)", "test_error", better="B", worse="A"),
        Comparison(
            "projections everywhere (C) are better than where channels grow (B)", "test_error", better="C", worse="B"
        ),
        Comparison("pre-activation lowers the test error", "test_error", better="A, pre-activation", worse="A"),
        Comparison(
            "with as many parameters, concatenation has less test error than addition",
            "test_error",
            better="9 layers, concatenation",
            worse="9 layers, addition",
        ),
    ],
    table=("test_error", "train_error", "seconds"),
    figures=(Bars("test_error"), Curves("test_error")),
    note="In the paper, on ImageNet: "
    + ", ".join(f"{kind} {entry}" for kind, entry in OF_34.items())
    + f", plain {number(**TABLE_3, model='plain-34')} %.",
)

if __name__ == "__main__":
    ABLATION.main()
