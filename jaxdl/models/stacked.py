"""Converts the parameters of a residual network to those of its scanned form, and back."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.arguments import require, shown

_BLOCK = re.compile(r"stage(\d+)_block(\d+)")
_REST = re.compile(r"stage(\d+)_rest")


def stack_blocks(variables: dict[str, Any]) -> dict[str, Any]:
    """Converts the variables of a ResNet with `scan=False` to those of the same ResNet with `scan=True`.

    Args:
      variables: {"params": ..., "batch_stats": ...}, as `model.init` gives them, or trees like them.

    Returns:
      The same numbers, with those of the blocks 2, 3, ... of each stage stacked: `stage1_block2`, `stage1_block3`, ...
      become `stage1_rest`.

    Raises:
      ValueError: `variables` is not a dict of collections, or there are no blocks in it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxdl import models
      >>> variables = models.resnet_cifar(20).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
      >>> stack_blocks(variables)["params"]["stage2_rest"]["conv1"]["kernel"].shape
      (2, 3, 3, 32, 32)
    """
    _check("stack_blocks", variables)
    return {name: _stack(dict(tree)) for name, tree in variables.items()}


def unstack_blocks(variables: dict[str, Any]) -> dict[str, Any]:
    """Undoes `stack_blocks`.

    Raises:
      ValueError: as for `stack_blocks`.
    """
    _check("unstack_blocks", variables)
    return {name: _unstack(tree) for name, tree in variables.items()}


def _check(function: str, variables: Any) -> None:
    """Raises unless `variables` is a dict of collections of a residual network's arrays."""
    remedy = ""
    if hasattr(variables, "params"):
        kind = type(variables).__name__
        remedy = f'; use {{"params": state.params, "batch_stats": state.batch_stats}} of the {kind}'
    require(
        isinstance(variables, Mapping) and all(isinstance(tree, Mapping) for tree in variables.values()),
        f'{function}: variables must be a dict {{"params": ..., "batch_stats": ...}}, got {shown(variables)}{remedy}',
    )
    require(bool(variables), f"{function}: variables are empty; pass what model.init gives")
    inside = any(map(_is_block, variables))
    require(
        not inside,
        f'{function}: variables must be a dict {{"params": ..., "batch_stats": ...}}, got one collection with '
        f'{sorted(variables)}; use {function}({{"params": params}})["params"]',
    )
    for tree in variables.values():
        require(
            not tree or any(map(_is_block, tree)),
            f"{function}: there is no stage1_block1 among {sorted(tree)}; only residual networks have blocks",
        )


def _is_block(name: str) -> bool:
    return bool(_BLOCK.fullmatch(name) or _REST.fullmatch(name))


def _stack(tree: dict[str, Any]) -> dict[str, Any]:
    names = {name: tuple(map(int, match.groups())) for name in tree if (match := _BLOCK.fullmatch(name))}
    rest: dict[int, list] = {}
    for name, (stage, number) in sorted(names.items(), key=lambda item: item[1]):
        if number > 1:
            rest.setdefault(stage, []).append(tree[name])
    kept = {name: value for name, value in tree.items() if name not in names or names[name][1] == 1}
    stacked = {f"stage{s}_rest": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks) for s, blocks in rest.items()}
    return kept | stacked


def _unstack(tree: dict[str, Any]) -> dict[str, Any]:
    out = {}
    for name, value in tree.items():
        if match := _REST.fullmatch(name):
            for i in range(len(jax.tree.leaves(value)[0])):
                out[f"stage{match[1]}_block{i + 2}"] = jax.tree.map(lambda leaf, i=i: leaf[i], value)
        else:
            out[name] = value
    return out
