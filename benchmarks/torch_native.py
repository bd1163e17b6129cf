"""The torch part of benchmarks/native.py, which starts it: one network, eager, channels last.

It needs torch alone; AlexNet and ResNet-18 are those of tests/oracles/torch_models.py.
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tests" / "oracles")]


def cuda_convnet():
    """cuda-convnet's layers-80sec."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(inplace=True),
        nn.Conv2d(32, 32, 5, padding=2), nn.ReLU(inplace=True), nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(inplace=True), nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(inplace=True), nn.Linear(64, 10),
    )  # fmt: skip


def network(case):
    """The network of a case."""
    if case == "ResNet-20":
        import torch_step

        return torch_step.ResNet20()
    if case == "cuda-convnet":
        return cuda_convnet()
    import torch_models

    if case == "ResNet-18 at 224":
        return torch_models.ResNet(torch_models.BasicBlock, (2, 2, 2, 2))
    small = {"widths": (32, 64, 96, 64, 64), "hidden": 256, "classes": 10} if "small" in case else {}
    net = torch_models.AlexNet(**small)
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return net


def main():
    """Says how many parameters there are, then answers every line with the seconds of a round."""
    case, size, side, steps = sys.argv[1], *map(int, sys.argv[2:])
    net = network(case).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(size, 3, side, side).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (size,))

    def run():
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
        return loss.item()

    run()
    print(sum(p.numel() for p in net.parameters()), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


main()
