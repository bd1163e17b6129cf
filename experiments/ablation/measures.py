"""Measures: what is done in one run of one case, and what is taken down of it."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.ablation.case import Case, Measured
from jaxdl import data, ensemble, report, train

_POINTS = 100  # of a curve of the training loss


@dataclasses.dataclass(frozen=True)
class Work:
    """One run of one case, for a measure to make.

    Attributes:
      case: what to run.
      seed: 0, 1, ...; the run's key is `jax.random.key(seed)`.
      settings: the experiment's.
      train_set, test_set: to train and to evaluate on, as the settings give them.
      progress: to be called with (updates made, newest loss) now and then.
      checkpoint_dir: where to keep checkpoints, or None for none.
    """

    case: Case
    seed: int
    settings: Any
    train_set: Any
    test_set: Any
    progress: Callable[[int, float], None]
    checkpoint_dir: Path | None = None

    @property
    def model(self) -> nn.Module:
        """The case's model."""
        return self._needed(self.case.model)

    @property
    def tx(self) -> optax.GradientTransformation:
        """The case's optimizer."""
        return self._needed(self.case.tx)

    @property
    def steps(self) -> int:
        """Updates in the run."""
        return self.case.steps or self.settings.steps

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.case.batch_size or self.settings.batch_size

    @property
    def key(self) -> jax.Array:
        """The run's key."""
        return jax.random.key(self.seed)

    def inputs(self, images: int = 500) -> jax.Array:
        """The model's inputs for the first training images."""
        preprocess = self.case.fit.get("preprocess") or self.train_set.standardize
        return jnp.asarray(preprocess(jnp.asarray(self.train_set.images[:images])))  # type: ignore[operator]

    def start(self) -> train.TrainState:
        """The first state."""
        given = {"variables": self.case.start, "new": self.case.new}
        state = train.init_state(self.model, self.tx, self.key, self.train_set, **given)
        return train.set_hyperparams(state, **self.case.hyperparams) if self.case.hyperparams else state

    def fit(self, state: train.TrainState, **changes: Any) -> tuple[train.TrainState, train.History]:
        """Trains with the case's arguments; `changes` replace arguments of `train.fit`."""
        arguments: dict[str, Any] = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "eval_set": self.test_set,
            "eval_every": self.settings.eval_every or max(1, self.steps // 10),
            "augment": self.case.augment,
            "progress": self.progress,
            **self.saving(),
            **self.case.fit,
            **changes,
        }
        return train.fit(state, self.model, self.tx, self.train_set, **arguments)

    def saving(self, part: str = "") -> dict[str, Any]:
        """Arguments of `train.fit` and `train.population` for checkpoints; each part of a run has its own folder."""
        if self.checkpoint_dir is None:
            return {}
        epoch = self.train_set.steps_per_epoch(self.batch_size)
        return {"checkpoint_dir": self.checkpoint_dir / part, "checkpoint_every": max(epoch, self.steps // 20)}

    def _needed(self, value: Any) -> Any:
        if value is None:
            raise ValueError(f"case {self.case.name!r} has no model and tx to train; pass both, or another measure")
        return value


def train_and_test(work: Work, start: train.TrainState | None = None) -> Measured:
    """Trains the case's model, by default from `work.start()`, and evaluates it.

    Metrics: `test_error` and `test_loss` after the last update, `train_error` and `train_loss` (means of the last
    tenth of the updates, on augmented batches), `seconds` (of training, without compilation and evaluations). Errors
    are in percent. Curves: `train_loss` (means of intervals of updates), `train_error`, `test_error`.
    """
    try:
        state, history = work.fit(work.start() if start is None else start)
    except train.NonFiniteLossError as error:
        return Measured({}, curves_of(error.history), diverged(error))
    last = max(1, len(history.loss) // 10)
    metrics = {
        "test_error": 100 * float(history.eval_error[-1]),
        "test_loss": float(history.eval_loss[-1]),
        "train_error": 100 * float(np.mean(history.error[-last:])),
        "train_loss": float(np.mean(history.loss[-last:])),
        "seconds": history.seconds,
    }
    return Measured(metrics, curves_of(history), None, state, history)


def ensemble_scores(model: nn.Module, members: Any, test_set: data.Dataset) -> Measured:
    """Scores an ensemble, and how much its members differ.

    Args:
      model: the members' module.
      members: variables, stacked, in the order of time.
      test_set: to evaluate on.

    Returns:
      Metrics: `error_of_<m>` of the last m members together, `test_error` of all, `error_of_member_<m>` of one alone,
      in percent. Means over pairs: `disagreement`, the percent of examples for which two name different classes;
      `disagreement_by_error`, the same share divided by the error; `weight_cosine`. Curve: `error_of_members`.
    """
    found = ensemble.evaluate(model, members, test_set)
    errors, alone = 100 * found.ensemble.error, 100 * found.members.error
    metrics = {f"error_of_{m}": error for m, error in enumerate(errors, 1)}
    metrics |= {f"error_of_member_{m}": error for m, error in enumerate(alone, 1)} | {"test_error": errors[-1]}
    if len(errors) > 1:
        pairs = np.triu_indices(len(errors), 1)
        probabilities = ensemble.probabilities(model, members, test_set)
        by_error = ensemble.normalized_diversity(probabilities, test_set.labels)
        metrics |= {
            "disagreement": 100 * float(ensemble.disagreement(probabilities)[pairs].mean()),
            "disagreement_by_error": float(by_error[pairs].mean()),
            "weight_cosine": float(ensemble.weight_cosine(members)[pairs].mean()),
        }
    return Measured(metrics, {"error_of_members": (np.arange(1, len(errors) + 1), errors)})


def diverged(error: train.NonFiniteLossError) -> str:
    """Why a run ended early, in short."""
    return f"diverged after {len(error.history.loss)} updates"


def curves_of(history: train.History) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The curves of a run against the number of updates; those of training are means of up to 100 equal intervals."""
    curves = {}
    if len(history.loss):
        width = -(-len(history.loss) // _POINTS)
        ends = np.arange(width, len(history.loss) + 1, width)
        for name, values in (("train_loss", history.loss), ("train_error", 100 * history.error)):
            curves[name] = history.step[ends - 1], values[: ends[-1]].reshape(-1, width).mean(1)
    if len(history.eval_step):
        curves["test_error"] = history.eval_step, 100 * history.eval_error
    return curves


def steps_until(history: train.History, error: float, *, window: int = 20) -> float:
    """Updates until the mean training error of the last `window` batches is at most `error` percent; NaN if never."""
    found = report.steps_to_reach(100 * history.error, error, window=window)
    return math.nan if found is None else float(found)
