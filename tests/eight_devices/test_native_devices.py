"""Convolutions and pooling of `jaxdl-native` on eight devices: the numbers are those of one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdl import native
from jaxdl.models import layers
from jaxdl.native import package

pytestmark = pytest.mark.skipif(native.VERSION is None, reason="needs jaxdl-native (pip install ./native), switched on")

SPLIT, SHARED = PartitionSpec("devices"), PartitionSpec()


def drawn(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


X, KERNEL = drawn(0, 16, 9, 9, 3), drawn(1, 3, 3, 3, 4)


def loss(kernel, x):
    x = layers.max_pool(layers.convolve(x, kernel), window=3, stride=2)
    return jnp.sum(jnp.sin(layers.avg_pool(x, window=3, stride=1, padding=1)))


gradients = jax.grad(loss, (0, 1))


def mesh(kind):
    return jax.make_mesh((8,), ("devices",), axis_types=(kind,))


def by_pmap():
    def part(kernel, x):
        dw, dx = gradients(kernel, x)
        return jax.lax.psum(dw, "devices"), dx

    dw, dx = jax.pmap(part, "devices", in_axes=(None, 0))(KERNEL, X.reshape(8, 2, *X.shape[1:]))
    return dw[0], dx.reshape(X.shape)


def by_shard_map(checked):
    def part(kernel, x):
        dw, dx = gradients(kernel, x)
        return dw if checked else jax.lax.psum(dw, "devices"), dx  # where it is checked, JAX sums what is shared

    mapped = functools.partial(jax.shard_map, mesh=mesh(AxisType.Auto), check_vma=checked)
    return jax.jit(mapped(part, in_specs=(SHARED, SPLIT), out_specs=(SHARED, SPLIT)))(KERNEL, X)


def by_sharded_arrays(kind):
    x = jax.device_put(X, NamedSharding(mesh(kind), SPLIT))
    kernel = jax.device_put(KERNEL, NamedSharding(mesh(kind), SHARED))
    return jax.jit(gradients)(kernel, x)


WAYS = {
    "pmap": by_pmap,
    "shard_map": functools.partial(by_shard_map, False),
    "checked shard_map": functools.partial(by_shard_map, True),
    "sharded arrays": functools.partial(by_sharded_arrays, AxisType.Auto),
}


@pytest.mark.parametrize("way", WAYS)
def test_gradients(way, monkeypatch):
    gradients_found = WAYS[way]()
    monkeypatch.setattr(package, "VERSION", None)
    jax.clear_caches()
    lowered = jax.jit(gradients).lower(KERNEL, X)
    assert "jaxdl_native" not in lowered.as_text()
    expected = lowered.compile()(KERNEL, X)
    jax.clear_caches()
    for found, wanted in zip(gradients_found, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_explicitly_sharded_arrays_are_jaxs():
    """JAX's own convolution asks for the sharding of its result; oneDNN's knows no such rules."""
    with pytest.raises(Exception, match="output sharding"):
        by_sharded_arrays(AxisType.Explicit)


def test_devices_share_the_cores():
    assert package.threads() == 1
