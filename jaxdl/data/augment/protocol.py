"""What a random change of a batch is: a function of keys and images, or of keys, images and targets."""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

Augment: TypeAlias = Callable[..., Any]
"""(keys [batch], images [batch, height, width, channels]) -> images of as many examples and the same dtype, or
(keys, images, targets) -> (images, targets). It is pure: the same key and image give the same pixels.

A change that depends on the number of the update has a method `at_step(step)`, which returns such a function for that
update: `AlternatingFlip`, for example. The training step calls it with a traced int32 [] before use."""


def takes_targets(augment: Augment) -> bool:
    """Whether a change has three arguments that must be given: keys, inputs and targets.

    An object may say so itself, with an attribute `takes_targets`, as `Compose` does.
    """
    told = getattr(augment, "takes_targets", None)
    if isinstance(told, bool):
        return told
    try:
        parameters = inspect.signature(augment).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(needed) == 3


def at_step(augment: Augment, step: Any) -> Augment:
    """The change for an update: what its method `at_step` returns, or the change itself if it has none."""
    told = getattr(augment, "at_step", None)
    return augment if told is None else told(step)
