"""What a gradient check found, and its verdict."""

import dataclasses
import math

import numpy as np

from jaxdl.practice.differences import Difference
from jaxdl.practice.findings import Finding, with_findings

WRONG, KINKS, GOOD = 1e-2, 1e-4, 1e-7


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """What `gradient_check` found.

    Attributes:
      relative_error: the largest one of each parameter (or array), by path; kinks are left out.
      ratio: the median of analytic over numeric derivatives of each, by path; NaN where none is above the rounding.
      checked: entries and directions that were compared, by path.
      kinks: how many of these lie at a kink, where the two sides of the function have different slopes.
      value: the loss.
      narrow: where the function computes in less than float64, as paths of modules; () for nowhere.
      findings: what is amiss.
      verdict: all in words.
    """

    relative_error: dict[str, float]
    ratio: dict[str, float]
    checked: dict[str, int]
    kinks: dict[str, int]
    value: float
    narrow: tuple[str, ...]
    findings: tuple[Finding, ...]
    verdict: str

    def __str__(self) -> str:
        rows = [f"{error:9.1e}  {path}" for path, error in self.relative_error.items()]
        return "\n".join([self.verdict, "largest relative error by parameter:", *rows])


def judged(found: dict[str, list[Difference]], value: float, narrow: tuple[str, ...]) -> GradientCheck:
    """Findings and verdict from the differences of each array, by path."""
    kept = {path: [each for each in mine if not each.at_kink] for path, mine in found.items()}
    finite = {p: all(math.isfinite(d.analytic) and math.isfinite(d.numeric) for d in mine) for p, mine in found.items()}
    errors = {
        p: max((d.relative_error for d in mine), default=0.0) if finite[p] else math.inf for p, mine in kept.items()
    }
    kinks = {path: len(found[path]) - len(mine) for path, mine in kept.items()}
    checked = {path: len(mine) for path, mine in found.items()}
    ratio = {path: _ratio(mine) for path, mine in kept.items()}
    findings = []
    wrong = [path for path, error in errors.items() if error > WRONG]
    if not math.isfinite(value):
        findings.append(Finding("value not finite", f"the function's value is {value}; nothing can be compared."))
    elif wrong:
        each = [f"{p} (error {errors[p]:.2g}, analytic / numeric {ratio[p]:.3g})" for p in wrong]
        text = f"the gradient is wrong by {', '.join(each[:8])}" + (f" and {len(each) - 8} more." if each[8:] else ".")
        text += " If a layer passes a wrong gradient on, everything before it is wrong: begin with the last one."
        findings.append(Finding("wrong gradient", text, {path: errors[path] for path in wrong}))
    doubtful = [path for path, error in errors.items() if KINKS < error <= WRONG]
    if doubtful and not narrow:
        text = f"errors between 1e-4 and 1e-2 by {', '.join(f'{p} ({errors[p]:.1e})' for p in doubtful[:8])}; look at"
        text += " how these gradients are computed, or check again with another key."
        findings.append(Finding("doubtful gradient", text, {p: errors[p] for p in doubtful}, serious=False))
    worst = max(errors, key=lambda path: errors[path])
    how = (
        "good" if errors[worst] <= GOOD else "good for a function with kinks" if errors[worst] <= KINKS else "doubtful"
    )
    how = "wrong" if wrong else "as near as float32 allows" if narrow and errors[worst] > KINKS else how
    verdict = (
        f"Gradients by {len(errors)} arrays at {sum(checked.values())} entries and directions: {how}. The largest"
        f" relative error is {errors[worst]:.1e}, by {worst}; {sum(kinks.values())} lie at kinks."
    )
    if narrow:
        verdict += f" In {', '.join(narrow[:5])} it computes in less than float64, so errors below 1e-2 say nothing."
    return GradientCheck(
        errors, ratio, checked, kinks, value, narrow, tuple(findings), with_findings(verdict, findings)
    )


def _ratio(found: list[Difference]) -> float:
    ratios = [each.analytic / each.numeric for each in found if abs(each.numeric) > 10 * each.noise]
    return float(np.median(ratios)) if ratios else math.nan
