"""Checks gradients against finite differences."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_flag, check_function, check_integer, check_key, require, shown
from jaxdl.data.checks import check_image_bytes, kinds
from jaxdl.modules import apply_model, check_model
from jaxdl.practice.differences import Difference, difference
from jaxdl.practice.gradient_report import GradientCheck, judged
from jaxdl.practice.inputs import check_fits
from jaxdl.practice.precision import narrow_places
from jaxdl.progress import progress_bar
from jaxdl.train.losses import Loss, cross_entropy
from jaxdl.train.task import Preprocess, check_class_numbers, make_task
from jaxdl.tree import path_name


def gradient_check(
    model: nn.Module,
    variables: Any,
    batch: Any,
    *,
    loss: Loss | None = cross_entropy,
    preprocess: Preprocess | None = None,
    train: bool = True,
    key: jax.Array | None = None,
    entries: int = 10,
    directions: int = 2,
    progress: bool = True,
) -> GradientCheck:
    """Checks the gradients of a model, or of one layer, on a batch, in float64.

    The gradient by the parameters and by the inputs (if they are floating point) is compared with central differences,
    (f(x + h) - f(x - h)) / (2 h), at some entries of each array drawn at random, and along random directions through
    all of its entries. The error is |analytic - numeric| / max(|analytic|, |numeric|), beyond what rounding explains.

    - above 1e-2: the gradient is wrong;
    - 1e-4 to 1e-2: it is worth a look;
    - up to 1e-4: good for functions with kinks, such as ReLU and max pooling; up to 1e-7: good for smooth ones.

    Floating-point inputs are first moved at random by a thousandth of their deviation: the equal pixels of a black
    background are ties in max pooling, where there is no derivative. An entry at which the slopes to both sides differ
    so much that they explain the error is counted as a kink, not as an error. If a layer passes a wrong gradient on,
    all parameters before it are wrong: look at the last wrong one first.

    The caller's setting of float64 stays as it is. Modules that compute in float32 whatever they are given are named;
    then the steps are larger, and only errors above 1e-2 say something. Native convolutions (`jaxdl-native`) take
    float32 only: in float64 XLA computes them, so this does not check them; the package's tests do.

    Args:
      model: any module, with or without `train`.
      variables: {"params": ..., ...}, `state.variables` for example; they stay as they are.
      batch: a pair (inputs, targets) of arrays. A few examples are enough, and fast.
      loss: as for `train.fit`; None for a layer: then a fixed random weighted sum of its outputs.
      preprocess: as for `train.fit`, `train_set.standardize` for example; applied before, not differentiated.
      train: whether batch statistics and dropout are as in training. They are computed anew at every point.
      key: of the model's random numbers, which are the same at every point; by default `jax.random.key(0)`.
      entries: of each array, at most.
      directions: through each array.
      progress: whether to show a progress bar.

    Returns:
      Errors by path, findings and a verdict.

    Raises:
      ValueError: an argument is wrong, or there is nothing to differentiate.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice, train
      >>> train_set, _ = data.load("fashion_mini")
      >>> model = models.mlp(widths=(16,))
      >>> state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), train_set)
      >>> batch = train_set.images[:4], train_set.labels[:4]
      >>> found = practice.gradient_check(model, state.variables, batch, preprocess=train_set.standardize,
      ...                                 progress=False)
      >>> max(found.relative_error.values()) < 1e-4, found.findings
      (True, ())

    Reference: the lecture notes, `Gradient checks`, with this table of errors.
    """
    name = "gradient_check"
    check_model(name, model)
    require(
        hasattr(variables, "keys"),
        f'{name}: variables must be {{"params": ..., ...}}, got {shown(variables)}; pass state.variables',
    )
    require(
        isinstance(batch, tuple | list) and len(batch) == 2,
        f"{name}: batch must be a pair (inputs, targets), got {shown(batch)}; for a layer pass (inputs, None) with "
        "loss=None",
    )
    if loss is not None:
        check_function(name, "loss", loss, "train.cross_entropy")
    check_flag(name, "train", train)
    key = jax.random.key(0) if key is None else key
    check_key(name, "key", key)
    inputs, targets = batch
    if preprocess is not None:
        check_function(name, "preprocess", preprocess, "train_set.standardize")
        inputs = jax.jit(preprocess)(inputs)
    check_image_bytes(name, inputs)
    require(
        getattr(inputs, "dtype", None) != np.uint8,
        f"{name}: the model would be shown uint8 images; pass preprocess=train_set.standardize, or floats",
    )
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves((inputs, targets)) if np.ndim(leaf)}
    require(
        loss is None or (len(lengths) == 1 and 0 not in lengths),
        f"{name}: inputs and targets must be arrays [batch, ...] of one length, got {kinds((inputs, targets))}",
    )
    params = variables.get("params", {})
    if loss is not None:
        outputs = check_fits(name, model, variables, inputs)
        task = make_task(name, model, loss=loss, metrics={}, preprocess=None)
        check_class_numbers(name, task, outputs, jax.tree.map(np.asarray, targets))
    carried = {part: tree for part, tree in variables.items() if part not in ("params", "losses", "intermediates")}
    carried, targets = _wide(carried), _wide(targets)

    def function(at):
        rngs = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        options: dict[str, Any] = {"rngs": rngs, "mutable": [*carried, "losses"]}
        outputs, updated = apply_model(model, {"params": at["params"], **carried}, at["inputs"], train=train, **options)
        sown = sum(jax.tree.leaves(updated.get("losses", {})), jnp.zeros(()))
        return (_weighted(outputs) if loss is None else jnp.mean(loss(outputs, targets))) + sown

    at = {"params": params, "inputs": _moved(inputs)}
    return _checked(name, function, at, entries, directions, jax.random.fold_in(key, 2), progress)


def function_gradient_check(
    function: Callable[[Any], Any],
    at: Any,
    *,
    key: jax.Array | None = None,
    entries: int = 10,
    directions: int = 2,
    progress: bool = True,
) -> GradientCheck:
    """Checks the gradient of a function of a tree of arrays, in float64; see `gradient_check`.

    Args:
      function: pure function from a tree of arrays to one number, that JAX can differentiate.
      at: the tree at which it is differentiated; its floating-point arrays are cast to float64, others are constants.
      key: chooses entries and directions; by default `jax.random.key(0)`.
      entries: as for `gradient_check`.
      directions: as for `gradient_check`.
      progress: as for `gradient_check`.

    Returns:
      Errors by path, findings and a verdict.

    Raises:
      ValueError: an argument is wrong; `function` does not give one floating-point number; or `at` has no
        floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxdl import practice
      >>> found = practice.function_gradient_check(lambda at: jnp.sum(at["x"] ** 3), {"x": jnp.arange(4.0)})
      >>> found.relative_error["x"] < 1e-7
      True
    """
    name = "function_gradient_check"
    check_function(name, "function", function, "lambda at: jax.numpy.sum(at['x'] ** 2)")
    require(not isinstance(function, nn.Module), f"{name}: function is a module; pass it to gradient_check")
    key = jax.random.key(0) if key is None else key
    check_key(name, "key", key)
    return _checked(name, function, at, entries, directions, key, progress)


def _checked(
    name: str, function: Callable, at: Any, entries: int, directions: int, key: jax.Array, progress: bool
) -> GradientCheck:
    check_integer(name, "entries", entries, at_least=1)
    check_integer(name, "directions", directions, at_least=0)
    check_flag(name, "progress", progress)
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    with jax.enable_x64(True):
        leaves, structure = jax.tree_util.tree_flatten_with_path(_wide(at))
        paths = [path_name(path) or "x" for path, _ in leaves]
        arrays = [np.asarray(leaf) for _, leaf in leaves]
        which = [i for i, array in enumerate(arrays) if array.dtype == np.float64 and array.size]
        require(bool(which), f"{name}: there is no floating-point array to differentiate by, got {kinds(at)}")
        constants = {i: array for i, array in enumerate(arrays) if i not in which}

        def of(free):
            free = iter(free)
            every = [constants[i] if i in constants else next(free) for i in range(len(arrays))]
            return function(jax.tree.unflatten(structure, every))

        free = [jnp.asarray(arrays[i]) for i in which]
        try:
            out = jax.eval_shape(of, free)
        except Exception as error:
            raise ValueError(
                f"{name}: the function is called with {kinds(at)}, compiled, and fails: {type(error).__name__}: {error}"
            ) from error
        require(
            getattr(out, "shape", None) == () and jnp.issubdtype(out.dtype, jnp.floating),
            f"{name}: the function must give one floating-point number, got {kinds(out)}; take the mean or the sum",
        )
        narrow = narrow_places(of, free)
        value, grads = jax.jit(jax.value_and_grad(of))(free)
        found = _differences(jax.jit(of), free, float(value), grads, seed, entries, directions, bool(narrow), progress)
    named = {paths[i]: each for i, each in zip(which, found, strict=True)}
    return judged(named, float(value), narrow)


def _differences(f, free, value, grads, seed, entries, directions, single, progress) -> list[list[Difference]]:
    """Entries and directions of each array."""
    rng = np.random.default_rng(seed)
    total = sum(min(entries, array.size) + directions for array in free)
    found: list[list[Difference]] = []
    with _bar(progress, total) as tell:
        for number, (array, grad) in enumerate(zip(free, grads, strict=True)):
            x, slope = np.asarray(array), np.asarray(grad)

            def along(x, number=number):
                return float(f([*free[:number], jnp.asarray(x), *free[number + 1 :]]))

            mine: list[Difference] = []
            chosen = rng.choice(x.size, min(entries, x.size), replace=False)
            for entry in chosen.tolist():
                v = np.zeros(x.size)
                v[entry] = 1
                v = v.reshape(x.shape)
                mine.append(difference(along, x, v, float(slope.ravel()[entry]), value, single=single))
                tell(1)
            for _ in range(directions):
                v = rng.choice([-1.0, 1.0], x.shape) / math.sqrt(x.size)
                mine.append(difference(along, x, v, float(np.sum(slope * v)), value, single=single))
                tell(1)
            found.append(mine)
    return found


class _bar:
    """A progress bar that is told how much more was done; none if it is not wanted."""

    def __init__(self, wanted: bool, total: int):
        self._bar, self._done = progress_bar("gradient check", total) if wanted else None, 0

    def __enter__(self) -> Callable[[int], None]:
        update = self._bar.__enter__() if self._bar else None

        def tell(more):
            self._done += more
            if update:
                update(self._done, "")

        return tell

    def __exit__(self, *error) -> None:
        if self._bar:
            self._bar.__exit__(*error)


def _moved(inputs: Any) -> Any:
    """Inputs moved a little, in float64, so that equal numbers are no ties."""
    rng = np.random.default_rng(0)

    def moved(leaf):
        wide = _wide(leaf)
        if not np.issubdtype(wide.dtype, np.floating):
            return wide
        return wide + 1e-3 * (float(wide.std()) or 1.0) * rng.normal(size=wide.shape)

    return jax.tree.map(moved, inputs)


def _weighted(outputs: Any) -> jax.Array:
    """A fixed random weighted mean of all outputs."""
    total = jnp.zeros(())
    for number, leaf in enumerate(jax.tree.leaves(outputs)):
        weights = np.random.default_rng(number).normal(size=leaf.shape)
        total += jnp.mean(leaf * weights)
    return total


def _wide(tree: Any) -> Any:
    """The tree as NumPy arrays, floating-point ones in float64."""

    def wide(leaf):
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            return array
        return np.asarray(array, np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else np.asarray(array)

    return jax.tree.map(wide, tree)
