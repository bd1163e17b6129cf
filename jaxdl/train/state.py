"""The training state: one pytree with everything that training depends on, apart from the data set."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxdl.arguments import check_integer, check_key, looks_channels_first, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset, input_struct
from jaxdl.modules import NOT_CARRIED, ModelShapes, check_model, init_model, model_shapes, shapes_by_path
from jaxdl.optim.requests import initial_state
from jaxdl.program_cache import remembered
from jaxdl.train.order import check_order
from jaxdl.tree import check_arrays, start_from
from jaxdl.typing import Params


class TrainState(NamedTuple):
    """A model in training. Together with the data set it determines all that follows."""

    params: Params  # the model's "params" collection
    batch_stats: Params  # its "batch_stats" collection; {} for a model without BatchNorm
    opt_state: Any  # the state of the gradient transformation
    step: jax.Array  # int32 scalar: optimizer updates made so far
    key: jax.Array  # typed PRNG key, constant: each use folds in its purpose and the step or epoch
    collections: dict[str, Any] = {}  # the model's other collections by name, if it keeps any

    @property
    def variables(self) -> dict[str, Params]:
        """The variables for `model.apply`."""
        return {"params": self.params, **self.carried}

    @property
    def carried(self) -> dict[str, Any]:
        """All collections except the parameters: a step changes them too."""
        return {"batch_stats": self.batch_stats, **self.collections}

    def with_carried(self, carried: dict[str, Any]) -> "TrainState":
        """The state with these collections."""
        others = {name: tree for name, tree in carried.items() if name != "batch_stats"}
        return self._replace(batch_stats=carried.get("batch_stats", {}), collections=others)


def init_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    key: jax.Array,
    inputs: Sequence[int] | Dataset | Stream | Any,
    *,
    variables: dict[str, Params] | None = None,
    new: Sequence[str] = (),
) -> TrainState:
    """Initialises a model's parameters, or takes given ones, and makes the state that training starts from.

    Args:
      model: a module called as `model(inputs, train=bool)`, or as `model(inputs)` if it does not take `train`.
      tx: the optimizer.
      key: `jax.random.key(seed)`.
      inputs: what the model's inputs look like: the shape of one example, such as `train_set.image_shape` or
        (features,); or a data set, whose `standardize` is then applied; or a tree of arrays [batch, ...].
      variables: parameters and batch statistics to start from, {"params": ..., "batch_stats": ...}, from
        `transfer.load_torch_weights` or another state (`state.variables`); by default all are initialised at random.
      new: names of modules that are initialised at random in any case, `("head",)` for a new head; in `variables` their
        arrays may have other shapes or be missing.

    Returns:
      A state at step 0.

    Raises:
      ValueError: an argument is wrong; or `variables` lacks arrays, or has unexpected or mis-shaped ones (the message
        lists them).
    """
    check_model_and_tx("init_state", model, tx)
    check_key("init_state", "key", key)
    structure, kinds = _input_kinds(inputs)
    require(not isinstance(new, str), f"init_state: new must be a tuple of names, got new={new!r}; pass new=({new!r},)")
    require(
        variables is not None or not new, f"init_state: new={new!r} goes with variables=...; without, all are drawn"
    )
    try:
        state = _compiled_init(model, tx, structure, kinds)(key)
    except Exception:
        _check_example(model, inputs, structure, kinds)
        raise
    check_order("init_state", tx, state.params, state.batch_stats)
    if variables is None:
        return state
    require(
        isinstance(variables, dict) and "params" in variables,
        f'init_state: variables must be {{"params": ..., "batch_stats": ...}}, got {shown(variables)}; pass '
        "state.variables of another state, or what transfer.load_torch_weights gives",
    )
    given = {name: tree for name, tree in variables.items() if name == "params" or name not in NOT_CARRIED}
    chosen = start_from(state.variables, {"batch_stats": {}, **given}, new=new, function="init_state")
    params = chosen.pop("params")
    opt_state = jax.jit(functools.partial(initial_state, tx))(params, chosen["batch_stats"])
    return state._replace(params=params, opt_state=opt_state).with_carried(chosen)


def _check_example(model: nn.Module, inputs: Any, structure: Any, kinds: tuple) -> None:
    """Raises `ValueError` if a model cannot be called with an example of the shape that was given."""
    if not isinstance(inputs, Sequence) or any(hasattr(part, "shape") for part in inputs):
        return
    struct = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct((1, *shape), dtype) for shape, dtype in kinds])
    try:
        model_shapes(model, struct)
    except Exception as error:
        shape = tuple(inputs)
        first = (str(error).splitlines() or [""])[0]
        remedy = "pass the shape of one example; for inputs of other dtypes the data set itself"
        remedy = f"images have three numbers, {(*shape, 1)}" if len(shape) == 2 else remedy
        raise ValueError(
            f"init_state: image_shape must be (height, width, channels), or what else the model takes, got {shape}: "
            f"{type(model).__name__} fails with float32 {[1, *shape]}: {first}; {remedy}"
        ) from error


def _input_kinds(inputs: Any) -> tuple[Any, tuple]:
    """The structure of a model's inputs, and the shapes (without the batch) and dtypes of its arrays."""
    if isinstance(inputs, tuple | list) and any(isinstance(part, Dataset | Stream) for part in inputs):
        check_dataset("init_state", "inputs", inputs)
    if isinstance(inputs, Dataset | Stream):
        inputs = input_struct("init_state", inputs.example.inputs, inputs.standardize)
    elif isinstance(inputs, Sequence) and not isinstance(inputs, str) and not any(hasattr(x, "shape") for x in inputs):
        shape = tuple(check_integer("init_state", "image_shape", side, at_least=1) for side in inputs)
        require(bool(shape), "init_state: image_shape must be (height, width, channels), got an empty one")
        require(
            len(shape) != 3 or not looks_channels_first(shape),
            f"init_state: image_shape={shape} looks like (channels, height, width); "
            f"pass (height, width, channels), here {(*shape[1:], shape[0])}",
        )
        inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    leaves, structure = jax.tree.flatten(inputs)
    require(
        bool(leaves) and all(len(getattr(leaf, "shape", ())) >= 1 for leaf in leaves),
        f"init_state: image_shape must be (height, width, channels), got {shown(inputs)}; pass train_set.image_shape, "
        "or the data set itself",
    )
    return structure, tuple((tuple(leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves)


@remembered()
def _compiled_init(model, tx, structure, kinds):
    """A compiled function from a key to a state: all seeds share one compilation."""

    def init(key: jax.Array) -> TrainState:
        init_key, train_key = jax.random.split(key)
        inputs = jax.tree.unflatten(structure, [jnp.zeros((1, *shape), dtype) for shape, dtype in kinds])
        carried = init_model(model, init_key, inputs)
        require("params" in carried, f"init_state: {type(model).__name__} has no parameters to train")
        params = carried.pop("params")
        opt_state = initial_state(tx, params, carried.get("batch_stats", {}))
        return TrainState(params, {}, opt_state, jnp.zeros([], jnp.int32), train_key).with_carried(carried)

    return jax.jit(init)


def check_model_and_tx(function: str, model: nn.Module, tx: optax.GradientTransformation) -> None:
    """Raises `ValueError` unless `model` is a module, and `tx` a gradient transformation."""
    check_model(function, model)
    check_tx(function, tx)


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
    # All leaves are donated together, so it is enough to look at one. Tracers and NumPy arrays cannot be donated.
    gone = isinstance(state.step, jax.Array) and not isinstance(state.step, Tracer) and state.step.is_deleted()
    require(
        not gone,
        f"{function}: the arrays of this {name} are gone: it was donated to a step, which reuses their memory. Go "
        "on with the state that the step returned, state, metrics = step(state, batch), or keep a copy before: "
        "jax.tree.map(jnp.copy, state)",
    )


def check_variables(function: str, model: nn.Module, variables: Any, shapes: ModelShapes) -> None:
    """Raises `ValueError`, with a list of differences, unless the variables are those of the model."""
    check_arrays(
        f"{function}: the state does not belong to this {type(model).__name__} on inputs (images) of this shape",
        needed=shapes_by_path(shapes.variables),
        given=shapes_by_path({name: tree for name, tree in variables.items() if jax.tree.leaves(tree)}),
    )
