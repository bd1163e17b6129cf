"""Training: the training state, a pure step for any number of devices, the loop `fit`, and populations."""

from jaxdl.train.checkpoint import (
    CheckpointError,
    DamagedCheckpointWarning,
    EvaluationChangedWarning,
    NumericsChangedWarning,
    OptimizerChangedWarning,
    restore,
)
from jaxdl.train.description import IndistinctRunWarning
from jaxdl.train.errors import PREEMPTED, NonFiniteLossError, PreemptedError, TrainingInterruptedError
from jaxdl.train.evaluation import evaluate
from jaxdl.train.events import Ended, Evaluated, RolledBack, Saved, Started, Stepped
from jaxdl.train.history import History, Metrics
from jaxdl.train.hyperparams import set_hyperparams
from jaxdl.train.loop import fit
from jaxdl.train.losses import (
    absolute_error,
    cross_entropy,
    error,
    hamming_loss,
    label_smoothing,
    sigmoid_cross_entropy,
    squared_error,
    top_k_error,
)
from jaxdl.train.populations import Population, population
from jaxdl.train.processes import ProcessLostError, join_processes
from jaxdl.train.sharding import AXIS
from jaxdl.train.state import TrainState, init_state
from jaxdl.train.step import make_step
from jaxdl.train.variables import load_variables
from jaxdl.train.watchers import EarlyStopping, JsonLines, TensorBoard, print_evaluations

__all__ = [
    "AXIS",
    "PREEMPTED",
    "CheckpointError",
    "DamagedCheckpointWarning",
    "EarlyStopping",
    "Ended",
    "Evaluated",
    "EvaluationChangedWarning",
    "History",
    "IndistinctRunWarning",
    "JsonLines",
    "Metrics",
    "NonFiniteLossError",
    "NumericsChangedWarning",
    "OptimizerChangedWarning",
    "Population",
    "PreemptedError",
    "ProcessLostError",
    "RolledBack",
    "Saved",
    "Started",
    "Stepped",
    "TensorBoard",
    "TrainState",
    "TrainingInterruptedError",
    "absolute_error",
    "cross_entropy",
    "error",
    "evaluate",
    "fit",
    "hamming_loss",
    "init_state",
    "join_processes",
    "label_smoothing",
    "load_variables",
    "make_step",
    "population",
    "print_evaluations",
    "restore",
    "set_hyperparams",
    "sigmoid_cross_entropy",
    "squared_error",
    "top_k_error",
]
