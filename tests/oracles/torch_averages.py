"""Records what torch.optim.swa_utils makes of a random walk, and `update_bn` of a small network, as oracles.

    python tests/oracles/torch_averages.py

In an environment of its own, with torch 2.13 and numpy. Writes torch_averages.npz beside this file.
"""

from pathlib import Path

import numpy as np

STEPS, DECAY = 12, 0.9


def iterates() -> np.ndarray:
    """Where the parameters are after each update, [steps, 7], in double precision."""
    return np.cumsum(np.random.default_rng(0).normal(size=(STEPS, 7)), 0)


def images() -> list[np.ndarray]:
    """Batches of unequal sizes, [batch, 5, 5, 3], far from mean 0."""
    rng = np.random.default_rng(1)
    return [7 + 2 * rng.normal(size=(n, 5, 5, 3)) for n in (6, 6, 3)]


def kernels() -> tuple[np.ndarray, np.ndarray]:
    """Of two convolutions, [height, width, in, out]."""
    rng = np.random.default_rng(2)
    return rng.normal(size=(3, 3, 3, 4)), rng.normal(size=(3, 3, 4, 2))


def update_bn() -> dict[str, np.ndarray]:
    """Running statistics after torch.optim.swa_utils.update_bn."""
    import torch
    from torch.optim.swa_utils import update_bn

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
            self.norm1 = torch.nn.BatchNorm2d(4)
            self.conv2 = torch.nn.Conv2d(4, 2, 3, padding=1, bias=False)
            self.norm2 = torch.nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))

    net = Net().double()
    with torch.no_grad():
        for conv, kernel in zip((net.conv1, net.conv2), kernels(), strict=True):
            conv.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
    update_bn([torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in images()], net)
    return {
        f"{n}/{k}": getattr(getattr(net, n), f"running_{k}").numpy()
        for n in ("norm1", "norm2")
        for k in ("mean", "var")
    }


def main() -> None:
    """After each update the mean, the moving average, and the mean of every third iterate after the third."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = torch.nn.Linear(7, 1, bias=False).double()
    averages = {
        "mean": AveragedModel(model),
        "ema": AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY)),
        "late": AveragedModel(model),
    }
    recorded = {name: [] for name in averages}
    for number, point in enumerate(iterates(), 1):
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(point)[None])
        for name, average in averages.items():
            if name != "late" or (number > 3 and (number - 3) % 3 == 0):
                average.update_parameters(model)
            recorded[name].append(average.module.weight.detach().numpy()[0].copy())
    np.savez(Path(__file__).with_suffix(".npz"), torch_version=torch.__version__, **recorded, **update_bn())


if __name__ == "__main__":
    main()
