"""Runs a small sweep in the folder argv[1]; "checkpoints" in argv[2] saves every run on its way."""

import sys
from pathlib import Path

from experiments.ablation import Ablation, Case, Settings
from jaxdl import models, optim


def cases(settings, train_set):
    """Four small nets."""
    rate = optim.cosine_decay(0.03, settings.steps)
    return [Case(f"width {width}", models.mlp(widths=(width,)), optim.momentum(rate)) for width in (4, 8, 12, 16)]


ABLATION = Ablation("small", "Wider is better.", {"default": Settings(), "smoke": Settings()}, cases, figures=())

if __name__ == "__main__":
    ABLATION.run(
        Settings(
            data="fashion_mini",
            seeds=2,
            steps=4000 if len(sys.argv) > 2 else 160,
            batch_size=16,
            train_size=320,
            test_size=50,
            checkpoints=len(sys.argv) > 2,
            out=Path(sys.argv[1]),
        ),
        "default",
    )
