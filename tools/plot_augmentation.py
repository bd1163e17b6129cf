"""Draws every random change on CIFAR-10: python tools/plot_augmentation.py --data-dir DIR -> docs/augmentation.png."""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from jaxdl import data

TARGET = Path(__file__).parents[1] / "docs/augmentation.png"
COLUMNS = 8


def rows(train_set: data.Dataset) -> dict[str, data.Augment]:
    """The changes by the text of their calls."""
    geometry = data.Compose((data.RandomCrop(4), data.RandomFlip(), data.Rotate(15), data.Scale(), data.Shear(10)))
    return {
        "RandomCrop(4)": data.RandomCrop(4),
        'RandomCrop(4, "reflect")': data.RandomCrop(4, "reflect"),
        "RandomCropTo(24)": data.RandomCropTo(24),
        "RandomResizedCrop(32)": data.RandomResizedCrop(32),
        "RandomFlip()": data.RandomFlip(),
        "AlternatingFlip(1), epoch 0": data.AlternatingFlip(1).at_step(0),
        "epoch 1": data.AlternatingFlip(1).at_step(1),
        "Translate(6)": data.Translate(6),
        "Rotate(30)": data.Rotate(30),
        'Rotate(30, "reflect")': data.Rotate(30, "reflect"),
        "Scale((0.6, 1.6))": data.Scale((0.6, 1.6)),
        "Stretch((0.6, 1.6))": data.Stretch((0.6, 1.6)),
        "Shear(30)": data.Shear(30),
        "LensDistortion(0.3)": data.LensDistortion(0.3),
        "crop, flip, Rotate(15),\nScale(), Shear(10)": geometry,
        "PcaColor.of(train_set)": data.PcaColor.of(train_set),
        'PcaColor.of(train_set,\nby="deviation")': data.PcaColor.of(train_set, by="deviation"),
        "ColorJitter(0.4, 0.4,\n0.4, 0.1)": data.ColorJitter(0.4, 0.4, 0.4, 0.1),
        "ColorJitter(hue=0.5)": data.ColorJitter(hue=0.5),
        "Cutout(16)": data.Cutout(16),
        "Mixup(1.0, 10)": data.Mixup(1.0, 10),
        "CutMix(1.0, 10)": data.CutMix(1.0, 10),
    }


def main() -> None:
    """Draws the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", required=True, help="the folder of tensorflow-datasets")
    train_set, _ = data.load("cifar10", data_dir=parser.parse_args().data_dir)
    changes = rows(train_set)
    images, labels = jnp.asarray(train_set.images[6 : 6 + COLUMNS]), jnp.asarray(train_set.labels[6 : 6 + COLUMNS])
    keys = jax.random.split(jax.random.key(1), COLUMNS)
    pictures = jax.jit(lambda: [data.Compose((change,))(keys, images, labels)[0] for change in changes.values()])()
    shown = {"the image": images, **dict(zip(changes, pictures, strict=True))}
    figure, axes = plt.subplots(len(shown), COLUMNS, figsize=(9, 0.83 * len(shown)), squeeze=False)
    for line, (name, pictures) in zip(axes, shown.items(), strict=True):
        for axis, picture in zip(line, np.asarray(pictures), strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
        line[0].text(-0.15, 0.5, name, ha="right", va="center", fontsize=8, transform=line[0].transAxes)
    figure.subplots_adjust(left=0.22, right=0.995, top=0.998, bottom=0.002, hspace=0.04, wspace=0.04)
    figure.savefig(TARGET, dpi=110)
    print(f"Written to {TARGET}")


if __name__ == "__main__":
    main()
