"""Numbers that a model is shown, and numbers that it is to predict: mean, deviation, values that are not finite."""

from typing import Any, NamedTuple

import numpy as np

from jaxdl.practice.findings import Finding
from jaxdl.practice.samples import TargetKind

_NEAR, _FAR = (0.5, 0.5, 2.0), (3.0, 0.05, 4.0)  # largest mean, smallest and largest deviation


class Moments(NamedTuple):
    """Of each channel: the last axis of an array."""

    mean: np.ndarray  # float64 [channels]
    std: np.ndarray  # float64 [channels]


def moments(array: np.ndarray) -> Moments:
    """Mean and deviation of each channel over the finite numbers of an array [n, ..., channels]."""
    return total_moments([moment_sums(array)])


def moment_sums(array: np.ndarray) -> np.ndarray:
    """How many numbers of each channel are finite, their sum, and the sum of their squares, [3, channels]."""
    flat = np.asarray(array, np.float64).reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
    finite = np.isfinite(flat)
    flat = np.where(finite, flat, 0)
    return np.stack([finite.sum(0), flat.sum(0), np.square(flat).sum(0)])


def total_moments(sums: list[np.ndarray]) -> Moments:
    """The moments of all pieces whose `moment_sums` are given."""
    count, total, squares = np.sum(sums, 0)
    mean = total / np.maximum(count, 1)
    variance = squares / np.maximum(count, 1) - np.square(mean)
    return Moments(mean, np.sqrt(np.where(variance > 1e-12 * np.square(mean), variance, 0)))


def input_findings(unchanged: tuple[int, int] | None, bad: int, by_channel: Moments | None) -> list[Finding]:
    """What is amiss with inputs after `preprocess`.

    Args:
      unchanged: the smallest and largest number of uint8 images that `preprocess` leaves as they are; None if it does
        something.
      bad: examples with numbers that are not finite.
      by_channel: moments of the model's inputs, if they are one array of floating-point numbers.
    """
    findings = []
    if bad:
        text = f"{bad:,} examples have NaN or infinite numbers after preprocess; correct preprocess, or leave them out."
        findings.append(Finding("inputs not finite", text, {"examples": bad}))
    if unchanged is not None:
        text = (
            f"preprocess leaves the images as they are, from {unchanged[0]} to {unchanged[1]}. Use"
            " preprocess=train_set.standardize, or data.Standardize(mean, std)."
        )
        findings.append(Finding("inputs not scaled", text, {"largest": float(unchanged[1])}))
    elif by_channel is not None:
        findings += _moment_findings(by_channel)
    return findings


def _moment_findings(found: Moments) -> list[Finding]:
    mean, std = np.abs(found.mean), found.std
    constant = np.flatnonzero(std == 0)
    findings = []
    if len(constant):
        text = f"{len(constant)} of {len(std)} input channels are constant (number {constant[0]} for example)."
        numbers = {"channels": len(constant)}
        findings.append(Finding("constant channel", text + " Leave them out.", numbers, serious=False))
    low = std[std > 0].min() if (std > 0).any() else 1.0
    if mean.max() <= _NEAR[0] and low >= _NEAR[1] and std.max() <= _NEAR[2]:
        return findings
    worst = int(np.argmax(np.maximum(mean, np.maximum(std, 1 / np.where(std > 0, std, 1)))))
    text = (
        f"after preprocess channel {worst} has mean {found.mean[worst]:.3g} and standard deviation {std[worst]:.3g}, of"
        f" {len(std)} channels; initialisations and learning rates expect about 0 and 1. Standardise with the mean and"
        " deviation of the training set."
    )
    numbers = {"mean": float(found.mean[worst]), "std": float(std[worst])}
    serious = bool(mean.max() > _FAR[0] or low < _FAR[1] or std.max() > _FAR[2])
    return [*findings, Finding("inputs not normalised", text, numbers, serious=serious)]


def target_findings(kind: TargetKind, targets: Any) -> tuple[Moments | None, list[Finding]]:
    """Mean and deviation of numbers to predict (or of several labels), and what is amiss with them."""
    if kind not in ("numbers", "labels"):
        return None, []
    found = moments(targets.reshape(len(targets), -1).astype(np.float64))
    constant = np.flatnonzero(found.std == 0)
    findings = []
    if len(constant):
        what = "labels are the same in all examples" if kind == "labels" else "targets are constant"
        text = f"{len(constant)} of {len(found.std)} {what} (number {constant[0]}): there is nothing to learn in them."
        findings.append(Finding("constant targets", text, {"targets": len(constant)}, len(constant) == len(found.std)))
    varied = found.std > 0
    if kind == "numbers" and varied.any():
        off = varied & ((np.abs(found.mean) > 3 * found.std) | (found.std > 10) | (found.std < 0.1))
        if off.any():
            worst = int(np.flatnonzero(off)[0])
            text = (
                f"target {worst} has mean {found.mean[worst]:.3g} and standard deviation {found.std[worst]:.3g}. A new"
                " model predicts numbers of about 0 to 1: subtract the mean, and divide by the deviation."
            )
            numbers = {"mean": float(found.mean[worst]), "std": float(found.std[worst])}
            findings.append(Finding("targets not normalised", text, numbers, serious=False))
    return found, findings
