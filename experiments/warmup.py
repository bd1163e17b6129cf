"""Large batches at large rates need a warm-up.

Claim: under the linear scaling rule (a k times larger batch, a k times higher rate, the same number of epochs) large
batches lose accuracy without a warm-up; with a gradual one they reach the error of small batches.

Paper: Goyal et al., Accurate, Large Minibatch SGD, 2017 (arXiv 1706.02677), tables 1 and 2: ResNet-50 on ImageNet,
batch 8k: 24.84 % without a warm-up, 25.88 % with a constant one, 23.74 % with a gradual one; batch 256: 23.60 %. Here:
a ResNet of 8 layers on images shrunk to 16 pixels.

Command: python -m experiments.warmup
"""

import dataclasses

from experiments.ablation import Ablation, Bars, Case, Comparison, Curves, Heat, Settings, crop_and_flip
from jaxdl import models, optim

KINDS = ("none", "constant", "linear", "exponential", "cosine")


@dataclasses.dataclass(frozen=True)
class WarmupSettings(Settings):
    """Settings, batches and rates."""

    depth: int = 8
    """Depth of the ResNet, 6 n + 2."""
    batches: tuple[int, ...] = (128, 512, 2048)
    """Batches; the steps of the settings are those with the first of them, and all runs see as many images."""
    rate: float = 0.1
    """Peak rate of the first batch; that of others is in proportion, and falls to 0 along a cosine."""
    share: float = 0.2
    """Length of the warm-up, as a share of the run; it starts at a tenth of the peak (constant: stays there)."""


def cases(settings: WarmupSettings, train_set) -> list[Case]:
    """Every batch with every kind of warm-up."""
    model = models.resnet_cifar(settings.depth, train_set.num_classes)
    made = []
    for batch in settings.batches:
        steps = settings.steps * settings.batches[0] // batch
        peak = settings.rate * batch / settings.batches[0]
        for kind in KINDS:
            rising = 0 if kind == "none" else max(1, round(settings.share * steps))
            falling = optim.cosine_decay(peak, steps - rising)
            schedule = falling if kind == "none" else optim.warmup(falling, rising, kind=kind, start=peak / 10)
            made.append(
                Case(
                    f"batch {batch}, {kind}",
                    model,
                    optim.momentum(schedule, weight_decay=1e-4),
                    steps=steps,
                    batch_size=batch,
                    augment=crop_and_flip(train_set),
                    facts={"batch": batch, "warm_up": kind},
                )
            )
    return made


ABLATION = Ablation(
    "warmup",
    __doc__,
    variants={
        "default": WarmupSettings(train_size=10_000, test_size=5000, pixels=16, steps=1024),
        "smoke": WarmupSettings(data="fashion_mini", seeds=2, steps=8, batches=(16, 32), train_size=64, test_size=50),
        "paper": WarmupSettings(
            share=0.05,
            seeds=5,
            depth=20,
            steps=64_000,
            batches=(128, 512, 2048, 8192),
            eval_every=1950,
            checkpoints=True,
        ),
    },
    cases=cases,
    comparisons=[
        *(
            Comparison(
                f"with a batch of 2048 {'an' if kind[0] == 'e' else 'a'} {kind} warm-up lowers the test error",
                "test_error",
                better=f"batch 2048, {kind}",
                worse="batch 2048, none",
            )
            for kind in KINDS[1:]
        ),
        Comparison(
            "with a batch of 2048 a linear warm-up is better than a constant one",
            "test_error",
            better="batch 2048, linear",
            worse="batch 2048, constant",
        ),
        Comparison(
            "with a batch of 128 a linear warm-up lowers the test error",
            "test_error",
            better="batch 128, linear",
            worse="batch 128, none",
        ),
        Comparison(
            "with a linear warm-up a batch of 128 is still better than one of 2048",
            "test_error",
            better="batch 128, linear",
            worse="batch 2048, linear",
        ),
    ],
    table=("test_error", "train_loss", "seconds"),
    figures=(Heat("test_error", "batch", "warm_up"), Bars("test_error"), Curves("train_loss")),
    note="The paper's numbers are of another network and data set; see its tables in the text above.",
)

if __name__ == "__main__":
    ABLATION.main()
