"""What ends a training before its time."""

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
      last_finite_loss: the loss before it (NaN if there was none).
      history: all that happened before it.
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
    """SIGTERM came; the run has saved itself and ends with exit code `PREEMPTED` unless this is caught.

    Attributes:
      state, history: as `fit` would have returned them (of a population, a tuple of histories).
    """

    def __init__(self, state: TrainState, history: Any):
        super().__init__(PREEMPTED)
        self.state, self.history = state, history


class TrainingInterruptedError(KeyboardInterrupt):
    """Ctrl-C came. With `checkpoint_dir` the run has saved itself, and the same call goes on from there.

    It is a KeyboardInterrupt, so `except Exception` lets it pass. Python ends a script that does not catch it with exit
    code 1 (130 is for KeyboardInterrupt itself; the experiments' command line gives that).

    Attributes:
      state, history: as `fit` would have returned them (of a population, a tuple of histories).
    """

    def __init__(self, state: TrainState, history: Any, saved_to: object | None):
        kept = f"saved to {saved_to}; the same call goes on" if saved_to else "nothing was saved to disk"
        super().__init__(
            f"fit: interrupted after {int(np.max(state.step))} updates; {kept}. The state and the history are in this "
            "exception's .state and .history"
        )
        self.state, self.history = state, history
