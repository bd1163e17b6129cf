"""Records what torch.optim.swa_utils.AveragedModel makes of a random walk: an oracle for `optim.swa` and `optim.ema`.

    python tests/oracles/torch_averages.py

In an environment of its own, with torch 2.13 and numpy. Writes torch_averages.npz beside this file.
"""

from pathlib import Path

import numpy as np

STEPS, DECAY = 12, 0.9


def iterates() -> np.ndarray:
    """Where the parameters are after each update, [steps, 7], in double precision."""
    return np.cumsum(np.random.default_rng(0).normal(size=(STEPS, 7)), 0)


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
    np.savez(Path(__file__).with_suffix(".npz"), torch_version=torch.__version__, **recorded)


if __name__ == "__main__":
    main()
