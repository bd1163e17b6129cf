"""Batch statistics for weights that training did not run with, averaged weights above all."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_choice, check_integer, require, shown
from jaxdl.data import Dataset
from jaxdl.data.checks import check_dataset
from jaxdl.models import layers
from jaxdl.modules import apply_model, model_shapes
from jaxdl.program_cache import remembered
from jaxdl.tree import path_name
from jaxdl.typing import Params


class _Facts(NamedTuple):
    """What the shapes and fields of a BatchNorm tell about it."""

    count: int  # how many numbers of each channel it is given in a batch
    momentum: float
    unbiased: bool  # whether its running variance averages unbiased estimates

    @property
    def correction(self) -> float:
        """The factor from the biased variance to the one that the running variance averages."""
        return self.count / max(self.count - 1, 1) if self.unbiased else 1.0


def update_batch_stats(
    model: nn.Module,
    params: Params,
    batches: Dataset | Iterable[Any],
    *,
    batch_size: int = 500,
    mode: Literal["pooled", "cumulative"] = "pooled",
    preprocess: Callable[[jax.Array], jax.Array] | None = None,
    key: jax.Array | None = None,
) -> dict[str, Any]:
    """Estimates batch statistics anew over a data set. The model runs in training mode: batches normalise themselves.

    With mode "pooled" the results are the mean and variance of all numbers that each BatchNorm was given, whatever the
    sizes of the batches. With "cumulative" they are the averages over the batches of each batch's mean and variance, as
    in `torch.optim.swa_utils.update_bn`; a small last batch then counts as much as a full one.

    Args:
      model: a module with `layers.BatchNorm` or `flax.linen.BatchNorm`.
      params: its parameters, `optim.swa_params(opt_state, params)` for example.
      batches: a data set, all of whose examples are used, or batches of inputs [batch, ...] of any sizes.
      batch_size: examples at a time, for a data set; the last batch may be smaller.
      mode: see above.
      preprocess: function from a batch to the model's inputs. By default a data set's `standardize`; other batches are
        passed as they are.
      key: for dropout, which is on as in training; by default `jax.random.key(0)`.

    Returns:
      The "batch_stats" collection; {} for a model without one.

    Raises:
      ValueError: an argument is wrong, or there are no batches.

    Reference: Izmailov et al. 2018 (arXiv 1803.05407), sec. 3.2.
    """
    name = "update_batch_stats"
    require(isinstance(model, nn.Module), f"{name}: model must be a flax.linen module, got {shown(model)}")
    require(
        isinstance(params, Mapping) and "params" not in params,
        f"{name}: params must be the parameters alone, optim.swa_params(opt_state, params) for example, "
        f"got {shown(params)}",
    )
    check_integer(name, "batch_size", batch_size, at_least=1)
    check_choice(name, "mode", mode, ("pooled", "cumulative"))
    is_pair = isinstance(batches, tuple) and any(isinstance(part, Dataset) for part in batches)
    if isinstance(batches, str) or is_pair or not isinstance(batches, Iterable | Dataset):
        check_dataset(name, "batches", batches, streams=False)
    if isinstance(batches, Dataset):
        preprocess = preprocess or batches.standardize
        dataset = batches
        batches = (
            jax.tree.map(lambda x, i=i: x[i : i + batch_size], dataset.inputs)
            for i in range(0, len(dataset), batch_size)
        )
    key = jax.random.key(0) if key is None else key
    parts: dict[str, list] = {}
    layers_of: dict[tuple, Any] = {}  # by the shape of a batch: the model is traced once for each
    for number, batch in enumerate(batches):
        given = jax.tree.map(jnp.asarray, batch)
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(given))
        if shapes not in layers_of:
            layers_of[shapes] = _layers(model, preprocess, params, given)
        key_of_batch = jax.random.fold_in(key, number)
        for path, moments in _moments(model, preprocess, params, given, key_of_batch, layers_of[shapes]).items():
            parts.setdefault(path, []).append(moments)
    require(bool(layers_of), "update_batch_stats: there are no batches to estimate from")
    pool = _pooled if mode == "pooled" else _cumulative
    return _nested({path: pool(found) for path, found in parts.items()})


def _moments(model, preprocess, params, images, key, known) -> dict[str, tuple[_Facts, np.ndarray, np.ndarray]]:
    """For each BatchNorm the mean of its inputs in one batch, and their variance as it estimates it."""
    empty, facts = known
    before = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), empty)
    updated = _compiled(model, preprocess)(params, before, images, key)
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(updated))}
    found = {}
    for path, fact in facts.items():
        # running <- momentum running + (1 - momentum) batch, from 0
        mean, variance = (leaves[f"{path}/{name}"].astype(np.float64) / (1 - fact.momentum) for name in ("mean", "var"))
        found[path] = fact, mean, variance
    return found


@remembered()
def _compiled(model, preprocess):
    return jax.jit(functools.partial(_updated, model, preprocess))


def _updated(model, preprocess, params, batch_stats, images, key):
    """Batch statistics after one batch."""
    variables = {"params": params, "batch_stats": batch_stats}
    inputs = images if preprocess is None else preprocess(images)
    rngs = {"dropout": key, "params": jax.random.fold_in(key, 1)}
    _, updated = apply_model(model, variables, inputs, train=True, rngs=rngs, mutable=["batch_stats", "losses"])
    return updated.get("batch_stats", {})


def _layers(model, preprocess, params, images) -> tuple[dict[str, Any], dict[str, _Facts]]:
    """The shapes of a model's batch statistics, and the facts about each BatchNorm. Nothing is computed."""
    inputs = jax.eval_shape(preprocess, images) if preprocess else images
    variables = model_shapes(model, inputs).variables
    empty = variables.get("batch_stats", {})
    own = sorted(set(variables) - {"params", "batch_stats"})
    require(
        not own,
        f"update_batch_stats: model must have no variables but parameters and batch statistics, got the collections "
        f"{', '.join(own)} of {type(model).__name__}; update these in your own code, with "
        "model.apply(..., mutable=[...])",
    )
    facts: dict[str, _Facts] = {}

    def record(call, arguments, keywords, context):
        module = context.module
        if isinstance(module, layers.BatchNorm | nn.BatchNorm) and context.method_name == "__call__":
            count = arguments[0].size // arguments[0].shape[-1]
            facts["/".join(module.path)] = _Facts(count, module.momentum, getattr(module, "unbiased", False))
        return call(*arguments, **keywords)

    with nn.intercept_methods(record):
        jax.eval_shape(functools.partial(_updated, model, preprocess), params, empty, images, jax.random.key(0))
    known = {f"{path}/{name}" for path in facts for name in ("mean", "var")}
    others = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(empty)} - known
    require(
        not others,
        "update_batch_stats: all batch statistics must be those of layers.BatchNorm or flax.linen.BatchNorm, got "
        f"{', '.join(sorted(others))} of other modules; use one of these two, or update the statistics in your "
        "own code",
    )
    return empty, facts


def _pooled(parts: list[tuple[_Facts, np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Moments of all batches together, from those of each."""
    counts = np.array([fact.count for fact, _, _ in parts], np.float64)
    shares = counts / counts.sum()
    means = np.stack([mean for _, mean, _ in parts])
    biased = np.stack([variance / fact.correction for fact, _, variance in parts])
    mean = np.tensordot(shares, means, 1)
    variance = np.tensordot(shares, biased + np.square(means - mean), 1)
    whole = parts[0][0]._replace(count=int(counts.sum()))
    return {"mean": mean, "var": variance * whole.correction}


def _cumulative(parts: list[tuple[_Facts, np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Means over batches."""
    return {"mean": np.mean([mean for _, mean, _ in parts], 0), "var": np.mean([var for _, _, var in parts], 0)}


def _nested(flat: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """From "a/b" to {"a": {"b": ...}}, as JAX arrays."""
    tree: dict[str, Any] = {}
    for path, arrays in flat.items():
        node = tree
        for name in path.split("/"):
            node = node.setdefault(name, {})
        node.update({name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()})
    return tree
