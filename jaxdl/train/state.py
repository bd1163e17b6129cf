"""Everything that training depends on, in one pytree."""

import functools
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxdl import optim
from jaxdl.arguments import check_integer, check_key, looks_channels_first, require, shown
from jaxdl.program_cache import remembered
from jaxdl.shapes import ModelShapes
from jaxdl.train.order import check_order
from jaxdl.tree import check_arrays, path_name, start_from
from jaxdl.typing import Params


class TrainState(NamedTuple):
    """A model in training. Together with the data set it determines all that follows."""

    params: Params  # the model's "params" collection
    batch_stats: Params  # its "batch_stats" collection; {} for a model without BatchNorm
    opt_state: Any  # the state of the gradient transformation
    step: jax.Array  # int32 scalar: optimizer updates made so far
    key: jax.Array  # typed PRNG key, constant: each use folds in its purpose and the step or epoch

    @property
    def variables(self) -> dict[str, Params]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    key: jax.Array,
    image_shape: Sequence[int],
    *,
    variables: dict[str, Params] | None = None,
    new: Sequence[str] = (),
) -> TrainState:
    """Draws a model's parameters, or takes those given, and makes the state that training starts from.

    Args:
      model: a module called as `model(images, train=bool)`, images [batch, height, width, channels].
      tx: the optimizer.
      key: `jax.random.key(seed)`.
      image_shape: (height, width, channels): `train_set.image_shape`.
      variables: parameters and batch statistics to start from, {"params": ..., "batch_stats": ...}, of
        `transfer.load_torch_weights` or of another state (`state.variables`); by default all are drawn.
      new: names of modules that are drawn all the same, `("head",)` for a new head; in `variables` they may have other
        shapes.

    Returns:
      A state at step 0.

    Raises:
      ValueError: an argument is not what it should be; `variables` lacks arrays, has others or of other shapes (all are
        listed).
    """
    check_model_and_tx("init_state", model, tx)
    check_key("init_state", "key", key)
    require(
        isinstance(image_shape, Sequence) and len(image_shape) == 3,
        f"init_state: image_shape must be (height, width, channels), got {shown(image_shape)}; "
        "pass train_set.image_shape",
    )
    shape = tuple(check_integer("init_state", "image_shape", side, at_least=1) for side in image_shape)
    require(
        not looks_channels_first(shape),
        f"init_state: image_shape={shape} looks like (channels, height, width); "
        f"pass (height, width, channels), here {(*shape[1:], shape[0])}",
    )
    require(not isinstance(new, str), f"init_state: new must be a tuple of names, got new={new!r}; pass new=({new!r},)")
    require(
        variables is not None or not new, f"init_state: new={new!r} goes with variables=...; without, all are drawn"
    )
    state = _compiled_init(model, tx, shape)(key)
    check_order("init_state", tx, state.params, state.batch_stats)
    if variables is None:
        return state
    require(
        isinstance(variables, dict) and "params" in variables,
        f'init_state: variables must be {{"params": ..., "batch_stats": ...}}, got {shown(variables)}; pass '
        "state.variables of another state, or what transfer.load_torch_weights gives",
    )
    chosen = start_from(state.variables, {"batch_stats": {}, **variables}, new=new, function="init_state")
    opt_state = jax.jit(functools.partial(init_optimizer, tx))(chosen["params"], chosen["batch_stats"])
    return state._replace(**chosen, opt_state=opt_state)


@remembered()
def _compiled_init(model, tx, image_shape):
    """One compilation serves every seed."""

    def init(key: jax.Array) -> TrainState:
        init_key, train_key = jax.random.split(key)
        variables = model.init({"params": init_key}, jnp.zeros((1, *image_shape)), train=False)
        params = variables["params"]
        return TrainState(
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=init_optimizer(tx, params, variables.get("batch_stats", {})),
            step=jnp.zeros([], jnp.int32),
            key=train_key,
        )

    return jax.jit(init)


def init_optimizer(tx: optax.GradientTransformation, params: Params, batch_stats: Params) -> Any:
    """The state of a transformation, with room for batch statistics where it takes snapshots."""
    return optim.with_batch_stats(tx.init(params), batch_stats)


def check_model_and_tx(function: str, model: nn.Module, tx: optax.GradientTransformation) -> None:
    """Raises `ValueError` unless `model` is a module called with `train=`, and `tx` a gradient transformation."""
    check_model(function, model)
    check_tx(function, tx)


def check_model(function: str, model: nn.Module) -> None:
    """Raises `ValueError` unless `model` is a module called with `train=`."""
    require(
        isinstance(model, nn.Module),
        f"{function}: model must be a flax.linen module, got {shown(model)}; pass an instance, models.convnet() for "
        "example",
    )
    try:
        hash(model)
    except TypeError as error:
        raise ValueError(
            f"{function}: {type(model).__name__} has a field that cannot be hashed, and compiled functions are "
            "found by their model; use tuples for lists"
        ) from error
    takes_train = "train" in inspect.signature(type(model).__call__).parameters
    require(
        takes_train,
        f"{function}: {type(model).__name__}.__call__ must take the keyword train, "
        "as in def __call__(self, x, *, train: bool)",
    )


def check_tx(function: str, tx: optax.GradientTransformation) -> None:
    """Raises `ValueError` unless `tx` is a gradient transformation."""
    complete = callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))
    require(
        complete and not isinstance(tx, type),
        f"{function}: tx must be an optax gradient transformation, got {shown(tx)}; pass optim.sgd(0.1) for example",
    )


def check_state(function: str, state: Any, name: str = "state") -> None:
    """Raises `ValueError` unless `state` is a training state whose arrays are still there."""
    if not isinstance(state, TrainState):
        pair = isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], TrainState)
        remedy = "a step and fit return two things: write state, _ = ..." if pair else "train.init_state makes one"
        raise ValueError(f"{function}: {name} must be a train.TrainState, got {shown(state)}; {remedy}")
    # All leaves are donated together. (One that is traced, or NumPy's, cannot be gone.)
    gone = isinstance(state.step, jax.Array) and not isinstance(state.step, Tracer) and state.step.is_deleted()
    require(
        not gone,
        f"{function}: the arrays of this {name} are gone: it was donated to a step, which reuses their memory. Go "
        "on with the state that the step returned, state, metrics = step(state, batch), or keep a copy before: "
        "jax.tree.map(jnp.copy, state)",
    )


def check_variables(function: str, model: nn.Module, state: TrainState, shapes: ModelShapes) -> None:
    """Raises `ValueError` unless a state's parameters and statistics are those of the model, with a list of others."""

    def by_path(tree: Any) -> dict[str, Any]:
        return {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

    needed = {name: tree for name, tree in shapes.variables.items() if name in ("params", "batch_stats")}
    check_arrays(
        f"{function}: the state does not belong to this {type(model).__name__} on images of this size",
        needed=by_path(needed),
        given=by_path({name: tree for name, tree in state.variables.items() if jax.tree.leaves(tree)}),
    )
