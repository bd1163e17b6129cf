"""Snapshots at the ends of learning-rate cycles make a better ensemble than one run of the same length is.

Claim: at equal cost, the mean prediction of the last m snapshots of a run with M cosine cycles has a lower test error
than a single model trained with one cycle, and than snapshots at equal distances of that one-cycle run ("no cycle").

Paper: Huang et al., Snapshot Ensembles: Train 1, get M for free, 2017 (arXiv 1704.00109), table 1: ResNet-110 on
CIFAR-10, 200 epochs, batch 64: single model 5.52 %, no-cycle snapshots 5.49 %, snapshot ensemble of 5 cycles 5.73 % at
peak rate 0.1 and 5.32 % at 0.2. Here: a small CNN on the bundled images, a few epochs a cycle, each kind at the rate
that is best on held-out training images (--variant rates). The paper's errors are shown for their order, not their
height. The paper's baseline steps its rate down at a half and three quarters; here it falls along one cosine.

Command: python -m experiments.snapshot_ensembles
"""

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import optax

from experiments.cli import run, seed_keys
from experiments.summary import publish
from jaxdl import data, ensemble, models, optim, report, train
from jaxdl.arguments import check_integer, check_real, require
from jaxdl.progress import progress_bar

KINDS = ("no cycle", "snapshots")
PAPER = {"single": 5.52, "no cycle": 5.49, "snapshots": 5.32}  # ResNet-110, CIFAR-10, test error in percent


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run."""

    data: str = "fashion_mini"
    """Data set: fashion_mini ships with the package; cifar10, fashion_mnist, mnist, ... come through tfds."""
    data_dir: Path | None = None
    """Where tensorflow-datasets keeps its data (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)."""
    seeds: int = 5
    """Runs of each kind, with the seeds 0, 1, ..."""
    depth: int | None = None
    """Depth of a CIFAR ResNet, 6 n + 2; by default the small CNN."""
    cycles: int = 6
    """M: cycles, and snapshots."""
    cycle_epochs: int = 4
    """Epochs in a cycle."""
    batch_size: int = 64
    """Images in a batch."""
    rate: float = 0.01
    """First learning rate of the run without cycles."""
    baseline: Literal["cosine", "steps"] = "cosine"
    """How it falls: along one cosine to 0, or to a tenth at a half and at three quarters of the run."""
    cycle_rate: float = 0.04
    """Peak learning rate of every cycle; falls to 0 along a cosine."""
    weight_decay: float = 5e-4
    """L2; the paper has 1e-4."""
    augment: bool = False
    """Random crops (4 pixels) and flips."""
    rate_grid: tuple[float, ...] = ()
    """If given: run both kinds at every rate of it instead, and count errors on the last fifth of the training images,
    which are left out of the training."""
    train_size: int | None = None
    """Use only the first so many training images."""
    out: Path = Path("runs")
    """Results go to OUT/snapshot_ensembles/<time>/."""

    def __post_init__(self):
        """Refuses what cannot be run, before anything starts."""
        require(self.data in data.DATASETS, f"--data must be one of {', '.join(data.DATASETS)}, got {self.data!r}")
        for name in ("seeds", "cycles", "cycle_epochs", "batch_size"):
            check_integer(
                "snapshot_ensembles", name, getattr(self, name), at_least=1, remedy=f"pass --{name} 1 or more"
            )
        for rate in (self.rate, self.cycle_rate, *self.rate_grid):
            check_real("snapshot_ensembles", "rate", rate, at_least=0)
        check_real("snapshot_ensembles", "weight_decay", self.weight_decay, at_least=0)


VARIANTS = {
    "default": Settings(),
    "paper": Settings(
        data="cifar10",
        seeds=1,
        depth=110,
        cycles=5,
        cycle_epochs=40,
        rate=0.1,
        baseline="steps",
        cycle_rate=0.2,
        weight_decay=1e-4,
        augment=True,
    ),
    "rates": Settings(seeds=2, rate_grid=(0.005, 0.01, 0.02, 0.04, 0.08)),
    "smoke": Settings(seeds=2, cycles=2, cycle_epochs=1, batch_size=32, train_size=128),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one kind."""

    kind: str
    rate: float
    seed: int
    evaluation: ensemble.Evaluation  # of its snapshots
    disagreement: float  # mean share of test images on which two snapshots differ
    history: train.History


def chain(kind: str, peak: float, settings: Settings, period: int) -> optax.GradientTransformation:
    """Nesterov's momentum with L2, without cycles or with, and a snapshot after every period."""
    steps = settings.cycles * period
    if kind == "snapshots":
        rate = optim.cosine_cycles(peak, period=period)
    elif settings.baseline == "cosine":
        rate = optim.cosine_decay(peak, steps)
    else:
        rate = optim.step_decay(peak, (steps // 2, 3 * steps // 4))
    return optax.chain(
        optim.nesterov(rate, weight_decay=settings.weight_decay), optim.snapshots(period=period, keep=settings.cycles)
    )


def main(settings: Settings) -> None:
    """Trains both kinds from every seed; prints and writes the results, also if interrupted."""
    train_set, test_set = data.load(settings.data, data_dir=settings.data_dir)
    train_set = train_set[: settings.train_size]
    if settings.rate_grid:
        held_out = len(train_set) // 5
        train_set, test_set = train_set[:-held_out], train_set[-held_out:]
    if settings.depth is None:
        model = models.convnet(train_set.num_classes)
    else:
        model = models.resnet_cifar(settings.depth, train_set.num_classes)
    folder = report.new_run_directory(settings.out, "snapshot_ensembles")
    period = settings.cycle_epochs * train_set.steps_per_epoch(settings.batch_size)
    steps = settings.cycles * period
    rates = dict(zip(KINDS, (settings.rate, settings.cycle_rate), strict=True))
    plan = [(kind, rate) for kind in KINDS for rate in settings.rate_grid or (rates[kind],)]
    runs: list[Run] = []
    try:
        with progress_bar("snapshot ensembles", len(plan) * settings.seeds * steps) as update:
            for kind, rate in plan:
                tx = chain(kind, rate, settings, period)
                done = len(runs) * steps

                def tell(step: int, loss: float, done: int = done, label: str = f"{kind}, {rate:g}") -> None:
                    update(done + step, f"{label}, loss {loss:.3f}")

                found = train.population(
                    model,
                    tx,
                    train_set,
                    keys=seed_keys(settings.seeds),
                    steps=steps,
                    batch_size=settings.batch_size,
                    eval_set=test_set,
                    eval_every=period,
                    augment=data.CROP_AND_FLIP if settings.augment else None,
                    progress=tell,
                )
                for seed, history in enumerate(found.histories):
                    state = jax.tree.map(lambda leaf, seed=seed: leaf[seed], found.state)
                    members = optim.snapshot_variables(state.opt_state)
                    differ = ensemble.disagreement(ensemble.probabilities(model, members, test_set))
                    pairs = differ[np.triu_indices(len(differ), 1)]
                    disagreement = float(pairs.mean()) if len(pairs) else 0.0
                    evaluation = ensemble.evaluate(model, members, test_set)
                    runs.append(Run(kind, rate, seed, evaluation, disagreement, history))
    finally:
        if runs:
            (write_rates if settings.rate_grid else write_report)(folder, settings, runs)


def write_rates(folder: Path, settings: Settings, runs: list[Run]) -> None:
    """Writes `result.json` and `report.md` into `folder`: the held-out error at each rate."""
    what = {"no cycle": "single model: the last weights without cycles", "snapshots": "all snapshots together"}
    rows = []
    for kind in dict.fromkeys(r.kind for r in runs):
        place = 0 if kind == "no cycle" else -1
        errors = {
            rate: [100 * r.evaluation.ensemble.error[place] for r in runs if (r.kind, r.rate) == (kind, rate)]
            for rate in settings.rate_grid
        }
        best = min(filter(errors.get, errors), key=lambda rate: report.mean_and_std(errors[rate])[0])
        rows.append([what[kind], *map(report.show_mean_and_std, errors.values()), f"{best:g}"])
    publish(
        folder,
        doc=__doc__ or "",
        title=f"{settings.data}, {settings.cycles} cycles of {settings.cycle_epochs} epochs: held-out error % by rate",
        header=["rate", *(f"{rate:g}" for rate in settings.rate_grid), "best"],
        rows=rows,
        note="Mean ± standard deviation over seeds. Held out: the last fifth of the training images.",
        remarks=(),
        settings=settings,
        runs=runs,
    )


def write_report(folder: Path, settings: Settings, runs: list[Run]) -> None:
    """Writes `result.json`, `report.md` and `errors.png` into `folder`; prints the table and where they are."""
    errors = {kind: 100 * np.array([r.evaluation.ensemble.error for r in runs if r.kind == kind]) for kind in KINDS}
    errors = {kind: found for kind, found in errors.items() if len(found)}
    header = ["test error %", *(f"{m} member{'s' if m > 1 else ''}" for m in range(1, settings.cycles + 1)), "paper"]
    rows = []
    for kind, found in errors.items():
        cells = [report.show_mean_and_std(found[:, m]) for m in range(settings.cycles)]
        rows.append([f"{kind}, last m", *cells, f"{PAPER[kind]:.2f}"])
    for kind in errors:
        alone = 100 * np.array([r.evaluation.members.error for r in runs if r.kind == kind])
        rows.append(
            [f"{kind}, the m-th alone", *(report.show_mean_and_std(alone[:, m]) for m in range(settings.cycles)), "-"]
        )
    remarks = verdict(settings, errors)
    for kind in errors:
        differ = report.mean_and_std([100 * r.disagreement for r in runs if r.kind == kind])[0]
        remarks.append(f"Two members of {kind} name different classes for {differ:.1f} % of the test images.")
    title = (
        f"{settings.data}: {settings.cycles} cycles of {settings.cycle_epochs} epochs, batches of "
        f"{settings.batch_size}, {settings.seeds} seeds"
    )
    plot(folder / "errors.png", settings, errors)
    publish(
        folder,
        doc=__doc__ or "",
        title=title,
        header=header,
        rows=rows,
        note="Mean ± standard deviation over seeds. A single model of the same cost is the last snapshot of the run "
        "without cycles: its first row at one member. Paper: Huang et al. 2017, ResNet-110 on CIFAR-10 (single "
        "model 5.52).",
        remarks=remarks,
        pictures=[("Test error against the number of members", "errors.png")],
        settings=settings,
        runs=runs,
    )


def verdict(settings: Settings, errors: dict[str, np.ndarray]) -> list[str]:
    """Whether the ensemble of all snapshots is ahead of a single model and of the run without cycles, seed by seed."""
    if set(errors) != set(KINDS) or len({len(found) for found in errors.values()}) > 1:
        return ["No verdict: not all runs came to their end."]
    remarks = []
    ours = errors["snapshots"][:, -1]
    for name, theirs in (
        ("the single model", errors["no cycle"][:, 0]),
        (f"the {settings.cycles} snapshots without cycles", errors["no cycle"][:, -1]),
    ):
        gain, spread = report.mean_and_std(list(theirs - ours))
        noise = spread / np.sqrt(len(ours))
        if not np.isfinite(noise):
            word = "cannot be judged from one seed"
        elif abs(gain) < 2 * noise:
            word = "is neither borne out nor contradicted: less than two standard errors"
        else:
            word = "is borne out" if gain > 0 else "is contradicted"
        remarks.append(
            f"The ensemble of {settings.cycles} snapshots has {gain:+.2f} points less error than {name}, from the same "
            f"seeds: the claim {word}."
        )
    return remarks


def plot(path: Path, settings: Settings, errors: dict[str, np.ndarray]) -> None:
    """Test error against the number of members."""
    sizes = np.arange(1, settings.cycles + 1)
    curves = {kind: (sizes, found) for kind, found in errors.items()}
    if "no cycle" in errors:
        curves["single model"] = sizes, np.repeat(errors["no cycle"][:, :1], settings.cycles, 1)
    panel = report.Panel("The last m snapshots", "members m", "test error (%)", curves, ("single model",))
    report.plot_curves(path, f"{settings.data}, {settings.seeds} seeds (mean ± std)", [panel])


if __name__ == "__main__":
    run(main, VARIANTS, __doc__ or "")
