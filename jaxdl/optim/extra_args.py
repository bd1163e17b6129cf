"""What a step tells a chain, beside gradients and parameters."""

from typing import Any

import optax


class MissingArgumentError(ValueError):
    """A link was not told what its update needs."""


def with_extra_args(tx: Any) -> optax.GradientTransformationExtraArgs:
    """A chain whose update takes further arguments and hands them to the links that want them.

    Like `optax.with_extra_args_support`, and through `optax.MultiSteps` too, where that would lose them.
    """
    if isinstance(tx, optax.MultiSteps):
        update: Any = tx.update
        return optax.GradientTransformationExtraArgs(tx.init, update)
    return optax.with_extra_args_support(tx)
