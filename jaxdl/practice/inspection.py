"""Statistics of every layer's activations and gradients, and of the updates of every weight."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.arguments import check_flag, check_key
from jaxdl.data import Dataset, Stream
from jaxdl.modules import apply_model
from jaxdl.practice.inputs import batch_of, variables_of
from jaxdl.practice.inspection_verdict import judge, verdict_of
from jaxdl.practice.layer_reports import Distribution, Inspection, LayerReport, WeightReport
from jaxdl.practice.sites import Site, look, unrolled
from jaxdl.practice.update_ratios import ratios_of
from jaxdl.program_cache import remembered
from jaxdl.train import TrainState, cross_entropy
from jaxdl.train.losses import Loss
from jaxdl.train.state import check_variables
from jaxdl.train.task import Preprocess, Task, check_class_numbers, check_on_batch, make_task
from jaxdl.tree import path_name
from jaxdl.typing import Batch

_SAMPLE = 4096  # numbers of each layer that are kept for histograms


def inspect(
    model: nn.Module,
    variables: Mapping[str, Any] | TrainState,
    batch: Batch | tuple[Any, Any] | Dataset | Stream,
    *,
    tx: optax.GradientTransformation | None = None,
    loss: Loss = cross_entropy,
    preprocess: Preprocess | None = None,
    train: bool = True,
    key: jax.Array | None = None,
) -> Inspection:
    """Statistics of every layer's activations and gradients, before training or during it.

    The model is used as it is: outputs of all its modules are seen, and nonlinearities where they can be recognised in
    its program: the functions of `jax.nn`, tanh, sigmoid and max(x, 0). A scanned ResNet is inspected block by block;
    of other compiled loops (`nn.scan`) the output is seen.

    Findings, with the bounds: dead units (40 % of a layer), saturation (30 % of a tanh or sigmoid layer), activations
    or gradients that vanish or explode (100 times between the first and the last nonlinearity), update ratios (their
    median outside 3e-5 to 3e-2), and numbers that are not finite.

    Args:
      model: a module called as `model(inputs, train=bool)`, or `model(inputs)` if it does not take `train`.
      variables: {"params": ..., "batch_stats": ...}, or a training state; nothing is changed.
      batch: (inputs, targets) [batch, ...], or a data set, of which 128 examples are taken, evenly spaced. A unit
        counts as dead if no example of the batch moves it, so a small batch has more of them.
      tx: the optimizer; the update that it makes next on this batch is then compared with the weights. It needs the
        training state, whose optimizer state is used (the first update of momentum is a tenth of later ones).
      loss: as for `train.fit`.
      preprocess: as for `train.fit`; for a data set by default its `standardize`.
      train: whether the model is called as in training, with BatchNorm's statistics of the batch and dropout. In
        evaluation an untrained net with BatchNorm is not what is trained: its running statistics are only the start.
      key: for dropout and the like; by default `jax.random.key(0)`.

    Returns:
      An `Inspection`: layers, weights, findings, verdict. It prints as tables, and has `plot(path)`.

    Raises:
      ValueError: an argument is wrong, or the variables are not the model's.

    Reference: Glorot and Bengio, `Understanding the difficulty of training deep feedforward neural networks`, 2010, for
    the histograms over depth; the lecture notes for the update-to-weight ratio of about 1e-3.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice, train
      >>> train_set, _ = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(32,)), optim.sgd(0.01)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
      >>> found = practice.inspect(model, state, train_set, tx=tx)
      >>> [layer.name for layer in found.layers], found.findings
      (['Dense_0', 'relu_0', 'Dense_1'], ())
    """
    if isinstance(batch, Dataset | Stream):
        preprocess = preprocess or batch.standardize
    task = make_task("inspect", model, loss=loss, metrics=None, preprocess=preprocess)
    collections = variables_of("inspect", variables)
    examples = batch_of("inspect", batch)
    check_flag("inspect", "train", train)
    key = jax.random.key(0) if key is None else key
    check_key("inspect", "key", key)
    shapes = check_on_batch("inspect", task, examples, None, augmented=False)
    check_variables("inspect", model, collections, shapes)
    check_class_numbers("inspect", task, shapes.outputs, jax.tree.map(np.asarray, examples.targets))
    ratios = {} if tx is None else ratios_of(task, variables, tx, examples)
    # During a training on several devices the state lies on all of them; the batch is small enough for one.
    model, collections = unrolled(model, jax.device_put(collections, jax.local_devices()[0]))
    task = dataclasses.replace(task, model=model)
    leaves, structure = jax.tree.flatten((collections, examples))
    sites, program = _program(task, train, structure, tuple((leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves))
    value, seen, norms = jax.device_get(program(collections, examples, key))
    layers = tuple(_report(site, *found) for site, found in zip(sites, seen, strict=True))
    weights = tuple(
        WeightReport(name, tuple(shape), float(norm), float(gradient), ratios.get(name))
        for (name, shape), (norm, gradient) in zip(_names(collections["params"]), norms, strict=True)
    )
    findings = judge(layers, weights, float(value))
    count = len(jax.tree.leaves(examples)[0])
    return Inspection(layers, weights, float(value), count, findings, verdict_of(layers, weights, findings, count))


@remembered()
def _program(task: Task, train: bool, structure: Any, kinds: tuple) -> tuple[tuple[Site, ...], Any]:
    """The sites of a model, and a compiled function that gives the loss, what is at the sites, and norms of weights."""
    structs = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
    size = jax.tree.leaves(structs[1])[0].shape[0]

    def forward(variables, inputs, key):
        carried = [name for name in variables if name != "params"]
        options: dict[str, Any] = {"mutable": [*(carried if train else ()), "losses"]}
        if train:
            options["rngs"] = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        return apply_model(task.model, variables, inputs, train=train, **options)

    def sites_of(variables, batch, key):
        _, sites, values = look(forward, variables, task.inputs(batch.inputs), key, batch=size)
        found.extend(sites)
        return values

    found: list[Site] = []
    shapes = jax.eval_shape(sites_of, *structs, jax.random.key(0))
    rows = np.random.default_rng(0)
    kept = [_kept(rows, math.prod(shape.shape)) for shape in shapes]

    def run(variables, batch, key):
        def objective(params, shift):
            given = {**variables, "params": params}
            (outputs, updated), _, values = look(
                forward, given, task.inputs(batch.inputs), key, batch=size, shift=shift
            )
            losses, _ = task.values(outputs, batch.targets)
            return jnp.mean(losses) + sum(jax.tree.leaves(updated.get("losses", {}))), values

        shift = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]
        objective_and_gradients = jax.value_and_grad(objective, (0, 1), has_aux=True)
        (value, values), (weights, gradients) = objective_and_gradients(variables["params"], shift)
        seen = [
            (_distribution(x, rows), _distribution(g, rows), _saturated(site.kind, x), _dead(site.role, x))
            for site, x, g, rows in zip(found, values, gradients, kept, strict=True)
        ]
        pairs = zip(jax.tree.leaves(variables["params"]), jax.tree.leaves(weights), strict=True)
        return value, seen, [(_norm(weight), _norm(gradient)) for weight, gradient in pairs]

    return tuple(found), jax.jit(run)


def _kept(rng: np.random.Generator, size: int) -> np.ndarray:
    """Which numbers of a layer are kept for histograms."""
    return np.arange(size) if size <= _SAMPLE else rng.integers(0, size, _SAMPLE)


def _distribution(x: jax.Array, rows: np.ndarray) -> dict[str, jax.Array]:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return {
        "mean": jnp.mean(x),
        "std": jnp.std(x),
        "norm": jnp.sqrt(jnp.sum(jnp.square(x)) / len(x)),
        "zeros": jnp.mean(x == 0),
        "sample": x.reshape(-1)[rows],
    }


def _saturated(kind: str, x: jax.Array) -> jax.Array | None:
    if kind in ("tanh", "hard_tanh"):
        return jnp.mean(jnp.abs(x) > 0.98)
    return jnp.mean((x < 0.02) | (x > 0.98)) if kind in ("sigmoid", "hard_sigmoid") else None


def _dead(role: str, x: jax.Array) -> jax.Array | None:
    return jnp.all(x == 0, tuple(range(x.ndim - 1))) if role == "activation" else None


def _norm(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32)))))


def _report(site: Site, activation: Any, gradient: Any, saturated: Any, dead: Any) -> LayerReport:
    def plain(numbers):
        sample = numbers.pop("sample")
        return Distribution(**{name: float(number) for name, number in numbers.items()}, sample=sample)

    share = None if saturated is None else float(saturated)
    return LayerReport(site.name, site.kind, site.role, site.shape[1:], plain(activation), plain(gradient), share, dead)


def _names(params: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(path_name(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
