"""Reads a trained model from a checkpoint, without the run that wrote it."""

import os
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl import optim
from jaxdl.arguments import require, shown
from jaxdl.train.arrays import nested
from jaxdl.train.checkpoint import Checkpoints, check_source

_KINDS = {"swa": optim.SwaState, "ema": optim.EmaState, "snapshots": optim.SnapshotState}


def load_variables(
    folder: str | os.PathLike,
    *,
    which: int | Literal["newest", "best"] = "newest",
    average: str | None = None,
) -> dict[str, Any]:
    """Reads a trained model from a `checkpoint_dir`, for inference. It needs no optimizer, data set or training state.

    Args:
      folder: the `checkpoint_dir` of `fit`, or of one member of a population made with via="loop".
      which: as for `restore`.
      average: the name of an average in the chain (by default "swa" or "ema"), to read its parameters in the place of
        the newest ones; or the name of `snapshots`, to read all of them, stacked. An average comes with the batch
        statistics of the newest parameters; estimate its own with `ensemble.update_batch_stats`.

    Returns:
      {"params": ..., "batch_stats": ...} and the model's other collections, as `model.apply` takes them, on this
      process's first device.

    Raises:
      FileNotFoundError: there is no such checkpoint; the message names those that there are.
      ValueError: there is no average of that name (the message names those that there are), or the folder is that of a
        population.

    Example:
      >>> import tempfile, jax
      >>> from jaxdl import data, models, optim, train
      >>> train_set, test_set = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(8,)), optim.sgd(0.1)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = train.fit(state, model, tx, train_set, steps=5, checkpoint_dir=folder, progress=False)
      ...     variables = train.load_variables(folder)
      >>> logits = model.apply(variables, train_set.standardize(test_set.images[:3]), train=False)
      >>> logits.shape
      (3, 10)
    """
    path, which = check_source("load_variables", folder, which)
    require(
        average is None or isinstance(average, str),
        f'load_variables: average must be a name, as in "swa", got average={shown(average)}',
    )
    with Checkpoints(path, keep=None, must_exist=True, function="load_variables") as checkpoints:
        flat, metadata = checkpoints.read_arrays(which)
    require(
        metadata["members"] is None,
        f"load_variables: {folder} holds a whole population; train.restore(folder, like) gives its stacked state",
    )
    tree = nested(flat)
    variables = {"params": tree["params"], "batch_stats": tree.get("batch_stats", {}), **tree.get("collections", {})}
    if average is None:
        return variables
    places = {entry["name"]: entry for entry in metadata["averages"]}
    require(
        average in places,
        f"load_variables: there is no average {average!r} in this checkpoint; there are {sorted(places) or 'none'}",
    )
    entry = places[average]
    state = _state(_KINDS[entry["kind"]], tree, entry["path"])
    if entry["kind"] == "snapshots":
        members = optim.snapshot_variables(state, name=average, params=variables["params"])
        count = len(jax.tree.leaves(members["params"])[0])
        others = {name: tree for name, tree in variables.items() if name not in members}
        # Snapshots do not keep the other collections; every member gets the newest ones.
        return {**members, **jax.tree.map(lambda leaf: jnp.stack([leaf] * count), others)}
    read = optim.swa_params if entry["kind"] == "swa" else optim.ema_params
    return {**variables, "params": read(state, variables["params"], name=average)}


def _state(kind: Any, tree: dict[str, Any], path: str) -> Any:
    """The state of a link, read from its path in the tree of a checkpoint; fields without arrays are ()."""
    node: Any = tree
    for name in path.split("/"):
        node = node[name]
    return kind(*(node.get(field, ()) for field in kind._fields))


def averages_in(state: Any) -> list[dict[str, str]]:
    """The averages and snapshots in a training state: name, kind, and path of the link's state."""
    found = []
    kinds = tuple(_KINDS.values())
    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda node: isinstance(node, kinds))
    for path, node in leaves:
        for kind, state_kind in _KINDS.items():
            if isinstance(node, state_kind):
                names = node.params if kind == "snapshots" else node.mean  # type: ignore[attr-defined]
                place = jax.tree_util.keystr(path, simple=True, separator="/")
                found += [{"name": name, "kind": kind, "path": place} for name in names]
    return found
