"""Stacked members of a model: checks that they are the model's, and their places on the devices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax

from jaxdl.arguments import check_choice, check_function, require, shown
from jaxdl.data.checks import input_struct, shapes_of
from jaxdl.mesh import Members, members_mesh
from jaxdl.modules import check_model
from jaxdl.typing import Arrays, Device, Params

Via: TypeAlias = Literal["auto", "vmap", "map"]
Preprocess: TypeAlias = Callable[[Arrays], Arrays]


class PlacedMembers(NamedTuple):
    """The members of a model on their devices."""

    variables: dict[str, Any]  # by collection, arrays [members, ...]
    where: Members  # how the members share the devices
    outputs: Any  # shapes and dtypes of the model's outputs for one example


def place_members(
    function: str,
    model: nn.Module,
    members: Params,
    example: Any,
    preprocess: Preprocess | None,
    via: Via,
    devices: Sequence[Device] | None,
) -> PlacedMembers:
    """Puts the members on devices; raises `ValueError` if one of the arguments is wrong.

    Args:
      function: named in errors.
      model: the model.
      members: stacked parameters or variables.
      example: shapes and dtypes of the inputs of one example, [1, ...].
      preprocess: function from inputs to the model's inputs, or None.
      via: how the members on one device are computed; "auto" chooses.
      devices: over which the members are spread; None for all of this process.
    """
    require(
        not isinstance(members, nn.Module) or isinstance(model, nn.Module),
        f"{function}: model must be a flax.linen module, got {shown(model)}; the order is "
        f"{function}(model, members, ...)",
    )
    check_model(function, model)
    check_choice(function, "via", via, ("auto", "vmap", "map"))
    if preprocess is not None:
        check_function(function, "preprocess", preprocess, "train_set.standardize")
        require(
            not isinstance(preprocess, type),
            f"{function}: preprocess must be a function, got the class {preprocess}; pass train_set.standardize",
        )
    shapes = shapes_of(function, model, input_struct(function, example, preprocess))
    variables = _member_variables(function, model, members, shapes.variables)
    if via == "auto":
        via = "map" if shapes.convolutions and jax.default_backend() == "cpu" else "vmap"
    count = len(jax.tree.leaves(variables["params"])[0])
    where = Members(members_mesh(function, count, devices), via)
    return PlacedMembers(where.place(variables), where, shapes.outputs)


def _member_variables(function: str, model: nn.Module, members: Params, needed: dict[str, Any]) -> dict[str, Any]:
    """Makes stacked variables of stacked parameters or variables; raises `ValueError` if they are not the model's.

    Args:
      function: named in errors.
      model: the model.
      members: parameters, or variables, with a leading axis.
      needed: shapes of the model's variables, by collection.
    """
    require(
        isinstance(members, Mapping),
        f"{function}: members must be stacked variables, optim.snapshot_variables(state.opt_state) for example, or "
        f"stacked parameters, got {shown(members)}",
    )
    variables = dict(members) if "params" in members else {"params": members}
    require(
        "batch_stats" not in needed or bool(jax.tree.leaves(variables.get("batch_stats", {}))),
        f"{function}: members must hold the batch statistics of {type(model).__name__}, got none; pass "
        'optim.snapshot_variables, or {"params": ..., "batch_stats": ...} with those of ensemble.update_batch_stats',
    )
    others = sorted(set(needed) - set(variables) - {"params", "batch_stats"})
    if others:
        raise ValueError(
            f"{function}: members must hold {', '.join(others)} of {type(model).__name__} too, got only "
            f"{', '.join(sorted(variables))}; snapshots keep parameters and batch statistics, so add the others, "
            f"stacked: {{**members, {others[0]!r}: ...}}"
        )
    variables = {name: variables[name] for name in needed if name in variables}
    leaves = jax.tree.leaves(variables)
    are_arrays = bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)
    fits = are_arrays and jax.tree.map(lambda leaf: leaf.shape[1:], variables) == jax.tree.map(
        lambda leaf: leaf.shape, dict(needed)
    )
    require(
        fits and len({leaf.shape[:1] for leaf in leaves}) == 1,
        f"{function}: members must be trees like the variables of {type(model).__name__}, every array with one leading "
        "axis of members; stack them with jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)",
    )
    require(leaves[0].shape[0] > 0, f"{function}: members must be at least one, got 0")
    return variables
