"""Draws all schedules: python tools/plot_schedules.py writes docs/schedules.png."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import optim, report

STEPS = 1000
TARGET = Path(__file__).parents[1] / "docs/schedules.png"
PANELS = {
    "Falling": {
        "step_decay(1, (500, 750))": optim.step_decay(1.0, (500, 750)),
        "exponential_decay(1, 0.004)": optim.exponential_decay(1.0, 0.004),
        "inverse_time_decay(1, 0.01)": optim.inverse_time_decay(1.0, 0.01),
        "cosine_decay(1, 1000, end=0.1)": optim.cosine_decay(1.0, STEPS, end=0.1),
        "swa_schedule(1, 0.3, 800)": optim.swa_schedule(1.0, 0.3, 800),
    },
    "Cycles": {
        "cosine_cycles(1, 200)": optim.cosine_cycles(1.0, 200),
        "cosine_cycles(1, 100, period_multiplier=2)": optim.cosine_cycles(1.0, 100, period_multiplier=2),
        "one_cycle(1, 1000)": optim.one_cycle(1.0, STEPS),
        "join([...], [400])": optim.join([optim.cosine_decay(0.6, 400), optim.cosine_decay(0.3, 600)], [400]),
    },
    "Warming up for 300 steps": {
        "warmup_cosine(1, 300, 1000)": optim.warmup_cosine(1.0, 300, STEPS),
        **{
            f"warmup(..., 300, kind={kind!r}, start=0.1)": optim.warmup(
                optim.exponential_decay(1.0, 0.001), 300, kind=kind, start=0.1
            )
            for kind in ("linear", "exponential", "cosine", "constant")
        },
    },
}


def main() -> None:
    """Draws the figure."""
    steps = np.arange(STEPS + 1)
    panels = [
        report.Panel(
            title,
            "updates",
            "learning rate",
            {name: (steps, np.asarray(jax.vmap(rate)(jnp.asarray(steps)))[None]) for name, rate in curves.items()},
            own_legend=True,
        )
        for title, curves in PANELS.items()
    ]
    report.plot_curves(TARGET, "Learning-rate schedules", panels)


if __name__ == "__main__":
    main()
