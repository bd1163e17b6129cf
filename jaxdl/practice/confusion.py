"""What a classifier mistakes for what: the confusion matrix, and the most confident mistakes."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import ensemble
from jaxdl.arguments import check_integer, require
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset
from jaxdl.practice.findings import Finding, with_findings
from jaxdl.practice.image_grid import displayable, in_rows, show_tiles
from jaxdl.practice.inputs import read, variables_of
from jaxdl.train import TrainState
from jaxdl.train.task import Preprocess


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """What a classifier mistakes for what; prints as the verdict and a table of the classes.

    Attributes:
      matrix: int64 [classes, classes]: how many examples of the class of the row were said to be of the column's.
      class_names: one for each class.
      rows: int [mistakes], the numbers in the data set of the most confident mistakes, the most confident first.
      labels: int [mistakes], their labels.
      predicted: int [mistakes], what was said.
      probabilities: float32 [mistakes], the probability that was given to what was said.
      images: the images, or other inputs, of these examples.
      findings: what is amiss; empty if all is well.
      verdict: the same in words, with the numbers.
    """

    matrix: np.ndarray
    class_names: tuple[str, ...]
    rows: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    images: Any
    findings: tuple[Finding, ...]
    verdict: str

    @property
    def error(self) -> float:
        """The share of the examples that are predicted wrongly."""
        return float(1 - np.trace(self.matrix) / self.matrix.sum())

    @property
    def class_errors(self) -> np.ndarray:
        """The same for each class, float64 [classes]; NaN for a class without examples."""
        with np.errstate(invalid="ignore"):
            return 1 - np.diag(self.matrix) / self.matrix.sum(1)

    def __str__(self) -> str:
        width = max(map(len, self.class_names))
        lines = []
        for number in np.argsort(-np.nan_to_num(self.class_errors), kind="stable"):
            others = np.where(np.arange(len(self.matrix)) == number, 0, self.matrix[number])
            most = int(np.argmax(others))
            taken = f", {others[most]} times for {self.class_names[most]}" if others[most] else ""
            share = f"{100 * self.class_errors[number]:5.1f} % wrong" if self.matrix[number].any() else "  no example"
            lines.append(f"{self.class_names[number]:<{width}}  {share}{taken}")
        return "\n".join([self.verdict, "", *lines])

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the confusion matrix to a PNG: colours are shares of the row's class."""
        from matplotlib.figure import Figure

        classes = len(self.matrix)
        shares = self.matrix / np.maximum(self.matrix.sum(1, keepdims=True), 1)
        side = min(2.5 + 0.5 * classes, 14)
        figure = Figure(figsize=(side + 1, side), layout="constrained", dpi=130)
        axes = figure.subplots()
        wrong = shares * (1 - np.eye(classes))  # the diagonal would outshine everything else
        image = axes.imshow(wrong, cmap="cividis", vmin=0, vmax=max(wrong.max(), 1e-9))
        if classes <= 20:
            for (row, column), share in np.ndenumerate(shares):
                dark = row == column or wrong[row, column] < 0.6 * wrong.max()
                text = {"ha": "center", "va": "center", "fontsize": 8, "color": "white" if dark else "black"}
                weight = "bold" if row == column else "normal"
                axes.text(column, row, f"{100 * share:.0f}" if share >= 0.005 else "", fontweight=weight, **text)
        ticks = np.arange(0, classes, -(-classes // 50))
        names = [self.class_names[tick] for tick in ticks]
        size = 9 if classes <= 20 else 6
        axes.set_xticks(ticks, names, rotation=50, ha="right", rotation_mode="anchor", fontsize=size)
        axes.set_yticks(ticks, names, fontsize=size)
        axes.set(xlabel="predicted class", ylabel="true class")
        wrong_of_all = f"{100 * self.error:.1f} % of {self.matrix.sum():,} are wrong"
        axes.set_title(f"{wrong_of_all}. Numbers: percent of the row; colours: mistakes alone", fontsize=10)
        figure.colorbar(image, ax=axes, label="share of the row that is wrong", shrink=0.8)
        figure.savefig(Path(path))

    def plot_images(self, path: str | os.PathLike) -> None:
        """Draws the most confident mistakes to a PNG, with what they are and what was said."""
        require(len(self.rows) > 0, "Mistakes: there is no mistake to draw")
        tiles = [displayable(image) for image in self.images]
        captions = [
            f"is {self.class_names[label]}\nsaid {self.class_names[said]}, {100 * probability:.2f} %"
            for label, said, probability in zip(self.labels, self.predicted, self.probabilities, strict=True)
        ]
        columns = min(6, len(tiles))
        title = f"The {len(tiles)} most confident mistakes, with the probability of what was said"
        show_tiles(path, title, in_rows(tiles, columns), captions=in_rows(captions, columns), tile=1.5)


def mistakes(
    model: nn.Module,
    variables: Mapping[str, Any] | TrainState,
    dataset: Dataset | Stream,
    *,
    most: int = 24,
    preprocess: Preprocess | None = None,
    batch_size: int = 500,
) -> Mistakes:
    """The confusion matrix of a classifier on a data set, and the mistakes of which it is most certain.

    A very confident mistake often is a wrong label, so look at the pictures: `found.plot_images(path)`.

    Args:
      model: a module called as `model(inputs, train=bool)`, or `model(inputs)`; it gives logits [batch, classes].
      variables: {"params": ..., "batch_stats": ...}, or a training state.
      dataset: a set or a stream with classes; every example is used.
      most: how many mistakes to keep.
      preprocess: by default `dataset.standardize`.
      batch_size: examples at a time.

    Returns:
      `Mistakes`, with `plot(path)` and `plot_images(path)`. Findings: a class that is never predicted.

    Raises:
      ValueError: an argument is wrong, or a probability is NaN.
    """
    check_dataset("mistakes", "dataset", dataset)
    check_integer("mistakes", "most", most, at_least=1)
    require(
        bool(dataset.class_names),
        f'mistakes: the data set must have classes, got {dataset!r}; pass classes=("cat", "dog") to data.from_arrays',
    )
    member = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], variables_of("mistakes", variables))
    (probabilities,) = ensemble.probabilities(model, member, dataset, batch_size=batch_size, preprocess=preprocess)
    targets = np.asarray(dataset.targets)
    labels = targets if targets.ndim == 1 else np.argmax(targets, -1)
    said = np.argmax(probabilities, -1)
    classes = probabilities.shape[-1]
    matrix = np.bincount(labels.astype(np.int64) * classes + said, minlength=classes**2).reshape(classes, classes)
    certain = probabilities[np.arange(len(said)), said]
    wrong = np.flatnonzero(said != labels)
    rows = wrong[np.argsort(-certain[wrong], kind="stable")[:most]]
    images = read(dataset, rows).inputs if len(rows) else ()
    names = tuple(dataset.class_names)
    findings = _never_said(matrix, names)
    return Mistakes(
        matrix,
        names,
        rows,
        labels[rows],
        said[rows],
        certain[rows],
        images,
        findings,
        _verdict(matrix, names, certain[wrong], findings),
    )


def _never_said(matrix: np.ndarray, names: tuple[str, ...]) -> tuple[Finding, ...]:
    """Classes with 5 examples or more that are never predicted."""
    never = np.flatnonzero((matrix.sum(0) == 0) & (matrix.sum(1) >= 5))
    if not len(never):
        return ()
    shown = ", ".join(names[number] for number in never[:5]) + (f" and {len(never) - 5} more" if len(never) > 5 else "")
    text = (
        f"no example was said to be {shown}, though {matrix.sum(1)[never].sum()} are. Look at the balance of the "
        "classes in the training set, and whether training has got beyond predicting the most frequent class."
    )
    return (Finding("classes never predicted", text, {"classes": len(never)}),)


def _verdict(matrix: np.ndarray, names: tuple[str, ...], certain: np.ndarray, findings: tuple[Finding, ...]) -> str:
    total, wrong = int(matrix.sum()), int(matrix.sum() - np.trace(matrix))
    if not wrong:
        return f"All {total:,} examples are predicted rightly."
    others = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    is_, said = np.unravel_index(np.argmax(others), others.shape)
    sure = int((certain > 0.95).sum())
    parts = [
        f"{wrong:,} of {total:,} examples ({100 * wrong / total:.2f} %) are predicted wrongly.",
        f"The most frequent mistake is {names[said]} for {names[is_]} ({others[is_, said]} of "
        f"{matrix[is_].sum()}, and {others[said, is_]} the other way round);"
        f" mistakes made with more than 95 % certainty: {sure}{', look at their labels' if sure else ''}.",
    ]
    return with_findings(" ".join(parts), findings)
