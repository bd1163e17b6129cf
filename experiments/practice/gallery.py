"""Draws the pictures of docs/practice.md: what a pretrained ResNet-20 does with CIFAR-10.

    python -m experiments.practice.gallery --weights ../shared/weights/resnet20-12fca82f.npz

The weights are those of resnet20 that Yerlan Idelbayev published for CIFAR-10 (8.27 % test error).
"""

import argparse
from pathlib import Path

import jax.numpy as jnp

from jaxdl import data, models, practice, transfer

IMAGENET = data.IMAGENET_STANDARDIZE  # as the weights were trained


def draw(weights: Path, out: Path, data_dir: Path | None = None) -> None:
    """Writes the pictures to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    model = models.resnet_cifar(20)
    variables = transfer.load_torch_weights(model, weights)
    _, test_set = data.load("cifar10", data_dir=data_dir)
    few, names = test_set[:1000], test_set.class_names
    practice.inspect(model, variables, few, preprocess=IMAGENET).plot(out / "inspection.png")
    practice.filters(variables).plot(out / "filters.png")
    practice.top_patches(model, variables, few, "stage2_block1", range(6), preprocess=IMAGENET).plot(
        out / "patches.png"
    )
    images, labels = jnp.asarray(test_set.images[:6]), jnp.asarray(test_set.labels[:6])
    practice.saliency(model, variables, images, labels, preprocess=IMAGENET).plot(out / "saliency.png", names)
    label = int(test_set.labels[0])
    practice.occlusion(model, variables, test_set.images[0], label, preprocess=IMAGENET).plot(
        out / "occlusion.png", names
    )
    found = practice.mistakes(model, variables, test_set, preprocess=IMAGENET)
    print(found)
    found.plot(out / "confusion.png")
    found.plot_images(out / "mistakes.png")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="resnet20's weights, .npz or .th")
    parser.add_argument("--out", type=Path, default=Path("docs/practice"), help="the folder (default: docs/practice)")
    parser.add_argument("--data-dir", type=Path, help="where tensorflow-datasets keeps CIFAR-10")
    found = parser.parse_args()
    draw(found.weights, found.out, found.data_dir)


if __name__ == "__main__":
    main()
