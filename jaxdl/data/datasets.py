"""`load`: a data set's train and test splits by name."""

import difflib
import os
import warnings
from pathlib import Path

import numpy as np

from jaxdl.arguments import check_flag, looks_like_path, require, shown
from jaxdl.data import array_cache, bundled, tfds_reader
from jaxdl.data.dataset import Dataset
from jaxdl.data.standardization import Standardize, channel_statistics

DATASETS = ("fashion_mini", *tfds_reader.NAMES)
"""The names `load` knows."""


def load(
    name: str = "fashion_mini",
    *,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    download: bool = True,
) -> tuple[Dataset, Dataset]:
    """Loads the train and the test split of a data set.

    "fashion_mini" (10,000/2,000 images of Fashion-MNIST) ships with the package. The others are read through
    tensorflow-datasets, without TensorFlow: "cifar10", "cifar100", "fashion_mnist", "mnist", "svhn_cropped". Their
    images are decoded once (ten seconds for CIFAR-10, with a progress bar); from then on the arrays come memory-mapped
    from a cache that is checked on every load.

    Args:
      name: one of `DATASETS`.
      data_dir: where tensorflow-datasets keeps its data; by default `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      cache_dir: where decoded arrays are kept; by default `$JAXDL_CACHE`, or `~/.cache/jaxdl`. A cache that cannot
        be written is a warning, not an error.
      download: whether to download and prepare a missing data set. That needs a network and TensorFlow
        (`pip install "jaxdl[prepare]"`); reading needs neither.

    Returns:
      The train and the test split.

    Raises:
      ValueError: `name` is unknown, `data_dir` is a file, or `download` is not a bool.
      DatasetNotFoundError: the data set is not there and could not be downloaded. The message says where it was looked
        for and how to prepare it.

    Example:
      >>> train_set, test_set = load("fashion_mini")
      >>> train_set, test_set.class_names[9]
      (<fashion_mini train: 10,000 images 28x28x1, 10 classes>, 'Ankle boot')
    """
    _check_name(name)
    check_flag("load", "download", download)
    for argument, folder in (("data_dir", data_dir), ("cache_dir", cache_dir)):
        require(
            folder is None or isinstance(folder, str | os.PathLike),
            f"load: {argument} must be a folder's path, got {argument}={shown(folder)}",
        )
    if name == "fashion_mini":
        arrays = bundled.fashion_mini()
        return _splits(name, arrays, bundled.FASHION_MNIST_CLASSES, channel_statistics(arrays["train_images"]))

    source = tfds_reader.locate(name, data_dir, download=download)
    folder = Path(cache_dir or array_cache.default_directory()).expanduser() / "datasets" / source.key
    arrays = None
    try:
        arrays, facts = array_cache.read(folder)
    except FileNotFoundError:
        pass
    except array_cache.DamagedCacheError as damage:
        warnings.warn(f"load: the cache of {name} is damaged and is made anew ({damage})", stacklevel=2)
    if arrays is None:
        arrays, class_names = tfds_reader.decode(source)
        statistics = channel_statistics(arrays["train_images"])
        facts = {"class_names": class_names, "mean": statistics.mean, "std": statistics.std}
        try:
            array_cache.write(folder, arrays, facts)
        except OSError as error:
            warnings.warn(
                f"load: {name} could not be cached in {folder} ({error}), so it will be decoded again next time; "
                "pass cache_dir= or set JAXDL_CACHE to a folder that can be written",
                stacklevel=2,
            )
    return _splits(name, arrays, tuple(facts["class_names"]), Standardize(tuple(facts["mean"]), tuple(facts["std"])))


def _check_name(name: str) -> None:
    known = f"the known ones are {', '.join(DATASETS)}"
    require(isinstance(name, str), f"load: name must be the name of one data set, got name={shown(name)}; {known}")
    require(
        name in DATASETS or not looks_like_path(name),
        f"load: name must be the name of a data set, got {name!r}, which looks like a path; data.folder({name!r}) "
        f"reads folders of images; {known}",
    )
    near = difflib.get_close_matches(name.lower().replace("-", "_"), DATASETS, 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    require(name in DATASETS, f"load: unknown data set {name!r}; {meant}{known}")


def _splits(
    name: str, arrays: dict[str, np.ndarray], class_names: tuple[str, ...], standardize: Standardize
) -> tuple[Dataset, Dataset]:
    train, test = (
        Dataset(name, split, arrays[f"{split}_images"], arrays[f"{split}_labels"], class_names, standardize)
        for split in ("train", "test")
    )
    return train, test
