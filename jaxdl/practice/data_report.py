"""The first step with new data: to look at it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdl.arguments import check_function, check_integer, require
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset, kinds
from jaxdl.data.streams.sources import Files, Part
from jaxdl.practice import data_counts, data_inputs, data_labels, samples
from jaxdl.practice.data_counts import Duplicates
from jaxdl.practice.data_labels import Relation
from jaxdl.practice.findings import Finding, with_findings
from jaxdl.practice.samples import TargetKind

_KEPT = 32_000_000  # numbers of raw inputs that are kept for the search for a leak
_READ = 100_000  # records of a stream that are read for their labels


@dataclasses.dataclass(frozen=True)
class DataReport:
    """What `check_data` found.

    Attributes:
      targets: what the targets are: "classes" (numbers), "soft" (rows of probabilities), "labels" (several, 0 or 1),
        "numbers" (to predict), or "other".
      examples: examples of each part, "train" and "test".
      looked_at: examples of each part whose numbers were looked at; of a stream also those that were compared.
      class_counts: examples of each class int [classes], by part; {} without classes.
      duplicates: how many examples are equal.
      constant_images: training images with one value in all pixels.
      input_mean, input_std: of each channel after `preprocess`, float64 [channels]; None for several arrays.
      target_mean, target_std: of each number to predict, float64 [outputs]; None for classes.
      relations: how well a linear model predicts the targets of other examples, by part; {} if that cannot be asked.
      findings: what is amiss.
      verdict: all in words.
    """

    targets: TargetKind
    examples: dict[str, int]
    looked_at: dict[str, int]
    class_counts: dict[str, np.ndarray]
    duplicates: Duplicates
    constant_images: int
    input_mean: np.ndarray | None
    input_std: np.ndarray | None
    target_mean: np.ndarray | None
    target_std: np.ndarray | None
    relations: dict[str, Relation]
    findings: tuple[Finding, ...]
    verdict: str

    def __str__(self) -> str:
        return self.verdict


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A sample of a set after one pass over it."""

    rows: np.ndarray  # int [n]
    targets: Any  # [n, ...]
    features: np.ndarray  # float32 [n, features]
    moments: data_inputs.Moments | None
    bad: int
    constant: int
    unchanged: tuple[int, int] | None
    kept: Any  # raw inputs of the first examples


def check_data(
    train_set: Dataset | Stream,
    test_set: Dataset | Stream | None = None,
    *,
    preprocess: Callable[[Any], Any] | None = None,
    sample: int = 5000,
) -> DataReport:
    """Looks for what makes training fail, or its error too good, before anything is trained.

    It counts examples of each class, equal examples within the training set and across the two sets (byte by byte, with
    the same or another target), and constant images. It measures the inputs after `preprocess` by channel. It asks
    whether labels are sorted; whether they belong to the images, by ridge regression from 8 by 8 pixels, which must
    predict the targets of other examples better than permuted ones; and whether one pixel gives the class away.

    Sets in memory are counted and compared in full; the other checks take a sample. Of a stream `sample` images are
    decoded once, as its view crops them, and the files of these are compared.

    Args:
      train_set: the training set.
      test_set: a set to evaluate on.
      preprocess: as for `train.fit`; by default `train_set.standardize`.
      sample: at most so many examples of each set are looked at, drawn at random and always the same ones.

    Returns:
      Counts, moments, findings and a verdict. A task may be too hard for a linear model on 8 by 8 pixels; "labels
      shuffled" then is a false alarm, and its text says what to look at.

    Raises:
      ValueError: an argument is wrong.

    Example:
      >>> from jaxdl import data, practice
      >>> train_set, test_set = data.load("fashion_mini")
      >>> report = practice.check_data(train_set, test_set)
      >>> report.class_counts["train"].tolist(), len(report.findings)
      ([1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000], 0)
      >>> report.relations["test"].accuracy > 0.7  # of a linear model on 8 by 8 means of pixels
      True

    Reference: the lecture notes' first step, `preprocess and look at the data`.
    """
    name = "check_data"
    check_dataset(name, "train_set", train_set)
    sets = {"train": train_set}
    if test_set is not None:
        check_dataset(name, "test_set", test_set)
        require(
            test_set.example.inputs == train_set.example.inputs
            and len(test_set.class_names) == len(train_set.class_names),
            f"{name}: train_set and test_set must have inputs of equal shapes and dtypes and equally many classes, got "
            f"{train_set!r} and {test_set!r}; pass two splits of one data set",
        )
        sets["test"] = test_set
    if preprocess is not None:
        check_function(name, "preprocess", preprocess, "train_set.standardize")
    check_integer(name, "sample", sample, at_least=2)

    seen = {part: _look(some, preprocess or train_set.standardize, sample) for part, some in sets.items()}
    labels = {part: _targets(some, seen[part]) for part, some in sets.items()}
    kind = samples.target_kind(labels["train"])
    findings: list[Finding] = []

    classes, counts = 0, {}
    if kind == "classes":
        classes = len(train_set.class_names) or 1 + int(max(targets.max() for targets in labels.values()))
        counts = {part: np.bincount(targets, minlength=classes) for part, targets in labels.items()}
        complete = all(len(labels[part]) == len(some) for part, some in sets.items())
        names = train_set.class_names or tuple(map(str, range(classes)))
        of_classes = data_counts.class_findings(counts, names)
        findings += [finding for finding in of_classes if complete or finding.name != "class missing"]
        findings += data_counts.order_finding(labels["train"], counts["train"])

    compared = {part: _sums(some, seen[part]) for part, some in sets.items()}
    pair = (compared["test"], _compared_targets(test_set, seen["test"])) if test_set is not None else None
    duplicates = data_counts.count_duplicates(compared["train"], _compared_targets(train_set, seen["train"]), pair)
    findings += data_counts.duplicate_findings(duplicates, len(compared["train"]), len(compared.get("test", ())))

    constant, images = seen["train"].constant, len(seen["train"].rows)
    if isinstance(train_set, Dataset) and train_set.is_of_images:
        constant, images = data_counts.constant_images(train_set.images), len(train_set)
    findings += data_counts.constant_finding(constant, images)
    first = seen["train"]
    findings += data_inputs.input_findings(first.unchanged, first.bad, first.moments)
    of_targets, amiss = data_inputs.target_findings(kind, labels["train"])
    findings += amiss

    relations = _relations(kind, seen, classes)
    findings += [each for part, found in relations.items() for each in data_labels.relation_finding(part, found)]
    if kind == "classes":
        kept = first.targets[: len(jax.tree.leaves(first.kept)[0])]
        findings += data_labels.leak_finding(first.kept, np.eye(classes)[kept])

    inputs = (None, None) if first.moments is None else first.moments
    targets = (None, None) if of_targets is None else of_targets
    looked_at = {part: len(each.rows) for part, each in seen.items()}
    examples = {part: len(some) for part, some in sets.items()}
    report = DataReport(
        kind, examples, looked_at, counts, duplicates, constant, *inputs, *targets, relations, tuple(findings), ""
    )
    return dataclasses.replace(report, verdict=_verdict(report, isinstance(train_set, Stream)))


def _look(dataset: Dataset | Stream, preprocess: Callable[[Any], Any] | None, most: int) -> _Seen:
    """One pass over a sample, in pieces, so that large images do not fill the memory."""
    rows = samples.sample_rows(len(dataset), most)
    compiled = None if preprocess is None else jax.jit(preprocess)
    targets, features, sums, kept = [], [], [], []
    bad = constant = numbers = 0
    low, high, same = 255, 0, True
    for raw, target in samples.pieces(dataset, rows):
        shown = raw if compiled is None else jax.tree.map(np.asarray, compiled(raw))
        lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(shown)}
        require(
            lengths == {len(jax.tree.leaves(raw)[0])},
            f"check_data: preprocess must give arrays [batch, ...] for inputs [batch, ...], got {kinds(shown)} for "
            f"{kinds(raw)}; pass train_set.standardize for example",
        )
        targets.append(target)
        features.append(data_labels.pooled_features(shown))
        one = isinstance(shown, np.ndarray) and np.issubdtype(shown.dtype, np.floating)
        sums += [data_inputs.moment_sums(shown)] if one else []
        floats = [leaf for leaf in jax.tree.leaves(shown) if np.issubdtype(leaf.dtype, np.floating)]
        bad += sum(int(np.count_nonzero(~np.isfinite(leaf).reshape(len(leaf), -1).all(1))) for leaf in floats)
        images = isinstance(raw, np.ndarray) and raw.ndim == 4
        constant += data_counts.constant_images(raw) if images else 0
        same = same and images and raw.dtype == np.uint8 and np.array_equal(raw, shown)
        if same:
            low, high = min(low, int(raw.min())), max(high, int(raw.max()))
        if numbers < _KEPT:
            kept.append(raw)
            numbers += sum(leaf.size for leaf in jax.tree.leaves(raw))
    moments = data_inputs.total_moments(sums) if sums else None
    unchanged = (low, high) if same else None
    return _Seen(
        rows, samples.joined(targets), np.concatenate(features), moments, bad, constant, unchanged, samples.joined(kept)
    )


def _targets(dataset: Dataset | Stream, seen: _Seen) -> Any:
    """All targets, or those of the sample where each must be read from a record."""
    if isinstance(dataset, Stream):
        source = dataset.source.whole if isinstance(dataset.source, Part) else dataset.source
        return dataset.targets if isinstance(source, Files) or len(dataset) <= _READ else seen.targets
    return dataset.targets


def _sums(dataset: Dataset | Stream, seen: _Seen) -> np.ndarray:
    if isinstance(dataset, Stream):
        return samples.file_sums(dataset, seen.rows)
    return samples.check_sums(dataset.inputs)


def _compared_targets(dataset: Dataset | Stream, seen: _Seen) -> Any:
    """The targets of the examples that are compared."""
    return seen.targets if isinstance(dataset, Stream) else dataset.targets


def _relations(kind: TargetKind, seen: dict[str, _Seen], classes: int) -> dict[str, Relation]:
    """Fits to half of the training sample; tells the other half, and the test sample."""
    rows = {part: data_labels.as_rows(kind, each.targets, classes) for part, each in seen.items()}
    y = rows["train"]
    if y is None or not len(jax.tree.leaves(seen["train"].features)) or len(y) < 4:
        return {}
    x = seen["train"].features
    order = np.random.default_rng(1).permutation(len(x))
    fitted, held = order[: len(x) // 2], order[len(x) // 2 :]
    by_class = kind in ("classes", "soft")
    found = {"train": data_labels.relation((x[fitted], y[fitted]), (x[held], y[held]), by_class)}
    of_test = rows.get("test")
    if of_test is not None:
        found["test"] = data_labels.relation((x, y), (seen["test"].features, of_test), by_class)
    return found


def _verdict(report: DataReport, is_stream: bool) -> str:
    size = " and ".join(f"{n:,} {part}" for part, n in report.examples.items())
    looked = " and ".join(f"{n:,}" for n in report.looked_at.values())
    words = [f"{size} examples; {looked} {'decoded' if is_stream else 'of them'} looked at."]
    if report.class_counts:
        counts = report.class_counts["train"]
        words.append(f"{len(counts)} classes of {counts.min():,} to {counts.max():,} training examples.")
    words.append(f"Equal examples: {report.duplicates.within:,} in training, {report.duplicates.across:,} across.")
    if report.input_mean is not None and report.input_std is not None:
        low, high = report.input_mean.min(), report.input_mean.max()
        stds = f"{report.input_std.min():.3g} to {report.input_std.max():.3g}"
        words.append(f"Inputs by channel: means {low:.3g} to {high:.3g}, deviations {stds}.")
    if report.target_mean is not None and report.target_std is not None:
        words.append(f"Targets: mean {report.target_mean.mean():.3g}, variance {np.mean(report.target_std**2):.3g}.")
    for part, found in report.relations.items():
        if found.decided:
            words.append(f"Ridge regression on pooled inputs, {part} set: {data_labels.relation_words(found)}.")
        else:
            words.append(f"Too few {part} examples ({found.examples}) to tell whether targets belong to inputs.")
    words += [] if report.findings else ["Nothing is amiss."]
    return with_findings(" ".join(words), report.findings)
