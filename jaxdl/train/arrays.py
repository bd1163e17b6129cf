"""Converts a training state and a history to the contents of a checkpoint: arrays by path, with check sums."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.train.history import History
from jaxdl.train.state import TrainState
from jaxdl.tree import path_name


class Outline(NamedTuple):
    """Names, shapes, dtypes and places of a state's arrays, without their numbers."""

    plain: TrainState  # leaves are jax.ShapeDtypeStruct with a sharding; PRNG keys are arrays of numbers
    key_impls: dict[str, Any]  # implementations of the PRNG keys, by path: the state's key, and those of links

    @classmethod
    def of(cls, state: TrainState) -> "Outline":
        """The outline of a state."""

        def struct(leaf):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

        leaves = jax.tree_util.tree_leaves_with_path(state)
        impls = {path_name(path): jax.random.key_impl(leaf) for path, leaf in leaves if _is_key(leaf)}
        return cls(jax.tree.map(struct, plain_state(state)), impls)

    @property
    def flat(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes and dtypes of the arrays, by path."""
        return flat_arrays(self.plain)

    def fill(self, flat: Mapping[str, jax.Array]) -> TrainState:
        """The state with these arrays."""

        def leaf(path, struct):
            name = path_name(path)
            array = flat[name] if name in flat else jnp.zeros(struct.shape, struct.dtype, device=struct.sharding)
            return jax.random.wrap_key_data(array, impl=self.key_impls[name]) if name in self.key_impls else array

        return jax.tree_util.tree_map_with_path(leaf, self.plain)


def plain_state(state: TrainState) -> TrainState:
    """A state with its PRNG keys as numbers."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def flat_arrays(plain: TrainState) -> dict[str, Any]:
    """Arrays by path. Empty ones, which orbax refuses, are left out."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(plain) if leaf.size}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """From "a/b" to {"a": {"b": ...}}."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *above, last = path.split("/")
        node = tree
        for name in above:
            node = node.setdefault(name, {})
        node[last] = leaf
    return tree


def shapes_and_dtypes(flat: Mapping[str, Any]) -> dict[str, list]:
    """[shape, name of the dtype] by path, as JSON has them."""
    return {name: [list(leaf.shape), leaf.dtype.name] for name, leaf in flat.items()}


def check_sums(flat: Mapping[str, jax.Array]) -> dict[str, int]:
    """A check sum of each array's bits, as 32-bit numbers. Orbax does not notice every changed bit."""
    return {name: int(total) for name, total in jax.device_get(_sum_bits(dict(flat))).items()}


@jax.jit
def _sum_bits(flat: dict[str, jax.Array]) -> dict[str, jax.Array]:
    def total(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.bool_):
            return jnp.sum(leaf, dtype=jnp.uint32)
        unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
        return jnp.sum(jax.lax.bitcast_convert_type(leaf, unsigned), dtype=jnp.uint32)

    return jax.tree.map(total, flat)


def crc32(array: np.ndarray) -> int:
    """The CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def history_sums(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """A check sum of each array of `history_arrays`."""
    return {name: crc32(np.asarray(array)) for name, array in arrays.items()}


def history_arrays(histories: Sequence[History]) -> dict[str, np.ndarray]:
    """The arrays of histories by path, as in "0/metrics/error", without empty arrays, which orbax refuses."""
    arrays = {}
    for number, history in enumerate(histories):
        for name, value in history._asdict().items():
            parts = value if isinstance(value, dict) else {"": value}
            for part, array in parts.items():
                arrays[f"{number}/{name}/{part}".rstrip("/")] = np.atleast_1d(np.asarray(array))
    return {name: array for name, array in arrays.items() if array.size}


def histories_from(arrays: Mapping[str, Any], count: int) -> list[History]:
    """The inverse of `history_arrays`."""
    histories = []
    for number in range(count):
        history = History.empty()
        fields: dict[str, Any] = {name: {} for name, value in history._asdict().items() if isinstance(value, dict)}
        for path, array in arrays.items():
            of, name, *part = path.split("/")
            if of != str(number):
                continue
            if part:
                fields[name][part[0]] = np.asarray(array)
            else:
                fields[name] = np.asarray(array)
        fields["seconds"] = float(fields["seconds"].reshape(-1)[0])
        histories.append(history._replace(**fields))
    return histories
