"""A training step of CIFAR ResNet-20: jaxdl's against a plain Flax and optax loop, and its forms against each other.

    python -m benchmarks.step                      # on two cores about five minutes
    python -m benchmarks.step --devices 2          # forces two devices on the CPU: pmap and sharded against single
    python -m benchmarks.step --batch 128 1024 4096 --bfloat16 --resnet50    # on a GPU

The peer is a loop as a careful user writes it by hand: flax.linen layers, optax.sgd with momentum and L2, one jitted
and donated step. It has the same batch and the same network (269,722 parameters, shortcut A); a check at the start
counts the parameters of both. Torch is measured in an environment of its own (benchmarks/torch_step.py); its seconds
are added if there is a file benchmarks/results/step_torch.json.
"""

import argparse
import functools
import json
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.timing import RESULTS, alternate, publish, summarise
from jaxdl import models, optim, train
from jaxdl.models import layers

PEER = "flax + optax, hand-written"
L2 = 1e-4


class FlaxResNet20(nn.Module):
    """The CIFAR ResNet-20 in Flax's own layers."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x, train):
        """Images to logits."""
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype)
        x = nn.relu(norm()(conv(16, (3, 3), padding=1)(x)))
        for stage, width in enumerate((16, 32, 64)):
            for block in range(3):
                stride = 2 if stage and not block else 1
                y = nn.relu(norm()(conv(width, (3, 3), stride, padding=1)(x)))
                y = norm()(conv(width, (3, 3), padding=1)(y))
                if stride == 2:
                    extra = (width - x.shape[-1]) // 2
                    x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (extra, extra)))
                x = nn.relu(x + y)
        return nn.Dense(10, dtype=self.dtype)(jnp.mean(x, (1, 2))).astype(jnp.float32)


def by_hand(model, batch, steps, rate=0.1):
    """A function that runs a loop as in the documentation of Flax and optax."""
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), jnp.zeros((1, *batch[0].shape[1:]))
    )
    tx = optax.chain(optax.add_decayed_weights(L2), optax.sgd(rate, momentum=0.9))

    def step(params, batch_stats, opt_state, images, labels):
        def objective(params):
            logits, updated = model.apply(
                {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
            )
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, (updated.get("batch_stats", {}), jnp.mean(logits.argmax(-1) != labels))

        (loss, (batch_stats_, error)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats_, opt_state, loss, error

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    carry = [variables["params"], variables.get("batch_stats", {}), tx.init(variables["params"])]

    def run():
        for _ in range(steps):
            carry[0], carry[1], carry[2], *metrics = step(*carry, *batch)
        jax.block_until_ready(metrics)

    return run


def with_jaxdl(model, batch, steps, rate=0.1, **how):
    """A function that runs a loop with `make_step`."""
    tx = optim.momentum(rate, weight_decay=L2)
    step = train.make_step(model, tx, **how)
    carry = [step.place(train.init_state(model, tx, jax.random.key(0), batch[0].shape[1:]))]

    def run():
        for _ in range(steps):
            carry[0], metrics = step(carry[0], batch)
        jax.block_until_ready(metrics)

    return run


def random_batch(size, side, classes):
    """Images and labels on the device."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, side, side, 3)).astype(np.float32)
    return jnp.asarray(images), jnp.asarray(rng.integers(0, classes, size), jnp.int32)


def check_same_network() -> None:
    """Ends the benchmark if the contestants have different numbers of parameters."""
    batch = random_batch(32, 32, 10)
    ours = models.resnet_cifar(20, shortcut=layers.shortcut_a)
    tx = optim.momentum(0.1, weight_decay=L2)
    state = train.init_state(ours, tx, jax.random.key(0), (32, 32, 3))
    theirs = FlaxResNet20()
    shapes = jax.eval_shape(functools.partial(theirs.init, train=False), jax.random.key(0), batch[0])
    ours_count, theirs_count = (sum(x.size for x in jax.tree.leaves(p)) for p in (state.params, shapes["params"]))
    if ours_count != theirs_count:
        sys.exit(f"benchmarks.step: {ours_count} parameters against {theirs_count}; the contestants differ")


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1, help="devices to use; on the CPU so many are forced")
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--bfloat16", action="store_true", help="also in bfloat16")
    parser.add_argument("--resnet50", action="store_true", help="also ResNet-50 at 224 pixels")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="steps in a round")
    arguments = parser.parse_args()
    if arguments.devices > 1:
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    check_same_network()
    measure = functools.partial(
        measured, devices=jax.devices()[: arguments.devices], steps=arguments.steps, rounds=arguments.rounds
    )
    cases = {}
    for size in arguments.batch:
        for dtype in (None, jnp.bfloat16) if arguments.bfloat16 else (None,):
            name = f"ResNet-20, batch {size}, {'bfloat16' if dtype else 'float32'}"
            ours = models.resnet_cifar(20, shortcut=layers.shortcut_a, dtype=dtype)
            cases[name] = measure(ours, FlaxResNet20(dtype), random_batch(size, 32, 10))
    if arguments.resnet50:
        for size in (64, 256):
            for dtype in (None, jnp.bfloat16):
                name = f"ResNet-50 at 224, batch {size}, {'bfloat16' if dtype else 'float32'}"
                cases[name] = measure(models.resnet(50, dtype=dtype), None, random_batch(size, 224, 1000))
    torch_file = RESULTS / "step_torch.json"
    if torch_file.exists():
        add_torch(cases, json.loads(torch_file.read_text()), arguments.steps)
    name = "step" if arguments.devices == 1 else f"step_{arguments.devices}_devices"
    publish(name, f"A training step, {arguments.steps} in a round", PEER, cases)


def add_torch(cases, found, steps) -> None:
    """Adds torch's seconds, which were measured in a run of their own, not in turn with the others."""
    for case, contestants in cases.items():
        peer = next(iter(contestants.values()))["median_seconds"]
        for name, seconds in found["seconds"].get(case, {}).items():
            scaled = seconds * steps / found["steps"]
            contestants[f"{name} (a run of its own)"] = {"median_seconds": scaled, "ratio_to_peer": scaled / peer}


def measured(ours, theirs, batch, *, devices, steps, rounds):
    """Measures one case: the peer, and jaxdl in every way for which there are devices."""
    contestants = {} if theirs is None else {PEER: by_hand(theirs, batch, steps)}
    contestants["jaxdl, single"] = with_jaxdl(ours, batch, steps, parallel="single", devices=devices[:1])
    for parallel in ("pmap", "sharded"):
        name = f"jaxdl, {parallel}, {len(devices)} device{'s' if len(devices) > 1 else ''}"
        contestants[name] = with_jaxdl(ours, batch, steps, parallel=parallel, devices=devices)
    found = summarise(alternate(contestants, rounds), next(iter(contestants)))
    for entry in found.values():
        entry["images_per_second"] = steps * len(batch[1]) / entry["median_seconds"]
    return found


if __name__ == "__main__":
    main()
