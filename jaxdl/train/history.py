"""What happened in training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Metrics(NamedTuple):
    """How well a model did: on a batch, on the batches of several steps, or on a whole set."""

    loss: Any  # mean loss
    metrics: dict[str, Any]  # the mean of each metric, by name
    finite: Any = True  # bool: whether the loss and all gradients were finite
    learning_rate: Any = np.nan  # of the update; NaN if it is not known, and in evaluations
    gradient_norm: Any = None  # global L2 norm of the gradient, with gradient_norm=True

    @property
    def error(self) -> Any:
        """The share of examples classified wrongly, in [0, 1]: the metric of that name."""
        return named(self.metrics, "error")


class History(NamedTuple):
    """Metrics of n steps and m evaluations, as NumPy arrays."""

    step: np.ndarray  # int32 [n]: the update's number, counted from 1
    loss: np.ndarray  # float32 [n]: loss of that update's batch, before the update
    metrics: dict[str, np.ndarray]  # float32 [n] each: metrics of that batch, before the update, by name
    learning_rate: np.ndarray  # float32 [n]: of that update; NaN if it is not known
    gradient_norm: np.ndarray  # float32 [n]: L2 norm of that batch's gradient; [0] without gradient_norm=True
    eval_step: np.ndarray  # int32 [m]: updates made when the evaluation took place
    eval_loss: np.ndarray  # float64 [m]: mean loss over the evaluation set
    eval_metrics: dict[str, np.ndarray]  # float64 [m] each: mean metrics over the evaluation set, by name
    eval_seconds: np.ndarray  # float64 [m]: seconds of training until then, without compilation and evaluations
    seconds: float  # seconds of training in all, without compilation and evaluations
    skipped: np.ndarray  # int32 [k]: the updates that were left out, because loss or gradients were not finite
    rolled_back: np.ndarray  # int32 [j]: the updates after which training returned to a checkpoint

    @property
    def error(self) -> np.ndarray:
        """float32 [n]: share of each batch classified wrongly, before the update: the metric of that name."""
        return named(self.metrics, "error")

    @property
    def eval_error(self) -> np.ndarray:
        """float64 [m]: share of the evaluation set classified wrongly: the metric of that name."""
        return named(self.eval_metrics, "error") if len(self.eval_step) else np.zeros(0)

    @classmethod
    def empty(cls) -> "History":
        """A history without steps and evaluations."""
        int32, float32, float64 = (np.zeros(0, dtype) for dtype in (np.int32, np.float32, np.float64))
        return cls(int32, float32, {}, float32, float32, int32, float64, {}, float64, 0.0, int32, int32)

    def columns(self) -> dict[str, Any]:
        """All arrays by name: metrics under their own names, metrics of evaluations as "eval_error" and so on."""
        fields = self._asdict()
        metrics, of_evaluations = fields.pop("metrics"), fields.pop("eval_metrics")
        return {**fields, **metrics, **{f"eval_{name}": values for name, values in of_evaluations.items()}}

    def add_steps(self, steps: Metrics, seconds: float, after: int) -> "History":
        """This history and the metrics of the steps `after + 1`, `after + 2`, ...; `seconds` is how long they took."""
        step = np.arange(after + 1, after + 1 + len(steps.loss), dtype=np.int32)
        norms = self.gradient_norm
        if len(norms) or steps.gradient_norm is not None:  # NaN for updates that were made without
            unknown = np.full(len(self.step) - len(norms), np.nan, np.float32)
            newest = np.full(len(step), np.nan, np.float32) if steps.gradient_norm is None else steps.gradient_norm
            norms = np.concatenate([norms, unknown, newest])
        return self._replace(
            step=np.concatenate([self.step, step]),
            loss=np.concatenate([self.loss, steps.loss]),
            metrics=_joined(self.metrics, steps.metrics, np.float32),
            learning_rate=np.concatenate([self.learning_rate, steps.learning_rate]),
            gradient_norm=norms,
            seconds=self.seconds + seconds,
        )

    def add_evaluation(self, step: int, found: Metrics) -> "History":
        """This history and an evaluation after `step` updates."""
        values = {name: [value] for name, value in found.metrics.items()}
        return self._replace(
            eval_step=np.append(self.eval_step, np.int32(step)),
            eval_loss=np.append(self.eval_loss, found.loss),
            eval_metrics=_joined(self.eval_metrics, values, np.float64),
            eval_seconds=np.append(self.eval_seconds, self.seconds),
        )


def judged_by(metrics: Mapping[str, Any]) -> str:
    """The name of the number that decides which evaluation is better: "error", or "loss" if there is no error."""
    return "error" if "error" in metrics else "loss"


def judgement(found: Metrics) -> Any:
    """The number that decides which evaluation is better: less is better."""
    return found.metrics.get("error", found.loss)


def named(metrics: Mapping[str, Any], name: str) -> Any:
    """A metric by name; if there is none of that name, an `AttributeError` says which there are."""
    if name not in metrics:
        raise AttributeError(f"there is no metric {name!r}; there are {sorted(metrics) or 'none beside the loss'}")
    return metrics[name]


def _joined(first: Mapping[str, Any], then: Mapping[str, Any], dtype: Any) -> dict[str, np.ndarray]:
    empty = np.zeros(0, dtype)
    return {name: np.concatenate([first.get(name, empty), np.asarray(then[name], dtype)]) for name in then}
