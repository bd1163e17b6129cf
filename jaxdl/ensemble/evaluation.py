"""How good ensembles are for each number of members, and each member by itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_choice, check_function, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import called, check_dataset, kinds
from jaxdl.ensemble.members import Preprocess, Via
from jaxdl.ensemble.prediction import Average, MemberSweep
from jaxdl.ensemble.scoring import Scores, scores_of_logarithms
from jaxdl.typing import Device, Params
from jaxdl.views import Views, over_views

Metric: TypeAlias = Callable[[Any, Any], jax.Array]


class Evaluation(NamedTuple):
    """An ensemble of M members on a data set; prints as a table. Arrays are float64 [M]."""

    ensemble: Any  # Scores of the last 1, 2, ..., M members together; None if `average` is not "softmax"
    members: Any  # Scores of each member by itself, in the order given; None likewise
    ensemble_metrics: dict[str, np.ndarray]  # of the last 1, 2, ..., M members together, by name
    member_metrics: dict[str, np.ndarray]  # of each member by itself

    def __str__(self) -> str:
        together = _columns(self.ensemble, self.ensemble_metrics)
        alone = _columns(self.members, self.member_metrics)
        titles = " ".join(f"{title:>8}" for title in together)
        lines = [f"members  {titles}  | alone: member  {titles}"]
        for i in range(len(next(iter(together.values())))):
            lines.append(f"{i + 1:7d}  {_row(together, i)}  |        {i + 1:6d}  {_row(alone, i)}")
        return "\n".join(lines)


def _columns(scores: Scores | None, metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of the table, by title."""
    columns = {}
    if scores is not None:
        columns = {"error %": 100 * scores.error, "NLL": scores.nll, "Brier": scores.brier, "ECE": scores.ece}
    return columns | dict(metrics)


def _row(columns: Mapping[str, np.ndarray], row: int) -> str:
    return " ".join(
        f"{column[row]:{max(8, len(title))}.{2 if '%' in title else 4}f}" for title, column in columns.items()
    )


def evaluate(
    model: nn.Module,
    members: Params,
    dataset: Dataset | Stream,
    *,
    average: Average = "softmax",
    metrics: Mapping[str, Metric] | None = None,
    batch_size: int = 500,
    preprocess: Preprocess | None = None,
    views: Views | None = None,
    via: Via = "auto",
    devices: Sequence[Device] | None = None,
) -> Evaluation:
    """Scores the ensembles of the last 1, 2, ..., M members, and each member by itself.

    Args:
      model: as for `predict`.
      members: as for `predict`, in the order of time, since the last snapshots of a run are the best.
      dataset: the data set, all of whose examples are used.
      average: as for `predict`. For "softmax" targets must be classes.
      metrics: by name, functions from outputs and targets to one number per example, as for `train.fit`:
        {"top5_error": train.top_k_error(5)}. Their means are returned. The outputs of an ensemble are numbers whose
        softmax (or sigmoid) is the mean of the members' softmax (or sigmoid).
      batch_size: as for `probabilities`.
      preprocess: as for `probabilities`.
      views: as for `train.evaluate`; with `average="softmax"`.
      via: as for `predict`.
      devices: as for `predict`.

    Returns:
      An `Evaluation`, which prints as a table. It holds `Scores` only if `average` is "softmax".

    Raises:
      ValueError: an argument is wrong; or `average` is not "softmax" and there are no metrics, so nothing to score.

    Reference: Huang et al., `Snapshot Ensembles`, 2017 (arXiv 1704.00109), for the last m of M.
    """
    check_choice("evaluate", "average", average, ("softmax", "sigmoid", "outputs"))
    check_dataset("evaluate", "dataset", dataset)
    metrics = _checked_metrics(metrics)
    require(
        average == "softmax" or bool(metrics),
        f"evaluate: average={average!r} has no scores of its own; pass metrics, as in "
        + ('{"hamming": train.hamming_loss}' if average == "sigmoid" else '{"squared_error": train.squared_error}'),
    )
    require(
        average != "softmax" or _are_classes(dataset.targets),
        f'evaluate: average="softmax" is for targets that are classes, and {dataset!r} has others; pass '
        'average="outputs" for numbers to predict, "sigmoid" for several labels at once, with metrics=...',
    )
    require(
        views is None or average == "softmax",
        f'evaluate: views go with average="softmax", got average={average!r}; leave views out',
    )
    model = over_views("evaluate", model, views)
    finish = "log_softmax" if average == "softmax" else "outputs"
    sweep = MemberSweep("evaluate", finish, model, members, dataset, batch_size, preprocess, via, devices)
    if average == "softmax":
        _check_labels(dataset.targets, sweep.outputs.shape[1])
    _check_metrics(metrics, sweep.outputs, dataset)
    each = jax.tree.map(lambda x: np.asarray(x, np.float64), sweep.run())
    together = _together(each, average)

    def scored(outputs):
        return _scores(outputs, dataset.targets) if average == "softmax" else None

    def metric_means(outputs):
        return {name: _means(metric, outputs, dataset.targets) for name, metric in metrics.items()}

    return Evaluation(scored(together), scored(each), metric_means(together), metric_means(each))


def _together(each: Any, average: Average) -> Any:
    """Outputs [M, examples, ...] of the last 1, 2, ..., M members together."""
    mean = {"softmax": _log_means, "sigmoid": _logit_means, "outputs": _plain_means}[average]
    return jax.tree.map(mean, each)


def _log_means(logarithms: np.ndarray) -> np.ndarray:
    """Logarithms of the mean probabilities. A confident member's probabilities may underflow, logarithms do not."""
    return np.logaddexp.accumulate(logarithms[::-1], 0) - np.log(_counts(logarithms))


def _logit_means(logits: np.ndarray) -> np.ndarray:
    """Logits of the mean probabilities of yes."""
    log_yes, log_no = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    return _log_means(log_yes) - _log_means(log_no)


def _plain_means(outputs: np.ndarray) -> np.ndarray:
    return np.cumsum(outputs[::-1], 0) / _counts(outputs)


def _counts(outputs: np.ndarray) -> np.ndarray:
    """1, 2, ..., M along the axis of members."""
    return np.arange(1, len(outputs) + 1).reshape(-1, *[1] * (outputs.ndim - 1))


def _scores(logarithms: np.ndarray, targets: np.ndarray) -> Scores:
    """Scores of log-probabilities [M, examples, classes], each an array [M]."""
    found = [scores_of_logarithms(part, targets) for part in logarithms]
    return Scores(*(np.array(column) for column in zip(*found, strict=True)))


def _means(metric: Metric, outputs: Any, targets: Any) -> np.ndarray:
    """The mean of a metric over the examples, [M], for outputs [M, examples, ...]."""
    compiled = jax.jit(metric)

    def mean(member):
        own = jax.tree.map(lambda x: jnp.asarray(x[member], jnp.float32), outputs)
        return np.mean(np.asarray(compiled(own, targets), np.float64))

    return np.array([mean(member) for member in range(len(jax.tree.leaves(outputs)[0]))])


def _checked_metrics(metrics: Any) -> dict[str, Metric]:
    example = '{"top5_error": train.top_k_error(5)}'
    require(
        metrics is None or (isinstance(metrics, Mapping) and all(isinstance(name, str) and name for name in metrics)),
        f"evaluate: metrics must be functions by name, got metrics={shown(metrics)}; pass {example}",
    )
    for name, metric in (metrics or {}).items():
        check_function("evaluate", f"metrics[{name!r}]", metric, "train.top_k_error(5)")
        require(
            not isinstance(metric, type),
            f"evaluate: metrics[{name!r}] must be a function, got the class {metric}; pass {example}",
        )
    return dict(metrics or {})


def _check_labels(targets: np.ndarray, classes: int) -> None:
    """Raises `ValueError` unless labels are of so many classes."""
    if targets.ndim == 2:
        require(
            targets.shape[1] == classes,
            f"evaluate: soft labels must be [examples, {classes}], as the model has {classes} outputs, got shape "
            f"{list(targets.shape)}",
        )
        return
    low, high = targets.min(), targets.max()
    require(
        bool(low >= 0 and high < classes),
        f"evaluate: labels must be in 0..{classes - 1} as the model has {classes} outputs, got labels {low}..{high}",
    )


def _check_metrics(metrics: Mapping[str, Metric], outputs: Any, dataset: Dataset | Stream) -> None:
    """Raises `ValueError` unless each metric gives one number for each example."""
    examples = len(dataset)
    structs = jax.tree.map(lambda o: jax.ShapeDtypeStruct((examples, *o.shape[1:]), np.float32), outputs)
    targets = jax.tree.map(lambda x: jax.ShapeDtypeStruct((examples, *x.shape[1:]), x.dtype), dataset.example.targets)
    for name, metric in metrics.items():
        what = f"outputs {kinds(structs)} and targets {kinds(targets)}"
        found = called("evaluate", f"metrics[{name!r}]", what, metric, structs, targets)
        shape = getattr(found, "shape", None)
        remedy = "; leave the mean over the examples to evaluate" if shape == () else ""
        require(
            shape == (examples,),
            f"evaluate: metrics[{name!r}] must map outputs [batch, ...] and targets [batch, ...] to one number for "
            f"each example, [batch], got {kinds(found)} for {examples} examples{remedy}",
        )


def _are_classes(targets: Any) -> bool:
    """Whether targets are class numbers, or rows of probabilities."""
    if not isinstance(targets, np.ndarray):
        return False
    if targets.ndim == 1:
        return targets.dtype.kind in "iu"
    rows = targets.ndim == 2 and targets.dtype.kind == "f"
    return rows and bool((targets >= 0).all() and np.allclose(targets.sum(1), 1, atol=1e-3))
