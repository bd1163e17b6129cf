"""The torch part of benchmarks/step.py: a training step of the same CIFAR ResNet-20, eager and compiled.

    python benchmarks/torch_step.py          # where torch is installed; it needs nothing of jaxdl

Channels last, SGD with momentum and weight decay. Writes benchmarks/results/step_torch.json.
"""

import argparse
import datetime
import json
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

RESULT = Path(__file__).parent / "results" / "step_torch.json"


class Block(nn.Module):
    """Two 3x3 convolutions and shortcut A."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.stride, self.extra = stride, (width - inputs) // 2

    def forward(self, x):
        """Images to images."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.stride == 2:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        return functional.relu(x + y)


class ResNet20(nn.Module):
    """The CIFAR ResNet-20."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(Block(*width) for width in widths))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        """Images to logits."""
        x = self.blocks(functional.relu(self.norm(self.conv(x))))
        return self.head(x.mean((2, 3)))


def resnet50():
    """The ResNet-50 of torchvision, as written out in the oracles of the tests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "oracles"))
    from torch_models import ARCHITECTURES

    return ARCHITECTURES["resnet50"][0]()


def seconds(make, side, classes, size, device, bfloat16, compiled, steps, rounds):
    """Median seconds of `steps` steps."""
    torch.manual_seed(0)
    model = make().to(device).to(memory_format=torch.channels_last)
    images = torch.randn(size, 3, side, side, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (size,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    forward = torch.compile(model) if compiled else model
    times = []
    for turn in range(rounds + 2):
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                loss = functional.cross_entropy(forward(images), labels)
            loss.backward()
            optimizer.step()
        float(loss.detach())
        if turn > 1:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    """Measures; writes the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--resnet50", action="store_true", help="also ResNet-50 at 224 pixels, batches of 64 and 256")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {}
    networks = [("ResNet-20", ResNet20, 32, 10, size, arguments.bfloat16) for size in arguments.batch]
    if arguments.resnet50:
        networks += [("ResNet-50 at 224", resnet50, 224, 1000, size, True) for size in (64, 256)]
    for network, make, side, classes, size, both in networks:
        for bfloat16 in (False, True) if both else (False,):
            case = f"{network}, batch {size}, {'bfloat16' if bfloat16 else 'float32'}"
            found[case] = {}
            for compiled in (False, True):
                name = "torch, compiled" if compiled else "torch, eager"
                how = (size, device, bfloat16, compiled, arguments.steps, arguments.rounds)
                try:
                    found[case][name] = seconds(make, side, classes, *how)
                except Exception as error:  # no compiler on this machine, for example
                    print(f"{case}, {name}: {error}", file=sys.stderr)
                else:
                    print(f"{case}, {name}: {found[case][name]:.4f} s")
    environment = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "commit": None,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "processor": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    content = {"benchmark": "step_torch", "environment": environment, "steps": arguments.steps, "seconds": found}
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
