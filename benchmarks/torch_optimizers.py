"""torch's updates on the same tensors as benchmarks/optimizers.py, in an environment that has torch 2.13 alone.

    python benchmarks/torch_optimizers.py

Eager `foreach` and `fused` steps, in units of negating the parameters in place.
"""

import datetime
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

ROUNDS = 15
RULES = {
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "momentum, L2": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-4}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.01}),
}


def resnet50_shapes() -> list[tuple[int, ...]]:
    """As in benchmarks/optimizers.py, which this environment cannot import."""
    convolutions, inputs = [(7, 3, 64)], 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convolutions += [(1, inputs, width), (3, width, width), (1, width, 4 * width)]
            convolutions += [(1, inputs, 4 * width)] if block == 0 else []
            inputs = 4 * width
    shapes = [s for k, i, o in convolutions for s in ((o, i, k, k), (o,), (o,))]
    return [*shapes, (1000, 2048), (1000,)]


def seconds_of(call) -> float:
    """Median over the rounds, after one that does not count."""
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Prints and writes the ratios."""
    assert len(resnet50_shapes()) == 161
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in resnet50_shapes()]
    for parameter in parameters:
        parameter.grad = 0.01 * parameter.detach()
    tensors = [parameter.detach() for parameter in parameters]
    once = seconds_of(lambda: torch._foreach_neg_(tensors))
    cases: dict[str, dict[str, float]] = {}
    for name, (rule, settings) in RULES.items():
        for how in ("foreach", "fused"):
            step = rule(parameters, lr=1e-6, **{how: True}, **settings).step
            seconds = seconds_of(step)
            cases.setdefault(name, {})[how] = round(seconds, 6)
            print(f"{name}, {how}: {seconds:.4f} s, {seconds / once:.2f} negations in place")
    environment = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/torch_optimizers.py",
        "commit": None,
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    content = {"benchmark": "optimizers_torch", "environment": environment, "negation_seconds": once, "seconds": cases}
    path = Path(__file__).parent / "results/optimizers_torch.json"
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
