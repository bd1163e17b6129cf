"""What a step passes to a chain, beside gradients and parameters."""

from typing import Any

import optax


class MissingArgumentError(ValueError):
    """The update of a link was called without an argument that it needs."""


def with_extra_args(tx: Any) -> optax.GradientTransformationExtraArgs:
    """A chain whose update takes further arguments and passes them to the links that accept them.

    Like `optax.with_extra_args_support`, which would lose them in `optax.MultiSteps`.
    """
    if isinstance(tx, optax.MultiSteps):
        update: Any = tx.update
        return optax.GradientTransformationExtraArgs(tx.init, update)
    return optax.with_extra_args_support(tx)
