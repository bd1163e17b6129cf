"""What the training loss says of the learning rate and the length of a run. Each rule is a function of the curves."""

import numpy as np

from jaxdl.practice.findings import Finding
from jaxdl.practice.run_curves import Curves


def diverging(curves: Curves) -> Finding | None:
    """The loss lost half of what it had gained, or became infinite.

    Half is far above what batches vary by, and a tenth of the first loss keeps out runs that gained hardly anything.
    After a restart the loss may rise for a while: those are looked at by `unstable_restarts`.
    """
    if curves.diverged is not None:
        reason = curves.diverged.removeprefix("fit: ").split(". ")[0].rstrip(".")
        text = f"{reason}. Lower the rate, or warm up."
        return Finding("diverging", text, {"updates": len(curves.loss)})
    best = int(np.argmin(curves.blocks))
    low, at = float(curves.blocks[best]), int(curves.edges[best])
    rise = curves.end - low
    if rise <= max((curves.initial - low) / 2, 0.1 * curves.initial) or any(at < r for r in curves.restarts):
        return None
    text = (
        f"the loss had come down to {low:.3g} at about update {at + 1}, and is {curves.end:.3g} at the end (it began "
        f"at {curves.initial:.3g}). Lower the rate from there on, or clip the gradients."
    )
    return Finding("diverging", text, {"lowest": low, "at": at + 1, "end": curves.end, "initial": curves.initial})


def rate_too_high(curves: Curves) -> Finding | None:
    """The loss rises at the start, or evaluations jump up and down while the rate stands."""
    return _rises_early(curves) or _jumps(curves)


def _rises_early(curves: Curves) -> Finding | None:
    """Three losses in a row in the first quarter are a third above the first one, beyond the noise of the batches.

    A good rate goes down from the first updates on. Three, so that one odd batch is not enough.
    """
    part = curves.loss[: max(10, len(curves.loss) // 4)]
    threes = np.minimum(np.minimum(part[:-2], part[1:-1]), part[2:])
    first = max(curves.initial, curves.chance or 0.0)
    at, peak = int(np.argmax(threes)), float(np.max(threes))
    if peak < 1.33 * first:
        return None
    text = (
        f"the loss rose from {curves.initial:.3g} to above {peak:.3g} at update {at + 1}, and is {curves.end:.3g} at "
        "the end. Lower the rate, by 3 to 10 times, or warm up."
    )
    return Finding("rate too high", text, {"initial": curves.initial, "peak": peak, "at": at + 1, "end": curves.end})


def _jumps(curves: Curves) -> Finding | None:
    """The loss of evaluations differs from that of its neighbours by a quarter, before the rate was lowered.

    An evaluation is over the whole set, so it has none of the batches' noise: what is left is the weights' own jumping.
    """
    steps = curves.history.eval_step
    if curves.restarts or curves.rate is None:
        return None
    high = steps <= 1 + np.max(np.flatnonzero(curves.rate >= curves.rate.max() / 2))
    losses = curves.history.eval_loss[high & (steps > len(curves.loss) // 4)]
    if len(losses) < 5:
        return None
    bends = np.abs(losses[1:-1] - (losses[:-2] + losses[2:]) / 2)
    size = float(np.median(bends) / np.median(losses))
    if size < 0.25:
        return None
    text = (
        f"the loss on the evaluation set jumps by {size:.0%} of itself from one evaluation to the next, which is not "
        "the noise of batches but of the weights. Lower the rate, by 3 to 10 times, or decay it."
    )
    return Finding("rate too high", text, {"jump": size})


def not_learning(curves: Curves) -> Finding | None:
    """At the end the loss is what it is for a model that has learned nothing, and it does not fall.

    Three per cent below log C is soon reached by learning how frequent the classes are. Without the number of classes
    only a loss that stands where it began is known to be one of nothing learned.
    """
    level = curves.chance if curves.chance is not None else curves.initial
    half = len(curves.loss) // 2
    change, error = curves.trend(half)
    fell = curves.falls(half, 0.01) or change < -max(4 * error, 0.01 * level)
    end = curves.mean(int(curves.edges[-6]), len(curves.loss))
    learned_before = diverging(curves) is not None or curves.blocks.min() < 0.9 * level
    if end < 0.97 * level or fell or learned_before:
        return None
    where = f"log C = {level:.3g}, that of a guess" if curves.chance is not None else f"{level:.3g}, where it began"
    text = (
        f"the mean loss of the last quarter is {end:.3g}, not below {where}. Rates far too low or far too high, dead "
        "units, a bad initialisation and labels that do not belong to the inputs look like this: try "
        "practice.overfit_batch."
    )
    return Finding("not learning", text, {"end": end, "level": level, "change in the second half": change})


def rate_too_low(curves: Curves) -> Finding | None:
    """The loss falls slowly along a nearly straight line, or has not left a guess's behind yet.

    Learning at a good rate is fast at first and then slow: the second half of a run falls by much less than the first.
    If it falls by half as much or more while most of the first loss is still there, the run has hardly begun. Neither
    has it if nine tenths of a guess's loss are still there, whatever the first updates gained, such as the balance of
    the classes. If the rate was lowered at the end, the schedule decides, and nothing is said.
    """
    middle = len(curves.loss) // 2
    first = float(curves.initial - curves.blocks[len(curves.blocks) // 2])
    change, _ = curves.trend(middle)
    if curves.spent or rate_too_high(curves) is not None or not curves.falls(middle, 0.01):
        return None
    straight = first > 0 and -change > first / 2 and curves.end > 0.6 * curves.initial
    if not straight and curves.end < 0.9 * (curves.chance or curves.initial):
        return None
    text = (
        f"the loss falls slowly: by {first:.3g} in the first half and {-change:.3g} in the second, from "
        f"{curves.initial:.3g} to {curves.end:.3g}. Raise the rate, by 3 to 10 times."
    )
    return Finding("rate too low", text, {"first half": first, "second half": -change, "end": curves.end})


def still_falling(curves: Curves) -> Finding | None:
    """Over the last three tenths of the run the loss fell by a twentieth of itself, and evaluations, if any, fell too.

    Not said if the rate has come to its end, as a longer schedule is another run, nor if the rate is too low, which
    says it already.
    """
    start = int(curves.edges[-7])
    if curves.spent or curves.restarts or not curves.falls(start, 0.05) or rate_too_low(curves) is not None:
        return None
    change, _ = curves.trend(start)
    text = (
        f"over the last {len(curves.loss) - start} updates the loss still fell by {-change:.3g}, to {curves.end:.3g}. "
        "Train longer."
    )
    return Finding("still falling", text, {"change": change, "end": curves.end}, serious=False)


def plateau(curves: Curves) -> Finding | None:
    """In the last three tenths the loss does not fall any more, at a rate that was not lowered, though much is left.

    Where less than a tenth of the first loss is left, the run has simply done its work.
    """
    start = int(curves.edges[-7])
    change, _ = curves.trend(start)
    lowered = curves.rate is not None and curves.rate[-1] < curves.rate.max() / 2
    fell_before = curves.initial - curves.end > 0.1 * curves.initial
    if lowered or curves.restarts or not fell_before or curves.end < 0.1 * curves.initial:
        return None
    if not flat(curves, start) or change > 0.1 * curves.end:
        return None
    since = start
    for edge in curves.edges[1:-7]:
        if flat(curves, int(edge)):
            since = int(edge)
            break
    text = (
        f"the loss has stood at {curves.end:.3g} since about update {since + 1}. Decay the rate there by 3 to 10 times."
    )
    if curves.rate is None:
        text += " (The rates are not in the history; nothing is to be done if it was decayed already.)"
    return Finding("plateau", text, {"since": since + 1, "level": curves.end, "change": change}, serious=False)


def flat(curves: Curves, start: int) -> bool:
    """Whether the loss does not fall from `start` on: by less than 5 % of itself, or not beyond twice its error.

    If that error is above 5 %, or above a tenth of what the run gained, the batches are too noisy to say so; and
    evaluations that fall by 5 % say no.
    """
    change, error = curves.trend(start)
    seen = error < min(0.05 * curves.end, 0.1 * (curves.initial - curves.end))
    return seen and -change < max(2 * error, 0.05 * curves.end) and not curves.evaluations_fall(start, 0.05)


def unstable_restarts(curves: Curves) -> Finding | None:
    """After a restart of the rate the loss does not come back, by the end of that cycle, to where it was before.

    A tenth above, beyond three standard errors. A cycle that was cut off while its rate was still high does not count,
    unless by a loss that was not finite.
    """
    if curves.diverged is not None and curves.restarts:
        restart = curves.restarts[-1]
        before = curves.mean(max(restart - 10, 0), restart)
        text = (
            f"the rate was raised again at update {restart + 1}, where the loss was {before:.3g}; "
            f"{len(curves.loss) - restart} updates later it was not finite. Restart at a lower rate."
        )
        return Finding("unstable restarts", text, {"restart": restart + 1, "before": before})
    ends = [*curves.restarts, len(curves.loss)]
    for restart, stop in zip(curves.restarts, ends[1:], strict=True):
        length = max(3, (stop - restart) // 10)
        finished = curves.rate is not None and curves.rate[stop - 1] < 0.5 * curves.rate[restart]
        if stop - restart < 10 or not finished:
            continue
        before, after = curves.mean(max(restart - length, 0), restart), curves.mean(stop - length, stop)
        peak = float(np.max(curves.smooth[restart:stop]))
        spread = float(np.std(curves.loss[stop - length : stop])) / np.sqrt(length)
        if after > 1.1 * before + 3 * spread:
            text = (
                f"the rate was raised again at update {restart + 1}; the loss went from {before:.3g} up to {peak:.3g}, "
                f"and by the end of the cycle came back to {after:.3g} only. Restart at a lower rate, or make longer "
                "cycles."
            )
            numbers = {"restart": restart + 1, "before": before, "peak": peak, "after": after}
            return Finding("unstable restarts", text, numbers)
    return None
