"""How many steps make a block: the metrics of a block are reported together, and a run stops between blocks."""

import numpy as np

_SECONDS = 0.5  # a block is made no longer than this, so that a run shows progress and can be stopped


class Pace:
    """The length of blocks of steps, from the time that the block before took."""

    def __init__(self):
        self._seconds_per_step: float | None = None  # None before the first block

    def block(self, most: int) -> int:
        """How many steps take half a second, at least 1 and at most `most`; 1 before the first block."""
        if self._seconds_per_step is None:
            return 1
        return int(np.clip(_SECONDS / self._seconds_per_step, 1, most))

    def took(self, steps: int, seconds: float) -> None:
        """Notes how long a block took."""
        self._seconds_per_step = max(seconds, 1e-6) / steps
