"""What watchers cost a training of ResNet-20.

    python -m benchmarks.watch

The peer is the same `fit` without watchers. The noise of a machine is more than one percent, so the benchmark also
reports for each contestant the share of its time that was spent in the watchers, which a clock around them measures.
"""

import tempfile
import time
from pathlib import Path

import jax

from benchmarks.timing import alternate, publish, summarise
from jaxdl import data, models, optim, train

PEER = "nobody watches"
ROUNDS = 5
BATCH = 128
STEPS = 20


class Clocked:
    """A watcher, and the seconds spent in it."""

    def __init__(self, watcher):
        self.watcher, self.seconds = watcher, 0.0

    def __call__(self, event):
        """Hands the event on."""
        start = time.perf_counter()
        found = self.watcher(event)
        self.seconds += time.perf_counter() - start
        return found


def main() -> None:
    """Measures the ready watchers."""
    train_set, _ = data.load("fashion_mini")
    train_set = train_set[: STEPS * BATCH]
    model, tx = models.resnet_cifar(20), optim.momentum(optim.cosine_decay(0.01, STEPS))
    state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
    shares: dict[str, list[float]] = {}

    def contestant(name, make, **chosen):
        def run():
            watchers = [Clocked(watcher) for watcher in make()]
            start = time.perf_counter()
            train.fit(
                state, model, tx, train_set, steps=STEPS, batch_size=BATCH, watch=watchers, progress=False, **chosen
            )
            shares.setdefault(name, []).append(sum(w.seconds for w in watchers) / (time.perf_counter() - start))

        return run

    with tempfile.TemporaryDirectory() as folder:
        lines, board = (lambda: train.JsonLines(Path(folder) / "run.jsonl")), lambda: train.TensorBoard(folder)
        makers = {
            PEER: (list, {}),
            "JsonLines": (lambda: [lines()], {}),
            "TensorBoard": (lambda: [board()], {}),
            "JsonLines, TensorBoard, gradient norm": (lambda: [lines(), board()], {"gradient_norm": True}),
        }
        contestants = {name: contestant(name, make, **chosen) for name, (make, chosen) in makers.items()}
        found = summarise(alternate(contestants, ROUNDS), PEER)
    for name, entry in found.items():
        entry["share_of_time_in_watchers"] = max(shares[name][1:])  # the first round only warms up
        print(f"{name}: {entry['share_of_time_in_watchers']:.4f} of the time in watchers, at the most")
    publish("watch", "Training a ResNet-20, batch 128", PEER, {f"{STEPS} steps": found})


if __name__ == "__main__":
    main()
