"""Trees: finding a state in a nested optimizer state, masks by path."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from jaxdl.arguments import require
from jaxdl.typing import Params

State = TypeVar("State")


def find_states(tree: Any, kind: type[State]) -> list[State]:
    """All states of one kind anywhere in a nested state, in the order of the tree.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> state = optax.chain(optax.clip(1.0), optax.trace(0.9)).init(jnp.zeros(2))
      >>> len(find_states(state, optax.TraceState))
      1
    """
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]


def path_name(path: tuple) -> str:
    """A leaf's place in a tree, as in "Dense_0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def mask_by_path(wanted: Callable[[str], bool]) -> Callable[[Params], Any]:
    """A mask of the parameters whose path is wanted, for any argument called `mask`.

    Args:
      wanted: takes a path as in "Dense_0/kernel".

    Returns:
      A function from parameters to a tree of bools like them.

    Example:
      >>> mask_by_path(lambda path: path.endswith("kernel"))({"Dense_0": {"kernel": 1.0, "bias": 2.0}})
      {'Dense_0': {'bias': False, 'kernel': True}}
    """
    require(callable(wanted), f"mask_by_path: wanted must be a function from a path to a bool, got {wanted!r}")
    return lambda params: jax.tree_util.tree_map_with_path(lambda path, _: bool(wanted(path_name(path))), params)


def no_bias_no_norm(params: Params) -> Any:
    """The mask that leaves out biases and the scales of normalisation layers: what has fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> no_bias_no_norm({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)})
      {'bias': False, 'kernel': True, 'scale': False}
    """
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
