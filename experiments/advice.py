"""The recipe's advice, followed as it stands, gives a lower test error than the settings that people start with.

Claim: on a new data set the net trained as `python -m experiments.practice` advises has less test error than the same
net after as many updates with Adam at 0.001, or with momentum 0.9 at 0.01, at a constant rate, without decay and
without changes of the images.

Paper: none; the recipe is that of lecture notes on training (check the loss, overfit a few batches, find a rate, search
coarsely and finely, look at the curves).

Here: the bundled images, with a ResNet-8 (the default) and with a small CNN (variant convnet); 10,000 images of
CIFAR-10, and a folder of JPEG files that `python -m experiments.practice.pictures` writes, with the small CNN. The
advice was found on a part of the training images with seed 0 (experiments/practice/advice/*.json has the commands and
their commits; the small CNN was the default net then). Here nets are trained on all of them, with other starts and
orders, and tested on the test set, which the recipe did not use to decide.

Command: python -m experiments.advice
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments.ablation import Ablation, Bars, Case, Comparison, Curves, Measured, Settings, Work, train_and_test
from experiments.practice.advice import read
from experiments.practice.sets import of_folder
from jaxdl import optim

ADVICE = Path(__file__).parent / "practice" / "advice"


@dataclasses.dataclass(frozen=True)
class AdviceSettings(Settings):
    """Settings, the advice, and perhaps a folder of images."""

    advice: str = "fashion_mini"
    """The advice: the name of a file in experiments/practice/advice."""
    folder: Path | None = None
    """Images of one's own, in the place of --data, as for experiments.practice."""

    def sets(self) -> tuple[Any, Any]:
        """The set to train on and the set to test on."""
        if self.folder is None:
            return super().sets()
        return of_folder(self.folder.expanduser(), self.pixels or 32)

    def title(self) -> str:
        """Data, budget and seeds in a line."""
        title = super().title()
        return title if self.folder is None else title.replace(self.data, f"JPEG files in {self.folder}", 1)


def variant(name: str, **changes: Any) -> AdviceSettings:
    """Settings with as many updates as the advice has."""
    advice = read(ADVICE / f"{name}.json")
    return AdviceSettings(**{"advice": name, "steps": advice.steps, "batch_size": advice.batch_size, **changes})


def cases(settings: AdviceSettings, train_set) -> list[Case]:
    """The advice, and two settings that people start with."""
    advice = dataclasses.replace(read(ADVICE / f"{settings.advice}.json"), steps=settings.steps)
    net = advice.net(train_set.num_classes)
    return [
        Case("advice", net, advice.chain(), augment=advice.changes(train_set)),
        Case("Adam, 0.001", net, optim.adam(1e-3)),
        Case("momentum, 0.01", net, optim.momentum(0.01)),
    ]


def measure(work: Work) -> Measured:
    """Trains and tests, with keys that the recipe did not use."""
    start = dataclasses.replace(work, seed=work.seed + 1000)
    return train_and_test(start)


ABLATION = Ablation(
    "advice",
    __doc__,
    variants={
        "default": variant("fashion_mini", data="fashion_mini", seeds=5),
        "convnet": variant("fashion_mini_convnet", data="fashion_mini", seeds=5),
        "cifar10": variant("cifar10", data="cifar10", train_size=10_000),
        "pictures": variant("pictures", folder=Path("runs/pictures"), seeds=5),
        "smoke": variant(
            "fashion_mini", data="fashion_mini", seeds=2, steps=4, batch_size=16, train_size=64, test_size=50
        ),
    },
    cases=cases,
    measure=measure,
    comparisons=[
        Comparison(f"the recipe's advice has less test error than {other}", "test_error", better="advice", worse=other)
        for other in ("Adam, 0.001", "momentum, 0.01")
    ],
    table=("test_error", "test_loss", "train_error", "seconds"),
    figures=(Bars("test_error"), Curves("test_error"), Curves("train_loss")),
)

if __name__ == "__main__":
    ABLATION.main()
