"""Counts over a data set: examples of each class, the order of the labels, equal examples, constant images."""

from typing import Any, NamedTuple

import numpy as np

from jaxdl.practice.findings import Finding
from jaxdl.practice.samples import equal_targets

_IMBALANCE = 10.0  # the largest class over the smallest one
_FEW = 0.001  # shares of the examples from which on something is said,
_MANY = 0.01  # and from which on it is serious (ten times as many for duplicates with one label)


class Duplicates(NamedTuple):
    """Equal examples, compared byte by byte."""

    within: int  # training examples that are equal to an earlier one
    within_other_target: int  # those of them whose target differs
    across: int  # test examples that are in the training set too
    across_other_target: int  # those of them whose target differs


def class_findings(counts: dict[str, np.ndarray], names: tuple[str, ...]) -> list[Finding]:
    """What is amiss with the examples of each class, int [classes] for each part ("train", "test")."""
    found = []
    for part, numbers in counts.items():
        missing = np.flatnonzero(numbers == 0)
        if len(missing):
            shown = ", ".join(repr(names[c]) for c in missing[:5]) + (", ..." if len(missing) > 5 else "")
            what = "cannot be learned" if part == "train" else "is not measured"
            text = f"{len(missing)} of {len(numbers)} classes have no example in the {part} set ({shown}); what is"
            text += f" missing {what}. Check the numbers of the classes and how the set was split."
            found.append(Finding("class missing", text, {"classes": len(missing)}, serious=part == "train"))
    numbers = counts["train"][counts["train"] > 0]
    if len(numbers) > 1 and numbers.max() >= _IMBALANCE * numbers.min():
        ratio, (most, least) = numbers.max() / numbers.min(), (numbers.max(), numbers.min())
        entropy = -float(np.sum(numbers / numbers.sum() * np.log(numbers / numbers.sum())))
        text = (
            f"the largest class has {most:,} training examples and the smallest {least:,}, {ratio:.0f} times fewer. Who"
            f" always answers the largest one has an error of {1 - most / numbers.sum():.1%}, and the entropy of the"
            f" classes is {entropy:.2f} nats, not {np.log(len(numbers)):.2f}. Look at the error of each class."
        )
        found.append(Finding("classes unbalanced", text, {"ratio": float(ratio), "entropy": entropy}, serious=False))
    return found


def order_finding(labels: np.ndarray, counts: np.ndarray) -> list[Finding]:
    """Whether labels int [n] are sorted: neighbours are of one class far more often than in a random order."""
    if len(labels) < 20 or np.count_nonzero(counts) < 2:
        return []
    share = float(np.mean(labels[1:] == labels[:-1]))
    by_chance = float(np.sum(np.square(counts / counts.sum())))
    if share <= (1 + by_chance) / 2:
        return []
    text = (
        f"{share:.0%} of neighbours in the training set are of one class; in a random order it would be"
        f" {by_chance:.0%}. train.fit shuffles, but a slice such as train_set[:1000] holds few classes:"
        " use train_set.split_at_random, or take rows at random."
    )
    return [Finding("labels sorted", text, {"share": share, "by_chance": by_chance}, serious=False)]


def count_duplicates(sums: np.ndarray, targets: Any, test: tuple[np.ndarray, Any] | None = None) -> Duplicates:
    """Equal examples, by check sums bytes [n] and targets [n, ...] of a training set and, in a pair, a test set."""
    _, first, group = np.unique(sums, return_index=True, return_inverse=True)
    later = np.flatnonzero(first[group] != np.arange(len(sums)))
    other = ~equal_targets(targets, later, first[group[later]])
    across = other_across = 0
    if test is not None:
        row_of = dict(zip(sums[first].tolist(), first.tolist(), strict=True))
        pairs = [(row, row_of[s]) for row, s in enumerate(test[0].tolist()) if s in row_of]
        rows, partners = np.array(pairs, int).reshape(-1, 2).T
        across = len(rows)
        other_across = int(np.count_nonzero(~equal_targets(test[1], rows, partners, targets)))
    return Duplicates(len(later), int(np.count_nonzero(other)), across, other_across)


def duplicate_findings(found: Duplicates, train: int, test: int) -> list[Finding]:
    """What is amiss with equal examples among so many training and test examples that were compared."""
    findings = []
    if found.within >= _FEW * train and found.within:
        text = (
            f"{found.within:,} of {train:,} training examples ({found.within / train:.2%}) equal an earlier one, byte"
            " by byte. If some are held out, the others make their error too low: take duplicates out before splitting."
        )
        numbers = {"duplicates": found.within, "share": found.within / train}
        findings.append(Finding("duplicates", text, numbers, serious=found.within >= 10 * _MANY * train))
    if found.within_other_target >= _FEW * train and found.within_other_target:
        text = (
            f"{found.within_other_target:,} training examples equal an earlier one and have another target: no model"
            " can fit both. Correct the targets, or take these examples out."
        )
        numbers = {"contradictions": found.within_other_target, "share": found.within_other_target / train}
        serious = found.within_other_target >= _MANY * train
        findings.append(Finding("labels contradict", text, numbers, serious=serious))
    if found.across >= _FEW * test and found.across:
        text = (
            f"{found.across:,} of {test:,} test examples ({found.across / test:.2%}) are in the training set too"
            + (f", {found.across_other_target:,} with another target" if found.across_other_target else "")
            + ": the test error is too low. Take them out of one of the two sets."
        )
        numbers = {"shared": found.across, "share": found.across / test}
        findings.append(Finding("test examples in training", text, numbers, serious=found.across >= _MANY * test))
    return findings


def constant_images(images: np.ndarray) -> int:
    """How many images [n, height, width, channels] have one value in all pixels of each channel."""
    return int(np.count_nonzero((images == images[:, :1, :1]).all((1, 2, 3))))


def constant_finding(constant: int, images: int) -> list[Finding]:
    """What is amiss with images without content."""
    if not constant:
        return []
    text = (
        f"{constant:,} of {images:,} training images have the same value in all pixels; they may be damaged files."
        " Look at them, and take them out."
    )
    return [Finding("constant images", text, {"images": constant}, serious=constant >= _MANY * images)]
