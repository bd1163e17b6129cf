"""Training steps on the CPU with oneDNN's convolutions (native/), against plain Flax and optax, and against torch.

    python -m benchmarks.native                                    # about ten minutes on two cores
    python -m benchmarks.native --torch /path/to/python            # with torch, by the Python that has it

Every contestant is a process of its own that holds one network, and they take turns: so each has the memory settings
that its users have. "flax + optax, memory kept" is the plain loop in a process that has imported `jaxdl_native`, which
makes the C library keep freed memory. A population is compared with eight such loops, one after the other. Networks,
batches and the rule (SGD with momentum 0.9 and L2 1e-4) are the same; the parameters are counted. float32; torch runs
eagerly, channels last (benchmarks/torch_native.py).
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.epoch import FlaxConvNet
from benchmarks.step import L2, FlaxResNet20, by_hand, random_batch, with_jaxdl
from benchmarks.timing import alternate, publish, summarise
from jaxdl import data, models, optim, train
from jaxdl.models import layers

PEER = "flax + optax"
CASES = {  # images, side, steps in a round
    "ResNet-20": (128, 32, 3),
    "cuda-convnet": (128, 32, 6),
    "small AlexNet at 64": (128, 64, 6),
    "AlexNet at 224": (32, 224, 1),
    "ResNet-18 at 224": (16, 224, 1),
    "population of eight small CNNs": (128, 28, 40),
}
POPULATION, MEMBERS = "population of eight small CNNs", 8
RATE = 1e-3  # small, so that no network diverges
SMALL = {"widths": (32, 64, 96, 64, 64), "hidden": 256}


class FlaxCudaConvNet(nn.Module):
    """cuda-convnet's layers-80sec, in Flax's own layers. Its last windows pass the edge by one pixel."""

    @nn.compact
    def __call__(self, x, train):
        """Images to logits."""
        window, stride = (3, 3), (2, 2)
        edge: Any = ((0, 1), (0, 1))
        x = nn.relu(nn.max_pool(nn.Conv(32, (5, 5))(x), window, stride, edge))
        x = nn.avg_pool(nn.relu(nn.Conv(32, (5, 5))(x)), window, stride, edge, count_include_pad=False)
        x = nn.avg_pool(nn.relu(nn.Conv(64, (5, 5))(x)), window, stride, edge, count_include_pad=False)
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x.reshape(len(x), -1))))


class FlaxAlexNet(nn.Module):
    """torchvision's AlexNet without dropout, in Flax's own layers."""

    classes: int
    widths: tuple[int, ...] = (64, 192, 384, 256, 256)
    hidden: int = 4096

    @nn.compact
    def __call__(self, x, train):
        """Images to logits."""
        for number, width in enumerate(self.widths):
            kernel, stride, padding = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))[number]
            x = nn.relu(nn.Conv(width, (kernel, kernel), stride, padding)(x))
            if number in (0, 1, 4):
                x = nn.max_pool(x, (3, 3), (2, 2))
        if x.shape[1] != 6:  # one pixel, of which torchvision's adaptive pooling makes 6 x 6
            x = jnp.broadcast_to(x, (len(x), 6, 6, x.shape[-1]))
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(self.classes)(x)


class FlaxResNet18(nn.Module):
    """ResNet-18, in Flax's own layers."""

    @nn.compact
    def __call__(self, x, train):
        """Images to logits."""
        conv = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = nn.relu(norm()(conv(64, (7, 7), 2, padding=3)(x)))
        edge: Any = ((1, 1), (1, 1))
        x = nn.max_pool(x, (3, 3), (2, 2), edge)
        for stage, width in enumerate((64, 128, 256, 512)):
            for block in range(2):
                stride = 2 if stage and not block else 1
                y = nn.relu(norm()(conv(width, (3, 3), stride, padding=1)(x)))
                y = norm()(conv(width, (3, 3), padding=1)(y))
                if stride == 2:
                    x = norm()(conv(width, (1, 1), stride, padding=0)(x))
                x = nn.relu(x + y)
        return nn.Dense(1000)(jnp.mean(x, (1, 2)))


def networks(case: str):
    """Jaxdl's and the peer's."""
    return {
        "ResNet-20": lambda: (models.resnet_cifar(20, shortcut=layers.shortcut_a), FlaxResNet20()),
        "cuda-convnet": lambda: (models.cuda_convnet(), FlaxCudaConvNet()),
        "small AlexNet at 64": lambda: (
            models.alexnet_torchvision(10, dropout=0.0).clone(**SMALL),
            FlaxAlexNet(10, **SMALL),
        ),
        "AlexNet at 224": lambda: (models.alexnet_torchvision(dropout=0.0), FlaxAlexNet(1000)),
        "ResNet-18 at 224": lambda: (models.resnet(18), FlaxResNet18()),
        POPULATION: lambda: (models.convnet(), FlaxConvNet()),
    }[case]()


def serve(case: str, peer: bool) -> None:
    """A contestant: says how many parameters it has, then answers every line with the seconds of a round."""
    size, side, steps = CASES[case]
    batch = random_batch(size, side, 1000 if case.endswith("224") else 10)
    if case == POPULATION:
        batch = batch[0][..., :1], batch[1]
    ours, theirs = networks(case)
    shapes = jax.eval_shape(
        functools.partial((theirs if peer else ours).init, train=False), jax.random.key(0), batch[0]
    )
    if case == POPULATION:
        run = eight_by_hand(theirs, batch, steps) if peer else population(ours, batch, steps)
    else:
        run = by_hand(theirs, batch, steps, RATE) if peer else with_jaxdl(ours, batch, steps, RATE, parallel="single")
    run()
    print(sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


def eight_by_hand(model, batch, steps):
    """Eight hand-written runs, one after the other; they share their compiled step."""
    run = by_hand(model, batch, steps, RATE)

    def runs():
        for _ in range(MEMBERS):
            run()

    return runs


def population(model, batch, steps):
    """One population of eight members, from the initialisation to the end, on as many batches."""
    train_set = data.from_arrays(
        np.tile(batch[0], (steps, 1, 1, 1)), np.tile(batch[1], steps), classes=10, standardize=lambda x: x
    )
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    tx = optim.momentum(RATE, weight_decay=L2)

    def run():
        found = train.population(model, tx, train_set, keys=keys, steps=steps, batch_size=len(batch[0]), progress=False)
        jax.block_until_ready(found.state)

    return run


class Contestant:
    """A process that serves one case."""

    def __init__(self, command: list[str], **environment: str):
        self.process = subprocess.Popen(
            command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.parameters = int(self._read())

    def _read(self) -> str:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            sys.exit(f"benchmarks.native: {self.process.args} ended with {self.process.wait()}")
        return line

    def __call__(self) -> float:
        """Seconds of a round."""
        self.process.stdin.write("\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return float(self._read())


def measured(case: str, rounds: int, torch: str | None):
    """All contestants of one case."""
    own = [sys.executable, "-m", "benchmarks.native", "--serve", case]
    kept = "import sys, jaxdl_native; from benchmarks import native; native.serve(sys.argv[1], True)"
    commands = {
        PEER: ([*own, "--peer"], {"JAXDL_NATIVE": "0"}),
        "flax + optax, memory kept": ([sys.executable, "-c", kept, case], {}),
        "jaxdl, XLA": (own, {"JAXDL_NATIVE": "0"}),
        "jaxdl, oneDNN": (own, {}),
    }
    if torch and case != POPULATION:
        size, side, steps = CASES[case]
        script = str(Path(__file__).parent / "torch_native.py")
        commands["torch, eager"] = ([torch, script, case, str(size), str(side), str(steps)], {})
    contestants = {name: Contestant(command, **environment) for name, (command, environment) in commands.items()}
    counts = {name: contestant.parameters for name, contestant in contestants.items()}
    if len(set(counts.values())) > 1:
        sys.exit(f"benchmarks.native: the contestants of {case} differ: {counts} parameters")
    found = summarise(alternate(contestants, rounds), PEER)
    for contestant in contestants.values():
        contestant.process.kill()
        contestant.process.wait()
    return found


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--torch", help="the Python of an environment with torch")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.peer)
        return
    cases = {}
    for case in arguments.cases:
        size, _, steps = CASES[case]
        cases[f"{case}, batch {size}, {steps} steps"] = measured(case, arguments.rounds, arguments.torch)
        print(json.dumps({name: round(e["ratio_to_peer"], 3) for name, e in next(reversed(cases.values())).items()}))
    publish("native", "Training steps on the CPU, float32", PEER, cases)


if __name__ == "__main__":
    main()
