"""Ensembles: predictions of many members, their diversity, and batch statistics for averaged weights."""

from jaxdl.ensemble.batch_stats import update_batch_stats
from jaxdl.ensemble.diversity import disagreement, normalized_diversity, weight_cosine
from jaxdl.ensemble.predict import Evaluation, Scores, evaluate, predict, probabilities, scores

__all__ = [
    "Evaluation",
    "Scores",
    "disagreement",
    "evaluate",
    "normalized_diversity",
    "predict",
    "probabilities",
    "scores",
    "update_batch_stats",
    "weight_cosine",
]
