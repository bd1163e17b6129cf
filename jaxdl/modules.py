"""How the library calls a Flax module; and the shapes of a module's variables and outputs."""

import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.loops import convolutions_of
from jaxdl.program_cache import remembered
from jaxdl.tree import path_name

NOT_CARRIED = ("params", "losses", "intermediates")
"""Collections that are not carried from step to step beside the parameters."""


class ModelShapes(NamedTuple):
    """Trees of `jax.ShapeDtypeStruct`."""

    variables: dict[str, Any]  # by collection: "params", and what a training carries along
    outputs: Any  # for one example, in evaluation
    convolutions: bool  # whether the module computes convolutions


def apply_model(model: nn.Module, variables: Any, inputs: Any, *, train: bool, **options: Any) -> Any:
    """`model.apply(variables, inputs, train=train)`, without `train` for a module that does not take it."""
    return model.apply(variables, inputs, **mode_of(model, train=train), **options)


def init_model(model: nn.Module, key: jax.Array, inputs: Any) -> dict[str, Any]:
    """The variables that a module initialises for inputs [batch, ...], by collection."""
    mode: dict[str, Any] = mode_of(model, train=False)
    drawn = model.init({"params": key}, inputs, **mode)
    return {
        name: tree for name, tree in drawn.items() if name == "params" or not (name in NOT_CARRIED or _is_sown(tree))
    }


def _is_sown(tree: Any) -> bool:
    """Whether a collection comes of `self.sow`, which appends to tuples: it would grow with every step."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, tuple))
    return any(isinstance(node, tuple) for node in nodes)


def mode_of(model: nn.Module, *, train: bool) -> dict[str, bool]:
    """The keyword `train` with which a module is called; none for a module that does not take it."""
    return {"train": train} if "train" in inspect.signature(type(model).__call__).parameters else {}


def model_shapes(model: nn.Module, inputs: Any) -> ModelShapes:
    """The variables of a module, and its outputs in evaluation, for inputs of these shapes. Nothing is computed.

    Args:
      model: the module.
      inputs: a tree of arrays or `jax.ShapeDtypeStruct` [batch, ...]; shapes are computed for a batch of 1.

    Raises:
      ValueError: the module cannot be called with such inputs.
    """
    leaves, structure = jax.tree.flatten(inputs)
    kinds = tuple((tuple(leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves)
    return _shapes(model, structure, kinds)


@remembered()
def _shapes(model, structure, kinds) -> ModelShapes:
    def inputs():
        return jax.tree.unflatten(structure, [jnp.zeros((1, *shape), dtype) for shape, dtype in kinds])

    shapes = ", ".join(f"{np.dtype(dtype)} {[1, *shape]}" for shape, dtype in kinds)
    try:
        variables = dict(jax.eval_shape(lambda: init_model(model, jax.random.key(0), inputs())))
        f = lambda v: apply_model(model, v, inputs(), train=False)  # noqa: E731
        program, outputs = jax.make_jaxpr(f, return_shape=True)(variables)
    except Exception as error:
        if type(error).__name__ == "InvalidRngError":
            remedy = "; in evaluation there are no random numbers: make the module draw none with train=False"
        elif type(error).__name__ == "ModifyScopeVariableError":
            remedy = "; in evaluation nothing may change: let the module take train, def __call__(self, x, *, train)"
        else:
            raise
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{type(model).__name__} fails in evaluation, with inputs {shapes}: {type(error).__name__}: {first}{remedy}"
        ) from error
    return ModelShapes(variables, outputs, convolutions_of(program) != "none")


def check_model(function: str, model: Any) -> None:
    """Raises `ValueError` unless `model` is a Flax module that can be hashed, as the caches of programs need."""
    require(
        isinstance(model, nn.Module),
        f"{function}: model must be a flax.linen module, got {shown(model)}; pass an instance, models.convnet() for "
        "example",
    )
    try:
        hash(model)
    except TypeError as error:
        lists = [name for name, value in vars(model).items() if isinstance(value, list)]
        remedy = f": {', '.join(lists)} must be a tuple" if lists else ""
        example = ", as in nn.Sequential((nn.Dense(10), nn.relu))" if isinstance(model, nn.Sequential) else ""
        raise ValueError(
            f"{function}: {type(model).__name__} has a field that cannot be hashed, and compiled functions are "
            f"found by their model; use tuples for lists{remedy}{example}"
        ) from error


def shapes_by_path(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a tree's arrays, by path."""
    return {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
