"""What the links of a chain need from a training step, beside a gradient. It is read from the optimizer's state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxdl.arguments import require
from jaxdl.optim.extra_args import with_extra_args
from jaxdl.optim.freezing import frozen_params, without_frozen
from jaxdl.optim.loss_scaling import loss_scale
from jaxdl.optim.snapshotting import wants_batch_stats, with_batch_stats
from jaxdl.optim.velocities import lookahead_params
from jaxdl.tree import find_states
from jaxdl.typing import Params


class Requests(NamedTuple):
    """What a step has to know before it computes a gradient."""

    point: Params  # the parameters at which the gradient is taken
    loss_scale: jax.Array | None  # the factor for the loss; None for none
    frozen: Any | None  # a tree of bools like the parameters: which need no gradient; None for none
    batch_stats: bool  # whether the update needs the new batch statistics
    grad_fn: bool  # whether the update needs a function that computes gradients at other points


def requests(params: Params, opt_state: Any) -> Requests:
    """What the links of a chain need, read from their states."""
    return Requests(
        point=lookahead_params(params, opt_state),
        loss_scale=loss_scale(opt_state),
        frozen=frozen_params(opt_state, params),
        batch_stats=wants_batch_stats(opt_state),
        grad_fn=bool(find_states(opt_state, optax.contrib.SAMState)),
    )


def initial_state(tx: optax.GradientTransformation, params: Params, batch_stats: Params) -> Any:
    """The state of a chain, with room for batch statistics where it takes snapshots.

    Raises:
      ValueError: the chain keeps its parameters in a form of its own.
    """
    state = tx.init(params)
    require(
        not find_states(state, optax.LookaheadState),
        "optax.lookahead keeps two sets of parameters in the place of the model's, optax.LookaheadParams, which no "
        "module can be called with. Use optim.ema or optim.swa for the mean of many iterates",
    )
    return with_batch_stats(state, batch_stats)


def update(
    tx: optax.GradientTransformation,
    asked: Requests,
    grads: Params,
    opt_state: Any,
    params: Params,
    *,
    value: jax.Array,
    batch_stats: Params,
    value_fn: Callable[[Params], jax.Array],
    grad_fn: Callable[..., Params],
) -> tuple[Params, Any]:
    """The updates of a chain, and its new state.

    Args:
      tx: the chain.
      asked: what its links need.
      grads: the gradient at `asked.point`, of the scaled loss.
      opt_state: the chain's state.
      params: the parameters.
      value: the loss.
      batch_stats: the model's new batch statistics.
      value_fn: the loss as a function of the parameters, on the same batch.
      grad_fn: its gradient as a function of the parameters (and the number of the call, which may be ignored).
    """
    # `batch_stats` and `grad_fn` are passed only to chains that need them: optax's line searches pass arguments that
    # they do not know on to value_fn, and optax.contrib.sam takes no argument but `grad_fn`.
    told: dict[str, Any] = {"value": value, "grad": grads, "value_fn": value_fn}
    told |= {"batch_stats": batch_stats} if asked.batch_stats else {}
    told = {"grad_fn": grad_fn} if asked.grad_fn else told
    updates, opt_state = with_extra_args(tx).update(grads, opt_state, params, **told)
    return without_frozen(asked.frozen, updates), opt_state  # so that `freeze` holds wherever it stands in the chain
