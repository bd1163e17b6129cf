"""Practice: the six-step recipe for a new data set, and what a network does inside."""

from jaxdl.practice.confusion import Mistakes, mistakes
from jaxdl.practice.data_report import DataReport, check_data
from jaxdl.practice.diagnosis import Diagnosis, diagnose
from jaxdl.practice.findings import Finding
from jaxdl.practice.gradient_report import GradientCheck
from jaxdl.practice.gradients import function_gradient_check, gradient_check
from jaxdl.practice.initial_loss import InitialLoss, check_initial_loss
from jaxdl.practice.inspection import inspect
from jaxdl.practice.inspector import Inspector
from jaxdl.practice.layer_reports import Distribution, Inspection, LayerReport, WeightReport
from jaxdl.practice.overfitting import Overfit, overfit_batch
from jaxdl.practice.patches import Patch, ReceptiveField, TopPatches, receptive_field, top_patches
from jaxdl.practice.rate_comparison import RateComparison, compare_rates
from jaxdl.practice.rate_range import RateRange, find_learning_rate
from jaxdl.practice.search import coarse_search, refine_search
from jaxdl.practice.search_result import SearchResult, Trial
from jaxdl.practice.sensitivity import Occlusion, Saliency, occlusion, saliency
from jaxdl.practice.spaces import Uniform
from jaxdl.practice.units import FeatureMaps, Filters, feature_maps, filters

__all__ = [
    "DataReport",
    "Diagnosis",
    "Distribution",
    "FeatureMaps",
    "Filters",
    "Finding",
    "GradientCheck",
    "InitialLoss",
    "Inspection",
    "Inspector",
    "LayerReport",
    "Mistakes",
    "Occlusion",
    "Overfit",
    "Patch",
    "RateComparison",
    "RateRange",
    "ReceptiveField",
    "Saliency",
    "SearchResult",
    "TopPatches",
    "Trial",
    "Uniform",
    "WeightReport",
    "check_data",
    "check_initial_loss",
    "coarse_search",
    "compare_rates",
    "diagnose",
    "feature_maps",
    "filters",
    "find_learning_rate",
    "function_gradient_check",
    "gradient_check",
    "inspect",
    "mistakes",
    "occlusion",
    "overfit_batch",
    "receptive_field",
    "refine_search",
    "saliency",
    "top_patches",
]
