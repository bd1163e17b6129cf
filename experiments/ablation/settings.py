"""What all experiments can be told."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.arguments import check_flag, check_integer, check_real, require
from jaxdl.data import DATASETS, Compose, Dataset, RandomCrop, RandomFlip, load


@dataclasses.dataclass(frozen=True)
class BareSettings:
    """What to run, for an experiment without a data set, or that chooses its sets by itself."""

    seeds: int = 3
    """Runs of each case, with the seeds 0, 1, ..."""
    steps: int = 390
    """Updates in each run."""
    out: Path = Path("runs")
    """Results go to OUT/<experiment>/<settings>/; finished runs that are there are not run again."""

    # What `Settings` makes settings, for runs that do without.
    eval_every = None
    checkpoints = False

    def __post_init__(self):
        """Refuses what cannot be run, before anything starts."""
        for name in ("seeds", "steps"):
            check_integer("experiment", name, getattr(self, name), at_least=1, remedy=f"pass --{name} 1 or more")

    def sets(self) -> tuple[Any, Any]:
        """What is passed to cases and measures in the place of the sets."""
        return None, None

    def title(self) -> str:
        """Data, budget and seeds in a line."""
        return f"at most {self.steps:,} steps, {self.seeds} seed{'s' if self.seeds > 1 else ''}"


@dataclasses.dataclass(frozen=True)
class Settings(BareSettings):
    """What to run. An experiment with settings of its own derives a dataclass from it."""

    data: str = "cifar10"
    """Data set: fashion_mini ships with the package; cifar10, fashion_mnist, mnist, ... come through tfds."""
    data_dir: Path | None = None
    """Where tensorflow-datasets keeps its data (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)."""
    batch_size: int = 128
    """Images in a batch."""
    eval_every: int | None = None
    """Updates between evaluations; by default one tenth of the run."""
    train_size: int | None = None
    """Use only the first so many training images."""
    test_size: int | None = None
    """Use only the first so many test images."""
    pixels: int | None = None
    """Shrink images to so many pixels a side, a divisor of theirs, by means of squares; 16 makes steps on CIFAR-10 four
    times faster."""
    held_out: float = 0.0
    """If above 0: leave this last share of the training images out of training, and evaluate on it, not on the test
    set."""
    checkpoints: bool = False
    """Save each run up to twenty times on its way, so that a run that was killed continues in its middle."""

    def __post_init__(self):
        """Refuses what cannot be run, before anything starts."""
        super().__post_init__()
        require(self.data in DATASETS, f"--data must be one of {', '.join(DATASETS)}, got {self.data!r}")
        check_integer("experiment", "batch_size", self.batch_size, at_least=1, remedy="pass --batch-size 1 or more")
        for name in ("eval_every", "train_size", "test_size", "pixels"):
            if getattr(self, name) is not None:
                check_integer("experiment", name, getattr(self, name), at_least=1)
        check_real("experiment", "held_out", self.held_out, at_least=0, below=1, remedy="pass --held-out 0.1")
        check_flag("experiment", "checkpoints", self.checkpoints)

    def sets(self) -> tuple[Dataset, Dataset]:
        """The set to train on and the set to evaluate on."""
        train_set, test_set = load(self.data, data_dir=self.data_dir)
        train_set, test_set = train_set[: self.train_size], test_set[: self.test_size]
        if self.pixels is not None:
            train_set, test_set = shrunk(train_set, self.pixels), shrunk(test_set, self.pixels)
        if self.held_out:
            held_out = round(self.held_out * len(train_set))
            require(
                0 < held_out < len(train_set),
                f"held_out={self.held_out:g} of {len(train_set)} training images leaves none to train or evaluate on",
            )
            train_set, test_set = train_set[:-held_out], train_set[-held_out:]
        return train_set, test_set

    def title(self) -> str:
        """Data, budget and seeds in a line."""
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        held = ", errors on held-out training images" if self.held_out else ""
        of = f", {self.train_size:,} images" if self.train_size else ""
        of += f" of {self.pixels} pixels" if self.pixels else ""
        return f"{self.data}{of}: {self.steps:,} steps of {self.batch_size} images, {seeds}{held}"


UNIMPORTANT = ("seeds", "data_dir", "out", "checkpoints")
"""Settings that do not change the result of a run."""


def shrunk(dataset: Dataset, pixels: int) -> Dataset:
    """The images with `pixels` a side: each pixel is the mean of a square of pixels, rounded to the nearest."""
    count, height, width, channels = dataset.images.shape
    require(
        height == width and height % pixels == 0,
        f"--pixels must divide the images' side, {height} pixels, got pixels={pixels}",
    )
    factor = height // pixels
    squares = dataset.images.reshape(count, pixels, factor, pixels, factor, channels)
    sums = squares.sum((2, 4), dtype=np.uint32)
    images = ((sums + factor**2 // 2) // factor**2).astype(np.uint8)
    return dataclasses.replace(dataset, inputs=images)


def crop_and_flip(dataset: Dataset) -> Compose:
    """Random crops after a padding of an eighth of the images' side (4 of 32 pixels), and random flips."""
    return Compose((RandomCrop(dataset.image_shape[0] // 8), RandomFlip()))
