"""Features learned on other images help most where there are few of one's own; with many, training all layers wins.

Claim: with little data a new head on frozen features is the safer choice if the images are like those that the features
were learned from; with much data fine-tuning all layers is better, and training from scratch catches up; and the less
alike the images are, the less frozen features help. (The table of the lecture notes on transfer learning: little or
much data, near or far.)

Paper: Yosinski et al., How transferable are features in deep neural networks?, 2014 (arXiv 1411.1792), on halves of
ImageNet; discriminative rates: Howard and Ruder 2018 (arXiv 1801.06146). Neither has numbers for what is done here: a
ResNet-20 that others trained on CIFAR-10 (test error 8.27 %), to Fashion-MNIST (things: nearer) and MNIST (digits:
farther), with 100, 1,000 and 10,000 training images, drawn anew for every seed with equally many of each class. Images
of 28 x 28 grey pixels are shown as they are, in three equal channels. Rates are the best of a grid on held-out
training images of Fashion-MNIST (`--variant rates`).

Command: python -m experiments.transfer
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax

from experiments.ablation import (
    Ablation,
    BareSettings,
    Case,
    Comparison,
    Heat,
    Measured,
    Results,
    Row,
    Work,
    train_and_test,
)
from experiments.ablation.rows import best_of
from jaxdl import data, models, optim, transfer
from jaxdl.arguments import check_integer, check_real, require

WEIGHTS = Path(__file__).parents[2] / "shared" / "weights" / "resnet20-12fca82f.th"
SOURCE = "https://github.com/akamaster/pytorch_resnet_cifar10, pretrained_models/resnet20-12fca82f.th"
IMAGENET = data.Standardize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # what the weights were trained with
GROUPS = ("stem", "stage1", "stage2", "stage3", "head")
METHODS = SCRATCH, HEAD, ALL, DISCRIMINATIVE = ("from scratch", "head only", "fine-tune all", "discriminative")
NEARER, FARTHER = "fashion_mnist", "mnist"


@dataclasses.dataclass(frozen=True)
class Rates:
    """Peak learning rate of each method."""

    from_scratch: float = 0.03
    head_only: float = 1.0
    fine_tune_all: float = 0.1
    discriminative: float = 0.1


@dataclasses.dataclass(frozen=True)
class TransferSettings(BareSettings):
    """What to run."""

    weights: Path = WEIGHTS
    """Weights of akamaster's ResNet-20, as .th or .npz."""
    data: tuple[str, ...] = (NEARER, FARTHER)
    """Data sets of grey images, the nearer one first."""
    data_dir: Path | None = None
    """Where tensorflow-datasets keeps its data (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)."""
    steps: int = 100
    """Updates with the first size; twice as many with each further one."""
    sizes: tuple[int, ...] = (100, 1000, 10000)
    """Numbers of training images, multiples of the number of classes."""
    batch_size: int = 32
    """Images in a batch."""
    test_size: int = 5000
    """How many of the first test images are used for the errors."""
    rates: Rates = Rates()
    """Peak learning rates; they fall to 0 along a cosine."""
    rate_grid: tuple[float, ...] = ()
    """If given: run every rate of it instead, and count errors on training images that are held out."""

    def __post_init__(self):
        """Refuses what cannot be run."""
        super().__post_init__()
        for name in self.data:
            require(name in data.DATASETS, f"--data must be among {', '.join(data.DATASETS)}, got {name!r}")
        for value in (self.batch_size, self.test_size, *self.sizes):
            check_integer("transfer", "batch_size, test_size and sizes", value, at_least=1)
        for rate in (*dataclasses.asdict(self.rates).values(), *self.rate_grid):
            check_real("transfer", "rate", rate, at_least=0)

    def sets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The sets to train on and to evaluate on, by name."""
        loaded = {name: data.load(name, data_dir=self.data_dir) for name in self.data}
        train_sets, test_sets = ({name: as_source(pair[i]) for name, pair in loaded.items()} for i in (0, 1))
        return train_sets, test_sets

    def title(self) -> str:
        """Data, budget and seeds in a line."""
        sizes = ", ".join(f"{size:,}" for size in self.sizes)
        held = ", errors on held-out training images" if self.rate_grid else ""
        return f"{', '.join(self.data)}, {sizes} images: {self.seeds} seed{'s' if self.seeds > 1 else ''}{held}"


def as_source(dataset: data.Dataset) -> data.Dataset:
    """Grey images as the pretrained network takes them: three equal channels, ImageNet's means and deviations."""
    require(dataset.image_shape[2] == 1, f"transfer: needs grey images, got {dataset!r}")
    return dataclasses.replace(dataset, inputs=np.repeat(dataset.images, 3, -1), standardize=IMAGENET)


def some_of_each(dataset: data.Dataset, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images to train on, equally many of each class, and the others in random order."""
    require(
        size % dataset.num_classes == 0,
        f"--sizes must be multiples of the {dataset.num_classes} classes of {dataset.name}, got {size}",
    )
    order = np.random.default_rng(seed).permutation(len(dataset))
    of_class = [
        order[dataset.labels[order] == label][: size // dataset.num_classes] for label in range(dataset.num_classes)
    ]
    chosen = np.concatenate(of_class)
    require(len(chosen) == size, f"--sizes: {dataset.name} has too few images of some class for {size}")
    return chosen, order[~np.isin(order, chosen)]


def cases(settings: TransferSettings, train_sets) -> list[Case]:
    """Every method on every data set and size, at its rate or at every rate of the grid."""
    if not settings.weights.is_file():
        raise FileNotFoundError(f"no file {settings.weights}; fetch it from {SOURCE} and pass --weights FILE")
    pretrained = transfer.load_torch_weights(models.resnet_cifar(20), settings.weights)
    rates = dict(zip(METHODS, dataclasses.asdict(settings.rates).values(), strict=True))
    made = []
    for name, train_set in train_sets.items():
        model = models.resnet_cifar(20, train_set.num_classes)
        for number, size in enumerate(settings.sizes):
            steps = settings.steps * 2**number
            for method in METHODS:
                start: dict[str, Any] = {} if method == SCRATCH else {"start": pretrained, "new": ("head",)}
                for rate in settings.rate_grid or (rates[method],):
                    at = f", rate {rate:g}" if settings.rate_grid else ""
                    tuned: dict[str, Any] = {"rate": rate} if settings.rate_grid else {"images": size}
                    made.append(
                        Case(
                            f"{named(name, size)}{at}, {method}",
                            model,
                            optimizer(method, rate, steps),
                            steps=steps,
                            batch_size=min(settings.batch_size, size),
                            fit={"eval_every": steps},
                            facts={"data": name, "size": size, "method": method, **tuned},
                            **start,
                        )
                    )
    return made


def named(data_set: str, size: int) -> str:
    """The table's name for a data set and size."""
    return f"{data_set}, {size:,} images"


@functools.cache
def optimizer(method: str, rate: float, steps: int) -> optax.GradientTransformation:
    """The chain of a method; the same object for the same arguments, so that it compiles once."""
    chain = optim.momentum(optim.cosine_decay(rate, steps), weight_decay=1e-4)
    if method == HEAD:
        return optax.chain(chain, transfer.freeze(lambda path: not path.startswith("head")))
    return optax.chain(chain, transfer.scale_by_depth(GROUPS)) if method == DISCRIMINATIVE else chain


def measure(work: Work) -> Measured:
    """Trains and tests with some images of the set, drawn anew for every seed."""
    facts, settings = work.case.facts, work.settings
    train_set, test_set = work.train_set[facts["data"]], work.test_set[facts["data"]]
    chosen, others = some_of_each(train_set, facts["size"], work.seed)
    if settings.rate_grid:
        test_set = train_set.take(others)
    return train_and_test(
        dataclasses.replace(work, train_set=train_set.take(chosen), test_set=test_set[: settings.test_size])
    )


def by_method(cases: Sequence[Case], results: Results) -> Results:
    """The table: a row for each data set and size (and rate), a column for each method; and the best rates.

    The metric `share_of_scratch` is the error divided by that from scratch.
    """
    rows, tuned = [], {}
    for case in cases:
        method = case.facts["method"]
        group = case.name.removesuffix(f", {method}")
        scratch = results.values("test_error", f"{group}, {SCRATCH}")
        for seed, error in results.values("test_error", case.name).items():
            rows.append(Row(group, seed, column(method), error))
            if scratch.get(seed):
                rows.append(Row(case.name, seed, "share_of_scratch", error / scratch[seed]))
        if "rate" in case.facts:
            tuned.setdefault((case.facts["data"], case.facts["size"], method), {})[case.name] = case.facts["rate"]
    for (data_set, size, method), rates in tuned.items():
        for name in best_of(results, {method: list(rates)}, "test_error").values():
            rows.append(Row(f"{named(data_set, size)}, best rate", 0, column(method), rates[name]))
    names = tuple(dict.fromkeys(row.case for row in rows if row.case not in results.cases))
    return dataclasses.replace(results.with_rows(rows, names), listed=names)


def column(method: str) -> str:
    """The metric of a method in the table."""
    return method.replace(" ", "_").replace("-", "_")


def compared(claim: str, metric: str, better: tuple, worse: tuple) -> Comparison:
    """A comparison of two cases: data set, images, method."""
    names = [f"{named(data_set, size)}, {method}" for data_set, size, method in (better, worse)]
    return Comparison(claim, metric, better=names[0], worse=names[1])


ABLATION = Ablation(
    "transfer",
    __doc__,
    variants={
        "default": TransferSettings(),
        "rates": TransferSettings(
            data=(NEARER,),
            sizes=(1000,),
            steps=200,
            seeds=1,
            test_size=2000,
            rate_grid=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        ),
        "smoke": TransferSettings(data=("fashion_mini",), sizes=(20,), steps=2, batch_size=8, seeds=1, test_size=50),
    },
    cases=cases,
    measure=measure,
    derive=by_method,
    comparisons=[
        compared(
            "with 100 images of the nearer set a new head is better than fine-tuning all layers",
            "test_error",
            better=(NEARER, 100, HEAD),
            worse=(NEARER, 100, ALL),
        ),
        *(
            compared(
                f"with 10,000 images of {name} fine-tuning all layers is better than a new head",
                "test_error",
                better=(name, 10_000, ALL),
                worse=(name, 10_000, HEAD),
            )
            for name in (NEARER, FARTHER)
        ),
        *(
            compared(
                f"on {name} fine-tuning saves a larger part of the error from scratch with 100 images than with 10,000",
                "share_of_scratch",
                better=(name, 100, ALL),
                worse=(name, 10_000, ALL),
            )
            for name in (NEARER, FARTHER)
        ),
        *(
            compared(
                f"with {size:,} images a new head saves a larger part of the error from scratch on the nearer set",
                "share_of_scratch",
                better=(NEARER, size, HEAD),
                worse=(FARTHER, size, HEAD),
            )
            for size in (100, 10_000)
        ),
    ],
    table=tuple(map(column, METHODS)),
    figures=(
        *(Heat("test_error", "images", "method", where={"data": name}, title=name) for name in (NEARER, FARTHER)),
        Heat("test_error", "rate", "method"),
    ),
    note="Test errors in percent of a ResNet-20 from CIFAR-10.",
)

if __name__ == "__main__":
    ABLATION.main()
