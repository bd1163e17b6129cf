"""`folder` and `stream`: streams of class folders, and of sets that tensorflow-datasets prepared."""

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.data import tfds_reader
from jaxdl.data.streams.class_files import class_files
from jaxdl.data.streams.sources import Files, Records
from jaxdl.data.streams.stream import IMAGENET_STANDARDIZE, Stream
from jaxdl.data.streams.views import DecodeCenterCrop, DecodeRandomResizedCrop, View

_TRAIN_VIEW, _TEST_VIEW = DecodeRandomResizedCrop(), DecodeCenterCrop()


def folder(
    root: str | os.PathLike,
    *,
    train_view: View = _TRAIN_VIEW,
    test_view: View = _TEST_VIEW,
    standardize: Callable[[Any], Any] = IMAGENET_STANDARDIZE,
    train: str = "train",
    test: str | None = None,
    workers: int | None = None,
    strict: bool = False,
) -> tuple[Stream, Stream]:
    """Streams of image files in class folders: root/train/<class>/*.jpg and root/val/<class>/*.jpg.

    Files whose names do not end like an image's (.jpg, .JPEG, .png and so on) are left out, and so are images beside
    the class folders; a warning counts them. Hidden files and folders, whose names begin with a dot, are left out
    without a warning. Folders inside of class folders are searched too, each once, also where links lead to it again.
    Classes are numbered in the order of their names. Tiny-ImageNet is read as it is distributed: its
    val/val_annotations.txt tells the classes of val/images/*.JPEG.

    Worker processes (see `Stream`) import the main script again: put what it does under
    `if __name__ == "__main__":`, or pass `workers=0`.

    A run is resumed if names and classes of the files are the same; what is in the files is not compared.

    Args:
      root: the folder that holds the splits.
      train_view: how training images are decoded and cropped.
      test_view: how test images are.
      standardize: from uint8 images to the model's inputs; by default with ImageNet's statistics.
      train: name of the training split's folder.
      test: name of the other split's folder; by default "val", "test" or "valid", whichever is there.
      workers: as for `Stream`.
      strict: as for `Stream`.

    Returns:
      The train and the test split.

    Raises:
      ValueError: a folder is missing or holds no class with images, the splits have different classes, or
        val_annotations.txt does not list the images.

    Example:
      >>> import tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as root:
      ...     for split in ("train", "val"):
      ...         for name in ("cat", "dog"):
      ...             path = Path(root, split, name, "1.png")
      ...             path.parent.mkdir(parents=True)
      ...             Image.new("RGB", (300, 200), name == "cat" and "red" or "blue").save(path)
      ...     train_set, test_set = folder(root)
      ...     train_set, test_set.class_names
      (<... train: stream of 2 images 224x224x3, 2 classes>, ('cat', 'dog'))
    """
    require(
        isinstance(root, str | os.PathLike) and bool(str(root)),
        f"folder: root must be a folder's path, got root={shown(root)}",
    )
    path = Path(root).expanduser().absolute()
    require(
        path.is_dir(),
        f"folder: root must be a folder, got {path}, which {'is a file' if path.exists() else 'is not there'}",
    )
    if test is None:
        names = [name for name in ("val", "test", "valid") if (path / name).is_dir()]
        there = sorted(p.name for p in path.iterdir() if p.is_dir())
        remedy = "pass test=NAME for another"
        if train not in there:
            remedy = f"the class folders are in {train}, and in one of these"
            remedy += f"; pass {str(path.parent)!r}" if path.name in ("train", "val", "test", "valid") else ""
        require(bool(names), f"folder: {path} must have a folder val, test or valid, got {there[:5]}; {remedy}")
        test = names[0]
    found = {}
    for split in (train, test):
        require(
            (path / split).is_dir(),
            f"folder: {path} must have a folder {split!r}, got {sorted(p.name for p in path.iterdir() if p.is_dir())}",
        )
        found[split] = class_files(path / split)
    classes = tuple(found[train])
    _check_classes({split: set(files) for split, files in found.items()})
    streams = []
    for split, view in ((train, train_view), (test, test_view)):
        paths = [name for files in found[split].values() for name in files]
        labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(files) for files in found[split].values()])
        source = Files(path / split, paths, labels)
        named = "train" if split == train else "test"
        streams.append(Stream(path.name, named, source, view, classes, standardize, workers, strict))
    return streams[0], streams[1]


def _check_classes(found: dict[str, set[str]]) -> None:
    """Raises `ValueError` unless the splits have the same classes."""
    missing = sorted(set.union(*found.values()) - set.intersection(*found.values()))
    only = [f"{', '.join(sorted(own & set(missing))[:5])} in {split!r} only" for split, own in found.items()]
    remedy = "give each split a folder for every class"
    if len({unicodedata.normalize("NFC", name) for name in missing}) < len(missing):
        missing_of = [ascii(sorted(own & set(missing))[:2]) for own in found.values()]
        remedy = f"some are the same letters in two forms of Unicode, {' and '.join(missing_of)}: rename the folders"
    require(
        not missing,
        f"folder: {' and '.join(map(repr, found))} must have the same classes, got "
        f"{' and '.join(text for text in only if not text.startswith(' in '))}; {remedy}",
    )


def stream(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    train_view: View = _TRAIN_VIEW,
    test_view: View = _TEST_VIEW,
    standardize: Callable[[Any], Any] = IMAGENET_STANDARDIZE,
    train: str = "train",
    test: str = "test",
    workers: int | None = None,
    strict: bool = False,
) -> tuple[Stream, Stream]:
    """Streams of a set that tensorflow-datasets has prepared in array_record format, read without TensorFlow.

    The set must have the features "image" and "label": "imagenet2012" (with test="validation"), "oxford_flowers102",
    "oxford_iiit_pet", and so on.

    Args:
      name: the set's name in tensorflow-datasets.
      data_dir: where tensorflow-datasets keeps its data; by default `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      train_view: as for `folder`.
      test_view: as for `folder`.
      standardize: as for `folder`.
      train: the split to train on; slices such as "train[:90%]" hold out a share.
      test: the split to evaluate on, "train[90%:]" for example.
      workers: as for `Stream`.
      strict: as for `Stream`.

    Returns:
      The train and the test split.

    Raises:
      ValueError: an argument is wrong, or the set has no images with labels.
      DatasetNotFoundError: the set is not there; the message says how to prepare it.
    """
    require(isinstance(name, str) and bool(name), f"stream: name must be a data set's name, got name={shown(name)}")
    source = tfds_reader.locate(name, data_dir, download=False, function="stream")
    labels = source.folder / "label.labels.txt"
    features = json.loads((source.folder / "features.json").read_text())
    kinds = features.get("featuresDict", {}).get("features", {})
    count = int(kinds.get("label", {}).get("classLabel", {}).get("numClasses", 0))
    require(
        "image" in kinds and count > 0,
        f'stream: {name} must have the features "image" and "label", of which the latter is a ClassLabel, got '
        f"{', '.join(sorted(kinds))}; read other sets with tensorflow-datasets, and pass arrays to data.from_arrays",
    )
    # Without the file classes have no names but their numbers, as MNIST's.
    names = labels.read_text().split("\n") if labels.is_file() else map(str, range(count))
    classes = tuple(names)[:count]
    streams = []
    for named, split, view in (("train", train, train_view), ("test", test, test_view)):
        try:
            records = Records(str(source.folder), split, source.key)
            streams.append(Stream(name, named, records, view, classes, standardize, workers, strict))
        except ValueError as error:
            raise ValueError(f"stream: {named}={split!r} is no split of {name}: {error}") from error
    return streams[0], streams[1]
