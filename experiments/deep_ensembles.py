"""Independent runs differ more in what they predict, and make the better ensemble, than snapshots of one run.

Claim: networks trained from independent initialisations disagree on far more examples than snapshots along one
training do, and an ensemble of them has a lower test error than one of as many snapshots.

Paper: Fort et al., Deep Ensembles: A Loss Landscape Perspective, 2019 (arXiv 1912.02757), figs. 2 and 3: CIFAR-10,
three small convolutional nets (test accuracies about 64, 71 and 90 %; for ensembles only figures). Here by default: its
SmallCNN on the bundled images, Adam with a rate that is halved at every quarter of the run as in the paper's code, and
a snapshot after every epoch. In the paper's code pixels are from 0 to 255; here they are standardised.

Command: python -m experiments.deep_ensembles
"""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from experiments.cli import run, seed_keys
from experiments.summary import publish
from jaxdl import data, ensemble, optim, report, train
from jaxdl.arguments import check_integer, check_real, require
from jaxdl.models import layers
from jaxdl.progress import progress_bar

KINDS = ("independent runs", "snapshots of one run")


class SimpleCNN(nn.Module):
    """The paper's nets: 3x3 convolutions with dropout, 2x2 max pooling and (except the last) ReLU; then a dense layer.

    Attributes:
      widths: channels; (16, 32, 32) is SmallCNN, (64, 128, 256, 256) MediumCNN with 971,146 parameters on CIFAR-10.
      num_classes: logits.
      dropout: rate.
    """

    widths: tuple[int, ...]
    num_classes: int = 10
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels] to logits [batch, num_classes]."""
        for number, width in enumerate(self.widths, 1):
            x = layers.Conv(width, (3, 3), kernel_init=nn.initializers.xavier_uniform())(x)
            x = layers.max_pool(layers.Dropout(self.dropout)(x, train=train))
            x = nn.relu(x) if number < len(self.widths) else x
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.xavier_uniform())(x.reshape(len(x), -1))


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run."""

    data: str = "fashion_mini"
    """Data set: fashion_mini ships with the package; cifar10, fashion_mnist, mnist, ... come through tfds."""
    data_dir: Path | None = None
    """Where tensorflow-datasets keeps its data (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)."""
    seeds: int = 3
    """Ensembles, each of its own runs."""
    members: int = 4
    """Runs in an ensemble, and snapshots of one run."""
    widths: tuple[int, ...] = (16, 32, 32)
    """Channels of the convolutions: the paper's SmallCNN."""
    epochs: int = 8
    """Epochs of each run; there is a snapshot after each epoch."""
    batch_size: int = 128
    """Images in a batch."""
    rate: float = 1.6e-3
    """Adam's first rate; it is halved at every quarter of the run."""
    train_size: int | None = None
    """Use only the first so many training images."""
    out: Path = Path("runs")
    """Results go to OUT/deep_ensembles/<time>/."""

    def __post_init__(self):
        """Refuses what cannot be run, before anything starts."""
        require(self.data in data.DATASETS, f"--data must be one of {', '.join(data.DATASETS)}, got {self.data!r}")
        for name in ("seeds", "batch_size"):
            check_integer("deep_ensembles", name, getattr(self, name), at_least=1, remedy=f"pass --{name} 1 or more")
        check_integer("deep_ensembles", "members", self.members, at_least=2, remedy="pass --members 2 or more")
        check_integer("deep_ensembles", "epochs", self.epochs, at_least=self.members, remedy="one snapshot an epoch")
        check_real("deep_ensembles", "rate", self.rate, at_least=0)


VARIANTS = {
    "default": Settings(),
    "paper": Settings(data="cifar10", widths=(64, 128, 256, 256), epochs=40),
    "smoke": Settings(seeds=1, members=2, epochs=2, batch_size=32, train_size=64, widths=(4, 4)),
}


@dataclasses.dataclass(frozen=True)
class Result:
    """One ensemble of one kind."""

    kind: str
    seed: int
    evaluation: ensemble.Evaluation
    disagreement: float  # mean share of test images on which two members differ
    normalized_diversity: float  # the same, divided by the error
    weight_cosine: float  # mean cosine between two members' weights


def main(settings: Settings) -> None:
    """Trains all runs as one population; prints and writes the results."""
    train_set, test_set = data.load(settings.data, data_dir=settings.data_dir)
    train_set = train_set[: settings.train_size]
    model = SimpleCNN(settings.widths, train_set.num_classes)
    folder = report.new_run_directory(settings.out, "deep_ensembles")
    epoch = train_set.steps_per_epoch(settings.batch_size)
    steps = settings.epochs * epoch
    quarters = {max(round(part * steps / 4), 1): 0.5 for part in (1, 2, 3)}
    tx = optax.chain(
        optim.adam(optax.piecewise_constant_schedule(settings.rate, quarters)),
        optim.snapshots(period=epoch, keep=settings.epochs),
    )
    runs = settings.seeds * settings.members
    with progress_bar("deep ensembles", runs * steps) as update:
        found = train.population(
            model,
            tx,
            train_set,
            keys=seed_keys(runs),
            steps=steps,
            batch_size=settings.batch_size,
            progress=lambda step, loss: update(step, f"loss {loss:.3f}"),
        )
    results = []
    for seed in range(settings.seeds):
        mine = range(seed * settings.members, (seed + 1) * settings.members)
        ends = jax.tree.map(lambda leaf, mine=mine: leaf[np.array(mine)], found.state.params)
        results.append(judged(KINDS[0], seed, model, ends, test_set))
        snapshots = optim.snapshot_variables(one_of(found.state, mine[0]).opt_state)["params"]
        last = jax.tree.map(lambda leaf: leaf[-settings.members :], snapshots)
        results.append(judged(KINDS[1], seed, model, last, test_set))
    plot_trajectories(folder / "trajectories.png", model, found.state, test_set, min(3, runs))
    write_report(folder, settings, results)


def one_of(state: train.TrainState, number: int) -> train.TrainState:
    """One member of a population."""
    return jax.tree.map(lambda leaf: leaf[number], state)


def judged(kind: str, seed: int, model: nn.Module, members: Any, test_set: data.Dataset) -> Result:
    """Scores an ensemble of stacked members, and measures how much they differ."""
    probabilities = ensemble.probabilities(model, members, test_set)
    pairs = np.triu_indices(len(probabilities), 1)
    return Result(
        kind,
        seed,
        ensemble.evaluate(model, members, test_set),
        float(ensemble.disagreement(probabilities)[pairs].mean()),
        float(ensemble.normalized_diversity(probabilities, test_set.labels)[pairs].mean()),
        float(ensemble.weight_cosine(members)[pairs].mean()),
    )


def plot_trajectories(path: Path, model: nn.Module, state: train.TrainState, test_set: data.Dataset, runs: int) -> None:
    """The snapshots of some runs, placed by what they predict on 500 test images."""
    members = [optim.snapshot_variables(one_of(state, number).opt_state)["params"] for number in range(runs)]
    probabilities = np.concatenate([ensemble.probabilities(model, snapshots, test_set[:500]) for snapshots in members])
    if len(probabilities) >= 3:
        places = ensemble.project_predictions(probabilities, via="tsne").reshape(runs, -1, 2)
        paths = {f"run {number}": points for number, points in enumerate(places)}
        report.plot_paths(path, "Training trajectories, by t-SNE of predictions (a dot an epoch)", paths)


def write_report(folder: Path, settings: Settings, results: list[Result]) -> None:
    """Writes result, report and pictures into `folder`; prints the table."""
    by_kind = {kind: [r for r in results if r.kind == kind] for kind in KINDS}
    errors = {kind: 100 * np.array([r.evaluation.ensemble.error for r in mine]) for kind, mine in by_kind.items()}
    header = [
        "members",
        *(f"test error % of {m}" for m in range(1, settings.members + 1)),
        "disagree on %",
        "disagreement / error",
        "cosine of weights",
    ]
    rows = [
        [
            kind,
            *(report.show_mean_and_std(errors[kind][:, m]) for m in range(settings.members)),
            report.show_mean_and_std([100 * r.disagreement for r in mine]),
            report.show_mean_and_std([r.normalized_diversity for r in mine]),
            report.show_mean_and_std([r.weight_cosine for r in mine]),
        ]
        for kind, mine in by_kind.items()
    ]
    remarks = verdict(settings, by_kind, errors)
    title = (
        f"{settings.data}, channels {', '.join(map(str, settings.widths))}: {settings.epochs} epochs, batches of "
        f"{settings.batch_size}, {settings.seeds} ensembles"
    )
    sizes = np.arange(1, settings.members + 1)
    panel = report.Panel(
        "Ensembles", "members", "test error (%)", {kind: (sizes, found) for kind, found in errors.items()}
    )
    report.plot_curves(folder / "errors.png", f"{settings.data}, {settings.seeds} ensembles (mean ± std)", [panel])
    publish(
        folder,
        doc=__doc__ or "",
        title=title,
        header=header,
        rows=rows,
        note="Mean ± standard deviation over ensembles. Snapshots are the last ones of each ensemble's first run. The "
        "paper has figures only.",
        remarks=remarks,
        pictures=[("Test error against the number of members", "errors.png"), ("Trajectories", "trajectories.png")],
        settings=settings,
        runs=results,
    )


def verdict(settings: Settings, by_kind: dict[str, list[Result]], errors: dict[str, np.ndarray]) -> list[str]:
    """Says for both halves of the claim whether the ensembles bear them out."""
    ours, theirs = (by_kind[kind] for kind in KINDS)
    ratios = [a.disagreement / b.disagreement for a, b in zip(ours, theirs, strict=True) if b.disagreement]
    gains = errors[KINDS[1]][:, -1] - errors[KINDS[0]][:, -1]
    gain, spread = report.mean_and_std(list(gains))
    noise = spread / np.sqrt(len(gains))
    if not np.isfinite(noise):
        word = "one ensemble is no judgement"
    elif abs(gain) < 2 * noise:
        word = "less than two standard errors: neither borne out nor contradicted"
    else:
        word = "the claim is borne out" if gain > 0 else "the claim is contradicted"
    return [
        f"Independent runs disagree on {report.show_mean_and_std(ratios)} times as many test images as snapshots of "
        "one run.",
        f"The ensemble of {settings.members} independent runs has {gain:+.2f} points less error than the one of as "
        f"many snapshots, which cost one run instead of {settings.members}: {word}.",
    ]


if __name__ == "__main__":
    run(main, VARIANTS, __doc__ or "")
