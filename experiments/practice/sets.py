"""The images to practise on: a named data set, or a folder of one's own."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from experiments.ablation.settings import shrunk
from jaxdl.arguments import require
from jaxdl.data import DATASETS, Dataset, DecodeCenterCrop, folder, from_arrays, in_memory, load

SPLITS = ("val", "test", "valid")


@dataclasses.dataclass(frozen=True)
class Sets:
    """Where the images come from. `load` gives three parts: to train on, to decide by, and to test with."""

    data: str = "fashion_mini"
    """Data set: fashion_mini ships with the package; cifar10, fashion_mnist, mnist, ... come through tfds."""
    data_dir: Path | None = None
    """Where tensorflow-datasets keeps its data (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)."""
    folder: Path | None = None
    """Images of one's own, in the place of --data: FOLDER/train/<class>/*.jpg and FOLDER/val/<class>/*.jpg, or
    FOLDER/<class>/*.jpg, of which a sixth is then kept for the test."""
    pixels: int | None = None
    """Side of the images: --folder's are cut to squares (default 32 pixels), --data's shrunk to a divisor of theirs."""
    train_size: int | None = None
    """Use only the first so many training images."""
    held_out: float = 0.2
    """Share of the training images that no net is trained on, and by which everything is decided."""

    def __post_init__(self):
        """Refuses what cannot be used."""
        require(self.data in DATASETS, f"--data must be one of {', '.join(DATASETS)}, got {self.data!r}")
        require(0 < self.held_out < 1, f"--held-out must be in (0, 1), got {self.held_out:g}; pass 0.2")
        for name in ("pixels", "train_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name.replace('_', '-')} must be at least 1, got {value}")

    @property
    def name(self) -> str:
        """The set's name, for files."""
        return self.folder.expanduser().absolute().name if self.folder is not None else self.data

    def whole(self) -> tuple[Dataset, Dataset]:
        """The training set and the test set, in memory."""
        if self.folder is not None:
            train_set, test_set = of_folder(self.folder.expanduser(), self.pixels or 32)
        else:
            train_set, test_set = load(self.data, data_dir=self.data_dir)
            if self.pixels is not None:
                train_set, test_set = shrunk(train_set, self.pixels), shrunk(test_set, self.pixels)
        return train_set[: self.train_size], test_set

    def load(self, seed: int = 0) -> tuple[Dataset, Dataset, Dataset]:
        """The images to train on, those to decide by, and the test set."""
        train_set, test_set = self.whole()
        train_set, held_out = train_set.split_at_random(1 - self.held_out, jax.random.key(seed))
        return train_set, held_out, test_set


def of_folder(root: Path, pixels: int) -> tuple[Dataset, Dataset]:
    """The images of a folder in memory, their middle squares resized to `pixels`; standardised by their own statistics.

    Args:
      root: it has the folders train and val (or test, or valid) with a folder for each class; or these class folders
        themselves, of whose images a sixth, drawn at random, is then the test set.
      pixels: side of the squares.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it does not hold classes of images.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"--folder must be a folder with images, got {root}, which is not there")
    view = DecodeCenterCrop(pixels, pixels)
    if (root / "train").is_dir() and any((root / name).is_dir() for name in SPLITS):
        streams = folder(root, train_view=view, test_view=view, workers=0)
    else:
        root = root.absolute()
        whole, _ = folder(root.parent, train_view=view, train=root.name, test=root.name, workers=0)
        streams = whole.split_at_random(5 / 6, jax.random.key(0))
    train_set, test_set = map(in_memory, streams)
    order = np.random.default_rng(0).permutation(len(train_set))  # a folder's images are sorted by class
    train_set = from_arrays(
        train_set.images[order], train_set.labels[order], name=root.name, classes=train_set.class_names
    )
    test_set = from_arrays(
        test_set.images,
        test_set.labels,
        name=root.name,
        split="test",
        classes=test_set.class_names,
        standardize=train_set.standardize,
    )
    return train_set, test_set
