"""Draws the bundled sample of Fashion-MNIST from tensorflow-datasets' full copy.

    python tools/make_fashion_mini.py --data-dir ../shared/data/tfds

Stratified and seeded, so the file that comes out is always the same.
"""

import argparse
from pathlib import Path

import numpy as np

from jaxdl import data

TARGET = Path(__file__).parents[1] / "jaxdl/data/fashion_mini.npz"
PER_CLASS = {"train": 1000, "test": 200}
SEED = 0


def main() -> None:
    """Writes `jaxdl/data/fashion_mini.npz`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="where tensorflow-datasets keeps fashion_mnist")
    rng = np.random.default_rng(SEED)
    arrays = {}
    for split in data.load("fashion_mnist", data_dir=parser.parse_args().data_dir):
        size = PER_CLASS[split.split]
        rows = [rng.choice(np.flatnonzero(split.labels == label), size, replace=False) for label in range(10)]
        rows = rng.permutation(np.concatenate(rows)).astype(np.int32)
        arrays[f"{split.split}_images"] = split.images[rows]
        arrays[f"{split.split}_labels"] = split.labels[rows]
        arrays[f"{split.split}_rows"] = rows
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
