"""What ends a training before its time."""

import numpy as np

from jaxdl.train.history import History


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
