"""Training: a state, a pure step, and a loop that owns nothing else."""

from jaxdl.train.evaluation import evaluate
from jaxdl.train.history import History
from jaxdl.train.loop import NonFiniteLossError, fit
from jaxdl.train.losses import cross_entropy
from jaxdl.train.state import TrainState, init_state
from jaxdl.train.step import Metrics, make_step

__all__ = [
    "History",
    "Metrics",
    "NonFiniteLossError",
    "TrainState",
    "cross_entropy",
    "evaluate",
    "fit",
    "init_state",
    "make_step",
]
