"""Practice: the six-step recipe for a new data set, and what a network does inside."""

from jaxdl.practice.data_report import DataReport, check_data
from jaxdl.practice.findings import Finding

__all__ = ["DataReport", "Finding", "check_data"]
