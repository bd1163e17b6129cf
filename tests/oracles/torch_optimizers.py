"""Records what torch's optimizers and schedules do: python tests/oracles/torch_optimizers.py (needs torch 2.13).

Writes torch_optimizers.npz beside itself: for each variant the parameters in float64 after each of CHECKPOINTS
updates on a fixed stream of gradients, with a learning rate that changes twice. The tests make the stream again.
"""

import json
from pathlib import Path

import numpy as np

STEPS, SIZE = 1000, 7
RATE_CHANGES = {0: 1.0, 300: 0.1, 700: 0.5}  # factor on the variant's rate, from this step on
CHECKPOINTS = (1, 2, 3, 10, 100, 300, 301, 500, 700, 701, 1000)

VARIANTS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd l2": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "momentum l2": ("SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01}),
    "momentum dampened": ("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3}),
    "momentum dampened l2": ("SGD", {"lr": 0.01, "momentum": 0.8, "dampening": 0.9, "weight_decay": 0.1}),
    "nesterov": ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "nesterov l2": ("SGD", {"lr": 0.01, "momentum": 0.95, "nesterov": True, "weight_decay": 0.01}),
    "adagrad": ("Adagrad", {"lr": 0.1}),
    "adagrad start l2": ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-3, "weight_decay": 0.01}),
    "rmsprop": ("RMSprop", {"lr": 0.01}),
    "rmsprop l2": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.01}),
    "rmsprop momentum": ("RMSprop", {"lr": 0.001, "momentum": 0.9}),
    "rmsprop centered": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-2, "centered": True}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam l2": ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw strong": ("AdamW", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.5}),
}


def start() -> np.ndarray:
    """The first parameters, [SIZE]."""
    return np.random.default_rng(1).normal(size=SIZE)


def gradients() -> np.ndarray:
    """The stream, [STEPS, SIZE]: sizes from 1e-3 to 1e3, with a drift."""
    rng = np.random.default_rng(2)
    return (rng.normal(size=(STEPS, SIZE)) + 0.3) * np.logspace(-3, 3, SIZE)


def rate_factor(step: int) -> float:
    """What the variant's rate is multiplied by at a step."""
    return RATE_CHANGES[max(first for first in RATE_CHANGES if first <= step)]


def run(name: str, settings: dict) -> np.ndarray:
    """Parameters at the checkpoints, [checkpoints, SIZE]."""
    import torch

    parameter = torch.nn.Parameter(torch.tensor(start()))
    optimizer = getattr(torch.optim, name)([parameter], **settings)
    found = []
    for step, gradient in enumerate(gradients()):
        optimizer.param_groups[0]["lr"] = settings["lr"] * rate_factor(step)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        if step + 1 in CHECKPOINTS:
            found.append(parameter.detach().numpy().copy())
    return np.array(found)


def schedules() -> dict[str, list[float]]:
    """Rates of torch's schedulers over a run of 100 updates, and ReduceLROnPlateau's over a stream of values."""
    import torch

    def rates(make, steps=100, values=None):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        scheduler, found = make(optimizer), []
        for step in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step(*([] if values is None else [values[step]]))
        return found

    lr = torch.optim.lr_scheduler
    values = plateau_values()
    plateau = {
        "plateau": {"patience": 3},
        "plateau max": {"mode": "max", "patience": 2, "factor": 0.5},
        "plateau absolute cooldown": {"patience": 1, "threshold": 0.05, "threshold_mode": "abs", "cooldown": 4},
        "plateau floor": {"patience": 0, "min_lr": 0.01, "factor": 0.3},
    }
    return {
        "one_cycle": rates(lambda o: lr.OneCycleLR(o, max_lr=0.5, total_steps=101)),
        "cosine_decay": rates(lambda o: lr.CosineAnnealingLR(o, T_max=100, eta_min=0.01)),
        "cosine_cycles": rates(lambda o: lr.CosineAnnealingWarmRestarts(o, T_0=7, T_mult=2, eta_min=0.01)),
        "step_decay": rates(lambda o: lr.MultiStepLR(o, [20, 50], gamma=0.2)),
        "exponential": rates(lambda o: lr.ExponentialLR(o, gamma=0.97)),
    } | {
        name: rates(lambda o, s=settings: lr.ReduceLROnPlateau(o, eps=0, **s), len(values), values)
        for name, settings in plateau.items()
    }


def plateau_values() -> list[float]:
    """Positive values (torch's relative threshold is wrong for negative ones) that fall, rise and stand still."""
    rng = np.random.default_rng(3)
    return [float(x) for x in 1 + np.round(np.exp(-np.arange(120) / 15) + 0.05 * rng.normal(size=120), 3)]


def main() -> None:
    """Writes the file."""
    import torch

    folder = Path(__file__).parent
    recorded = {name: run(*variant) for name, variant in VARIANTS.items()}
    np.savez(folder / "torch_optimizers.npz", **recorded)
    content = {"torch": torch.__version__, "rates": schedules()}
    (folder / "torch_schedules.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
