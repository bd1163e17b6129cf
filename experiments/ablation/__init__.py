"""The form of all experiments: settings, cases, a measure, comparisons. `docs/ablations.md` shows how to write one."""

from experiments.ablation.ablation import Ablation
from experiments.ablation.case import Case, Measured, Paper
from experiments.ablation.figures import Bars, Curves, Heat, Scatter
from experiments.ablation.measures import Work, train_and_test
from experiments.ablation.rows import Curve, Results, Row
from experiments.ablation.settings import BareSettings, Settings, crop_and_flip
from experiments.ablation.verdict import Comparison, Verdict

__all__ = [
    "Ablation",
    "BareSettings",
    "Bars",
    "Case",
    "Comparison",
    "Curve",
    "Curves",
    "Heat",
    "Measured",
    "Paper",
    "Results",
    "Row",
    "Scatter",
    "Settings",
    "Verdict",
    "Work",
    "crop_and_flip",
    "train_and_test",
]
