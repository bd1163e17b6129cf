"""Practice: the six-step recipe for a new data set, and what a network does inside."""

from jaxdl.practice.data_report import DataReport, check_data
from jaxdl.practice.findings import Finding
from jaxdl.practice.initial_loss import InitialLoss, check_initial_loss
from jaxdl.practice.overfitting import Overfit, overfit_batch

__all__ = ["DataReport", "Finding", "InitialLoss", "Overfit", "check_data", "check_initial_loss", "overfit_batch"]
