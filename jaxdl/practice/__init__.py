"""Practice: the six-step recipe for a new data set, and what a network does inside."""

from jaxdl.practice.diagnosis import Diagnosis, diagnose
from jaxdl.practice.findings import Finding
from jaxdl.practice.search import coarse_search, refine_search
from jaxdl.practice.search_result import SearchResult, Trial
from jaxdl.practice.spaces import Uniform

__all__ = ["Diagnosis", "Finding", "SearchResult", "Trial", "Uniform", "coarse_search", "diagnose", "refine_search"]
