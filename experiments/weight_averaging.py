"""The mean of the weights along the end of a run is better than its last ones, if BatchNorm is estimated again.

Claim: stochastic weight averaging at a constant, high rate has a lower test error than SGD whose rate falls to almost
0, within the same budget or 1.25 or 1.5 of it; a network with BatchNorm needs its statistics estimated again for the
mean.

Paper: Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, 2018 (arXiv 1803.05407),
table 1, and the code released with it: PreResNet-164 on CIFAR-10, test error of SGD 4.72 %, SWA at 1.5 budgets 4.17 %.
Here: a narrow ResNet-8 with BatchNorm on the bundled images, and a budget of eight epochs. Averaging starts at the same
share of the budget as in the paper, 126 of 150 epochs, and takes one iterate per epoch. The rate is held until half of
that start, falls along a line until nine tenths of it, and is held again, as in the paper. The paper's errors are shown
for their order, not their height. An exponential moving average of the same run, which the paper does not have, is
shown too.

Command: python -m experiments.weight_averaging
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from experiments.cli import run
from experiments.summary import publish
from jaxdl import data, ensemble, models, optim, report, train
from jaxdl.arguments import check_integer, check_real, require
from jaxdl.progress import progress_bar

BUDGETS = (1.0, 1.25, 1.5)
PAPER = {"SGD, 1 budget": 4.72, "SWA, 1.5 budgets": 4.17}  # PreResNet-164, CIFAR-10, test error in percent
FORMS = ("statistics of the run", "estimated again")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run."""

    data: str = "fashion_mini"
    """Data set: fashion_mini ships with the package; cifar10, fashion_mnist, mnist, ... come through tfds."""
    data_dir: Path | None = None
    """Where tensorflow-datasets keeps its data (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)."""
    seeds: int = 3
    """Runs of each kind, with the seeds 0, 1, ..."""
    depth: int = 8
    """Depth of the CIFAR ResNet, 6 n + 2; with `preactivation` 9 n + 2."""
    widths: tuple[int, int, int] = (8, 16, 32)
    """Channels of its three stages."""
    preactivation: bool = False
    """The paper's PreResNet: bottlenecks, normalised and activated before each convolution."""
    augment: bool = False
    """Random crops (4 pixels) and flips."""
    epochs: int = 8
    """The budget; a quarter more is in whole epochs, rounded down as in the paper."""
    batch_size: int = 128
    """Images in a batch."""
    rate: float = 0.1
    """The first learning rate."""
    swa_rate: float = 0.06
    """The rate while averaging (the paper's: 0.01 for PreResNet, 0.05 for a wide one); SGD's falls to a hundredth of
    the first. Of 0.01, 0.03 and 0.06 the best in a short look at held-out training images."""
    weight_decay: float = 3e-4
    """L2, as in the paper."""
    ema_decay: float = 0.99
    """Decay of the moving average, per update."""
    train_size: int | None = None
    """Use only the first so many training images."""
    test_size: int | None = None
    """Use only the first so many test images."""
    out: Path = Path("runs")
    """Results go to OUT/weight_averaging/<time>/."""

    def __post_init__(self):
        """Refuses what cannot be run, before anything starts."""
        require(self.data in data.DATASETS, f"--data must be one of {', '.join(data.DATASETS)}, got {self.data!r}")
        for name in ("seeds", "epochs", "batch_size"):
            check_integer("weight_averaging", name, getattr(self, name), at_least=1, remedy=f"pass --{name} 1 or more")
        for name in ("rate", "swa_rate", "weight_decay", "ema_decay"):
            check_real("weight_averaging", name, getattr(self, name), at_least=0)


VARIANTS = {
    "default": Settings(),
    "paper": Settings(
        data="cifar10", depth=164, widths=(16, 32, 64), preactivation=True, augment=True, epochs=150, swa_rate=0.01
    ),
    "smoke": Settings(seeds=1, epochs=4, batch_size=32, train_size=64, test_size=100),
}


@dataclasses.dataclass(frozen=True)
class Result:
    """Test error in percent of one set of weights."""

    what: str
    budgets: float
    form: str  # where its batch statistics come from
    seed: int
    test_error_percent: float


def main(settings: Settings) -> None:
    """Trains from every seed; prints and writes the results, also if interrupted."""
    train_set, test_set = data.load(settings.data, data_dir=settings.data_dir)
    train_set, test_set = train_set[: settings.train_size], test_set[: settings.test_size]
    model = models.resnet_cifar(
        settings.depth,
        train_set.num_classes,
        widths=settings.widths,
        bottleneck=settings.preactivation,
        preactivation=settings.preactivation,
        shortcut=models.layers.shortcut_b if settings.preactivation else models.layers.shortcut_a,
    )
    folder = report.new_run_directory(settings.out, "weight_averaging")
    epoch = train_set.steps_per_epoch(settings.batch_size)
    budget = settings.epochs * epoch
    start = max(round(126 / 150 * settings.epochs), 1) * epoch
    sgd = optim.momentum(
        optim.swa_schedule(settings.rate, 0.01 * settings.rate, budget), weight_decay=settings.weight_decay
    )
    averaging = optax.chain(
        optim.momentum(optim.swa_schedule(settings.rate, settings.swa_rate, start), weight_decay=settings.weight_decay),
        optim.swa(start - epoch, period=epoch),  # the first average is the iterate at `start`
        optim.ema(settings.ema_decay),
    )
    plan = [("SGD", sgd, (1.0,)), ("SWA", averaging, BUDGETS)]

    def steps_in(share: float) -> int:
        return int(share * settings.epochs) * epoch

    per_seed = sum(steps_in(max(budgets)) for _, _, budgets in plan)
    results: list[Result] = []
    done = 0
    try:
        with progress_bar("weight averaging", settings.seeds * per_seed) as update:
            for seed in range(settings.seeds):
                for name, tx, budgets in plan:
                    state = train.init_state(model, tx, jax.random.key(seed), train_set.image_shape)
                    for share in budgets:

                        def tell(step: int, loss: float, done: int = done, label: str = f"{name}, seed {seed}") -> None:
                            update(done + step, f"{label}, loss {loss:.3f}")

                        state, _ = train.fit(
                            state,
                            model,
                            tx,
                            train_set,
                            steps=steps_in(share),
                            batch_size=settings.batch_size,
                            augment=data.CROP_AND_FLIP if settings.augment else None,
                            progress=tell,
                        )
                        for what, params in weights(name, state).items():
                            for form, error in errors(state, params, model, train_set, test_set):
                                results.append(Result(what, share, form, seed, error))
                    done += steps_in(max(budgets))
    finally:
        if results:
            write_report(folder, settings, results)


def weights(name: str, state: train.TrainState) -> dict[str, Any]:
    """The sets of weights of a run, by name."""
    if name == "SGD":
        return {"SGD": state.params}
    return {
        "last weights of that run": state.params,
        "SWA": optim.swa_params(state.opt_state, state.params),
        "EMA": optim.ema_params(state.opt_state, state.params),
    }


def errors(state, params, model, train_set, test_set) -> list[tuple[str, float]]:
    """Test error in percent with the run's own batch statistics, and with those estimated again."""
    again = ensemble.update_batch_stats(model, params, train_set)
    return [
        (form, 100 * train.evaluate(model, state._replace(params=params, batch_stats=stats), test_set).error)
        for form, stats in zip(FORMS, (state.batch_stats, again), strict=True)
    ]


def write_report(folder: Path, settings: Settings, results: list[Result]) -> None:
    """Writes `result.json`, `report.md` and `errors.png` into `folder`; prints the table and where they are."""
    names = list(dict.fromkeys(map(name_of, results)))
    found = {
        (name, form): [r.test_error_percent for r in results if (name_of(r), r.form) == (name, form)]
        for name in names
        for form in FORMS
    }
    header = ["weights", *(f"{form}, test error %" for form in FORMS), "paper %"]
    rows = [
        [
            name,
            *(report.show_mean_and_std(found[name, form]) for form in FORMS),
            f"{PAPER[name]:.2f}" if name in PAPER else "-",
        ]
        for name in names
    ]
    remarks = verdict(found)
    title = (
        f"{settings.data}, ResNet-{settings.depth}: a budget of {settings.epochs} epochs, batches of "
        f"{settings.batch_size}, {settings.seeds} seeds"
    )
    plot(folder / "errors.png", title, results)
    publish(
        folder,
        doc=__doc__ or "",
        title=title,
        header=header,
        rows=rows,
        note="Mean ± standard deviation over seeds. Paper: Izmailov et al. 2018, PreResNet-164 on CIFAR-10.",
        remarks=remarks,
        pictures=[("Test error against the budget", "errors.png")],
        settings=settings,
        runs=results,
    )


def name_of(result: Result) -> str:
    """The table's name for a set of weights."""
    return f"{result.what}, {result.budgets:g} budget{'s' if result.budgets > 1 else ''}"


def plot(path: Path, title: str, results: list[Result]) -> None:
    """Test error against the budget; SGD's, which has one budget, as a line across."""
    panels = []
    seeds = len({r.seed for r in results})
    for form in FORMS:
        mine = [r for r in results if r.form == form]
        curves = {}
        for what in dict.fromkeys(r.what for r in mine):
            found = [r for r in mine if r.what == what]
            budgets = sorted({r.budgets for r in found})
            errors = [[r.test_error_percent for r in found if r.seed == seed] for seed in range(seeds)]
            complete = np.array([row for row in errors if len(row) == len(budgets)])
            if what == "SGD":
                curves["SGD, 1 budget"] = np.array(BUDGETS), np.repeat(complete, len(BUDGETS), 1)
            else:
                curves[what] = np.array(budgets), complete
        panels.append(report.Panel(f"BatchNorm's {form}", "budgets", "test error (%)", curves, ("SGD, 1 budget",)))
    report.plot_curves(path, title, panels)


def verdict(found: dict[tuple[str, str], list[float]]) -> list[str]:
    """Compares each average at each budget with SGD from the same seeds, and the two kinds of statistics."""
    sgd = found.get(("SGD, 1 budget", FORMS[0]), [])
    remarks = []
    for (what, form), theirs in found.items():
        if what.startswith("SWA") and len(theirs) == len(sgd):
            gain, spread = report.mean_and_std([a - b for a, b in zip(sgd, theirs, strict=True)])
            noise = spread / np.sqrt(len(sgd))
            if not np.isfinite(noise):
                word = "one seed is no judgement"
            else:
                word = "less than two standard errors" if abs(gain) < 2 * noise else "more than two standard errors"
            remarks.append(f"{what}, {form}: {gain:+.2f} points less error than SGD ({word}).")
    return remarks


if __name__ == "__main__":
    run(main, VARIANTS, __doc__ or "")
