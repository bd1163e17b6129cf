"""What happened in training."""

from typing import NamedTuple

import numpy as np


class History(NamedTuple):
    """Metrics of every step and every evaluation, as NumPy arrays. n steps were made and m evaluations."""

    step: np.ndarray  # int32 [n]: the update's number, counted from 1
    loss: np.ndarray  # float32 [n]: loss of that update's batch, before it
    error: np.ndarray  # float32 [n]: share of that batch classified wrongly, before it
    eval_step: np.ndarray  # int32 [m]: updates made when the evaluation took place
    eval_loss: np.ndarray  # float64 [m]: mean loss over the evaluation set
    eval_error: np.ndarray  # float64 [m]: share of the evaluation set classified wrongly
    eval_seconds: np.ndarray  # float64 [m]: seconds of training until then, without compilation and evaluations
    seconds: float  # seconds of training in all, without compilation and evaluations
    skipped: np.ndarray  # int32 [k]: the updates that were left out, as loss or gradients were not finite
    rolled_back: np.ndarray  # int32 [j]: the updates whose loss or gradients made training return to a checkpoint

    @classmethod
    def empty(cls) -> "History":
        """Nothing happened yet."""
        int32, float32, float64 = (np.zeros(0, dtype) for dtype in (np.int32, np.float32, np.float64))
        return cls(int32, float32, float32, int32, float64, float64, float64, 0.0, int32, int32)

    def add_steps(self, loss: np.ndarray, error: np.ndarray, seconds: float, after: int) -> "History":
        """With the metrics of the steps `after + 1`, `after + 2`, ...; `seconds` is how long they took."""
        step = np.arange(after + 1, after + 1 + len(loss), dtype=np.int32)
        return self._replace(
            step=np.concatenate([self.step, step]),
            loss=np.concatenate([self.loss, loss]),
            error=np.concatenate([self.error, error]),
            seconds=self.seconds + seconds,
        )

    def add_evaluation(self, step: int, loss: float, error: float) -> "History":
        """With an evaluation after `step` updates."""
        return self._replace(
            eval_step=np.append(self.eval_step, np.int32(step)),
            eval_loss=np.append(self.eval_loss, loss),
            eval_error=np.append(self.eval_error, error),
            eval_seconds=np.append(self.eval_seconds, self.seconds),
        )
