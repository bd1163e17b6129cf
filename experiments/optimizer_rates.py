"""The peak rates of experiments.optimizers are the best of their grid on held-out training images.

Claim: none of a paper. The experiment shows where the rates come from, so that tuning favours no rule. Every rule gets
four rates, about a factor of 3 apart, and two seeds. The last fifth of the training images is held out; the test set is
not used. The rate with the lowest mean error is kept. (Wilson et al. 2017, arXiv 1705.08292, tune by a grid too, and
extend it if the best rate is at its edge.)

Command: python -m experiments.optimizer_rates
"""

import dataclasses

import numpy as np
import optax

from experiments import optimizers
from experiments.cli import run
from jaxdl import data, models, report
from jaxdl.progress import progress_bar

GRID = {
    "SGD": (0.03, 0.1, 0.3, 1.0),
    "momentum": (0.01, 0.03, 0.1, 0.3),
    "Nesterov": (0.01, 0.03, 0.1, 0.3),
    "AdaGrad": (0.003, 0.01, 0.03, 0.1),
    "RMSProp": (0.0003, 0.001, 0.003, 0.01),
    "Adam": (0.0003, 0.001, 0.003, 0.01),
}


@dataclasses.dataclass(frozen=True)
class Settings(optimizers.Settings):
    """As for experiments.optimizers; its rates are not used."""

    seeds: int = 2
    """Runs of each rate, with the seeds 0, 1, ..."""
    eval_every: int = 468
    """Updates between evaluations on the held-out images."""


VARIANTS = {
    "default": Settings(),
    "smoke": Settings(seeds=1, steps=2, eval_every=2, batch_size=32, train_size=250),
}


def main(settings: Settings) -> None:
    """Trains every rule at every rate; prints and writes the held-out errors."""
    train_set, _ = data.load(settings.data, data_dir=settings.data_dir)
    train_set = train_set[: settings.train_size]
    held_out = len(train_set) // 5
    kept, held = train_set[:-held_out], train_set[-held_out:]
    model = models.convnet(train_set.num_classes)
    folder = report.new_run_directory(settings.out, "optimizer_rates")
    errors: dict[str, dict[float, float]] = {}
    total = sum(map(len, GRID.values())) * settings.seeds * settings.steps
    done = 0
    with progress_bar("rates", total) as update:
        for name, rates in GRID.items():
            errors[name] = {}
            for rate in rates:
                tx = optimizers.OPTIMIZERS[name](optax.cosine_decay_schedule(rate, settings.steps))
                runs = optimizers.train_all_seeds(name, tx, rate, model, settings, kept, held, progress=False)
                found = [np.inf if run.diverged else 100 * run.history.eval_error[-1] for run in runs]
                errors[name][rate] = float(np.mean(found))
                done += settings.seeds * settings.steps
                update(done, f"{name} {rate:g}: {errors[name][rate]:.2f} %")
    best = {name: min(row, key=row.__getitem__) for name, row in errors.items()}
    at_edge = [name for name, rate in best.items() if rate in (GRID[name][0], GRID[name][-1])]
    report.write_json(
        folder / "result.json",
        {
            "experiment": "optimizer_rates",
            "settings": settings,
            "environment": report.environment(),
            "held_out_error_percent": errors,
            "best": best,
            "best_at_edge_of_grid": at_edge,
        },
    )
    header = ["rule", "held-out error % at each peak rate", "best"]
    rows = [[n, "  ".join(f"{r:g}: {e:.2f}" for r, e in row.items()), f"{best[n]:g}"] for n, row in errors.items()]
    report.print_table(f"{settings.data}: {settings.steps} steps, {settings.seeds} seeds", header, rows)
    print(f"Best at the edge of its grid: {', '.join(at_edge) or 'none'}\nWritten to {folder}: result.json")


if __name__ == "__main__":
    run(main, VARIANTS, __doc__ or "")
