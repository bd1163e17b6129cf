import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxdl.models import layers

VARIABLES = layers.BatchNorm().init(jax.random.key(0), jnp.zeros((1, 3, 2, 4)), train=False)


def run(layer, x, cotangent):
    """Output and the gradient of the input; statistics and the gradient of the parameters."""

    def loss(params, x):
        y, updated = layer.apply({**VARIABLES, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y) * cotangent), (y, updated["batch_stats"])

    (params, dx), (y, statistics) = jax.grad(loss, (0, 1), has_aux=True)(VARIABLES["params"], x)
    return (y, dx), (statistics, params)


@functools.cache
def spread(how):
    """`run` over eight devices, compiled once for all batches."""

    def part(x, cotangent):
        found, (statistics, params) = run(layers.BatchNorm(axis_name="devices"), x, cotangent)
        # A checked shard_map sums the gradient of what is shared by itself.
        return found, (statistics, params if how == "checked shard_map" else jax.lax.psum(params, "devices"))

    if how == "pmap":
        return jax.pmap(part, axis_name="devices")
    mesh, over = Mesh(np.array(jax.devices()), ("devices",)), PartitionSpec("devices")
    mapped = jax.shard_map(
        part, mesh=mesh, in_specs=over, out_specs=(over, PartitionSpec()), check_vma=how != "shard_map"
    )
    return jax.jit(mapped)


whole = jax.jit(functools.partial(run, layers.BatchNorm()))


@pytest.mark.parametrize("how", ["pmap", "shard_map", "checked shard_map"])
@pytest.mark.parametrize(("mean", "deviation", "drift"), [(0, 1, 0), (100, 0.01, 0), (1e4, 1, 50)])
def test_synchronized_batch_norm_loses_no_digits(how, mean, deviation, drift):
    """Every device has other distances' origin: against the whole batch in double precision, with gradients.

    `drift` moves each device's images by so much more than the last one's.
    """
    draw = np.random.default_rng(0).normal(size=(2, 16, 3, 2, 4))
    x = np.asarray(mean + deviation * draw[0] + drift * np.arange(16)[:, None, None, None] // 2, np.float32)
    cotangent = np.asarray(draw[1], np.float32)
    if how == "pmap":
        each, everywhere = spread(how)(*(a.reshape(8, 2, *a.shape[1:]) for a in (x, cotangent)))
        for leaf in jax.tree.leaves(everywhere[0]):
            np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))  # devices never drift apart
        each = jax.tree.map(lambda a: a.reshape(x.shape), each)
        shared = jax.tree.map(lambda a: a[0], everywhere)
    else:
        each, shared = spread(how)(x, cotangent)
    with jax.enable_x64(True):
        expected = jax.device_get(whole(jnp.asarray(x, jnp.float64), jnp.asarray(cotangent, jnp.float64)))
    for a, b in zip(jax.tree.leaves((each, shared)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=1e-5 * np.abs(b).max())
