"""Exceptions that end a training early."""

from typing import Any

import numpy as np

from jaxdl.train.history import History
from jaxdl.train.state import TrainState

PREEMPTED = 75
"""Exit code of a run that SIGTERM ended after it had saved itself: the system's code for "try again"."""


class NonFiniteLossError(FloatingPointError):
    """The loss, or a gradient, became NaN or infinite.

    Attributes:
      step: number of the update whose loss or gradient was not finite, counted from 1.
      last_finite_loss: the last finite loss before it (NaN if there was none).
      history: the history before that update.
    """

    def __init__(self, what: str, step: int, history: History):
        self.step, self.history = step, history
        finite = history.loss[np.isfinite(history.loss)]
        self.last_finite_loss = float(finite[-1]) if len(finite) else float("nan")
        before = f"the last finite loss was {finite[-1]:.4g}" if len(finite) else "there was none before it"
        super().__init__(
            f"fit: {what} at step {step}; {before}. "
            "Try a smaller learning rate, a warm-up, or optax.clip_by_global_norm(1.0) before the optimizer; "
            "check the inputs for NaN. What was recorded until then is in this exception's .history"
        )


class PreemptedError(SystemExit):
    """The process was sent SIGTERM, and the run was saved. Uncaught, it ends the program with exit code `PREEMPTED`.

    Attributes:
      state, history: as `fit` would have returned them (for a population a tuple of histories).
    """

    def __init__(self, state: TrainState, history: Any):
        super().__init__(PREEMPTED)
        self.state, self.history = state, history


class TrainingInterruptedError(KeyboardInterrupt):
    """The user pressed Ctrl-C. With `checkpoint_dir` the run was saved, and the same call continues it.

    It is a KeyboardInterrupt, which `except Exception` does not catch. Uncaught, it ends a script with exit code 1, not
    130 as a plain KeyboardInterrupt does; the command line of the experiments exits with 130.

    Attributes:
      state, history: as `fit` would have returned them (for a population a tuple of histories).
    """

    def __init__(self, state: TrainState, history: Any, saved_to: object | None):
        kept = f"saved to {saved_to}; the same call goes on" if saved_to else "nothing was saved to disk"
        super().__init__(
            f"fit: interrupted after {int(np.max(state.step))} updates; {kept}. The state and the history are in this "
            "exception's .state and .history"
        )
        self.state, self.history = state, history
