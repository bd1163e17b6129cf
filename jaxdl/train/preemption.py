"""SIGTERM: what a cluster sends before it takes the machine away."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax

from jaxdl.train.history import History
from jaxdl.train.state import TrainState

PREEMPTED = 75
"""Exit code of a run that SIGTERM ended after it had saved itself: the system's code for "try again"."""


class PreemptedError(SystemExit):
    """SIGTERM came; the run has saved itself and ends with exit code `PREEMPTED` unless this is caught.

    Attributes:
      state, history: as `fit` would have returned them.
    """

    def __init__(self, state: TrainState, history: History):
        super().__init__(PREEMPTED)
        self.state, self.history = state, history


@contextlib.contextmanager
def sigterm_noted(wanted: bool) -> Iterator[Callable[[int], bool]]:
    """A function that says, after so many updates, whether SIGTERM came; all processes are told the same."""
    if wanted and jax.process_count() > 1:
        from jax.experimental import multihost_utils

        known: dict[int, bool] = {}  # JAX's own notifier takes the signal, and may be asked once a step

        def asked(step: int) -> bool:
            if step not in known:
                known.clear()
                known[step] = multihost_utils.reached_preemption_sync_point(step)
            return known[step]

        yield asked
    elif wanted and threading.current_thread() is threading.main_thread():
        came = threading.Event()
        before = signal.signal(signal.SIGTERM, lambda *_: came.set())
        try:
            yield lambda step: came.is_set()
        finally:
            signal.signal(signal.SIGTERM, before)
    else:
        yield lambda step: False
