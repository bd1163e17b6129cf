"""Checks that averages, snapshots and look-aheads are the last links of a chain."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.arguments import require
from jaxdl.optim import EmaState, LookaheadState, PlateauState, SnapshotState, SwaState
from jaxdl.optim.averaging import every_iterate_due
from jaxdl.optim.extra_args import MissingArgumentError
from jaxdl.optim.freezing import FreezeState, without_frozen
from jaxdl.optim.requests import initial_state, requests, update
from jaxdl.program_cache import remembered
from jaxdl.tree import find_states, path_name
from jaxdl.typing import Params

_TRIES = 64  # updates within which a link that waits (`optax.MultiSteps`) must have acted


def check_order(function: str, tx: optax.GradientTransformation, params: Params, batch_stats: Params) -> None:
    """Raises `ValueError` if an average, snapshots or a look-ahead keep other parameters than those that are reached.

    That happens if a link after them changes the updates, the learning rate for example. The check runs the chain on
    parameters of the same names with one element each, and compares the parameters that these links keep with those
    that are reached. Chains whose update cannot be called in this way pass unchecked.

    Args:
      function: named in the error.
      tx: the chain.
      params: the parameters; their numbers do not matter.
      batch_stats: the model's batch statistics.
    """
    opt_state = jax.eval_shape(tx.init, params)
    if not find_states(opt_state, (SwaState, EmaState, SnapshotState, LookaheadState, PlateauState)):
        return
    _check_names(function, opt_state)
    # One parameter of each kind is enough (and compiles faster), unless the chain treats parameters by name.
    by_name = find_states(opt_state, (FreezeState, optax.MaskedNode))
    outlines = [_outline(params)] if by_name else [_outline(_one_of_each_kind(params)), _outline(params)]
    wrong = None
    for outline in outlines:
        try:
            with jax.ensure_compile_time_eval():
                wrong = _out_of_order(tx, outline, _outline(batch_stats))
            break
        except MissingArgumentError as error:
            raise ValueError(
                f"{function}: tx must pass the extra arguments of update on to {str(error).partition(':')[0]}, and the "
                "transformation around it does not, optax.MultiSteps inside of optax.chain for example; put it after "
                "that transformation, or pass optax.MultiSteps(...) itself as tx"
            ) from error
        except Exception:  # other mistakes raise where the chain is used
            continue
    require(
        wrong is None,
        f"{function}: {wrong} stands in the chain before a link that changes the updates, so it sees parameters that "
        "training never reaches; put it after the learning rate, weight decay and optim.freeze, "
        f"optax.chain(..., optax.scale_by_learning_rate(rate), optim.{wrong}(...)), with averages and snapshots last",
    )


def _check_names(function: str, opt_state: Any) -> None:
    """Raises `ValueError` if two averages, or two snapshots, have the same name."""
    for what, kind, field in (
        ("swa", SwaState, "mean"),
        ("ema", EmaState, "mean"),
        ("snapshots", SnapshotState, "params"),
    ):
        names = [name for state in find_states(opt_state, kind) for name in getattr(state, field)]
        require(
            len(set(names)) == len(names),
            f"{function}: the chain has {len(names)} of {what}, called {', '.join(map(repr, names))}; give each a name "
            f'of its own, as in optim.{what}(..., name="long")',
        )


def _outline(tree: Any) -> tuple:
    """A tree's structure, and its leaves' numbers of axes."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(leaf.ndim for leaf in leaves)


def _one_of_each_kind(params: Params) -> Params:
    """The first parameter of each name and number of axes, as in "stem_conv/kernel" of four."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    if not all(isinstance(key, jax.tree_util.DictKey) for path, _ in paths for key in path):
        return params
    chosen: dict[tuple, Any] = {}
    for path, leaf in paths:
        chosen.setdefault((path[-1:], leaf.ndim), (path, leaf))
    tree: dict = {}
    for path, leaf in chosen.values():
        if not path:
            return params
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key.key, {})
        node[path[-1].key] = leaf
    return tree


@remembered()
def _out_of_order(tx, params_outline, stats_outline) -> str | None:
    """The name of a link that stands before one that changes updates, or None. Exceptions are not cached."""
    numbers = np.random.default_rng(0)

    def small(outline):
        structure, leaves = outline
        return jax.tree.unflatten(structure, [numbers.uniform(1, 2, (1,) * axes).astype(np.float32) for axes in leaves])

    params, grads, batch_stats = small(params_outline), small(params_outline), small(stats_outline)
    state = jax.jit(lambda p: _as_after_a_plateau(initial_state(tx, p, batch_stats)))(params)
    asked = requests(params, state)
    grads = without_frozen(asked.frozen, grads)  # a step computes none of them

    @jax.jit
    def move(grads, state, params):
        updates, state = update(
            tx,
            asked,
            grads,
            state,
            params,
            value=jnp.float32(1),
            batch_stats=batch_stats,
            value_fn=lambda p: jnp.float32(1),
            grad_fn=lambda p, number: grads,
        )
        return updates, state, optax.apply_updates(params, updates)

    found, updates = [], grads
    with every_iterate_due():
        for _ in range(_TRIES):
            updates, state, params = move(grads, state, params)
            found = _kept(state)
            if found:
                break
    ahead = [("scale_by_nesterov_lookahead", s.velocity, updates) for s in find_states(state, LookaheadState)]
    for name, kept, wanted in [*ahead, *((name, kept, params) for name, kept in found)]:
        if not _same(kept, wanted):
            return name
    return None


def _same(kept: Params, wanted: Params) -> bool:
    """Whether numbers are equal, up to rounding, at all places that `kept` has (some may be masked)."""
    by_path = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(wanted)}

    def near(path, leaf):
        number = by_path[path_name(path)].astype(leaf.dtype)  # snapshots may be kept in bfloat16
        return np.allclose(np.asarray(leaf, np.float64), np.asarray(number, np.float64), rtol=1e-5)

    return all(near(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(kept))


def _as_after_a_plateau(state: Any) -> Any:
    """The state with a lower scale in every `reduce_on_plateau`, which would not change updates at first."""

    def lowered(node):
        return node._replace(scale=jnp.full_like(node.scale, 0.5)) if isinstance(node, PlateauState) else node

    return jax.tree.map(lowered, state, is_leaf=lambda node: isinstance(node, PlateauState))


def _kept(state: Any) -> list[tuple[str, Params]]:
    """The name of each link and the iterate that it keeps, once all of them keep one."""
    state = jax.device_get(state)
    averages = find_states(state, (SwaState, EmaState))
    kept = find_states(state, SnapshotState)
    if not all(int(s.count) for s in averages + kept):
        return []
    found = []
    for average in averages:
        name, weight = ("swa", 1) if isinstance(average, SwaState) else ("ema", average.weight)
        if weight == 0:  # the schedule of the decay begins at 1
            continue
        found += [(name, jax.tree.map(lambda m, w=weight: m / w, mean)) for mean in average.mean.values()]
    found += [("snapshots", jax.tree.map(lambda s: s[0], places)) for s in kept for places in s.params.values()]
    return found
