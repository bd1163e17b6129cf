"""Snapshots at the ends of learning-rate cycles make a better ensemble than one run of the same length is.

Claim: at equal cost, the mean prediction of the last m snapshots of a run with M cosine cycles has a lower test error
than a single model trained with one cycle, and than snapshots at equal distances of that one-cycle run ("no cycle").

Paper: Huang et al., Snapshot Ensembles: Train 1, get M for free, 2017 (arXiv 1704.00109), table 1: ResNet-110 on
CIFAR-10, 200 epochs, batch 64: single model 5.52 %, no-cycle snapshots 5.49 %, snapshot ensemble of 5 cycles 5.73 % at
peak rate 0.1 and 5.32 % at 0.2. Here: a small CNN on the bundled images, a few epochs a cycle. The paper's errors are
shown for their order, not their height. The paper's baseline steps its rate down at a half and three quarters; here it
falls along one cosine.

Command: python -m experiments.snapshot_ensembles
"""

import dataclasses
from pathlib import Path

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
    cycles: int = 6
    """M: cycles, and snapshots."""
    period: int = 312
    """Updates in a cycle."""
    batch_size: int = 64
    """Images in a batch."""
    rate: float = 0.05
    """Peak learning rate of every cycle, and of the one-cycle run; falls to 0 along a cosine."""
    train_size: int | None = None
    """Use only the first so many training images."""
    out: Path = Path("runs")
    """Results go to OUT/snapshot_ensembles/<time>/."""

    def __post_init__(self):
        """Refuses what cannot be run, before anything starts."""
        require(self.data in data.DATASETS, f"--data must be one of {', '.join(data.DATASETS)}, got {self.data!r}")
        for name in ("seeds", "cycles", "period", "batch_size"):
            check_integer(
                "snapshot_ensembles", name, getattr(self, name), at_least=1, remedy=f"pass --{name} 1 or more"
            )
        check_real("snapshot_ensembles", "rate", self.rate, at_least=0)


VARIANTS = {
    "default": Settings(),
    "smoke": Settings(seeds=2, cycles=2, period=4, batch_size=32, train_size=128),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one kind."""

    kind: str
    seed: int
    evaluation: ensemble.Evaluation  # of its snapshots
    disagreement: float  # mean share of test images on which two snapshots differ
    history: train.History


def chain(kind: str, settings: Settings) -> optax.GradientTransformation:
    """Nesterov's momentum with L2, one cycle or many, and the snapshots."""
    steps = settings.cycles * settings.period
    rate = optim.cosine_decay(settings.rate, steps)
    if kind == "snapshots":
        rate = optim.cosine_cycles(settings.rate, period=settings.period)
    return optax.chain(
        optim.nesterov(rate, weight_decay=1e-4), optim.snapshots(period=settings.period, keep=settings.cycles)
    )


def main(settings: Settings) -> None:
    """Trains both kinds from every seed; prints and writes the results, also if interrupted."""
    train_set, test_set = data.load(settings.data, data_dir=settings.data_dir)
    train_set = train_set[: settings.train_size]
    model = models.convnet(train_set.num_classes)
    folder = report.new_run_directory(settings.out, "snapshot_ensembles")
    steps = settings.cycles * settings.period
    runs: list[Run] = []
    try:
        with progress_bar("snapshot ensembles", len(KINDS) * settings.seeds * steps) as update:
            for kind in KINDS:
                tx = chain(kind, settings)
                done = len(runs) * steps

                def tell(step: int, loss: float, done: int = done, kind: str = kind) -> None:
                    update(done + step, f"{kind}, loss {loss:.3f}")

                found = train.population(
                    model,
                    tx,
                    train_set,
                    keys=seed_keys(settings.seeds),
                    steps=steps,
                    batch_size=settings.batch_size,
                    eval_set=test_set,
                    eval_every=settings.period,
                    progress=tell,
                )
                for seed, history in enumerate(found.histories):
                    state = jax.tree.map(lambda leaf, seed=seed: leaf[seed], found.state)
                    members = optim.snapshot_params(state.opt_state)
                    differ = ensemble.disagreement(ensemble.probabilities(model, members, test_set))
                    pairs = differ[np.triu_indices(len(differ), 1)]
                    disagreement = float(pairs.mean()) if len(pairs) else 0.0
                    evaluation = ensemble.evaluate(model, members, test_set)
                    runs.append(Run(kind, seed, evaluation, disagreement, history))
    finally:
        if runs:
            write_report(folder, settings, runs)


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
        f"{settings.data}: {settings.cycles} cycles of {settings.period} steps of {settings.batch_size} images, "
        f"{settings.seeds} seeds"
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
