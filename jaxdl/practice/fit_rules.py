"""What a history says of how well the model fits, and of its noise. Each rule is a function of the curves."""

import numpy as np

from jaxdl.practice.findings import Finding
from jaxdl.practice.rate_rules import flat, rate_too_low, still_falling
from jaxdl.practice.run_curves import Curves


def underfitting(curves: Curves) -> Finding | None:
    """The training loss has come to rest with half of a guess's loss, or more, still there, on the evaluation set too.

    Half is arbitrary, but what is hard for every model can only be told from what a larger one reaches.
    """
    level = curves.chance if curves.chance is not None else curves.initial
    if curves.end < level / 2 or any(rule(curves) for rule in (rate_too_low, still_falling)):
        return None
    resting = curves.spent or flat(curves, int(curves.edges[-7]))
    if not resting or (len(curves.history.eval_loss) and curves.history.eval_loss[-1] > 1.2 * curves.end):
        return None
    text = (
        f"the training loss has come to rest at {curves.end:.3g}, {curves.end / level:.0%} of the {level:.3g} of a "
        "model that has learned nothing. Take a larger model, a longer schedule, or less regularisation."
    )
    return Finding("underfitting", text, {"end": curves.end, "share of chance": curves.end / level})


def overfitting(curves: Curves) -> Finding | None:
    """The evaluation loss has risen from its lowest by a tenth, while the training loss went on falling.

    The rise must be three times the noise of evaluations, be that of the mean of the last two, and be two evaluations
    old. For the training loss a fall by a twentieth is enough.
    """
    at, losses = curves.evaluated, curves.history.eval_loss[curves.evaluated]
    if len(losses) < 4:
        return None
    best = int(np.argmin(losses))
    rise = float(np.mean(losses[-2:]) - losses[best])
    step = int(curves.history.eval_step[at[best]])
    then = float(curves.smooth[min(step, len(curves.smooth)) - 1])
    fell = then - curves.end > 0.05 * then
    if len(losses) - 1 - best < 2 or rise < max(0.1 * losses[best], 3 * curves.evaluation_noise) or not fell:
        return None
    text = (
        f"the evaluation loss was lowest, {losses[best]:.3g}, after {step} updates and is {losses[-1]:.3g} at the end, "
        f"while the training loss fell from {then:.3g} to {curves.end:.3g}."
    )
    if "error" in curves.history.eval_metrics:
        errors = curves.history.eval_error
        text += f" The evaluation error was {errors[at[best]]:.1%} then and is {errors[-1]:.1%}."
    text += " Stop there, or use augmentation, weight decay, dropout or more data."
    numbers = {"lowest": float(losses[best]), "at": step, "end": float(losses[-1]), "training loss": curves.end}
    return Finding("overfitting", text, numbers)


def large_gap(curves: Curves) -> Finding | None:
    """The evaluation error is ten points above the training error, and twice as high, at the end.

    Where there is no error, the losses, and twice. Every good model has some gap, so this is a hint only.
    """
    history = curves.history
    if not len(history.eval_loss) or overfitting(curves) is not None:
        return None
    ours = "error" in history.metrics and "error" in history.eval_metrics
    if ours:
        seen, unseen = float(np.mean(history.error[int(curves.edges[-3]) :])), float(history.eval_error[-1])
        found = unseen - seen > 0.1 and unseen > 2 * seen
    else:
        seen, unseen = curves.end, float(history.eval_loss[-1])
        found = unseen > 2 * seen and unseen - seen > 0.05 * curves.initial
    if not found:
        return None
    numbers = {"training": seen, "evaluation": unseen}
    what, both = ("error", f"{seen:.1%} and {unseen:.1%}") if ours else ("loss", f"{seen:.3g} and {unseen:.3g}")
    text = (
        f"{what} in training and on the evaluation set: {both}. More data, augmentation or decay would narrow the gap."
    )
    return Finding("large gap", text, numbers, serious=False)


def noisy_batches(curves: Curves) -> Finding | None:
    """One batch's loss varies by a sixth of the whole progress, so that single losses say little."""
    progress = curves.initial - curves.end
    if progress <= 0.1 * curves.initial or curves.noise < progress / 6:
        return None
    updates = int(np.ceil((curves.noise / (0.02 * progress)) ** 2))
    text = (
        f"the loss of a batch varies by {curves.noise:.3g} around its mean, {curves.noise / progress:.0%} of the whole "
        f"progress of {progress:.3g}. Judge by means over {updates} updates or more, or take larger batches."
    )
    return Finding("noisy batches", text, {"noise": curves.noise, "progress": progress}, serious=False)


def spikes(curves: Curves) -> Finding | None:
    """Single losses stand out of their neighbours: by ten times the noise around them, and by half of their level.

    Not looked for in the first twentieth, nor in the twentieth after a restart, where the loss moves by itself; and in
    more than a twentieth of all updates they are no exceptions. Of noisy batches single losses say nothing.
    """
    if noisy_batches(curves) is not None:
        return None
    loss, half = curves.loss, 10
    padded = np.pad(loss, half, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    middle = np.median(windows, axis=1)
    spread = np.median(np.abs(windows - middle[:, None]), axis=1) / 0.6745
    above = loss - middle
    found = (above > 10 * spread) & (above > 0.5 * middle) & (above > 0.05 * curves.initial)
    for start in (0, *curves.restarts):
        found[start : start + len(loss) // 20] = False
    at = np.flatnonzero(found)
    at = at[np.concatenate([[True], np.diff(at) > half])] if len(at) else at
    if not 0 < len(at) <= len(loss) / 20:
        return None
    highest = int(at[np.argmax(above[at])])
    which = ", ".join(str(index + 1) for index in at[:5]) + (" and so on" if len(at) > 5 else "")
    text = (
        f"the loss jumps up for a moment {len(at)} time{'s' if len(at) > 1 else ''} (updates {which}), at most from "
        f"{middle[highest]:.3g} to {loss[highest]:.3g} at update {highest + 1}. Look at these batches; if they are "
        "sound, lower the rate or clip the gradients."
    )
    numbers = {"number": len(at), "highest": float(loss[highest]), "at": highest + 1}
    return Finding("spikes", text, numbers, serious=False)
