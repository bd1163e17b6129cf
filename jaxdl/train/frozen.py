"""Frozen modules: modules whose parameters are all frozen run as in evaluation."""

import contextlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax

from jaxdl.tree import path_name
from jaxdl.typing import Params


@contextlib.contextmanager
def frozen_modules_evaluate(frozen: Any | None) -> Iterator[None]:
    """In this context modules that keep batch statistics, and whose parameters are all frozen, run as in evaluation.

    This holds for modules that are called with the keyword `train`, or with `use_running_average` as Flax's.
    """
    by_path = {path_name(path): value for path, value in jax.tree_util.tree_leaves_with_path(frozen)}

    def intercept(call, arguments, keywords, context):
        module = context.module
        training = keywords.get("train") or keywords.get("use_running_average") is False
        if training and "batch_stats" in module.variables:
            own = [by_path.get("/".join((*module.path, name))) for name in module.variables.get("params", {})]
            if own and all(own):
                evaluation = {"train": False, "use_running_average": True}
                keywords = {name: evaluation.get(name, value) for name, value in keywords.items()}
        return call(*arguments, **keywords)

    with nn.intercept_methods(intercept) if by_path else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def axis_left_out(axis: str | None, present: bool) -> Iterator[None]:
    """Within it, Flax's BatchNorms with this `axis_name` run without, unless the axis is `present`.

    So a module that is made for several devices runs on one.
    """

    def intercept(call, arguments, keywords, context):
        module = context.module
        if isinstance(module, nn.BatchNorm) and module.axis_name == axis:
            object.__setattr__(module, "axis_name", None)  # of this call's own copy of the module
        return call(*arguments, **keywords)

    with contextlib.nullcontext() if present else nn.intercept_methods(intercept):
        yield


def frozen_statistics(frozen: Any | None, before: Params, after: Params) -> Params:
    """The batch statistics after a step; for modules whose parameters are all frozen, those before it."""
    if frozen is None:
        return after
    frozen_at: dict[str, bool] = {}
    for path, value in jax.tree_util.tree_leaves_with_path(frozen):
        module = path_name(path).rpartition("/")[0]
        frozen_at[module] = frozen_at.get(module, True) and value
    return jax.tree_util.tree_map_with_path(
        lambda path, old, new: old if frozen_at.get(path_name(path).rpartition("/")[0], False) else new, before, after
    )
