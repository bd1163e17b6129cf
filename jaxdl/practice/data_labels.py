"""Whether targets belong to their inputs: a linear model predicts held-out targets, against permuted ones."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdl.practice.findings import Finding
from jaxdl.practice.samples import TargetKind

_GRID = 8  # images are averaged to at most 8 by 8 pixels
_MOST_FEATURES = 768
_FEWEST = 100  # held-out examples below which nothing is decided
_PERMUTATIONS = 200
_DEVIATIONS = 4.0  # how far above permuted targets the true ones must be
_TELLS_ALL = 0.95  # share of one input's variance that the classes explain, from which on it gives them away


class Relation(NamedTuple):
    """How well ridge regression predicts targets that it was not fitted to."""

    correlation: float  # between predictions and targets, each centred over the examples, in [-1, 1]
    permuted_std: float  # standard deviation of that correlation over permutations of the targets; their mean is 0
    accuracy: float  # share of the examples whose class has the largest prediction; NaN without classes
    permuted_accuracy: float  # its mean over permutations
    examples: int  # that were predicted

    @property
    def deviations(self) -> float:
        """How many standard deviations of the permuted ones the correlation is above 0."""
        return self.correlation / self.permuted_std if self.permuted_std > 0 else 0.0

    @property
    def decided(self) -> bool:
        """Whether the examples are enough to say anything."""
        return self.examples >= _FEWEST and self.permuted_std > 0


def pooled_features(inputs: Any) -> np.ndarray:
    """Pooled pixels, and other numbers as they are, float32 [n, at most 768]."""
    parts = []
    for leaf in jax.tree.leaves(inputs):
        array = np.asarray(leaf, np.float32)
        parts.append(_pooled(array) if array.ndim == 4 else array.reshape(len(array), -1))
    flat = np.concatenate(parts, 1)
    flat = np.where(np.isfinite(flat), flat, 0)
    if flat.shape[1] > _MOST_FEATURES:
        flat = flat[:, np.random.default_rng(0).choice(flat.shape[1], _MOST_FEATURES, replace=False)]
    return flat


def _pooled(images: np.ndarray) -> np.ndarray:
    """Means over the cells of a grid, [n, cells]."""
    for axis in (1, 2):
        size = images.shape[axis]
        starts = np.unique(np.linspace(0, size, min(_GRID, size), endpoint=False).astype(int))
        widths = np.diff([*starts, size])
        across = (-1, 1, 1) if axis == 1 else (-1, 1)
        images = np.add.reduceat(images, starts, axis) / widths.reshape(across)
    return images.reshape(len(images), -1)


def as_rows(kind: TargetKind, targets: Any, classes: int) -> np.ndarray | None:
    """Targets as float64 [n, outputs], one-hot for classes; None if they are something else."""
    if kind == "classes":
        return np.eye(classes)[targets]
    return None if kind == "other" else np.asarray(targets, np.float64).reshape(len(targets), -1)


def relation(fit_on: tuple[np.ndarray, np.ndarray], tell: tuple[np.ndarray, np.ndarray], classes: bool) -> Relation:
    """Fits ridge regression to one (features, rows of targets), and compares its predictions for another with them.

    The penalty is the number of features d, on features of mean 0 and deviation 1: w = (X'X + d I)^-1 X'Y. Features
    to tell from are clipped to the range of those fitted to.
    """
    (x, y), (x_held, y_held) = fit_on, tell
    mean, std = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    # A pixel that hardly ever is anything but 0 would be hundreds of deviations away in another image.
    x_held = np.clip(x_held, x.min(0), x.max(0))
    x, x_held = ((each - mean)[:, std > 0] / std[std > 0] for each in (x, x_held))
    weights = np.linalg.solve(x.T @ x + x.shape[1] * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    predicted = x_held @ weights
    p, t = predicted - predicted.mean(0), y_held - y_held.mean(0)
    norm = float(np.linalg.norm(p) * np.linalg.norm(t))
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(t)) for _ in range(_PERMUTATIONS)]
    permuted = [float(np.sum(p * t[order])) / norm if norm > 0 else 0.0 for order in orders]
    accuracy = by_chance = float("nan")
    if classes:
        guess, label = (predicted + y.mean(0)).argmax(1), y_held.argmax(1)
        accuracy = float(np.mean(guess == label))
        by_chance = float(np.mean([np.mean(guess == label[order]) for order in orders]))
    correlation = float(np.sum(p * t)) / norm if norm > 0 else 0.0
    return Relation(correlation, float(np.std(permuted)), accuracy, by_chance, len(t))


def relation_words(found: Relation) -> str:
    """What was found, with the numbers."""
    words = f"correlation {found.correlation:.3f}, {found.deviations:.1f} deviations above permuted targets"
    if not np.isnan(found.accuracy):
        words += f"; accuracy {found.accuracy:.1%}, {found.permuted_accuracy:.1%} with permuted labels"
    return words


def relation_finding(part: str, found: Relation) -> list[Finding]:
    """Whether targets look shuffled."""
    if not found.decided or found.deviations >= _DEVIATIONS:
        return []
    text = (
        f"a linear model fitted to training examples predicts the targets of {found.examples:,} others (of the {part}"
        f" set) no better than permuted ones: {relation_words(found)}. Look at some examples with their targets: they"
        " may be shuffled, shifted by a row, or numbered otherwise. (A task that pooled inputs say nothing about looks"
        " the same.)"
    )
    numbers = {"correlation": found.correlation, "deviations": found.deviations, "accuracy": found.accuracy}
    return [Finding("labels shuffled", text, numbers)]


def leak_finding(inputs: Any, rows: np.ndarray) -> list[Finding]:
    """Whether one number of the inputs gives the class away: classes explain nearly all of its variance."""
    counts = rows.sum(0)
    for leaf in jax.tree.leaves(inputs):
        flat = np.asarray(leaf, np.float32).reshape(len(leaf), -1)
        flat = flat - flat.mean(0)
        total = np.sum(np.square(flat), 0)
        between = np.sum(np.square(rows.T.astype(np.float32) @ flat) / np.maximum(counts, 1)[:, None], 0)
        share = np.where(total > 0, between / np.where(total > 0, total, 1), 0)
        share = np.where(np.isfinite(share), share, 0)
        if len(flat) > 5 * np.count_nonzero(counts) and share.max() > _TELLS_ALL:
            place = tuple(map(int, np.unravel_index(int(share.argmax()), np.shape(leaf)[1:])))
            text = (
                f"the class explains {share.max():.1%} of the variance of one input, at {place}: the label may have"
                " leaked into the inputs. A model that reads it has learned nothing else."
            )
            return [Finding("label leak", text, {"share": float(share.max())})]
    return []
