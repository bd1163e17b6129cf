"""Adaptive rules learn faster at first, but well-tuned momentum ends with the lower test error.

Claim: on image classification with a convolutional network, SGD and momentum with tuned rates reach a lower test
error than AdaGrad, RMSProp and Adam with tuned rates, even where those lead in training loss.

Paper: Wilson et al., The Marginal Value of Adaptive Gradient Methods in Machine Learning, 2017 (arXiv 1705.08292):
VGG with BatchNorm and dropout on CIFAR-10, 250 epochs, five seeds. Here: a small CNN without BatchNorm and dropout, and
a short budget, the same for all rules, with rates that fall to 0 along a cosine. The paper's errors are shown for their
order, not their height. The rates are the best of a grid on held-out training images (experiments.optimizer_rates).

Command: python -m experiments.optimizers
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optax

from experiments.cli import run, seed_keys
from jaxdl import data, models, optim, report, train
from jaxdl.arguments import check_integer, check_real, require
from jaxdl.progress import progress_bar

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "SGD": optim.sgd,
    "momentum": optim.momentum,
    "Nesterov": optim.nesterov,
    "AdaGrad": optim.adagrad,
    "RMSProp": optim.rmsprop,
    "Adam": optim.adam,
}
ADAPTIVE = ("AdaGrad", "RMSProp", "Adam")

# Test error in percent, mean and standard deviation over five seeds: Wilson et al. 2017, VGG on CIFAR-10, tuned rates.
PAPER = {
    "SGD": (7.65, 0.14),
    "momentum": (7.74, 0.25),
    "AdaGrad": (11.34, 0.46),
    "RMSProp": (9.60, 0.19),
    "Adam": (9.78, 0.25),
}


@dataclasses.dataclass(frozen=True)
class Rates:
    """Peak learning rate of each rule."""

    SGD: float = 0.1
    momentum: float = 0.03
    Nesterov: float = 0.03
    AdaGrad: float = 0.03
    RMSProp: float = 0.001
    Adam: float = 0.003


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run."""

    data: str = "fashion_mini"
    """Data set: fashion_mini ships with the package; cifar10, fashion_mnist, mnist, ... come through tfds."""
    data_dir: Path | None = None
    """Where tensorflow-datasets keeps its data (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)."""
    seeds: int = 3
    """Runs of each rule, with the seeds 0, 1, ..."""
    steps: int = 468
    """Updates in each run."""
    eval_every: int = 39
    """Updates between evaluations on the test set."""
    batch_size: int = 128
    """Images in a batch."""
    target_loss: float = 0.4
    """A training loss (mean of the last 20 batches); the steps until a rule reaches it are reported."""
    rates: Rates = Rates()
    """Peak learning rates; they fall to 0 along a cosine."""
    train_size: int | None = None
    """Use only the first so many training images."""
    out: Path = Path("runs")
    """Results go to OUT/optimizers/<time>/."""

    def __post_init__(self):
        """Refuses what cannot be run, before anything starts."""
        require(self.data in data.DATASETS, f"--data must be one of {', '.join(data.DATASETS)}, got {self.data!r}")
        for name in ("seeds", "steps", "eval_every", "batch_size"):
            check_integer("optimizers", name, getattr(self, name), at_least=1, remedy=f"pass --{name} 1 or more")
        if self.train_size is not None:
            check_integer("optimizers", "train_size", self.train_size, at_least=1)
        for name, rate in dataclasses.asdict(self.rates).items():
            check_real("optimizers", f"rates.{name}", rate, at_least=0)


VARIANTS = {
    "default": Settings(),
    "cifar10": Settings(data="cifar10", steps=1950, eval_every=195, target_loss=1.0),  # 5 epochs; rates as by default
    "smoke": Settings(seeds=2, steps=12, eval_every=6, batch_size=32, train_size=256),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run."""

    optimizer: str
    seed: int
    rate: float
    diverged: str | None  # why it stopped early, if it did
    history: train.History


def train_all_seeds(name, tx, rate, model, settings, train_set, test_set, progress) -> list[Run]:
    """Trains `model` from every seed with the transformation `tx`, as one population."""
    found = train.population(
        model,
        tx,
        train_set,
        keys=seed_keys(settings.seeds),
        steps=settings.steps,
        batch_size=settings.batch_size,
        eval_set=test_set,
        eval_every=settings.eval_every,
        progress=progress,
    )
    return [
        Run(name, seed, rate, diverged, history)
        for seed, (history, diverged) in enumerate(zip(found.histories, found.diverged, strict=True))
    ]


def main(settings: Settings) -> None:
    """Trains every rule from every seed; prints and writes the results, also if interrupted."""
    train_set, test_set = data.load(settings.data, data_dir=settings.data_dir)
    train_set = train_set[: settings.train_size]
    model = models.convnet(train_set.num_classes)
    folder = report.new_run_directory(settings.out, "optimizers")
    runs: list[Run] = []
    try:
        with progress_bar("optimizers", len(OPTIMIZERS) * settings.seeds * settings.steps) as update:
            for name, rule in OPTIMIZERS.items():
                rate = getattr(settings.rates, name)
                tx = rule(optax.cosine_decay_schedule(rate, settings.steps))
                done = len(runs) * settings.steps

                def tell(step: int, loss: float, done: int = done, name: str = name) -> None:
                    update(done + step, f"{name}, loss {loss:.3f}")

                runs += train_all_seeds(name, tx, rate, model, settings, train_set, test_set, tell)
    finally:
        if runs:
            write_report(folder, settings, runs)


def write_report(folder: Path, settings: Settings, runs: list[Run]) -> None:
    """Writes `result.json`, `report.md` and `curves.png` into `folder`; prints the table and where they are."""
    summary = [summarise(name, runs, settings) for name in OPTIMIZERS]
    header = ["rule", "peak rate", "test error %", f"steps to {settings.target_loss:g}", "seconds", "paper %"]
    rows = [table_row(entry) for entry in summary]
    remarks = [verdict(summary)] + [f"{run.optimizer}, seed {run.seed}: {run.diverged}" for run in runs if run.diverged]
    title = f"{settings.data}: {settings.steps} steps of {settings.batch_size} images, {settings.seeds} seeds"
    environment = report.environment()
    report.write_json(
        folder / "result.json",
        {
            "experiment": "optimizers",
            "settings": settings,
            "environment": environment,
            "summary": summary,
            "remarks": remarks,
            "runs": runs,
        },
    )
    plot(folder / "curves.png", title, runs)
    claim, _, rest = (__doc__ or "").partition("\n")
    (folder / "report.md").write_text(
        f"# {claim}\n{rest}\n## {title}\n\n{report.markdown_table(header, rows)}\n\n"
        "Test error after the last step, mean ± standard deviation over seeds. Steps: until the mean training "
        f"loss of the last 20 batches is at most {settings.target_loss:g}; the mean over the seeds that got there. "
        "Seconds: training of one run, compilation and evaluations not counted. "
        "Paper: Wilson et al. 2017, another network on CIFAR-10.\n\n"
        + "\n\n".join(remarks)
        + f"\n\n![Training loss and test error against steps](curves.png)\n\n"
        f"{environment['date']}, {environment['processor']} ({environment['cores']} cores), {environment['device']}, "
        f"jax {environment['versions']['jax']}, commit {environment['commit']}, `{environment['command']}`\n"
    )
    report.print_table(title, header, rows)
    print("\n".join([*remarks, f"Written to {folder}: result.json, report.md, curves.png"]))


def summarise(name: str, runs: list[Run], settings: Settings) -> dict[str, Any]:
    """The numbers of one rule, over its runs that did not diverge."""
    mine = [run for run in runs if run.optimizer == name]
    finished = [run.history for run in mine if run.diverged is None]
    steps = [report.steps_to_reach(history.loss, settings.target_loss) for history in finished]
    error, std = report.mean_and_std([100 * history.eval_error[-1] for history in finished])
    return {
        "optimizer": name,
        "rate": getattr(settings.rates, name),
        "runs": len(mine),
        "diverged": len(mine) - len(finished),
        "test_error_percent": error,
        "test_error_std": std,
        "steps_to_target": report.mean_and_std([s for s in steps if s is not None])[0],
        "reached_target": sum(s is not None for s in steps),
        "seconds": report.mean_and_std([history.seconds for history in finished])[0],
        "paper_test_error_percent": PAPER.get(name, (None,))[0],
    }


def table_row(entry: dict[str, Any]) -> list[str]:
    """The cells of one rule's row."""

    def cell(value: float, form: str) -> str:
        return format(value, form) if np.isfinite(value) else "-"

    error, std = entry["test_error_percent"], entry["test_error_std"]
    steps = cell(entry["steps_to_target"], ".0f")
    if 0 < entry["reached_target"] < entry["runs"]:
        steps += f" ({entry['reached_target']}/{entry['runs']})"
    paper = PAPER.get(entry["optimizer"])
    return [
        entry["optimizer"],
        f"{entry['rate']:g}",
        cell(error, ".2f") + (f" ± {std:.2f}" if np.isfinite(std) else ""),
        steps,
        cell(entry["seconds"], ".1f"),
        f"{paper[0]:.2f} ± {paper[1]:.2f}" if paper else "-",
    ]


def verdict(summary: list[dict[str, Any]]) -> str:
    """Says whether the claim's order shows: the best rule of each kind, and how far apart they are."""
    best = {}
    for adaptive in (False, True):
        ended = [
            e for e in summary if (e["optimizer"] in ADAPTIVE) == adaptive and np.isfinite(e["test_error_percent"])
        ]
        if not ended:
            return "No verdict: too few runs came to their end."
        best[adaptive] = min(ended, key=lambda e: e["test_error_percent"])
    plain, adaptive = best[False], best[True]
    gap = adaptive["test_error_percent"] - plain["test_error_percent"]
    # Standard errors, of the runs that came to their end: those that diverged are not in the means.
    noise = np.hypot(*(e["test_error_std"] / np.sqrt(e["runs"] - e["diverged"]) for e in (plain, adaptive)))
    if not np.isfinite(noise):
        word = "cannot be judged from one seed"
    elif abs(gap) < 2 * noise:
        word = "is neither borne out nor contradicted: the gap is less than two standard errors"
    else:
        word = "is borne out" if gap > 0 else "is contradicted"
    return (
        f"Best without adaptation: {plain['optimizer']} {plain['test_error_percent']:.2f} %; best adaptive: "
        f"{adaptive['optimizer']} {adaptive['test_error_percent']:.2f} %. "
        f"On these data and this budget the claim {word}."
    )


def plot(path: Path, title: str, runs: list[Run]) -> None:
    """Training loss and test error against steps; runs that diverged are left out."""
    loss, error = {}, {}
    for name in OPTIMIZERS:
        histories = [run.history for run in runs if run.optimizer == name and run.diverged is None]
        if histories:
            loss[name] = histories[0].step, np.stack([report.running_mean(h.loss, 20) for h in histories])
            error[name] = histories[0].eval_step, 100 * np.stack([h.eval_error for h in histories])
    if not error:
        return
    highest = 2 * float(np.median([y[:, -1] for _, y in error.values()]))
    panels = [
        report.Panel(
            "Training loss", "updates", "cross-entropy, mean of 20 batches (nats)", loss, ADAPTIVE, True, (None, 2.0)
        ),
        report.Panel("Test error", "updates", "error (%)", error, ADAPTIVE, False, (None, highest)),
    ]
    report.plot_curves(path, f"{title} (mean ± std; adaptive rules dashed)", panels)


if __name__ == "__main__":
    run(main, VARIANTS, __doc__ or "")
