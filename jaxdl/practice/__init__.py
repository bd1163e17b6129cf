"""Practice: the six-step recipe for a new data set, and what a network does inside."""

from jaxdl.practice.data_report import DataReport, check_data
from jaxdl.practice.findings import Finding
from jaxdl.practice.gradients import GradientCheck, function_gradient_check, gradient_check
from jaxdl.practice.initial_loss import InitialLoss, check_initial_loss
from jaxdl.practice.overfitting import Overfit, overfit_batch
from jaxdl.practice.rate_comparison import RateComparison, compare_rates
from jaxdl.practice.rate_range import RateRange, find_learning_rate

__all__ = [
    "DataReport",
    "Finding",
    "GradientCheck",
    "InitialLoss",
    "Overfit",
    "RateComparison",
    "RateRange",
    "check_data",
    "check_initial_loss",
    "compare_rates",
    "find_learning_rate",
    "function_gradient_check",
    "gradient_check",
    "overfit_batch",
]
