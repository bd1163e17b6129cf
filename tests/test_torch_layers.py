"""Layers against torch: outputs and gradients recorded in double precision by tests/oracles/torch_models.py."""

import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.models import layers

RECORDED = np.load(Path(__file__).parent / "oracles" / "torch_models.npz")
TORCH_TO_OURS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}

FUNCTIONS = {
    "local_response_norm": functools.partial(
        layers.local_response_norm, size=5, alpha=0.3, beta=0.75, k=2.0, divide_by_size=True
    ),
    "local_response_norm_even": functools.partial(
        layers.local_response_norm, size=4, alpha=0.3, beta=0.6, k=1.0, divide_by_size=True
    ),
    "elu": nn.elu,
    "leaky_relu": nn.leaky_relu,
    "max_pool_ceil": functools.partial(layers.max_pool, window=3, stride=2, ceil_mode=True),
    "max_pool_padded": functools.partial(layers.max_pool, window=3, stride=2, padding=1),
    "max_pool_padded_ceil": functools.partial(layers.max_pool, window=2, stride=3, padding=1, ceil_mode=True),
    "avg_pool_ceil": functools.partial(layers.avg_pool, window=3, stride=2, ceil_mode=True),
    "avg_pool_padded": functools.partial(layers.avg_pool, window=3, stride=2, padding=1),
    "adaptive_avg_pool": functools.partial(layers.adaptive_avg_pool, size=4),
    "adaptive_avg_pool_small": functools.partial(layers.adaptive_avg_pool, size=7),
}
MODULES = {
    "group_norm": layers.GroupNorm(3),
    "layer_norm": layers.LayerNorm(),
    "instance_norm": layers.InstanceNorm(),
    "prelu": layers.PReLU(),
}


def recorded(name):
    return {key.partition("/")[2]: RECORDED[key] for key in RECORDED.files if key.startswith(f"{name}/")}


def compare(name, compiled=jax.jit):
    theirs = recorded(name)

    @compiled
    def with_gradient(x):
        y, pull = jax.vjp(FUNCTIONS[name], x)
        return y, pull(2 * y)[0]

    y, dx = with_gradient(jnp.asarray(theirs["x"]))
    np.testing.assert_allclose(y, theirs["y"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, theirs["dx"], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(x64, name):
    compare(name)


@pytest.mark.parametrize("name", ["max_pool_ceil", "max_pool_padded", "max_pool_padded_ceil"])
def test_max_pooling_as_other_back_ends_do_it(x64, name, monkeypatch):
    """On a GPU `lax.reduce_window` does the same."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    compare(name, compiled=lambda function: function)  # for which nothing can be compiled here


@pytest.mark.parametrize("name", MODULES)
def test_modules(x64, name):
    theirs = recorded(name)
    names = {"weight": "slope"} if name == "prelu" else {"weight": "scale", "bias": "bias"}
    params = {ours: jnp.asarray(theirs[key]) for key, ours in names.items()}

    @jax.jit
    def with_gradients(params, x):
        y, pull = jax.vjp(lambda p, x: MODULES[name].apply({"params": p}, x), params, x)
        return y, *pull(2 * y)

    y, grads, dx = with_gradients(params, jnp.asarray(theirs["x"]))
    np.testing.assert_allclose(y, theirs["y"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, theirs["dx"], rtol=1e-10, atol=1e-10)
    for key, ours in names.items():
        np.testing.assert_allclose(grads[ours], theirs[f"d{key}"], rtol=1e-10, atol=1e-10)


def test_batch_norm_over_three_steps(x64):
    """Outputs, gradients and running statistics of training steps, then an evaluation."""
    theirs = recorded("batch_norm")
    collections = {"params": ("weight", "bias"), "batch_stats": ("running_mean", "running_var")}
    variables = {c: {TORCH_TO_OURS[k]: jnp.asarray(theirs[k], float) for k in keys} for c, keys in collections.items()}
    layer = layers.BatchNorm()
    for step in range(3):

        def apply(x, variables=variables):
            return layer.apply(variables, x, train=True, mutable=["batch_stats"])

        y, pull, updated = jax.vjp(apply, jnp.asarray(theirs[f"x{step}"]), has_aux=True)
        np.testing.assert_allclose(y, theirs[f"y{step}"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(pull(3 * y**2)[0], theirs[f"dx{step}"], rtol=1e-7, atol=1e-8)
        variables = variables | updated
        for key in ("running_mean", "running_var"):
            np.testing.assert_allclose(
                variables["batch_stats"][TORCH_TO_OURS[key]], theirs[f"{key}{step}"], rtol=1e-10, atol=1e-10
            )
    y = layer.apply(variables, jnp.asarray(theirs["x2"]), train=False)
    np.testing.assert_allclose(y, theirs["y_eval"], rtol=1e-9, atol=1e-9)
