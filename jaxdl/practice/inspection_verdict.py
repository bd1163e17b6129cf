"""What is amiss in a network, from the statistics of its layers and weights."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdl.practice.findings import Finding, with_findings

DEAD = 0.4
"""From this share of a layer's units on, dead units are a finding."""
SATURATED = 0.3
"""From this share of a layer's outputs on, saturation is a finding."""
FACTOR = 100.0
"""By this factor activations or gradients may change between the first and the last nonlinearity."""
RATIOS = (3e-5, 3e-2)
"""Between these the median update-to-weight ratio is no finding; about 1e-3 is usual."""


def series(layers: Sequence[Any]) -> list[Any]:
    """The layers to compare over depth: the nonlinearities; with fewer than two, the layers with kernels but the last.

    (The size of what BatchNorm takes in does not matter, and the last layer's outputs are logits.)
    """
    found = [layer for layer in layers if layer.role == "activation"]
    return found if len(found) >= 2 else [layer for layer in layers if layer.role == "layer"][:-1]


def judge(layers: Sequence[Any], weights: Sequence[Any], loss: float) -> tuple[Finding, ...]:
    """The findings, the most serious first."""
    bad = [layer.name for layer in layers if not math.isfinite(layer.activation.norm)]
    bad_gradients = [w.name for w in weights if not math.isfinite(w.gradient_norm)]
    if bad or bad_gradients or not math.isfinite(loss):
        if bad:
            where = f"the outputs of {bad[0]} are NaN or infinite, and no earlier layer's"
        elif bad_gradients:
            where = f"the outputs are finite, but gradients are NaN or infinite: of {', '.join(bad_gradients[:5])}"
        else:
            where = "the outputs are finite, but the loss is not"
        text = f"{where}. Look at the inputs and the weights, and lower the learning rate if this is during training."
        return (Finding("not finite", text, {"layers": len(bad), "weights": len(bad_gradients)}),)
    over_depth = series(layers)
    found = [
        _dead([layer for layer in layers if layer.dead is not None]),
        _saturated([layer for layer in layers if layer.saturated is not None]),
        *(_over_depth(over_depth) if len(over_depth) >= 2 else ()),
        _updates(weights),
    ]
    return tuple(sorted((finding for finding in found if finding), key=lambda finding: not finding.serious))


def verdict_of(layers: Sequence[Any], weights: Sequence[Any], findings: Sequence[Finding], examples: int) -> str:
    """The numbers, and the findings."""
    over_depth = series(layers)
    dead = max((layer.dead_share for layer in layers), default=0.0)
    parts = [f"at most {100 * dead:.0f} % of a layer's units are dead for all {examples} examples"]
    saturated = [layer.saturated for layer in layers if layer.saturated is not None]
    parts += [f"at most {100 * max(saturated):.0f} % of a layer's outputs are saturated"] if saturated else []
    if over_depth:
        stds = [layer.activation.std for layer in over_depth]
        parts.append(f"the activations' deviations lie between {min(stds):.2g} and {max(stds):.2g}")
    median = _median(weights)
    parts += [f"the median update is {median:.1e} of its weight"] if median is not None else []
    amiss = "" if findings else " Nothing is amiss."
    if not layers:
        return with_findings(f"The model has no modules or nonlinearities to look at.{amiss}", findings)
    return with_findings(f"In {len(layers)} layers {', '.join(parts)}.{amiss}", findings)


def _dead(layers: Sequence[Any]) -> Finding | None:
    bad = [layer for layer in layers if layer.dead_share >= DEAD]
    if not bad:
        return None
    worst = max(bad, key=lambda layer: layer.dead_share)
    text = (
        f"in {worst.name} {100 * worst.dead_share:.0f} % of the {len(worst.dead)} units are 0 for every example"
        f"{_others(bad, worst)}. Such units get no gradient: look at the biases before them, lower the learning rate, "
        "use a smaller initialisation or a leaky ReLU. (With few examples more units seem dead.)"
    )
    return Finding("dead units", text, {"share": worst.dead_share, "layers": len(bad)}, worst.dead_share >= 0.5)


def _saturated(layers: Sequence[Any]) -> Finding | None:
    bad = [layer for layer in layers if layer.saturated >= SATURATED]
    if not bad:
        return None
    worst = max(bad, key=lambda layer: layer.saturated)
    text = (
        f"in {worst.name} {100 * worst.saturated:.0f} % of the outputs are within 2 % of an end of the {worst.kind}"
        f"{_others(bad, worst)}, where its derivative is nearly 0. Use smaller initial weights (Xavier's) or "
        "normalised inputs, or a normalisation before it, or a ReLU."
    )
    return Finding("saturated", text, {"share": worst.saturated, "layers": len(bad)}, worst.saturated >= 0.5)


def _over_depth(layers: Sequence[Any]) -> list[Finding | None]:
    """Whether activations grow or shrink from the first layer to the last, and gradients from the last to the first."""
    first, last = layers[0], layers[-1]
    remedy = {
        "vanish": "Use He's initialisation (Xavier's for tanh), normalisation or residual connections.",
        "explode": "Use He's initialisation (Xavier's for tanh), normalisation, or smaller weights.",
    }
    return [
        _change(
            "activations",
            f"their deviation is {first.activation.std:.2g} in {first.name} and {last.activation.std:.2g} in "
            f"{last.name}",
            first.activation.std,
            last.activation.std,
            remedy,
        ),
        _change(
            "gradients",
            f"the gradient's norm is {last.gradient.norm:.2g} in {last.name} and {first.gradient.norm:.2g} in "
            f"{first.name}, the first",
            last.gradient.norm,
            first.gradient.norm,
            remedy | {"explode": f"{remedy['explode']} Clipping the gradient helps too."},
        ),
    ]


def _change(what: str, text: str, start: float, end: float, remedy: dict[str, str]) -> Finding | None:
    if start == 0 or 1 / FACTOR <= end / start <= FACTOR:
        return None
    how = "vanish" if end < start else "explode"
    times = "to nothing" if end == 0 else f"{max(end / start, start / end):.2g} times"
    return Finding(f"{what} {how}", f"{text}: {times}. {remedy[how]}", {"ratio": end / start})


def _ratios(weights: Sequence[Any]) -> dict[str, float]:
    """Update ratios of arrays with two axes or more; biases may start at 0."""
    ratios = {w.name: w.update_ratio for w in weights if w.update_ratio is not None and len(w.shape) > 1}
    return {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}


def _median(weights: Sequence[Any]) -> float | None:
    ratios = _ratios(weights)
    return float(np.median(list(ratios.values()))) if ratios else None


def _updates(weights: Sequence[Any]) -> Finding | None:
    ratios, median = _ratios(weights), _median(weights)
    if median is None or RATIOS[0] <= median <= RATIOS[1]:
        return None
    least, most = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    large = median > RATIOS[1]
    remedy = (
        "the chain makes no update now (a rate of 0, or a step between those of MultiSteps)"
        if median == 0
        else f"{'divide' if large else 'multiply'} the learning rate by about "
        f"{_round(median / 1e-3 if large else 1e-3 / median):g}"
    )
    text = (
        f"the median update is {median:.1e} of its weight's norm, where about 1e-3 is usual (from {ratios[least]:.1e} "
        f"in {least} to {ratios[most]:.1e} in {most}): {remedy}."
    )
    name = "updates too large" if large else "updates too small"
    return Finding(name, text, {"median": median}, median > 0.1 or median == 0)


def _round(number: float) -> float:
    """To one digit."""
    return float(f"{number:.0e}")


def _others(bad: Sequence[Any], worst: Any) -> str:
    names = [layer.name for layer in bad if layer is not worst]
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" (and many in {shown})"
