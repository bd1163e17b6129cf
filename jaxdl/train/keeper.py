"""When a run writes checkpoints, from which one it continues, and to which one it returns."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl import optim
from jaxdl.arguments import require
from jaxdl.train.arrays import Outline
from jaxdl.train.checkpoint import Checkpoints
from jaxdl.train.errors import NonFiniteLossError
from jaxdl.train.history import History, judged_by
from jaxdl.train.state import TrainState
from jaxdl.train.variables import averages_in

_RETURN = 3  # the stream of random numbers that gives a run a new key when it returns to a checkpoint
_MOST_RETURNS = 3  # training ends at the third return to one checkpoint


class Keeper:
    """The checkpoints of one run.

    Args:
      checkpoints: the folder of checkpoints.
      about: the description kept beside the arrays (`description.describe_run`).
      every: updates between two checkpoints.
    """

    def __init__(self, checkpoints: Checkpoints, about: dict, *, every: int):
        self._checkpoints, self._about, self._every = checkpoints, about, every
        self._newest: int | None = None  # step of the newest good checkpoint, if this run wrote or read it
        self._outline: Outline | None = None
        self._returns = 0  # how many times the run returned to that checkpoint

    def next_after(self, step: int) -> int:
        """Number of updates at which the next checkpoint is due."""
        return (step // self._every + 1) * self._every

    @property
    def folder(self) -> Path:
        """The folder of the checkpoints."""
        return self._checkpoints.folder

    def resume(self, state: TrainState, steps: int, histories: int = 1) -> tuple[TrainState, int, list[History], Any]:
        """The newest checkpoint, unless the given state has more updates; then that state.

        Returns:
          The state, its number of updates, the histories, and the facts about the members of a population.
        """
        function = self._checkpoints.function
        self._outline = Outline.of(state)
        here = int(np.max(state.step))
        if not self._checkpoints.steps:
            return state, here, [History.empty()] * histories, None
        newest, found, of_members, members = self._checkpoints.read(self._outline, "newest", self._about)
        require(
            newest <= steps,
            f"{function}: the run in {self.folder} has {newest} updates behind it, more than steps={steps}; "
            f"pass steps >= {newest}, or another checkpoint_dir",
        )
        if newest < here:
            return state, here, [History.empty()] * histories, None
        self._newest = newest
        return found, newest, of_members, members

    def save(self, state: TrainState, step: int, histories: list[History], members: Any = None) -> None:
        """Begins to write a checkpoint, unless there is one of this step already.

        Args:
          state: the state to write.
          step: its number of updates.
          histories: one for `fit`; for a population one for each member.
          members: facts about the members of a population, in a form for JSON; None for `fit`.

        Raises:
          NonFiniteLossError: without `members`, a parameter is not finite; such a state is not saved.
          CheckpointError: this checkpoint, or the one before, could not be written.
        """
        if step == self._newest:
            return
        error = None
        if members is None:
            (history,) = histories
            if not bool(_finite(state.params)):
                raise NonFiniteLossError("a parameter is not finite", step, history)
            if len(history.eval_step) > 0 and history.eval_step[-1] == step:
                newest = history.eval_metrics.get(judged_by(history.eval_metrics), history.eval_loss)
                error = float(newest[-1])
        self._checkpoints.save(
            state, step, histories, self._about, error=error, members=members, averages=averages_in(state)
        )
        self._newest, self._returns = step, 0

    def wait(self, state: TrainState, histories: list[History]) -> None:
        """Waits until everything is written."""
        self._checkpoints.wait(state, histories)

    def roll_back(self, error: NonFiniteLossError) -> tuple[TrainState, History]:
        """The newest checkpoint with a new key, so that the next steps differ; raises at the third return to it."""
        self._returns += 1
        if self._returns >= _MOST_RETURNS or self._outline is None:
            raise error
        self._checkpoints.wait()
        _, state, (history,), _ = self._checkpoints.read(self._outline, "newest", self._about)
        # Only the error's history holds the returns since the checkpoint was written.
        rolled_back = np.append(error.history.rolled_back, np.int32(error.step))
        history = history._replace(rolled_back=rolled_back)
        key = jax.random.fold_in(jax.random.fold_in(state.key, _RETURN), self._returns)
        return state._replace(key=jax.device_put(key, state.key.sharding)), history


_finite = jax.jit(optim.all_finite)
