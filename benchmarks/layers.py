"""Gradients of single layers: jaxdl's layers against Flax's.

    python -m benchmarks.layers

Each layer is measured alone, and in the body of a `lax.scan` of five steps (per step), where XLA's CPU back end
computes convolutions that are not in its canonical layout by a naive path.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.timing import alternate, publish, summarise
from jaxdl.models import layers

PEER = "flax"
ROUNDS = 5
LOOP = 5
REPEATS = 4  # calls timed together: a single one takes a few milliseconds


def gradient(function: Callable) -> Callable:
    """The gradient of the sum of squares of a function's results."""
    return jax.grad(lambda arrays: jnp.sum(jnp.square(function(*arrays))))


def alone(function: Callable, arrays: tuple) -> Callable[[], None]:
    """A few calls outside of any loop."""
    compiled = jax.jit(gradient(function))

    def run():
        for _ in range(REPEATS):
            jax.block_until_ready(compiled(arrays))

    return run


def in_scan(function: Callable, arrays: tuple) -> Callable[[], None]:
    """Gradient steps in a scan."""

    def body(arrays, _):
        return jax.tree.map(lambda a, g: a - 1e-9 * g, arrays, gradient(function)(arrays)), None

    compiled = jax.jit(lambda arrays: jax.lax.scan(body, arrays, length=LOOP)[0])
    return lambda: jax.block_until_ready(compiled(arrays))


def flax_conv(x: jax.Array, kernel: jax.Array):
    """flax.linen.Conv with the kernel given."""
    return nn.Conv(kernel.shape[-1], kernel.shape[:2], use_bias=False).apply({"params": {"kernel": kernel}}, x)


def module(layer: nn.Module, **call: Any) -> Callable:
    """A module as a function of its input, its parameters and, for BatchNorm, the running statistics.

    They are arguments, as in training: if they were constants of 0 and 1, XLA would remove operations on them.
    """

    def function(x: jax.Array, params: dict, batch_stats: dict | None = None):
        return layer.apply({"params": params, "batch_stats": batch_stats or {}}, x, mutable=["batch_stats"], **call)[0]

    return function


def flax_response_norm(x: jax.Array):
    """Local response normalisation as it is usually written for JAX: a pooling over the channels and a power."""
    mean = nn.avg_pool(jnp.square(x)[..., None], (1, 1, 5), (1, 1, 1), "SAME")[..., 0]
    return x / (2.0 + 5e-4 * mean) ** 0.75


def main() -> None:
    """Measures every layer of which jaxdl has a version of its own."""
    x = jax.random.normal(jax.random.key(0), (128, 14, 14, 16))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 16, 32))
    wide = jax.random.normal(jax.random.key(2), (128, 28, 28, 32))
    small = jax.random.normal(jax.random.key(3), (128, 8, 8, 64))
    affine = {"scale": jnp.ones(32), "bias": jnp.zeros(32)}
    fresh = {"mean": jnp.zeros(32), "var": jnp.ones(32)}
    local = jax.jit(layers.LocalConv(32, window=3, padding=1).init)(jax.random.key(4), small)["params"]
    cases = {}
    for what, mine, flax, arrays in (
        ("3x3 convolution, [128, 14, 14, 16] to 32 channels", layers.convolve, flax_conv, (x, kernel)),
        ("2x2 max pooling, [128, 28, 28, 32]", layers.max_pool, lambda x: nn.max_pool(x, (2, 2), (2, 2)), (wide,)),
        (
            "BatchNorm in training, [128, 28, 28, 32]",
            module(layers.BatchNorm(), train=True),
            module(nn.BatchNorm(), use_running_average=False),
            (wide, affine, fresh),
        ),
        ("GroupNorm of 8, [128, 28, 28, 32]", module(layers.GroupNorm(8)), module(nn.GroupNorm(8)), (wide, affine)),
        (
            "3x3 locally connected, [128, 8, 8, 64] to 32 channels",
            module(layers.LocalConv(32, window=3, padding=1)),
            module(nn.ConvLocal(32, (3, 3), padding=1)),
            (small, local),
        ),
        (
            "local response normalisation, [128, 28, 28, 32]",
            lambda x: layers.local_response_norm(x, alpha=1e-4),
            flax_response_norm,
            (wide,),
        ),
    ):
        for where, place, calls in (("alone", alone, REPEATS), ("in a scan", in_scan, LOOP)):
            seconds = alternate({PEER: place(flax, arrays), "jaxdl": place(mine, arrays)}, ROUNDS)
            per_call = {name: [second / calls for second in times] for name, times in seconds.items()}
            cases[f"{what}, {where}"] = summarise(per_call, PEER)
    publish("layers", "Forward and gradient", PEER, cases)


if __name__ == "__main__":
    main()
