"""What the inputs cost: each random change of a batch of CIFAR-10 images as a share of a training step of ResNet-20.

    python -m benchmarks.input                     # part "augment": on two cores about three minutes
    python -m benchmarks.input --rounds 5          # shorter

The peer is a training step without augmentation, on the same batch of 128 images of 32 x 32 x 3 bytes. Each change is a
compiled program of its own; within a step the compiler can do no worse than that. Aims: a crop and a flip below 5 % of
the step, several geometric changes by one resampling below 10 %.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import alternate, publish, summarise
from jaxdl import data, models, optim, report, train

PEER = "a training step of ResNet-20"
BATCH = 128
GEOMETRY = (data.Rotate(15), data.Scale(), data.Shear(10), data.Translate(4))
PCA = data.PcaColor((0.17, 0.015, 0.004), tuple(map(tuple, np.eye(3).tolist())))
CHANGES = {
    "RandomCrop(4)": data.RandomCrop(4),
    'RandomCrop(4, "reflect")': data.RandomCrop(4, "reflect"),
    "RandomCropTo(28)": data.RandomCropTo(28),
    "RandomFlip()": data.RandomFlip(),
    "AlternatingFlip(390)": data.AlternatingFlip(390).at_step(0),
    "CROP_AND_FLIP": data.CROP_AND_FLIP,
    "RandomResizedCrop(32)": data.RandomResizedCrop(32),
    "Translate(4)": data.Translate(4),
    "Rotate(15)": data.Rotate(15),
    "Scale()": data.Scale(),
    "Stretch()": data.Stretch(),
    "Shear(15)": data.Shear(15),
    "LensDistortion()": data.LensDistortion(),
    "Rotate, Scale, Shear, Translate in one": data.Compose(GEOMETRY),
    "crop, flip, Rotate, Scale, Shear, Translate in one": data.Compose((data.CROP_AND_FLIP, *GEOMETRY)),
    "PcaColor": PCA,
    "ColorJitter(0.4, 0.4, 0.4)": data.ColorJitter(0.4, 0.4, 0.4),
    "ColorJitter(0.4, 0.4, 0.4, 0.1)": data.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "Cutout(16)": data.Cutout(16),
    "Mixup(1.0, 10)": data.Mixup(1.0, 10),
    "CutMix(1.0, 10)": data.CutMix(1.0, 10),
}


def augment(rounds: int) -> dict[str, dict[str, Any]]:
    """The seconds of every change, in turn with those of a step."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (BATCH, 32, 32, 3)).astype(np.uint8))
    labels = jnp.asarray(rng.integers(0, 10, BATCH), jnp.int32)
    keys = jax.random.split(jax.random.key(0), BATCH)
    contestants: dict[str, Callable[[], Any]] = {PEER: _step(images, labels)}
    for name, change in CHANGES.items():
        program = jax.jit(data.Compose((change,)))
        contestants[name] = _repeated(lambda program=program: jax.block_until_ready(program(keys, images, labels)))
    return summarise(alternate(contestants, rounds), PEER)


def _repeated(call: Callable[[], Any], times: int = 5) -> Callable[[], float]:
    """Measures the mean of several calls, after one that finds the caches full of something else."""

    def run():
        call()
        start = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - start) / times

    return run


def _step(images: jax.Array, labels: jax.Array) -> Callable[[], Any]:
    model, tx = models.resnet_cifar(20), optim.momentum(0.1, weight_decay=1e-4)
    step = train.make_step(model, tx, preprocess=data.Standardize((0.5,) * 3, (0.25,) * 3))
    carry = [step.place(train.init_state(model, tx, jax.random.key(0), images.shape[1:]))]

    def run():
        carry[0], metrics = step(carry[0], (images, labels))
        jax.block_until_ready(metrics)

    return run


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=["augment"], default="augment")
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    cases = {f"batch {BATCH} of 32 x 32 x 3": augment(arguments.rounds)}
    publish(f"input_{arguments.part}", "Random changes of a batch, and a training step", PEER, cases)
    for case, found in cases.items():
        rows = [[name, f"{100 * entry['ratio_to_peer']:.2f}"] for name, entry in found.items() if name != PEER]
        report.print_table(f"Shares of a step, {case}", ["change", "%"], rows)


if __name__ == "__main__":
    main()
