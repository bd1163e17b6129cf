"""How good predicted probabilities are."""

from typing import Any, NamedTuple

import numpy as np

from jaxdl.arguments import require, shown

_BINS = 15  # of the calibration error, as in Guo et al. 2017


class Scores(NamedTuple):
    """How good predicted probabilities are. All fields are scalars, or arrays with one number for each ensemble."""

    error: Any  # share of examples classified wrongly, in [0, 1]
    nll: Any  # mean negative log-likelihood of the right class, in nats
    brier: Any  # mean squared distance from the one-hot truth, summed over classes, in [0, 2]
    ece: Any  # expected calibration error: mean gap between confidence and accuracy, in [0, 1]


def scores(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Scores predicted probabilities.

    Args:
      probabilities: [examples, classes], rows that sum to 1.
      labels: int [examples].

    Returns:
      `Scores` of Python floats. The calibration error has 15 bins of equal width for the highest probability. The NLL
      is infinite if a right class has probability 0; `evaluate` computes it from logarithms, which avoids this.

    Raises:
      ValueError: shapes do not go together, labels are out of range, or a row is not probabilities that sum to 1.

    Example:
      >>> round(scores(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1])).brier, 2)
      0.4

    References: Brier, `Verification of forecasts`, 1950; Guo et al., `On Calibration of Modern Neural Networks`, 2017
    (arXiv 1706.04599), eq. 3.
    """
    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    require(
        p.ndim == 2 and labels.shape == p.shape[:1] and len(p) > 0,
        f"scores: needs probabilities [examples, classes] and labels [examples], got {p.shape} and {labels.shape}",
    )
    require(
        np.issubdtype(labels.dtype, np.integer) and bool(np.all((labels >= 0) & (labels < p.shape[1]))),
        f"scores: labels must be class numbers in 0..{p.shape[1] - 1}, got {shown(labels)}",
    )
    sums_to_one = bool(np.all(p >= 0) and np.allclose(p.sum(1), 1, atol=1e-3))
    require(sums_to_one, "scores: rows of probabilities must sum to 1; apply a softmax first")
    with np.errstate(divide="ignore"):
        return scores_of_logarithms(np.log(p), labels)


def scores_of_logarithms(logarithms: np.ndarray, labels: np.ndarray) -> Scores:
    """Scores probabilities given as logarithms [examples, classes]; labels may be soft labels of that shape."""
    p = np.exp(logarithms)
    truth = labels if labels.ndim == 2 else np.eye(p.shape[1])[labels]
    with np.errstate(invalid="ignore"):
        of_truth = np.sum(np.where(truth > 0, truth * logarithms, 0), 1)
    confidence, correct = p.max(1), p.argmax(1) == truth.argmax(1)
    place = np.minimum(np.ceil(confidence * _BINS).astype(int) - 1, _BINS - 1)  # bins ((k - 1) / 15, k / 15]
    gaps = np.bincount(place, confidence - correct, _BINS)
    return Scores(
        error=float(np.mean(~correct)),
        nll=float(np.mean(-of_truth)),
        brier=float(np.mean(np.sum(np.square(p - truth), 1))),
        ece=float(np.abs(gaps).sum() / len(p)),
    )
