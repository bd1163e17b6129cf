"""How large the next update of each weight is, compared with the weight."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.arguments import require
from jaxdl.models import unstack_blocks
from jaxdl.optim.requests import requests
from jaxdl.practice.sites import unrolled
from jaxdl.train import TrainState, make_step
from jaxdl.train.state import check_state, check_tx
from jaxdl.train.task import Task
from jaxdl.tree import path_name
from jaxdl.typing import Batch


def ratios_of(task: Task, state: Any, tx: optax.GradientTransformation, batch: Batch) -> dict[str, float]:
    """The norm of the next update of each parameter that is not frozen, divided by the parameter's norm, by path."""
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
