"""Populations: eight members trained together against eight solo runs.

    python -m benchmarks.population            # with JAXDL_NATIVE=0 for XLA's convolutions

The peer is what a user would write without `train.population`: a loop over the keys with one `fit` for each. All runs
share one compilation, and are warmed up first. "auto" is the way that `population` chooses by default; it should not be
slower than the solo runs.
"""

import argparse
import functools

import jax
import optax

from benchmarks.timing import alternate, publish, summarise
from jaxdl import data, models, native, optim, train

PEER = "eight solo runs"
MEMBERS = 8
BATCH = 128


def main() -> None:
    """Measures three networks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    train_set, _ = data.load("fashion_mini")
    tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.03)
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    cases = {}
    for case, model, steps in (
        ("mlp 784-256-256-10", models.mlp(), 39),
        ("convnet 16-32", models.convnet(), 10),
        ("ResNet-20", models.resnet_cifar(20), 1),
    ):
        part = train_set[: max(steps * BATCH, BATCH)]

        def solo(model=model, part=part, steps=steps):
            ends = []
            for key in keys:
                state = train.init_state(model, tx, key, part.image_shape)
                ends.append(train.fit(state, model, tx, part, steps=steps, batch_size=BATCH, progress=False)[0])
            jax.block_until_ready(ends)

        def together(via, model=model, part=part, steps=steps):
            found = train.population(model, tx, part, keys=keys, steps=steps, batch_size=BATCH, via=via, progress=False)
            jax.block_until_ready(found.state)

        contestants = {PEER: solo}
        contestants |= {
            f"population, {via}": functools.partial(together, via) for via in ("auto", "vmap", "map", "loop")
        }
        slow = contestants.pop("population, vmap") if case == "ResNet-20" else None  # half a minute each
        cases[f"{case}, {steps} steps"] = summarise(alternate(contestants, rounds), PEER)
        if slow:
            found = summarise(alternate({PEER: solo, "population, vmap": slow}, 1), PEER)
            cases[f"{case}, {steps} steps"]["population, vmap"] = found["population, vmap"]
    publish("population_onednn" if native.VERSION else "population", f"{MEMBERS} members, batch {BATCH}", PEER, cases)


if __name__ == "__main__":
    main()
