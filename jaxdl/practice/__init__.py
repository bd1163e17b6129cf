"""Practice: the six-step recipe for a new data set, and what a network does inside."""

from jaxdl.practice.confusion import Mistakes, mistakes
from jaxdl.practice.findings import Finding
from jaxdl.practice.inspection import inspect
from jaxdl.practice.inspector import Inspector
from jaxdl.practice.layer_reports import Distribution, Inspection, LayerReport, WeightReport
from jaxdl.practice.patches import Patch, ReceptiveField, TopPatches, receptive_field, top_patches
from jaxdl.practice.sensitivity import Occlusion, Saliency, occlusion, saliency
from jaxdl.practice.units import FeatureMaps, Filters, feature_maps, filters

__all__ = [
    "Distribution",
    "FeatureMaps",
    "Filters",
    "Finding",
    "Inspection",
    "Inspector",
    "LayerReport",
    "Mistakes",
    "Occlusion",
    "Patch",
    "ReceptiveField",
    "Saliency",
    "TopPatches",
    "WeightReport",
    "feature_maps",
    "filters",
    "inspect",
    "mistakes",
    "occlusion",
    "receptive_field",
    "saliency",
    "top_patches",
]
