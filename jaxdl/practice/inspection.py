"""Statistics of every layer's activations and gradients, and of the updates of every weight."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.arguments import check_flag, check_key, require
from jaxdl.data import Dataset, Stream
from jaxdl.models import unstack_blocks
from jaxdl.modules import apply_model
from jaxdl.optim.requests import requests
from jaxdl.practice.columns import text_table
from jaxdl.practice.findings import Finding
from jaxdl.practice.inputs import batch_of, variables_of
from jaxdl.practice.inspection_pictures import plot_inspection
from jaxdl.practice.inspection_verdict import judge, verdict_of
from jaxdl.practice.sites import Site, look, unrolled
from jaxdl.program_cache import remembered
from jaxdl.train import TrainState, cross_entropy, make_step
from jaxdl.train.losses import Loss
from jaxdl.train.state import check_state, check_tx, check_variables
from jaxdl.train.task import Preprocess, Task, check_class_numbers, check_on_batch, make_task
from jaxdl.tree import path_name
from jaxdl.typing import Batch

_SAMPLE = 4096  # numbers of each layer that are kept for histograms


class Distribution(NamedTuple):
    """The numbers of a layer for all examples of a batch, units and positions."""

    mean: float
    std: float
    norm: float  # the root of the mean over the examples of the squared L2 norm
    zeros: float  # share of numbers that are exactly 0
    sample: np.ndarray  # float32 [at most 4096], for histograms: all numbers, or some drawn at random


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What was seen of a layer, or of a nonlinearity.

    Attributes:
      name: its path, as in "stage1_block1/conv1"; nonlinearities have a number: "stage1_block1/relu_0".
      kind: the module's class or the function's name: "Conv", "relu".
      role: "layer" (it has a kernel), "activation" (a nonlinearity) or "module" (any other).
      shape: of its output for one example.
      activation: its output.
      gradient: the gradient of the batch's mean loss with respect to its output.
      saturated: of tanh and sigmoid the share of outputs within 2 % of an end: |tanh| > 0.98, sigmoid < 0.02 or > 0.98;
        None for what does not saturate.
      dead: of a nonlinearity bool [units], whether a unit (a channel) is 0 for all examples at all positions; else
        None.
    """

    name: str
    kind: str
    role: str
    shape: tuple[int, ...]
    activation: Distribution
    gradient: Distribution
    saturated: float | None
    dead: np.ndarray | None

    @property
    def dead_share(self) -> float:
        """The share of dead units; 0 where units cannot be dead."""
        return 0.0 if self.dead is None else float(np.mean(self.dead))


class WeightReport(NamedTuple):
    """What was seen of a parameter."""

    name: str  # its path, as in "head/kernel"
    shape: tuple[int, ...]
    norm: float  # L2 norm
    gradient_norm: float  # of the gradient of the batch's mean loss, and of losses that the model sows
    update_ratio: float | None  # norm of the next update / norm; None if it was not asked for or is frozen


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What `inspect` saw; prints as the verdict and two tables.

    Attributes:
      layers: modules and nonlinearities in the order of their computation.
      weights: the parameters.
      loss: mean loss of the batch.
      examples: in the batch.
      findings: what is amiss; empty if all is well.
      verdict: the same in words, with the numbers.
    """

    layers: tuple[LayerReport, ...]
    weights: tuple[WeightReport, ...]
    loss: float
    examples: int
    findings: tuple[Finding, ...]
    verdict: str

    def __getitem__(self, name: str) -> LayerReport:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"Inspection: there is no layer {name!r}; there are {', '.join(x.name for x in self.layers)}")

    def table(self) -> str:
        """Two tables: of the layers, and of the weights."""

        def percent(share):
            return "" if share is None else f"{100 * share:.1f}"

        layers = [
            (
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.shape)),
                f"{layer.activation.mean:.3g}",
                f"{layer.activation.std:.3g}",
                percent(layer.activation.zeros),
                percent(layer.saturated),
                percent(None if layer.dead is None else layer.dead_share),
                f"{layer.gradient.std:.2e}",
                f"{layer.gradient.norm:.2e}",
            )
            for layer in self.layers
        ]
        weights = [
            (
                w.name,
                f"{w.norm:.3g}",
                f"{w.gradient_norm:.2e}",
                "" if w.update_ratio is None else f"{w.update_ratio:.1e}",
            )
            for w in self.weights
        ]
        header = ("layer", "kind", "output", "mean", "std", "zeros %", "saturated %", "dead %", "grad std", "grad norm")
        return "\n\n".join(
            [
                text_table(header, layers, left=2),
                text_table(("weight", "norm", "gradient norm", "update / weight"), weights),
            ]
        )

    def __str__(self) -> str:
        return f"{self.verdict}\n\n{self.table()}"

    def plot(self, path: str | os.PathLike) -> None:
        """Draws histograms of activations and gradients over depth, their sizes, and the update ratios, to a PNG."""
        plot_inspection(path, self)


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

    Findings, with the bounds: dead units (20 % of a layer), saturation (30 % of a tanh or sigmoid layer), activations
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
    ratios = {} if tx is None else _update_ratios(task, variables, tx, examples)
    model, collections = unrolled(model, collections)
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
        return Distribution(**{k: v if k == "sample" else float(v) for k, v in numbers.items()})

    share = None if saturated is None else float(saturated)
    return LayerReport(site.name, site.kind, site.role, site.shape[1:], plain(activation), plain(gradient), share, dead)


def _names(params: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(path_name(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]


def _update_ratios(task: Task, state: Any, tx: optax.GradientTransformation, batch: Batch) -> dict[str, float]:
    """The norm of the next update of each parameter that is not frozen, divided by the parameter's norm."""
    check_tx("inspect", tx)
    require(
        isinstance(state, TrainState),
        "inspect: the update that tx makes needs the training state, with the optimizer's state; pass the state in "
        "the place of its variables, or leave tx out",
    )
    check_state("inspect", state)
    here = jax.local_devices()[0]
    step = make_step(task.model, tx, devices=[here], loss=task.loss, preprocess=task.preprocess)
    # A step reuses the memory of the state that it is given.
    reached, _ = step(jax.tree.map(jnp.copy, jax.device_put(state, here)), batch)
    frozen = requests(state.params, state.opt_state).frozen
    trained = jax.tree.map(lambda _: True, state.params) if frozen is None else jax.tree.map(lambda x: not x, frozen)
    params, new = ({"params": jax.device_get(tree)} for tree in (state.params, reached.params))
    if getattr(task.model, "scan", False) and unrolled(task.model, params)[0] is not task.model:
        trained = jax.tree.map(lambda x, keep: np.full(x.shape, keep), params["params"], trained)
        params, new = unstack_blocks(params), unstack_blocks(new)
        trained = unstack_blocks({"params": trained})["params"]
    found = {}
    for (path, old), after, free in zip(
        jax.tree_util.tree_leaves_with_path(params["params"]),
        jax.tree.leaves(new["params"]),
        jax.tree.leaves(trained),
        strict=True,
    ):
        before = np.asarray(old, np.float64)
        if np.all(free):
            with np.errstate(divide="ignore", invalid="ignore"):
                change = np.asarray(after, np.float64) - before
                found[path_name(path)] = float(np.linalg.norm(change) / np.linalg.norm(before))
    return found
