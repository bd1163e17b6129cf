"""Ensembles: predictions of many members, their diversity, and batch statistics for averaged weights."""

from jaxdl.ensemble.batch_stats import update_batch_stats
from jaxdl.ensemble.diversity import disagreement, normalized_diversity, project_predictions, weight_cosine
from jaxdl.ensemble.evaluation import Evaluation, evaluate
from jaxdl.ensemble.prediction import log_probabilities, outputs, predict, probabilities
from jaxdl.ensemble.scoring import Scores, scores

__all__ = [
    "Evaluation",
    "Scores",
    "disagreement",
    "evaluate",
    "log_probabilities",
    "normalized_diversity",
    "outputs",
    "predict",
    "probabilities",
    "project_predictions",
    "scores",
    "update_batch_stats",
    "weight_cosine",
]
