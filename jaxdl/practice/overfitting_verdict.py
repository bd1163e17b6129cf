"""What a run on a few minibatches says about the learning rate, the regularisation and the labels."""

from typing import NamedTuple

import numpy as np

from jaxdl.data import Dataset
from jaxdl.practice.findings import Finding, with_findings
from jaxdl.practice.initial_loss import references
from jaxdl.train.losses import Loss, cross_entropy


class Run(NamedTuple):
    """One run on a few minibatches."""

    reached: int | None  # updates until the error was zero
    broke: int | None  # the update whose loss or gradient was not finite
    loss: np.ndarray  # float32 [updates]
    error: np.ndarray | None  # float32 [updates]
    gradient_norm: np.ndarray  # float32 [updates]
    batches: int  # in one pass

    @property
    def passes(self) -> np.ndarray:
        """The mean loss of each whole pass, float64 [passes]."""
        whole = len(self.loss) // self.batches
        return self.loss[: whole * self.batches].reshape(whole, self.batches).mean(1, dtype=np.float64)

    @property
    def last_error(self) -> float:
        """The mean error of the last tenth of the updates, one pass at least; NaN if it is not known."""
        if self.error is None or not len(self.error):
            return float("nan")
        return float(np.mean(self.error[-max(self.batches, len(self.error) // 10) :]))


def judge(
    run: Run, again: Run | None, loss: Loss, few: Dataset, contradictions: int, regularisation: tuple[str, ...]
) -> tuple[list[Finding], str]:
    """Findings and the verdict; `again` is the run without dropout and augmentation, if there was one."""
    what = "zero error" if run.error is not None else "5% of the first loss"
    if run.reached is not None:
        return [], f"Reached {what} on {len(few)} examples after {run.reached} updates, as it should be."
    findings = []
    if contradictions:
        text = (
            f"{contradictions} of the {len(few)} examples equal another one that has another label, so the error cannot"
            f" fall below {contradictions / len(few):.1%}. Correct the labels; check_data counts them in the whole set."
        )
        findings.append(Finding("labels contradict", text, {"contradictions": contradictions}))
    explained = contradictions and run.last_error <= 1.5 * contradictions / len(few)
    if not explained:
        findings += _causes(run, again, loss, few, what, regularisation)
    final = run.passes[-1] if len(run.passes) else float("nan")
    end = f"the loss is {final:.4g}"
    end += f", the error {run.last_error:.1%}" if run.error is not None else ""
    verdict = f"{what.capitalize()} was not reached on {len(few)} examples in {len(run.loss)} updates: {end}."
    return findings, with_findings(verdict, findings)


def _causes(
    run: Run, again: Run | None, loss: Loss, few: Dataset, what: str, regularisation: tuple[str, ...]
) -> list[Finding]:
    on = [name for name in regularisation if name != "weight decay"]
    if again is not None and again.reached is not None:
        still = (
            f"the loss or a gradient was not finite at update {run.broke}"
            if run.broke is not None
            else f"the error is still {run.last_error:.1%}"
            if run.error is not None
            else f"the loss is still {run.passes[-1]:.4g}"
        )
        text = (
            f"without {' and '.join(on)} {what} is reached after {again.reached} updates, with it {still}. Switch it "
            "off for this check; if the training error of the whole set stays high too, weaken it."
        )
        if run.broke is not None:
            text += " Or lower the learning rate, which is too high with it."
        numbers = {"reached_without": again.reached, "error": run.last_error}
        return [Finding("regularisation", text, numbers, serious=False)]
    if run.broke is not None:
        text = (
            f"the loss or a gradient was not finite at update {run.broke}. Divide the learning rate by 3 to 10, or warm"
            " it up; check the inputs for NaN if that does not help."
        )
        return [Finding("rate too high", text, {"update": run.broke})]
    passes = run.passes
    tail = max(1, len(passes) // 10)
    first, final, worst = float(run.loss[0]), float(passes[-tail:].mean()), float(run.loss.max())
    numbers = {"first": first, "last": final, "largest": worst, "gradient_norm": float(run.gradient_norm[0])}
    curve = f"the loss went from {first:.4g} to {final:.4g}"
    if final > 1.1 * first or worst > 3 * first:
        text = f"{curve}, and was {worst:.4g} at its largest. Divide the learning rate by 3 to 10."
        return [Finding("rate too high", text, numbers)]
    constant = references(loss, few.targets, _outputs_like(few))[1] if loss is cross_entropy else None
    same_for_all = constant is not None and abs(final - constant) < 0.05 * constant
    middle, last = passes[len(passes) // 3 : 2 * len(passes) // 3], passes[2 * len(passes) // 3 :]
    falling = len(middle) > 0 and last.mean() < middle.mean() - max(0.02 * first, 0.02 * middle.mean())
    if final > 0.9 * first or (same_for_all and not falling):
        text = (
            f"{curve}. The gradient's norm was {run.gradient_norm[0]:.3g} at first, and is {run.gradient_norm[-1]:.3g}."
        )
        if same_for_all:
            text += (
                f" A model that answers the same for every input can reach {constant:.4g}: if the gradient has become"
                " small, units may be dead, or saturated."
            )
        text += (
            " The learning rate is too low (multiply it by 10), or the initialisation is bad: look at the activations"
            " of each layer."
        )
        if "weight decay" in regularisation:
            text += " Strong weight decay can keep the loss up too: try it without."
        return [Finding("loss does not fall", text, numbers)]
    if falling and final > 0.5 * first:
        text = f"{curve}, and is still falling: slowly. Multiply the learning rate by 3 to 10."
        return [Finding("rate too low", text, numbers)]
    if falling:
        text = f"{curve}, and is still falling. Make more updates; a higher learning rate may do too."
        return [Finding("too few updates", text, numbers, serious=False)]
    suspects = ", ".join(regularisation)
    text = f"{curve}, and does not fall further. "
    text += f"Switch off what keeps the model from fitting: {suspects}." if suspects else "No regularisation was found."
    text += " Otherwise the learning rate may be too high for the end (decay it), or the model too small."
    return [Finding("stuck above zero", text, numbers)]


def _outputs_like(few: Dataset) -> np.ndarray:
    """An array with as many columns as there are classes."""
    targets = few.targets
    classes = len(few.class_names) or (targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1)
    return np.zeros((1, classes))
