"""What averages and snapshots cost a training step; and an ensemble's prediction in one call against five calls.

    python -m benchmarks.averaging

Steps: CIFAR ResNet-20, batch 128, momentum; "bare" has no averages. The period of the snapshots is longer than the
measurement, so that no snapshot is taken. Ensembles: five members on 500 images, against five calls of one compiled
member.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from benchmarks.timing import alternate, publish, summarise
from jaxdl import ensemble, models, optim, train
from jaxdl.typing import Batch

BARE, FIVE_CALLS = "bare", "five calls"
ROUNDS = 15
MEMBERS = 5
LINKS = {
    BARE: (),
    "swa + ema": (optim.swa(0), optim.ema(0.999)),
    "snapshots": (optim.snapshots(period=10_000, keep=5),),
    "bare, again": (),  # the same contestant, to show the noise
}


def step(links: tuple) -> Callable[[], None]:
    """Three training steps."""
    model, tx = models.resnet_cifar(20), optax.chain(optim.momentum(0.1), *links)
    state = train.init_state(model, tx, jax.random.key(0), (32, 32, 3))
    run = train.make_step(model, tx)
    batch = Batch(jax.random.normal(jax.random.key(1), (128, 32, 32, 3)), jnp.arange(128) % 10)

    def call() -> None:
        nonlocal state
        for _ in range(3):
            state, _ = run(state, batch)
        jax.block_until_ready(state)

    return call


def predictions(model, shape: tuple[int, int, int]) -> dict[str, Callable[[], object]]:
    """Functions that compute the mean softmax of five members, one for each way."""
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    members = jax.vmap(lambda key: model.init(key, jnp.zeros((1, *shape)), train=False))(keys)
    images = jax.random.normal(jax.random.key(1), (500, *shape))
    single = jax.jit(lambda v, x: jax.nn.softmax(model.apply(v, x, train=False)))
    alone = [jax.tree.map(lambda leaf, i=i: leaf[i], members) for i in range(MEMBERS)]

    def one_call(via) -> Callable[[], object]:
        return lambda: jax.block_until_ready(ensemble.predict(model, members, images, via=via))

    return {
        FIVE_CALLS: lambda: jax.block_until_ready(sum(single(member, images) for member in alone) / MEMBERS),
        **{f"one call, {via}": one_call(via) for via in ("auto", "map", "vmap")},
    }


def main() -> None:
    """Measures steps and predictions."""
    cases = {}
    steps = alternate({name: step(links) for name, links in LINKS.items()}, ROUNDS)
    cases["a training step of ResNet-20, batch 128"] = summarise(
        {name: [second / 3 for second in seconds] for name, seconds in steps.items()}, BARE
    )
    for what, model, shape in (
        ("ResNet-20", models.resnet_cifar(20), (32, 32, 3)),
        ("the small CNN", models.convnet(), (28, 28, 1)),
        ("MLP", models.mlp(), (28, 28, 1)),
    ):
        cases[f"five members of {what} on 500 images"] = summarise(alternate(predictions(model, shape), 3), FIVE_CALLS)
    publish("averaging", "Averages and ensembles", f"{BARE}; {FIVE_CALLS}", cases)


if __name__ == "__main__":
    main()
