"""Trees: finding a state in a nested optimizer state, masks by path, comparing and replacing arrays by path."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxdl.arguments import check_function, require
from jaxdl.typing import Params

State = TypeVar("State")


def find_states(tree: Any, kind: type[State] | tuple[type[State], ...]) -> list[State]:
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
    """A mask that is True for the parameters whose path is wanted, for any argument called `mask`.

    Args:
      wanted: takes a path as in "Dense_0/kernel".

    Returns:
      A function from parameters to a tree of bools like them.

    Raises:
      ValueError: `wanted` is not a function; or, when the mask is used, no parameter is wanted.

    Example:
      >>> mask_by_path(lambda path: path.endswith("kernel"))({"Dense_0": {"kernel": 1.0, "bias": 2.0}})
      {'Dense_0': {'bias': False, 'kernel': True}}
    """
    check_function("mask_by_path", "wanted", wanted, 'lambda path: path.endswith("kernel")')

    def mask(params: Params) -> Any:
        found = jax.tree_util.tree_map_with_path(lambda path, _: bool(wanted(path_name(path))), params)
        require(
            any(jax.tree.leaves(found)) or is_part(params),
            f"mask_by_path: wanted is True for no parameter; there are {names_in(params)}",
        )
        return found

    return mask


def is_masked(node: Any) -> bool:
    """Whether a node stands for parameters that `optax.masked` hides."""
    return isinstance(node, optax.MaskedNode)


def is_part(params: Params) -> bool:
    """Whether a tree of parameters is empty or partly masked (`optax.masked`), so that a name may rightly be absent."""
    return not jax.tree.leaves(params) or any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked)))


def names_in(params: Params, most: int = 12) -> str:
    """The parameters' paths for an error message; if they are many, the top-level names and one path as an example."""
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if len(paths) <= most:
        return ", ".join(paths)
    tops = list(dict.fromkeys(path.partition("/")[0] for path in paths))
    rest = f" and {len(tops) - most} more" if len(tops) > most else ""
    return f"{', '.join(tops[:most])}{rest} (paths are as in {paths[0]})"


def no_bias_no_norm(params: Params) -> Any:
    """The mask that is False for biases, the scales of normalisation layers and the slopes of PReLU, else True.

    These are the arrays called "bias", "scale" or "slope", and all arrays with fewer than two axes. (Stacked blocks and
    locally connected layers have biases and scales of more axes; the names find them.)

    Example:
      >>> import jax.numpy as jnp
      >>> no_bias_no_norm({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)})
      {'bias': False, 'kernel': True, 'scale': False}
    """
    names = ("bias", "scale", "slope")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim >= 2 and path_name(path).rpartition("/")[2] not in names, params
    )


def check_arrays(
    what: str,
    *,
    needed: Mapping[str, Sequence[int]],
    given: Mapping[str, Sequence[int] | None],
    given_names: Mapping[str, str] | None = None,
) -> None:
    """Raises `ValueError`, with a list of differences, unless the arrays given have the paths and shapes needed.

    Args:
      what: begins the message.
      needed: shapes by path.
      given: shapes by path; None for a leaf that is not an array.
      given_names: by path, the name of a given array in the file that it comes from.
    """
    names = given_names or {}

    def shown(path: str) -> str:
        return path if names.get(path, path) == path else f"{path} ({names[path]})"

    shapes = {path: shape if shape is None else tuple(shape) for path, shape in given.items()}
    missing = [f"{path} {tuple(shape)}" for path, shape in needed.items() if path not in shapes]
    unexpected = [f"{shown(path)} {shape or 'not an array'}" for path, shape in shapes.items() if path not in needed]
    mis_shaped = [
        f"{shown(path)} is {shapes[path]}, needed is {tuple(shape)}"
        for path, shape in needed.items()
        if path in shapes and shapes[path] != tuple(shape)
    ]
    found = {"missing": missing, "unexpected": unexpected, "mis-shaped": mis_shaped}
    lists = [f"{len(lines)} {kind}:\n    " + "\n    ".join(lines) for kind, lines in found.items() if lines]
    require(not lists, f"{what}\n  " + "\n  ".join(lists))


def check_finite(what: str, arrays: Mapping[str, Any]) -> None:
    """Raises `ValueError`, with a list of names, if there is a NaN or an infinite number in an array.

    Args:
      what: begins the message.
      arrays: by name. Traced arrays, and those partly on devices of other processes, are not checked.
    """
    bad = [name for name, array in arrays.items() if not _is_finite(array)]
    rest = f", and {len(bad) - 12} more" if len(bad) > 12 else ""
    require(not bad, f"{what}: NaN or infinite numbers in {', '.join(bad[:12])}{rest}")


def _is_finite(array: Any) -> bool:
    if isinstance(array, Tracer) or (isinstance(array, jax.Array) and not array.is_fully_addressable):
        return True
    return not jnp.issubdtype(array.dtype, jnp.inexact) or bool(np.isfinite(np.asarray(array)).all())


def start_from(drawn: Any, given: Any, *, new: Sequence[str] = (), function: str = "start_from") -> Any:
    """A model's variables, with the given numbers in the place of the drawn ones.

    Args:
      drawn: {"params": ..., "batch_stats": ...}.
      given: the same, of any floating dtype; arrays of the modules in `new` may be missing or of another shape.
      new: names of modules that keep the drawn numbers, as in ("head",).
      function: named in errors.

    Raises:
      ValueError: an array is missing, unexpected or mis-shaped, or has a NaN or infinite number in it (with a list of
        them), or a name in `new` names nothing.
    """

    def is_new(path: str) -> bool:
        module = path.partition("/")[2]
        return any(module == name or module.startswith(f"{name}/") for name in new)

    leaves, structure = jax.tree_util.tree_flatten_with_path(drawn)
    drawn_paths = [path_name(path) for path, _ in leaves]
    for name in new:
        known = any(path.partition("/")[2].startswith(f"{name}/") for path in drawn_paths)
        require(known, f"{function}: new={name!r} names no module of the model; there are {_top_names(drawn_paths)}")
    numbers = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(given)}
    check_arrays(
        f"{function}: the variables do not fit the model",
        needed={p: leaf.shape for p, (_, leaf) in zip(drawn_paths, leaves, strict=True) if not is_new(p)},
        given={path: getattr(leaf, "shape", None) for path, leaf in numbers.items() if not is_new(path)},
    )
    check_finite(
        f"{function}: the variables are not all finite",
        {path: numbers[path] for path in drawn_paths if not is_new(path)},
    )
    chosen = [
        leaf if is_new(path) else jnp.array(numbers[path], leaf.dtype)  # a copy: what is made here may be donated
        for path, (_, leaf) in zip(drawn_paths, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, chosen)


def _top_names(paths: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(path.split("/")[1] for path in paths if "/" in path))
