"""On few images regularisation lowers the test error; augmentation does it most.

Claim: with 1,000 training images each of L2, L1, the elastic net, dropout, spatial dropout, DropConnect, stochastic
depth, early stopping and random crops and flips lowers the test error of a network that otherwise learns its training
images by heart.

Papers: Srivastava et al., Dropout, JMLR 15, 2014, table 4: on CIFAR-10 14.98 % without, 14.32 % with dropout in the
dense layers, 12.61 % in all layers; Huang et al., Deep Networks with Stochastic Depth, 2016 (arXiv 1603.09382):
ResNet-110 6.41 %, with stochastic depth 5.25 %; Zou and Hastie 2005 for the elastic net; Wan et al. 2013 for
DropConnect; Tompson et al. 2015 (arXiv 1411.4280) for spatial dropout. Here: a network of three convolutions and a
dense layer, on images shrunk to 16 pixels, and a ResNet of 20 layers for stochastic depth.

Command: python -m experiments.regularization
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import optax

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
class RegularizationSettings(Settings):
    """Settings, and how strong each kind is."""

    rate: float = 0.01
    """Peak learning rate; it falls to 0 along a cosine."""
    l2: float = 0.02
    """Coupled weight decay."""
    l1: float = 2e-3
    """L1's weight; the elastic net has half of it, and half of the L2."""
    dropout: float = 0.3
    """Rate of dropout before the logits, and of DropConnect."""
    spatial: float = 0.1
    """Rate of dropout of channels after each stage."""
    survival: float = 0.7
    """Probability with which the last block of the ResNet is kept; it falls linearly from 1."""


class Net(nn.Module):
    """Three convolutions with max pooling, a dense layer, logits."""

    num_classes: int
    spatial: float = 0.0
    dropout: float = 0.0
    dropconnect: float = 0.0

    @nn.compact
    def __call__(self, x, *, train):
        """Images to logits."""
        for place, width in enumerate((32, 64, 128), 1):
            x = nn.relu(layers.Conv(width, (3, 3), kernel_init=layers.he_normal, name=f"conv{place}")(x))
            x = layers.max_pool(x, window=2)
            x = layers.SpatialDropout(self.spatial)(x, train=train)
        x = x.reshape(len(x), -1)
        if self.dropconnect:
            x = layers.DropConnect(64, self.dropconnect, name="dense4")(x, train=train)
        else:
            x = nn.relu(nn.Dense(64, kernel_init=layers.he_normal, name="dense4")(x))
        x = layers.Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes, name="head")(x)


def cases(settings: RegularizationSettings, train_set) -> list[Case]:
    """No regularisation, and each kind alone."""
    classes, s = train_set.num_classes, settings
    weights = optim.no_bias_no_norm

    def chain(*penalties: optax.GradientTransformation) -> optax.GradientTransformation:
        return optax.chain(*penalties, optim.momentum(optim.cosine_decay(s.rate, s.steps)))

    plain, net = chain(), Net(classes)
    halves = optim.add_elastic_net(s.l1 / 2, s.l2 / 2, mask=weights)
    resnet: dict[str, Any] = {"widths": (8, 16, 32)}
    return [
        Case("none", net, plain),
        Case("L2", net, chain(optim.add_l2(s.l2, mask=weights))),
        Case("L1", net, chain(optim.add_l1(s.l1, mask=weights))),
        Case("elastic net", net, chain(halves)),
        Case("dropout", Net(classes, dropout=s.dropout), plain),
        Case("spatial dropout", Net(classes, spatial=s.spatial), plain),
        Case("dropout everywhere", Net(classes, spatial=s.spatial, dropout=s.dropout), plain),
        Case("DropConnect", Net(classes, dropconnect=s.dropout), plain),
        Case("early stopping", net, plain, facts={"stops": True}),
        Case("crops and flips", net, plain, augment=crop_and_flip(train_set)),
        Case("ResNet-20", models.resnet_cifar(20, classes, **resnet), plain),
        Case(
            "ResNet-20, stochastic depth",
            models.resnet_cifar(20, classes, stochastic_depth=s.survival, **resnet),
            plain,
        ),
    ]


def measure(work: Work) -> Measured:
    """Trains and evaluates. Early stopping looks at a fifth of the training images, which are not trained on."""
    if not work.case.facts.get("stops"):
        found = train_and_test(work)
    else:
        part, held_out = work.train_set.split_at_random(0.8, jax.random.fold_in(work.key, 1))
        watch = [train.EarlyStopping("error", patience=8)]
        settings = dataclasses.replace(work.settings, eval_every=max(1, work.steps // 30))
        stopping = dataclasses.replace(
            work,
            train_set=part,
            test_set=held_out,
            settings=settings,
            case=dataclasses.replace(work.case, fit={"watch": watch}),
        )
        found = train_and_test(stopping)
        if found.state is not None and found.history is not None:
            tested = train.evaluate(work.model, found.state, work.test_set, preprocess=work.train_set.standardize)
            found = found.add({"test_error": 100 * tested.error, "test_loss": tested.loss})
    if found.history is None:
        return found
    return found.add(
        {"updates": float(len(found.history.loss)), "gap": found.metrics["test_error"] - found.metrics["train_error"]}
    )


DROPOUT = {"paper": "Dropout (JMLR", "table": "Table 4"}
DEPTH = {"paper": "Stochastic Depth", "dataset": "CIFAR-10", "model": "ResNet-110"}
IN_PAPERS = {
    "dropout": difference(number(**DROPOUT, setting="(Snoek)"), number(**DROPOUT, setting="dropout in FC")),
    "dropout everywhere": difference(
        number(**DROPOUT, setting="(Snoek)"), number(**DROPOUT, setting="dropout in all layers")
    ),
}

ABLATION = Ablation(
    "regularization",
    __doc__,
    variants={
        "default": RegularizationSettings(train_size=1000, test_size=5000, pixels=16, steps=1280, batch_size=64),
        "smoke": RegularizationSettings(
            data="fashion_mini", seeds=2, steps=4, batch_size=16, train_size=100, test_size=50
        ),
        "paper": RegularizationSettings(steps=39_000, eval_every=1950, l2=5e-4, l1=1e-5, checkpoints=True),
    },
    cases=cases,
    measure=measure,
    comparisons=[
        *(
            Comparison(
                f"{name} lowers the test error", "test_error", better=name, worse="none", paper=IN_PAPERS.get(name)
            )
            for name in (
                "L2",
                "L1",
                "elastic net",
                "dropout",
                "spatial dropout",
                "dropout everywhere",
                "DropConnect",
                "early stopping",
                "crops and flips",
            )
        ),
        Comparison(
            "stochastic depth lowers the test error of a ResNet",
            "test_error",
            better="ResNet-20, stochastic depth",
            worse="ResNet-20",
            paper=difference(number(**DEPTH, setting="constant depth"), number(**DEPTH, setting="p_L=0.5")),
        ),
    ],
    table=("test_error", "train_error", "gap", "updates"),
    figures=(Bars("test_error"), Bars("gap", label="test less training error (points)"), Curves("test_error")),
    note="Gap: test error less the training error of the last tenth of the updates (with dropout and augmentation on).",
)

if __name__ == "__main__":
    ABLATION.main()
