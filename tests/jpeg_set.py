"""JPEG files of real pictures, and a set of tensorflow-datasets made of the same files."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxdl import data

NAMES = ["shirt", "shoe", "bag"]
LABELS = [6, 7, 8]  # of Fashion-MNIST


def write_jpegs(root: Path, train: int, test: int) -> dict[str, list[Path]]:
    """Pictures of three classes, enlarged to colour photographs' sizes: root/train/<class>/*.jpg and root/val/..."""
    train_set, _ = data.load("fashion_mini")
    rows = np.flatnonzero(np.isin(train_set.labels, LABELS))[: train + test]
    files: dict[str, list[Path]] = {"train": [], "val": []}
    for number, row in enumerate(rows.tolist()):
        split = "train" if number < train else "val"
        path = root / split / NAMES[LABELS.index(train_set.labels[row])] / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        colours = Image.merge("RGB", [Image.fromarray(train_set.images[row, ..., 0])] * 3)
        size = (400 + number % 7, 300 - number % 5)
        colours.resize(size if number % 3 else size[::-1], Image.Resampling.BICUBIC).save(path, quality=90)
        files[split].append(path)
    return files


def prepare(data_dir: Path, files: dict[str, list[Path]]) -> None:
    """Makes the set "pictures" of tensorflow-datasets, with the splits "train" and "test", without TensorFlow."""
    import tensorflow_datasets as tfds

    class Pictures(tfds.core.GeneratorBasedBuilder):
        """The builder; its class' name is the set's."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=NAMES)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples("train"), "test": self._generate_examples("val")}

        def _generate_examples(self, split):
            for path in files[split]:
                # As bytes: an array would be encoded by TensorFlow.
                yield path.name, {"image": path.read_bytes(), "label": path.parent.name}

    Pictures(data_dir=data_dir, file_format="array_record").download_and_prepare()
