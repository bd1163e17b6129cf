"""Snapshots: copies of the iterates at regular updates, kept in the optimizer's state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.typing import DTypeLike

from jaxdl.arguments import check_dtype, check_integer, require
from jaxdl.optim.averaging import beside, check_name, check_one_member, find_named, is_due, reached_params
from jaxdl.optim.checks import check_known, check_updates
from jaxdl.optim.extra_args import MissingArgumentError
from jaxdl.tree import find_states, is_masked
from jaxdl.typing import Params


class SnapshotState(NamedTuple):
    """State of `snapshots`. Every stored array has a leading axis of `keep` places, used as a ring buffer."""

    count: jax.Array  # int32 scalar: updates made so far
    taken: jax.Array  # int32 scalar: snapshots taken so far, including those that were overwritten
    params: dict[str, Params]  # under its name: like the parameters, [keep, ...], in the storage dtype
    batch_stats: Params  # like the model's batch statistics, [keep, ...]; () where none are stored


def snapshots(
    period: int, keep: int, *, start: int = 0, dtype: DTypeLike | None = None, name: str = "snapshots"
) -> optax.GradientTransformationExtraArgs:
    """Stores the iterates reached by the updates start + period, start + 2 period, ...; the last link of a chain.

    The last `keep` of them stay. With `optim.cosine_cycles(rate, period)` they are the iterates at the ends of the
    cycles, as in snapshot ensembles. `snapshot_variables` reads them. `train.init_state` makes room for the model's
    batch statistics too, and `train.make_step` passes them, so that a snapshot is a complete model.

    Memory: `keep` times that of the parameters and batch statistics (`snapshot_bytes` reports it); half as much for
    float32 parameters with `dtype=jnp.bfloat16`.

    Args:
      period: updates from one snapshot to the next.
      keep: how many to hold; a new one takes the place of the oldest.
      start: updates before the first period begins.
      dtype: storage dtype of the parameters; by default their own.
      name: tells `snapshots` in one chain apart.

    Returns:
      A gradient transformation with state `SnapshotState`; updates pass unchanged.

    Raises:
      ValueError: a value is out of its range; or, from `update`, no parameters, or no `batch_stats=` where there is
        room for them.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(1.0), snapshots(period=2, keep=2))
      >>> params, state = jnp.array(0.0), tx.init(jnp.array(0.0))
      >>> for _ in range(7):  # reaches 1, 2, ..., 7
      ...     updates, state = tx.update(jnp.array(-1.0), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> snapshot_variables(state)["params"].tolist(), snapshot_count(state)
      ([4.0, 6.0], 2)

    Reference: Huang et al., `Snapshot Ensembles: Train 1, get M for free`, 2017 (arXiv 1704.00109).
    """
    check_updates("snapshots", "period", period, at_least=1, remedy="use period=1 to store every step")
    check_known("snapshots", "keep", keep)
    check_integer("snapshots", "keep", keep, at_least=1, remedy="it is the number of places for snapshots")
    check_updates("snapshots", "start", start, at_least=0, remedy="use start=0 to begin with the first update")
    check_name("snapshots", name)
    if dtype is not None:
        check_dtype("snapshots", "dtype", dtype)

    def init(params: Params) -> SnapshotState:
        places = jax.tree.map(lambda p: jnp.zeros((keep, *p.shape), dtype or p.dtype), params)
        return SnapshotState(jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32), {name: places}, ())

    def update(updates, state, params=None, *, batch_stats: Params | None = None, **extra):
        del extra
        count = state.count + 1
        due = is_due(count, start, period)
        place = state.taken % keep

        def store(stored, value):
            # Every update reads and writes one place, due or not: a conditional copy of the whole array costs more.
            old = jax.lax.dynamic_index_in_dim(stored, place, keepdims=False)
            new = jnp.where(due, value.astype(stored.dtype), old)
            return jax.lax.dynamic_update_index_in_dim(stored, new, place, 0)

        statistics = state.batch_stats
        if jax.tree.leaves(statistics):
            if batch_stats is None:
                raise MissingArgumentError(
                    "snapshots: this state stores batch statistics, so update needs them; call "
                    "tx.update(grads, state, params, batch_stats=batch_stats) or use train.make_step"
                )
            statistics = jax.tree.map(store, statistics, batch_stats)
        stored = jax.tree.map(store, state.params[name], reached_params("snapshots", params, updates))
        return updates, SnapshotState(count, state.taken + due, {name: stored}, statistics)

    return optax.GradientTransformationExtraArgs(init, update)


def with_batch_stats(opt_state: Any, batch_stats: Params) -> Any:
    """An optimizer state in which every `snapshots` has room for batch statistics like these."""
    if not jax.tree.leaves(batch_stats):
        return opt_state

    def make_room(node):
        if not isinstance(node, SnapshotState):
            return node
        keep = len(jax.tree.leaves(node.params)[0])
        return node._replace(batch_stats=jax.tree.map(lambda s: jnp.zeros((keep, *s.shape), s.dtype), batch_stats))

    return jax.tree.map(make_room, opt_state, is_leaf=lambda node: isinstance(node, SnapshotState))


def wants_batch_stats(opt_state: Any) -> bool:
    """Whether an update of this state needs `batch_stats=`."""
    return any(jax.tree.leaves(state.batch_stats) for state in find_states(opt_state, SnapshotState))


def snapshot_variables(opt_state: Any, *, name: str | None = None, params: Params | None = None) -> dict[str, Params]:
    """Parameters and batch statistics of the snapshots held, oldest first, as `ensemble.predict` takes them.

    Call it outside of jit: the shapes depend on how many snapshots there are.

    Args:
      opt_state: the state of any chain, however nested, with a `snapshots` in it.
      name: of the `snapshots`, where there are several.
      params: the parameters, for `snapshots` under `optax.masked`: every member is given the masked ones from here.

    Returns:
      {"params": ..., "batch_stats": ...}, each with a leading axis of members; batch_stats is {} where none are stored.

    Raises:
      ValueError: there is no such `snapshots`, there are several and no name, none has been taken yet, a part is masked
        and no parameters are given, or the state is that of a whole population.
    """
    function = "snapshot_variables"
    state, stored = _find(function, opt_state, name)
    members = _members(function, state, stored, params)
    places = _places_in_time_order(function, state)
    statistics = state.batch_stats if jax.tree.leaves(state.batch_stats) else {}
    return {"params": members, "batch_stats": jax.tree.map(lambda leaf: leaf[places], statistics)}


def snapshot_count(opt_state: Any, *, name: str | None = None) -> int:
    """How many snapshots are held, at most `keep`.

    Args:
      opt_state: as for `snapshot_variables`.
      name: as for `snapshot_variables`.

    Raises:
      ValueError: there is no such `snapshots`, there are several and no name, or the state is that of a whole
        population.
    """
    state, _ = _find("snapshot_count", opt_state, name)
    check_one_member("snapshot_count", state)
    return min(int(state.taken), _places(state))


def snapshot_bytes(opt_state: Any, *, name: str | None = None) -> int:
    """Bytes that the places for snapshots take, filled or not.

    Args:
      opt_state: as for `snapshot_variables`.
      name: as for `snapshot_variables`.

    Raises:
      ValueError: there is no such `snapshots`, or there are several and no name.
    """
    state, _ = _find("snapshot_bytes", opt_state, name)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state.params, state.batch_stats)))


def _find(function: str, opt_state: Any, name: str | None) -> tuple[SnapshotState, Params]:
    return find_named(function, "snapshots", SnapshotState, "params", opt_state, name)


def _places(state: SnapshotState) -> int:
    return len(jax.tree.leaves(state.params)[0])


def _places_in_time_order(function: str, state: SnapshotState) -> np.ndarray:
    check_one_member(function, state)
    require(
        not isinstance(state.taken, Tracer),
        f"{function}: opt_state must hold concrete arrays, got traced ones; the number of snapshots is not known "
        f"within jit or vmap, so call {function} outside",
    )
    taken, keep = int(state.taken), _places(state)
    require(
        taken > 0,
        f"{function}: opt_state must hold at least one snapshot, got none after {int(state.count)} updates; make more "
        "updates, or pass a smaller period or start to optim.snapshots",
    )
    return np.arange(max(0, taken - keep), taken) % keep


def _members(function: str, state: SnapshotState, stored: Params, params: Params | None) -> Params:
    """The snapshots, oldest first, with the parameter itself in the place of what is masked."""
    places = _places_in_time_order(function, state)
    if not any(map(is_masked, jax.tree.leaves(stored, is_leaf=is_masked))):
        return jax.tree.map(lambda leaf: leaf[places], stored)
    require(
        params is not None,
        f"{function}: params must be given, because optax.masked left some parameters out of these snapshots, got "
        f"params=None; call {function}(opt_state, params=state.params)",
    )
    return beside(
        function,
        stored,
        params,
        lambda leaf, _: leaf[places],
        lambda param: jnp.broadcast_to(param, (len(places), *param.shape)),
        leading=1,
    )
