"""What each of AlexNet's ingredients is worth: taken away alone, and added alone to a bare network.

Claim: response normalisation, overlapping pooling, PCA colour, crops and flips, dropout, weight decay and momentum each
lower the test error; two towers of full width are better than one of half the width.

Paper: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012, sec. 3.2 to 4.2, on
ImageNet (top-1 error): response normalisation 1.4 points, overlapping pooling 0.4, two towers against one of half the
width 1.7, PCA colour over 1; a network without crops and flips "suffers from substantial overfitting". Here: a network
with the same ingredients for images of 16 pixels (three convolutions, two dense layers) on 2,000 training images.

Command: python -m experiments.alexnet_ingredients
"""

import dataclasses
from typing import Any

import flax.linen as nn

from experiments.ablation import Ablation, Bars, Case, Comparison, Curves, Settings, crop_and_flip
from experiments.paper import number
from jaxdl import data, optim
from jaxdl.models import layers


class Net(nn.Module):
    """Three convolutions with pooling, a hidden dense layer, logits.

    Attributes:
      num_classes: logits.
      response_norm: local response normalisation after the first two convolutions, as in AlexNet.
      overlapping: pooling windows of 3 rather than 2 pixels, with stride 2.
      dropout: rate after the hidden layer.
      groups: towers; the second convolution sees the channels of its own tower alone.
      widths: channels of the convolutions.
    """

    num_classes: int
    response_norm: bool = True
    overlapping: bool = True
    dropout: float = 0.5
    groups: int = 2
    widths: tuple[int, int, int] = (32, 64, 64)

    @nn.compact
    def __call__(self, x, *, train):
        """Images to logits."""
        for number_, width in enumerate(self.widths, 1):
            groups = self.groups if number_ == 2 else 1
            conv = layers.Conv(
                width,
                (5, 5) if number_ < 3 else (3, 3),
                feature_group_count=groups,
                kernel_init=layers.he_normal,
                name=f"conv{number_}",
            )
            x = nn.relu(conv(x))
            if self.response_norm and number_ < 3:
                x = layers.local_response_norm(x)
            window = 3 if self.overlapping else 2
            x = layers.max_pool(x, window=window, stride=2, ceil_mode=self.overlapping)
        x = nn.relu(nn.Dense(128, kernel_init=layers.he_normal, name="dense4")(x.reshape(len(x), -1)))
        x = layers.Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes, name="head")(x)


@dataclasses.dataclass(frozen=True)
class IngredientSettings(Settings):
    """Settings, and the optimizer's."""

    rate: float = 0.02
    """Learning rate, with momentum; it falls to a tenth at a half and at three quarters of the run."""
    weight_decay: float = 5e-4
    """The paper's: it is multiplied by the rate, and goes into the velocity."""


INGREDIENTS = {
    "response normalisation": "response_norm",
    "overlapping pooling": "overlapping",
    "two towers": "groups",
    "dropout": "dropout",
    "PCA colour": "colour",
    "crops and flips": "crops",
    "weight decay": "weight_decay",
    "momentum": "momentum",
}
BARE: dict[str, Any] = {"response_norm": False, "overlapping": False, "dropout": 0.0}


def case(name: str, used: set[str], settings: IngredientSettings, train_set) -> Case:
    """The network and its training with these ingredients."""
    fields = {name: value for name, value in BARE.items() if name not in used}
    if "groups" not in used:  # the paper's comparison: one tower of half the channels
        fields |= {"groups": 1, "widths": (16, 32, 64)}
    changes = [*crop_and_flip(train_set).changes] if "crops" in used else []
    changes += [data.PcaColor.of(train_set)] if "colour" in used else []
    steps = settings.steps
    rate = optim.step_decay(settings.rate, (steps // 2, 3 * steps // 4))
    decay = settings.weight_decay if "weight_decay" in used else 0.0
    # Without momentum ten times the rate makes steps of the same length in the mean.
    fast = optim.step_decay(10 * settings.rate, (steps // 2, 3 * steps // 4))
    tx = optim.momentum(rate, weight_decay=decay) if "momentum" in used else optim.sgd(fast, weight_decay=decay)
    return Case(
        name,
        Net(train_set.num_classes, **fields),
        tx,
        augment=data.Compose(tuple(changes)) if changes else None,
        facts={"used": sorted(used)},
    )


def cases(settings: IngredientSettings, train_set) -> list[Case]:
    """All ingredients; all but one; none; only one."""
    whole = set(INGREDIENTS.values())
    made = [case("all", whole, settings, train_set)]
    made += [case(f"without {name}", whole - {part}, settings, train_set) for name, part in INGREDIENTS.items()]
    made += [case("bare", set(), settings, train_set)]
    made += [case(f"only {name}", {part}, settings, train_set) for name, part in INGREDIENTS.items()]
    return made


KRIZHEVSKY = {"paper": "AlexNet, 2012", "dataset": "ILSVRC-2010", "metric": "top1_error"}
IN_PAPER = {
    "response normalisation": number(**KRIZHEVSKY, setting="LRN"),
    "overlapping pooling": number(**KRIZHEVSKY, setting="overlapping"),
    "two towers": number(**KRIZHEVSKY, setting="two-GPU"),
    "PCA colour": number(**KRIZHEVSKY, setting="PCA"),
}

ABLATION = Ablation(
    "alexnet_ingredients",
    __doc__,
    variants={
        "default": IngredientSettings(train_size=2000, test_size=5000, pixels=16, steps=780, batch_size=64),
        "smoke": IngredientSettings(data="fashion_mini", seeds=2, steps=3, batch_size=16, train_size=64, test_size=50),
        "paper": IngredientSettings(rate=0.01, steps=35_100, eval_every=1950, checkpoints=True),
    },
    cases=cases,
    comparisons=[
        *(
            Comparison(f"{name}, taken away: the test error rises", "test_error", better="all", worse=f"without {name}")
            for name in INGREDIENTS
        ),
        *(
            Comparison(
                f"{name}, added to the bare network: the test error falls",
                "test_error",
                better=f"only {name}",
                worse="bare",
            )
            for name in INGREDIENTS
        ),
    ],
    table=("test_error", "train_error", "seconds"),
    figures=(Bars("test_error"), Curves("test_error", cases=("all", "bare", *(f"only {n}" for n in INGREDIENTS)))),
    note="In the paper, on ImageNet (points of top-1 error): "
    + ", ".join(f"{name} {value}" for name, value in IN_PAPER.items())
    + ".",
)

if __name__ == "__main__":
    ABLATION.main()
