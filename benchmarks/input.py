"""What the inputs cost: random changes of images by themselves, and an epoch with them against a loop with NumPy.

    python -m benchmarks.input                     # part "augment": on two cores about three minutes
    python -m benchmarks.input --part epoch
    python -m benchmarks.input --rounds 5          # shorter

Part "augment": each random change of a batch of CIFAR-10 images as a share of a training step of ResNet-20. The peer is
a training step without augmentation, on the same batch of 128 images of 32 x 32 x 3 bytes. Each change is a compiled
program of its own; within a step the compiler can do no worse than that. Aims: a crop and a flip below 5 % of the step,
several geometric changes by one resampling below 10 %.

Part "epoch": `train.fit` on a set on the device, with a crop, a flip and a colour of PCA in the compiled step.
The peer is a loop in Python over the same batches, which makes the same changes in NumPy, a batch at a time, and calls
the same step without them.
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
LOOP = "a loop in Python, changes in NumPy"
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


def epoch(rounds: int, examples: int) -> dict[str, dict[str, dict[str, Any]]]:
    """The seconds of an epoch, for two small nets."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, 32, 32, 3), np.uint8)
    standardize = data.Standardize((0.5,) * 3, (0.25,) * 3)
    train_set = data.from_arrays(images, rng.integers(0, 10, examples, np.int32), standardize=standardize)
    cases = {}
    for case, model in (("mlp 3072-256-256-10", models.mlp()), ("convnet 16-32", models.convnet())):
        contestants = {LOOP: _with_numpy(model, train_set), "train.fit": _with_fit(model, train_set)}
        cases[f"{case}, {examples:,} images, batch {BATCH}"] = summarise(alternate(contestants, rounds), LOOP)
    return cases


def _with_fit(model: Any, train_set: data.Dataset) -> Callable[[], Any]:
    tx, augment = optim.momentum(0.01), data.Compose((data.CROP_AND_FLIP, PCA))
    state = train.init_state(model, tx, jax.random.key(0), train_set)
    options: dict[str, Any] = {"steps": train_set.steps_per_epoch(BATCH), "batch_size": BATCH, "progress": False}
    return lambda: train.fit(state, model, tx, train_set, augment=augment, **options)


def _with_numpy(model: Any, train_set: data.Dataset) -> Callable[[], Any]:
    tx = optim.momentum(0.01)
    first = train.init_state(model, tx, jax.random.key(0), train_set)
    step = train.make_step(model, tx, preprocess=train_set.standardize)
    rng = np.random.default_rng(0)

    def run():
        state, metrics = jax.tree.map(jnp.copy, first), []
        for inputs, targets in data.batches(train_set, first.key, BATCH, steps=train_set.steps_per_epoch(BATCH)):
            state, found = step(state, (changed(inputs, rng), targets))
            metrics.append(found)
        jax.device_get(metrics)

    return run


def changed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop with 4 pixels of padding, a flip and a colour along the principal components, in NumPy."""
    count, height, width = images.shape[:3]
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (1, 2))
    images = np.moveaxis(windows[np.arange(count), rng.integers(0, 9, count), rng.integers(0, 9, count)], 1, 3)
    images = np.where((rng.random(count) < 0.5)[:, None, None, None], images[:, :, ::-1], images)
    scales = PCA.deviation * np.array(PCA.eigenvalues, np.float32)
    colors = (rng.standard_normal((count, 3), np.float32) * scales) @ np.array(PCA.eigenvectors, np.float32)
    return np.clip(np.rint(images + 255 * colors[:, None, None]), 0, 255).astype(np.uint8)


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
    parser.add_argument("--part", choices=["augment", "epoch"], default="augment")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--examples", type=int, default=12_800, help='of part "epoch"')
    arguments = parser.parse_args()
    if arguments.part == "epoch":
        cases = epoch(arguments.rounds, arguments.examples)
        publish("input_epoch", "An epoch with a crop, a flip and a colour of PCA", LOOP, cases)
        return
    cases = {f"batch {BATCH} of 32 x 32 x 3": augment(arguments.rounds)}
    publish(f"input_{arguments.part}", "Random changes of a batch, and a training step", PEER, cases)
    for case, found in cases.items():
        rows = [[name, f"{100 * entry['ratio_to_peer']:.2f}"] for name, entry in found.items() if name != PEER]
        report.print_table(f"Shares of a step, {case}", ["change", "%"], rows)


if __name__ == "__main__":
    main()
