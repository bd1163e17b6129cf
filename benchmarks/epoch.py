"""Epochs of training: jaxdl's single steps and scan against a plain Flax and optax loop.

    python -m benchmarks.epoch            # with JAXDL_NATIVE=0 for XLA's convolutions

The peer is a loop as a careful user writes it by hand: flax.linen layers, optax.sgd with momentum, one jitted and
donated step, data on the device, batches gathered in the step, losses fetched at the end. The cases are a dense net and
the small CNN of the experiments. "flax layers, scanned" shows why convolutions should not be scanned on the CPU without
`jaxdl.models.layers.Conv`.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.timing import alternate, publish, summarise
from jaxdl import data, models, native, optim, train

PEER = "flax + optax, hand-written loop"
ROUNDS = 9
BATCH = 128


class FlaxConvNet(nn.Module):
    """`models.convnet()` in Flax's own layers."""

    @nn.compact
    def __call__(self, x, *, train):
        """Images to logits."""
        for width in (16, 32):
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


class FlaxMLP(nn.Module):
    """`models.mlp()` in Flax's own layers."""

    @nn.compact
    def __call__(self, x, *, train):
        """Images to logits."""
        x = x.reshape(len(x), -1)
        for width in (256, 256):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)


def hand_written(model, train_set, epochs, scan=False):
    """Training by a plain loop (or a plain scan of each epoch)."""
    tx = optax.sgd(0.01, momentum=0.9)
    images, labels = jnp.asarray(train_set.images), jnp.asarray(train_set.labels)
    mean, std = (jnp.asarray(x, jnp.float32) for x in (train_set.standardize.mean, train_set.standardize.std))

    def step(carry, rows):
        params, opt_state = carry

        def objective(params):
            logits = model.apply({"params": params}, (images[rows] / 255.0 - mean) / std, train=True)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()
            return loss, jnp.mean(logits.argmax(-1) != labels[rows])

        (loss, error), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), (loss, error)

    one = jax.jit(step, donate_argnums=0)
    whole = jax.jit(functools.partial(jax.lax.scan, step), donate_argnums=0)
    params = model.init(jax.random.key(0), jnp.zeros((1, *train_set.image_shape)), train=False)["params"]
    order = np.random.default_rng(0).permutation(len(labels))[: len(labels) // BATCH * BATCH].reshape(-1, BATCH)

    def run():
        carry = jax.tree.map(jnp.copy, (params, tx.init(params)))
        metrics = []
        for _ in range(epochs):
            for rows in (order,) if scan else order:
                carry, found = whole(carry, rows) if scan else one(carry, rows)
                metrics.append(found)
        jax.device_get(metrics)

    return run


def with_jaxdl(model, train_set, epochs, scan):
    """Training by `train.fit`."""
    tx = optim.momentum(0.01)
    state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
    steps = epochs * train_set.steps_per_epoch(BATCH)
    return lambda: train.fit(state, model, tx, train_set, steps=steps, batch_size=BATCH, scan=scan, progress=False)


def main() -> None:
    """Measures both nets."""
    train_set, _ = data.load("fashion_mini")
    cases = {}
    for case, mine, plain, part, epochs in (
        ("mlp 784-256-256-10", models.mlp(), FlaxMLP(), train_set, 5),
        ("convnet 16-32", models.convnet(), FlaxConvNet(), train_set[:2560], 1),
    ):
        contestants = {
            PEER: hand_written(plain, part, epochs),
            "flax layers, scanned": hand_written(plain, part, epochs, scan=True),
            "jaxdl fit, single steps": with_jaxdl(mine, part, epochs, scan=False),
            "jaxdl fit, scanned": with_jaxdl(mine, part, epochs, scan=True),
        }
        cases[f"{case}, {epochs} x {len(part):,} images"] = summarise(alternate(contestants, ROUNDS), PEER)
    publish("epoch_onednn" if native.VERSION else "epoch", f"Training, batch {BATCH}, momentum", PEER, cases)


if __name__ == "__main__":
    main()
