"""Hyperparameters that are kept in the optimizer's state."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.train.state import TrainState, check_state

_NOT_NEGATIVE = {  # names of hyperparameters in jaxdl and optax that cannot be negative
    *("learning_rate", "peak", "peak_value", "initial", "weight_decay", "momentum", "decay", "dampening"),
    *("b1", "b2", "eps", "initial_accumulator"),
}


def set_hyperparams(state: TrainState, **values: Any) -> TrainState:
    """A state with new numbers for hyperparameters that `optax.inject_hyperparams` keeps in it.

    A learning rate under a schedule can be set by its peak, if the peak is injected:

        def chain(peak):
            return optim.momentum(optim.cosine_decay(peak, steps))

        tx = optax.inject_hyperparams(chain)(peak=0.1)

    Args:
      state: a training state.
      **values: numbers by name.

    Returns:
      A new state; the one passed is unchanged.

    Raises:
      ValueError: the optimizer keeps no hyperparameter of that name (the message lists those that it keeps), or
        computes it by a schedule at every update; or a value is not one finite number, is negative for a rate or a
        decay, or does not fit the dtype of the hyperparameter.
    """
    check_state("set_hyperparams", state)
    return with_hyperparams("set_hyperparams", state, values)


def with_hyperparams(function: str, state: TrainState, values: Mapping[str, Any]) -> TrainState:
    """`set_hyperparams` for `function`, which is named in errors."""
    found: dict[str, Any] = {}
    scheduled: set[str] = set()

    def change(node):
        if not _injected(node):
            return node
        found.update(node.hyperparams)
        scheduled.update(getattr(node, "hyperparams_states", {}))
        new = {key: jnp.asarray(values[key], old.dtype) for key, old in node.hyperparams.items() if key in values}
        return node._replace(
            hyperparams={**node.hyperparams, **new},
            inner_state=jax.tree.map(change, node.inner_state, is_leaf=_injected),
        )

    for name, value in values.items():
        number = np.asarray(value)
        require(
            number.shape == () and np.issubdtype(number.dtype, np.number) and bool(np.isfinite(number)),
            f"{function}: {name} must be one finite number, got {name}={shown(value)}",
        )
    opt_state = jax.tree.map(change, state.opt_state, is_leaf=_injected)
    missing = sorted(set(values) - set(found))
    require(
        not missing,
        f"{function}: {', '.join(missing)} is not among the injected hyperparameters, {sorted(found) or 'none'}; make "
        "tx with optax.inject_hyperparams(optim.momentum)(learning_rate=0.1) for example",
    )
    for name, value in values.items():
        require(
            name not in scheduled,
            f"{function}: {name} is computed by a schedule at every update, which would overwrite {name}={value}. "
            "Inject the schedule's peak instead: def chain(peak): return optim.momentum(optim.cosine_decay(peak, "
            "1000)); tx = optax.inject_hyperparams(chain)(peak=0.1)",
        )
        require(
            value >= 0 or name not in _NOT_NEGATIVE,
            f"{function}: {name} must not be negative, got {name}={value}",
        )
        kept = np.asarray(value).astype(found[name].dtype)
        require(
            bool(np.isclose(float(kept), float(value), rtol=0.01)),
            f"{function}: {name} is kept as {found[name].dtype}, which cannot hold {name}={value}; give it to tx as a "
            f"float, {name}=0.1",
        )
    return state._replace(opt_state=opt_state)


def injected_hyperparams(opt_state: Any) -> dict[str, Any]:
    """What `optax.inject_hyperparams` keeps in a state and no schedule changes: lists of numbers, by name."""
    found: dict[str, Any] = {}

    def note(node):
        if _injected(node):
            scheduled = getattr(node, "hyperparams_states", {})
            for name, value in node.hyperparams.items():
                if name not in scheduled:
                    found.setdefault(name, []).append(np.asarray(value, np.float64).tolist())
            jax.tree.map(note, node.inner_state, is_leaf=_injected)

    jax.tree.map(note, opt_state, is_leaf=_injected)
    return found


def _injected(node: Any) -> bool:
    return hasattr(node, "hyperparams")
