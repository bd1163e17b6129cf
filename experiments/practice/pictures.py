"""Writes a folder of JPEG files, such as people have: some classes of CIFAR-10, enlarged to photographs of many sizes.

python -m experiments.practice.pictures --out runs/pictures
python -m experiments.practice --folder runs/pictures
"""

import argparse
from pathlib import Path

import numpy as np

from jaxdl import data
from jaxdl.progress import progress_bar

CLASSES = ("airplane", "automobile", "cat", "frog", "ship")


def write(out: Path, each: int = 800, data_dir: Path | None = None) -> None:
    """Writes OUT/<class>/<number>.jpg.

    Args:
      out: the folder, made if it is not there.
      each: images of each class; they are the first ones of CIFAR-10's training set.
      data_dir: where tensorflow-datasets keeps CIFAR-10.
    """
    from PIL import Image

    train_set, _ = data.load("cifar10", data_dir=data_dir)
    rng = np.random.default_rng(0)
    with progress_bar(f"writing {out}", each * len(CLASSES)) as update:
        for number, name in enumerate(CLASSES):
            folder = out / name
            folder.mkdir(parents=True, exist_ok=True)
            rows = np.flatnonzero(train_set.labels == train_set.class_names.index(name))[:each]
            for place, row in enumerate(rows):
                size = tuple(rng.integers(96, 161, 2).tolist())
                image = Image.fromarray(train_set.images[row]).resize(size, Image.Resampling.BICUBIC)
                image.save(folder / f"{place:04d}.jpg", quality=90)
                update(number * each + place + 1, name)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pictures"), help="the folder (default: runs/pictures)")
    parser.add_argument("--each", type=int, default=800, help="images of each class (default: 800)")
    parser.add_argument("--data-dir", type=Path, help="where tensorflow-datasets keeps CIFAR-10")
    found = parser.parse_args()
    write(found.out, found.each, found.data_dir)


if __name__ == "__main__":
    main()
