"""Practice: the six-step recipe for a new data set, and what a network does inside."""

from jaxdl.practice.findings import Finding

__all__ = ["Finding"]
