"""How many steps are told, and can be stopped, together."""

import numpy as np

_SECONDS = 0.5  # a block is made no longer than this, so that a run shows progress and can be stopped


class Pace:
    """The length of blocks of steps, from how long the ones before took."""

    def __init__(self):
        self._seconds_per_step: float | None = None  # not known before the first block

    def block(self, most: int) -> int:
        """Steps that take half a second; one before anything is known."""
        if self._seconds_per_step is None:
            return 1
        return int(np.clip(_SECONDS / self._seconds_per_step, 1, most))

    def took(self, steps: int, seconds: float) -> None:
        """Notes what a block took."""
        self._seconds_per_step = max(seconds, 1e-6) / steps
