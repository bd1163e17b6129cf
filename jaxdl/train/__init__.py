"""Training: a state, a pure step at every scale, and a loop that owns nothing else and loses nothing."""

from jaxdl.train.checkpoint import (
    CheckpointError,
    DamagedCheckpointWarning,
    EvaluationChangedWarning,
    OptimizerChangedWarning,
    restore,
)
from jaxdl.train.description import IndistinctRunWarning
from jaxdl.train.errors import PREEMPTED, NonFiniteLossError, PreemptedError, TrainingInterruptedError
from jaxdl.train.evaluation import evaluate
from jaxdl.train.history import History
from jaxdl.train.loop import fit
from jaxdl.train.losses import cross_entropy, label_smoothing
from jaxdl.train.population import Population, population, set_hyperparams
from jaxdl.train.processes import ProcessLostError, join_processes
from jaxdl.train.sharding import AXIS
from jaxdl.train.state import TrainState, init_state
from jaxdl.train.step import Metrics, make_step

__all__ = [
    "AXIS",
    "PREEMPTED",
    "CheckpointError",
    "DamagedCheckpointWarning",
    "EvaluationChangedWarning",
    "History",
    "IndistinctRunWarning",
    "Metrics",
    "NonFiniteLossError",
    "OptimizerChangedWarning",
    "Population",
    "PreemptedError",
    "ProcessLostError",
    "TrainState",
    "TrainingInterruptedError",
    "cross_entropy",
    "evaluate",
    "fit",
    "init_state",
    "join_processes",
    "label_smoothing",
    "make_step",
    "population",
    "restore",
    "set_hyperparams",
]
