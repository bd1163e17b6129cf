"""Where a step runs: one device, a pmap, or a mesh with sharded arrays; one process or several."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdl.arguments import check_choice, check_devices, check_flag, require
from jaxdl.mesh import put
from jaxdl.typing import Device

AXIS = "devices"
"""The axis over which a batch is spread, for a module's own collectives: `nn.BatchNorm(axis_name=train.AXIS)`.

With `parallel="single"`, which is what "auto" takes for one device, there is no such axis, and such a module raises.
"""

Parallel: TypeAlias = Literal["auto", "single", "pmap", "sharded"]

_PARALLEL = ("auto", "single", "pmap", "sharded")
_LEAST_SHARDED = 1024  # elements; smaller arrays are kept whole on every device


@dataclasses.dataclass(frozen=True)
class Spread:
    """How the examples of one step are spread, as seen from inside the compiled program.

    Attributes:
      mesh: the devices that shard_map maps over; None if they are mapped already (pmap) or there is one device.
      axis: the axis over which means are taken; None if each device sees all examples.
    """

    mesh: Mesh | None = None
    axis: str | None = None

    def map(self, f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """`f(shared, split)` on every device, each with its part of `split`; results must be equal on all of them."""
        if self.mesh is None:
            return f
        part = PartitionSpec(self.axis)
        # Without check_vma=False the gradients of shared arguments would be sums over the devices, not parts.
        return jax.shard_map(
            f, mesh=self.mesh, in_specs=(PartitionSpec(), part), out_specs=PartitionSpec(), check_vma=False
        )

    def mean(self, tree: Any) -> Any:
        """Mean over the devices. Counters and keys, which are equal on all devices, stay as they are."""
        if self.axis is None:
            return tree
        return jax.tree.map(lambda x: lax.pmean(x, self.axis) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree)

    def sum(self, tree: Any) -> Any:
        """Sum over the devices."""
        return tree if self.axis is None else lax.psum(tree, self.axis)

    @property
    def position(self) -> jax.Array | int:
        """Number of this device among those that a batch is spread over."""
        return 0 if self.axis is None else lax.axis_index(self.axis)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The devices of a training, and how they share the work.

    Attributes:
      parallel: "single", "pmap" or "sharded".
      devices: one or more devices, of all processes.
      shard_state: whether parameters and optimizer state are spread over the devices, too.
    """

    parallel: str
    devices: tuple[Device, ...]
    shard_state: bool = False

    @functools.cached_property
    def mesh(self) -> Mesh:
        """All devices in one axis."""
        return Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))

    @property
    def whole(self) -> jax.sharding.Sharding:
        """The sharding of an array that every device has in full."""
        if self.parallel == "single":
            return jax.sharding.SingleDeviceSharding(self.devices[0])
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def is_several_cpu_devices(self) -> bool:
        """Whether there are several CPU devices: many steps under way at once may then deadlock (jax below 0.12)."""
        return len(self.devices) > 1 and self.devices[0].platform == "cpu"

    @property
    def here(self) -> tuple[int, ...]:
        """The numbers, from 0, of the devices of this process."""
        return tuple(n for n, device in enumerate(self.devices) if device.process_index == jax.process_index())

    def spread(self, *, evenly: bool = True) -> Spread:
        """The `Spread` inside of a program made by `compile`. With `evenly=False` every device sees all examples."""
        mesh = self.mesh if self.parallel == "sharded" else None
        return Spread(mesh, AXIS if evenly and self.parallel != "single" else None)

    def compile(self, f: Callable, *, split: Any = True) -> Callable:
        """Compiles `f(state, data)`, which returns a state and metrics; the state passed is donated.

        Args:
          f: for pmap it must use the axis; its results must be equal on all devices.
          split: for pmap: which data have a part [devices, ...] for each device, as a tree of bools or a prefix of one.
        """
        if self.parallel == "pmap":
            axes = (None, jax.tree.map(lambda parts: 0 if parts else None, split))
            return jax.pmap(f, AXIS, in_axes=axes, out_axes=None, devices=self._pmap_devices, donate_argnums=0)

        def constrained(state, data):
            state, metrics = f(state, data)
            if self.parallel == "sharded":
                state = lax.with_sharding_constraint(state, self.shardings(state))
                metrics = lax.with_sharding_constraint(metrics, self.whole)
            return state, metrics

        return jax.jit(constrained, donate_argnums=0)

    def place_order(self, order: jax.Array) -> jax.Array:
        """Puts the numbers [steps, batch] of the examples in each batch on the devices.

        Programs of jit take them in full on every device, programs of pmap as [devices, steps, part of the batch].
        """
        if self.parallel != "pmap":
            return self.replicate(order)
        parts = jnp.moveaxis(order.reshape(len(order), len(self.devices), -1), 1, 0)
        return put(parts, NamedSharding(self.mesh, PartitionSpec(AXIS)))

    def place_batch(self, batch: Any) -> Any:
        """Puts this process's part [examples, ...] of a batch on its devices, evenly, as the compiled step takes it."""
        if self.parallel == "pmap":
            here = len(self.here)
            return jax.tree.map(lambda x: x.reshape(here, len(x) // here, *x.shape[1:]), batch)
        if self.parallel == "sharded":
            split = NamedSharding(self.mesh, PartitionSpec(AXIS))
            return jax.tree.map(lambda x: _from_processes(x, split), batch)
        return jax.device_put(batch, self.whole)

    @property
    def _pmap_devices(self) -> list[Device] | None:
        return None if jax.process_count() > 1 else list(self.devices)

    def shardings(self, state: Any) -> Any:
        """The sharding of every array of a state: whole, or cut along its longest axis that the devices divide."""

        def sharding(leaf):
            if not self.shard_state or leaf.size < _LEAST_SHARDED:
                return self.whole
            count = len(self.devices)
            axes = [axis for axis, length in enumerate(leaf.shape) if length % count == 0]
            if not axes:
                return self.whole
            longest = max(axes, key=lambda axis: leaf.shape[axis])
            return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, AXIS))

        return jax.tree.map(sharding, state)

    def place(self, state: Any) -> Any:
        """A state on the devices, as the compiled functions want it; arrays that are there already are not copied."""
        return jax.tree.map(put, state, self.shardings(state))

    def replicate(self, data: Any) -> Any:
        """Data in full on every device, also with `shard_state`."""
        return jax.tree.map(lambda leaf: put(leaf, self.whole), data)

    def collect(self, state: Any) -> Any:
        """A state on the first device of this process, in full; with `shard_state` it stays where it is."""
        if self.parallel == "single" or self.shard_state:
            return state
        return jax.tree.map(_first_copy, state)


def make_layout(function: str, devices: Sequence[Device] | None, parallel: str, shard_state: bool = False) -> Layout:
    """Checks a user's arguments, and chooses what they leave open."""
    check_choice(function, "parallel", parallel, _PARALLEL)
    check_flag(function, "shard_state", shard_state)
    chosen = check_devices(function, jax.devices() if devices is None else devices)
    if parallel == "auto":
        parallel = "sharded" if len(chosen) > 1 or shard_state else "single"
    elif parallel == "single":
        require(
            devices is None or len(chosen) == 1,
            f'{function}: parallel="single" takes one device, got {len(chosen)}; pass devices=jax.devices()[:1]',
        )
        chosen = (jax.local_devices()[0],) if devices is None else chosen
    require(
        not shard_state or parallel == "sharded",
        f'{function}: shard_state=True goes with parallel="sharded", got parallel={parallel!r}',
    )
    return Layout(parallel, chosen, shard_state)


def layout_of(tree: Any) -> Layout:
    """The layout of arrays that are on devices already."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    mesh = getattr(leaves[0].sharding, "mesh", None) if leaves else None
    if isinstance(mesh, Mesh) and mesh.axis_names == (AXIS,) and mesh.size > 1:
        return Layout("sharded", tuple(mesh.devices.flat))
    device = next(iter(leaves[0].devices())) if leaves else jax.local_devices()[0]
    return Layout("single", (device,))


def _from_processes(part: Any, split: jax.sharding.Sharding) -> jax.Array:
    """The whole batch as a JAX array, made from this process's part."""
    if split.is_fully_addressable:
        return jax.device_put(part, split)
    return jax.make_array_from_process_local_data(split, np.asarray(part))


def _first_copy(leaf: jax.Array) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_first_copy(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    return leaf.addressable_data(0)
