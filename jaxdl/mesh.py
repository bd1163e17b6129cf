"""Arrays on devices, and models that are spread over them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdl.arguments import check_devices
from jaxdl.typing import Device

MEMBERS = "members"  # the axis over which members are spread over devices


def put(leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """Puts an array where `sharding` says; every process passes the same array. An array there is not copied."""
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding and leaf.committed:
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.jit(lambda x: x, out_shardings=sharding)(leaf)
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


@dataclasses.dataclass(frozen=True)
class Members:
    """How stacked models, with a leading axis of members, share the work.

    Attributes:
      mesh: the devices over which members are spread, in one axis.
      via: how the members on one device are computed. "vmap": all members in every operation; "map": one by one.
    """

    mesh: Mesh
    via: str

    @property
    def split(self) -> NamedSharding:
        """The sharding of arrays [members, ...]."""
        return NamedSharding(self.mesh, PartitionSpec(MEMBERS))

    @property
    def whole(self) -> NamedSharding:
        """The sharding of arrays that every device has in full."""
        return NamedSharding(self.mesh, PartitionSpec())

    def place(self, stacked: Any) -> Any:
        """Stacked arrays where the programs want them."""
        return jax.tree.map(lambda leaf: put(leaf, self.split), stacked)

    def replicate(self, data: Any) -> Any:
        """Data on every device."""
        return jax.tree.map(lambda leaf: put(leaf, self.whole), data)

    def spread(self, f: Callable, *, own: int) -> Callable:
        """`f(*arguments)` for every member: each has its part of the first `own` arguments; all share the others.

        The results are stacked.
        """

        def on_device(*arguments):
            split, shared = arguments[:own], arguments[own:]
            if self.via == "vmap":
                return jax.vmap(lambda *mine: f(*mine, *shared))(*split)
            return jax.lax.map(lambda mine: f(*mine, *shared), split)

        def on_all(*arguments):
            specs = tuple(PartitionSpec(MEMBERS) if i < own else PartitionSpec() for i in range(len(arguments)))
            mapped = jax.shard_map(
                on_device, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(MEMBERS), check_vma=False
            )
            return mapped(*arguments)

        return on_all


def members_mesh(function: str, members: int, devices: Sequence[Device] | None) -> Mesh:
    """A mesh of one axis, with the greatest number of devices that divides `members`.

    With `devices=None` it takes them from all devices of this process.
    """
    chosen = check_devices(function, jax.local_devices() if devices is None else devices)
    count = max(count for count in range(1, len(chosen) + 1) if members % count == 0)
    return Mesh(np.array(chosen[:count]), (MEMBERS,), axis_types=(AxisType.Auto,))
