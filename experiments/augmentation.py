"""Each way to change training images lowers the test error; crops and flips do most.

Claim: on few training images random crops, flips, PCA colour, colour jitter, rotation, Cutout, Mixup and CutMix each
lower the test error of a network trained without changes.

Papers: Krizhevsky et al. 2012, sec. 4.1 (crops and flips; PCA colour: "over 1 %" on ImageNet); DeVries and Taylor,
Cutout, 2017 (arXiv 1708.04552); Zhang et al., Mixup, 2018 (arXiv 1710.09412); Yun et al., CutMix, 2019 (arXiv
1905.04899). Here: a ResNet of 8 layers, 5,000 images, a budget of some epochs.

Command: python -m experiments.augmentation
"""

import dataclasses
from collections.abc import Callable

from experiments.ablation import Ablation, Bars, Case, Comparison, Curves, Settings
from jaxdl import data, models, optim


@dataclasses.dataclass(frozen=True)
class AugmentationSettings(Settings):
    """Settings, and the network."""

    depth: int = 8
    """Depth of the ResNet, 6 n + 2."""
    rate: float = 0.1
    """Peak learning rate; it falls to 0 along a cosine."""


def changes(train_set) -> dict[str, Callable | None]:
    """Each change of training images, by name; sizes are for the images' side."""
    side = train_set.image_shape[0]
    crop, flip, cutout = data.RandomCrop(side // 8), data.RandomFlip(), data.Cutout(side // 2)
    mixup = data.Mixup(1.0, train_set.num_classes)
    return {
        "none": None,
        "crops": crop,
        "flips": flip,
        "crops and flips": data.Compose((crop, flip)),
        "PCA colour": data.PcaColor.of(train_set),
        "colour jitter": data.ColorJitter(0.4, 0.4, 0.4 if train_set.image_shape[-1] == 3 else 0.0),
        "rotation": data.Rotate(15),
        "Cutout": cutout,
        "Mixup": mixup,
        "CutMix": data.CutMix(1.0, train_set.num_classes),
        "crops, flips, Cutout": data.Compose((crop, flip, cutout)),
        "crops, flips, Mixup": data.Compose((crop, flip, mixup)),
    }


def cases(settings: AugmentationSettings, train_set) -> list[Case]:
    """The network with each change."""
    model = models.resnet_cifar(settings.depth, train_set.num_classes)
    tx = optim.momentum(optim.cosine_decay(settings.rate, settings.steps), weight_decay=5e-4)
    return [Case(name, model, tx, augment=augment) for name, augment in changes(train_set).items()]


ALONE = ("crops", "flips", "crops and flips", "PCA colour", "colour jitter", "rotation", "Cutout", "Mixup", "CutMix")

ABLATION = Ablation(
    "augmentation",
    __doc__,
    variants={
        "default": AugmentationSettings(train_size=5000, test_size=5000, pixels=16, steps=1170, batch_size=64),
        "smoke": AugmentationSettings(
            data="fashion_mini", seeds=2, steps=4, batch_size=16, train_size=64, test_size=50
        ),
        "paper": AugmentationSettings(depth=20, steps=64_000, eval_every=1950, checkpoints=True),
    },
    cases=cases,
    comparisons=[
        *(
            Comparison(
                f"{name} lower the test error" if name[-1] == "s" else f"{name} lowers the test error",
                "test_error",
                better=name,
                worse="none",
            )
            for name in ALONE
        ),
        Comparison("Cutout lowers it further", "test_error", better="crops, flips, Cutout", worse="crops and flips"),
        Comparison("Mixup lowers it further", "test_error", better="crops, flips, Mixup", worse="crops and flips"),
    ],
    table=("test_error", "train_error", "seconds"),
    figures=(Bars("test_error"), Curves("test_error"), Curves("train_error", "Training error, on changed images")),
    note="Training error is that of changed images; under Mixup and CutMix the class with the larger part counts.",
)

if __name__ == "__main__":
    ABLATION.main()
