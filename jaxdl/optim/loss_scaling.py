"""A loss scale that adapts itself: for float16, in which small gradients would become 0."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.arguments import check_real, require, shown
from jaxdl.optim.checks import check_opt_state, check_updates
from jaxdl.tree import find_states


class LossScaleState(NamedTuple):
    """State of `dynamic_loss_scale`."""

    scale: jax.Array  # float32 scalar: what the loss is multiplied by
    good: jax.Array  # int32 scalar: updates since the scale changed last
    skipped: jax.Array  # int32 scalar: updates left out in all, because a gradient was not finite
    inner: Any  # state of the transformation inside


def dynamic_loss_scale(
    inner: optax.GradientTransformation,
    *,
    initial: float = 2.0**15,
    period: int = 2000,
    factor: float = 2.0,
) -> optax.GradientTransformationExtraArgs:
    """Divides gradients by the scale that the loss was multiplied by, and leaves out updates that overflowed.

        scale <- factor scale   after `period` finite gradients in a row
        scale <- scale / factor where a gradient is not finite; `inner` is then not updated, and the update is 0

    It goes around the whole chain. `train.make_step` and `fit` multiply the loss by the scale; in a loop of your own
    differentiate `loss_scale(opt_state) * loss`. float16 needs a loss scale; bfloat16, whose exponents are float32's,
    does not. The scale stays in [1, 2^24].

    Args:
      inner: the chain; it is given the unscaled gradients, in the parameters' dtype.
      initial: the first scale.
      period: finite gradients in a row before the scale rises.
      factor: by how much it rises and falls.

    Returns:
      A gradient transformation with state `LossScaleState`.

    Raises:
      ValueError: a value is out of its range, or `inner` is no gradient transformation.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = dynamic_loss_scale(optax.sgd(1.0), initial=8.0)
      >>> state = tx.init(jnp.zeros(2))
      >>> updates, state = tx.update(8 * jnp.ones(2), state)
      >>> updates.tolist()
      [-1.0, -1.0]
      >>> updates, state = tx.update(jnp.array([1.0, jnp.inf]), state)
      >>> updates.tolist(), float(state.scale), int(state.skipped)
      ([0.0, 0.0], 4.0, 1)

    Reference: Micikevicius et al., `Mixed Precision Training`, 2018 (arXiv 1710.03740), sec. 3.2; the constants are
    those of `torch.amp.GradScaler`.
    """
    name = "dynamic_loss_scale"
    require(
        hasattr(inner, "init") and hasattr(inner, "update"),
        f"{name}: inner must be a gradient transformation, got inner={shown(inner)}; pass optim.momentum(0.1) for "
        "example",
    )
    check_real(name, "initial", initial, at_least=1)
    check_updates(name, "period", period, at_least=1)
    check_real(name, "factor", factor, at_least=1)
    require(
        isinstance(factor, jax.Array) or factor > 1, f"{name}: factor must be above 1, got factor={factor!r}; use 2.0"
    )
    inner = optax.with_extra_args_support(inner)

    def init(params):
        good, skipped = jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32)
        return LossScaleState(jnp.array(initial, jnp.float32), good, skipped, inner.init(params))

    def update(updates, state, params=None, **extra):
        finite = all_finite(updates)
        true = jax.tree.map(lambda g: (g / state.scale).astype(g.dtype), updates)
        if "grad" in extra:
            extra["grad"] = true
        moved, inner_state = inner.update(true, state.inner, params, **extra)
        good = jnp.where(finite, state.good + 1, 0)
        rises = good >= period
        scale = jnp.where(finite, jnp.where(rises, state.scale * factor, state.scale), state.scale / factor)
        return jax.tree.map(lambda u: jnp.where(finite, u, jnp.zeros_like(u)), moved), LossScaleState(
            jnp.clip(scale, 1.0, 2.0**24),
            jnp.where(rises, 0, good),
            state.skipped + ~finite,
            jax.tree.map(lambda new, old: jnp.where(finite, new, old), inner_state, state.inner),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def loss_scale(opt_state: Any) -> jax.Array | None:
    """The factor for the loss, as float32 scalar; None if there is no `dynamic_loss_scale`.

    Args:
      opt_state: the state of any chain.

    Raises:
      ValueError: `opt_state` is the chain or a whole training state, not an optimizer state.
    """
    check_opt_state("loss_scale", opt_state)
    found = find_states(opt_state, LossScaleState)
    return found[0].scale if found else None


def all_finite(tree: Any) -> jax.Array:
    """Whether every number of a tree is finite, as bool scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])) if leaves else jnp.asarray(True)
