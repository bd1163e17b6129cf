"""The update of every chain against optax's, on parameters shaped like ResNet-50's.

    python -m benchmarks.optimizers

161 tensors, 25.6 million float32 numbers. The time is that of a whole update with `optax.apply_updates`, jitted, with
parameters and state donated, as in a training step. "floor" is the time to move the bytes that must be read and written
at least once, at the bandwidth of negating the parameters in place, which is measured in the same turns.
`benchmarks/torch_optimizers.py` measures torch's updates in an environment of its own.
"""

import functools
import math

import jax
import jax.numpy as jnp
import optax

from benchmarks.timing import alternate, publish, summarise
from jaxdl import optim

ROUNDS = 15
RATE = 1e-6  # so small that the numbers stay what they are, however many updates are made
IN_PLACE = "negation in place"

# name: ours, optax's rule with the same settings, tensors like the parameters that must be read or written
RULES = {
    "sgd": (optim.sgd(RATE), optax.sgd(RATE), 3),
    "momentum": (optim.momentum(RATE), optax.sgd(RATE, momentum=0.9), 5),
    "nesterov": (optim.nesterov(RATE), optax.sgd(RATE, momentum=0.9, nesterov=True), 5),
    "momentum, L2": (
        optim.sgd(RATE, momentum=0.9, weight_decay=1e-4),
        optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(RATE, momentum=0.9)),
        5,
    ),
    "adagrad": (
        optim.adagrad(RATE, initial_accumulator=0.1, eps=1e-7, eps_in_sqrt=True),
        optax.adagrad(RATE, initial_accumulator_value=0.1, eps=1e-7),
        5,
    ),
    "rmsprop": (optim.rmsprop(RATE, decay=0.9, eps_in_sqrt=True), optax.rmsprop(RATE, decay=0.9), 5),
    "adam": (optim.adam(RATE), optax.adam(RATE), 7),
    "adamw": (optim.adamw(RATE), optax.adamw(RATE, weight_decay=0.01), 7),
}


def resnet50_shapes() -> list[tuple[int, ...]]:
    """Shapes of ResNet-50's parameters: convolutions, scales and biases of BatchNorm, the last layer."""

    def conv(window: int, inputs: int, outputs: int) -> list[tuple[int, ...]]:
        return [(window, window, inputs, outputs), (outputs,), (outputs,)]

    shapes, inputs = conv(7, 3, 64), 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += conv(1, inputs, width) + conv(3, width, width) + conv(1, width, 4 * width)
            if block == 0:
                shapes += conv(1, inputs, 4 * width)
            inputs = 4 * width
    return [*shapes, (2048, 1000), (1000,)]


def updating(tx: optax.GradientTransformation, params, grads):
    """A function that makes one update of its own copy of the parameters."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    carry = [jax.tree.map(jnp.copy, params), tx.init(params)]

    def run() -> None:
        carry[:] = jax.block_until_ready(update(*carry, grads))

    return run


def main() -> None:
    """Measures every rule."""
    shapes = resnet50_shapes()
    assert len(shapes) == 161
    assert sum(map(math.prod, shapes)) == 25_557_032
    keys = jax.random.split(jax.random.key(0), len(shapes))
    draw = lambda key, shape: jax.random.normal(key, (math.prod(shape),)).reshape(shape)  # noqa: E731
    params = {str(i): draw(key, shape) for i, (key, shape) in enumerate(zip(keys, shapes, strict=True))}
    grads = jax.tree.map(lambda p: 0.01 * p, params)
    negate = jax.jit(lambda tree: jax.tree.map(jnp.negative, tree), donate_argnums=0)
    negated = [jax.tree.map(jnp.copy, params)]

    def read_and_write_all() -> None:
        negated[:] = [jax.block_until_ready(negate(*negated))]

    cases = {}
    for name, (mine, theirs, tensors) in RULES.items():
        contestants = {
            "optax": updating(theirs, params, grads),
            "jaxdl": updating(mine, params, grads),
            IN_PLACE: read_and_write_all,
        }
        seconds = alternate(contestants, ROUNDS)
        seconds["floor"] = [tensors / 2 * once for once in seconds.pop(IN_PLACE)]
        cases[name] = summarise(seconds, "optax")
    publish("optimizers", "One update, ResNet-50's parameters", "optax", cases)


if __name__ == "__main__":
    main()
