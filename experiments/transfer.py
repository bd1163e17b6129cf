"""Features learned on other images help most where there are few of one's own; with many, training all layers wins.

Claim: with little data a new head on frozen features is the safer choice if the images are like those that the features
were learned from; with much data fine-tuning all layers is better, and training from scratch catches up; and the less
alike the images are, the less frozen features help. (The table of the lecture notes on transfer learning: little or
much data, near or far.)

Paper: Yosinski et al., How transferable are features in deep neural networks?, 2014 (arXiv 1411.1792), on halves of
ImageNet; discriminative rates: Howard and Ruder 2018 (arXiv 1801.06146). Neither has numbers for what is done here: a
ResNet-20 that others trained on CIFAR-10 (test error 8.27 %), to Fashion-MNIST (things: nearer) and MNIST (digits:
farther), with 100, 1,000 and 10,000 training images, drawn anew for every seed with equally many of each class. Images
of 28 x 28 grey pixels are shown as they are, in three equal channels. Rates are the best of a grid on held-out
training images of Fashion-MNIST (`--variant rates`).

Command: python -m experiments.transfer
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from experiments.cli import run
from jaxdl import data, models, optim, report, train, transfer
from jaxdl.arguments import check_integer, check_real, require
from jaxdl.progress import progress_bar

WEIGHTS = Path(__file__).parents[2] / "shared" / "weights" / "resnet20-12fca82f.th"
SOURCE = "https://github.com/akamaster/pytorch_resnet_cifar10, pretrained_models/resnet20-12fca82f.th"
IMAGENET = data.Standardize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # what the weights were trained with
GROUPS = ("stem", "stage1", "stage2", "stage3", "head")
METHODS = ("from scratch", "head only", "fine-tune all", "discriminative")


@dataclasses.dataclass(frozen=True)
class Rates:
    """Peak learning rate of each method."""

    from_scratch: float = 0.03
    head_only: float = 1.0
    fine_tune_all: float = 0.1
    discriminative: float = 0.1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run."""

    weights: Path = WEIGHTS
    """Weights of akamaster's ResNet-20, as .th or .npz."""
    data: tuple[str, ...] = ("fashion_mnist", "mnist")
    """Data sets of grey images, the nearer one first."""
    data_dir: Path | None = None
    """Where tensorflow-datasets keeps its data (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)."""
    sizes: tuple[int, ...] = (100, 1000, 10000)
    """Numbers of training images, multiples of the number of classes."""
    steps: tuple[int, ...] = (100, 200, 400)
    """Updates for each size."""
    batch_size: int = 32
    """Images in a batch."""
    seeds: int = 3
    """Runs of each kind, with the seeds 0, 1, ...: for the images, the head and the order."""
    test_size: int = 5000
    """How many of the first test images are used for the errors."""
    rates: Rates = Rates()
    """Peak learning rates; they fall to 0 along a cosine."""
    rate_grid: tuple[float, ...] = ()
    """If given: run every rate of it instead, and count errors on held-out training images."""
    out: Path = Path("runs")
    """Results go to OUT/transfer/<time>/."""

    def __post_init__(self):
        """Refuses what cannot be run, before anything starts."""
        for name in self.data:
            require(name in data.DATASETS, f"--data must be among {', '.join(data.DATASETS)}, got {name!r}")
        require(
            len(self.sizes) == len(self.steps) > 0,
            f"--sizes and --steps must be equally many, got {self.sizes} and {self.steps}",
        )
        for name in ("seeds", "batch_size", "test_size"):
            check_integer("transfer", name, getattr(self, name), at_least=1)
        for value in (*self.sizes, *self.steps):
            check_integer("transfer", "sizes and steps", value, at_least=1)
        for rate in (*dataclasses.asdict(self.rates).values(), *self.rate_grid):
            check_real("transfer", "rate", rate, at_least=0)


VARIANTS = {
    "default": Settings(),
    "rates": Settings(
        data=("fashion_mnist",),
        sizes=(1000,),
        steps=(200,),
        seeds=1,
        test_size=2000,
        rate_grid=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    ),
    "smoke": Settings(data=("fashion_mini",), sizes=(20, 40), steps=(2, 2), batch_size=8, seeds=1, test_size=50),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run."""

    data: str
    size: int
    method: str
    rate: float
    seed: int
    test_error_percent: float
    seconds: float


@functools.cache
def optimizer(method: str, rate: float, steps: int) -> optax.GradientTransformation:
    """The chain of a method; the same object for the same arguments, so that it compiles once."""
    chain = optim.momentum(optim.cosine_decay(rate, steps), weight_decay=1e-4)
    if method == "head only":
        return optax.chain(chain, transfer.freeze(lambda path: not path.startswith("head")))
    return optax.chain(chain, transfer.scale_by_depth(GROUPS)) if method == "discriminative" else chain


def as_source(dataset: data.Dataset) -> data.Dataset:
    """Grey images as the pretrained network takes them: three equal channels, ImageNet's means and deviations."""
    require(dataset.image_shape[2] == 1, f"transfer: needs grey images, got {dataset!r}")
    return dataclasses.replace(dataset, inputs=np.repeat(dataset.images, 3, -1), standardize=IMAGENET)


def some_of_each(dataset: data.Dataset, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images to train on, equally many of each class, and the others in random order."""
    require(
        size % dataset.num_classes == 0,
        f"--sizes must be multiples of the {dataset.num_classes} classes of {dataset.name}, got {size}",
    )
    order = np.random.default_rng(seed).permutation(len(dataset))
    of_class = [
        order[dataset.labels[order] == label][: size // dataset.num_classes] for label in range(dataset.num_classes)
    ]
    chosen = np.concatenate(of_class)
    require(len(chosen) == size, f"--sizes: {dataset.name} has too few images of some class for {size}")
    return chosen, order[~np.isin(order, chosen)]


def train_once(model, pretrained, method, rate, steps, seed, train_set, eval_set, settings, progress) -> Run:
    """Trains one method from one seed."""
    tx = optimizer(method, rate, steps)
    start = {} if method == "from scratch" else {"variables": pretrained, "new": ("head",)}
    state = train.init_state(model, tx, jax.random.key(seed), train_set.image_shape, **start)
    _, history = train.fit(
        state,
        model,
        tx,
        train_set,
        steps=steps,
        batch_size=min(settings.batch_size, len(train_set)),
        eval_set=eval_set,
        eval_every=steps,
        progress=progress,
    )
    error = 100 * float(history.eval_error[-1])
    return Run(train_set.name, len(train_set), method, rate, seed, error, history.seconds)


def main(settings: Settings) -> None:
    """Trains every method on every data set and size; prints and writes the results, also if interrupted."""
    if not settings.weights.is_file():
        raise FileNotFoundError(f"no file {settings.weights}; fetch it from {SOURCE} and pass --weights FILE")
    source = transfer.load_torch_weights(models.resnet_cifar(20), settings.weights)
    folder = report.new_run_directory(settings.out, "transfer")
    rates = dict(zip(METHODS, dataclasses.asdict(settings.rates).values(), strict=True))
    runs: list[Run] = []
    grid = len(settings.rate_grid) or 1
    total = len(settings.data) * sum(settings.steps) * settings.seeds * len(METHODS) * grid
    done = 0
    try:
        with progress_bar("transfer", total) as update:
            for name in settings.data:
                train_set, test_set = map(as_source, data.load(name, data_dir=settings.data_dir))
                model = models.resnet_cifar(20, train_set.num_classes)
                for size, steps in zip(settings.sizes, settings.steps, strict=True):
                    for seed in range(settings.seeds):
                        chosen, others = some_of_each(train_set, size, seed)
                        eval_set = train_set.take(others) if settings.rate_grid else test_set
                        for method in METHODS:
                            for rate in settings.rate_grid or (rates[method],):
                                label = f"{name}, {size} images, {method}, seed {seed}"

                                def tell(step: int, loss: float, done: int = done, label: str = label) -> None:
                                    update(done + step, f"{label}, loss {loss:.3f}")

                                runs.append(
                                    train_once(
                                        model,
                                        source,
                                        method,
                                        rate,
                                        steps,
                                        seed,
                                        train_set.take(chosen),
                                        eval_set[: settings.test_size],
                                        settings,
                                        tell,
                                    )
                                )
                                done += steps
    finally:
        if runs:
            write_report(folder, settings, runs)


def write_report(folder: Path, settings: Settings, runs: list[Run]) -> None:
    """Writes `result.json`, `report.md` and, but for a search of rates, `errors.png`; prints the table."""
    content: dict[str, Any] = {"experiment": "transfer", "settings": settings, "environment": report.environment()}
    if settings.rate_grid:
        header = ["method", *(f"{rate:g}" for rate in settings.rate_grid), "best"]
        rows, best = [], {}
        for method in METHODS:
            errors = {
                rate: cell([r for r in runs if (r.method, r.rate) == (method, rate)])[0] for rate in settings.rate_grid
            }
            best[method] = min(errors, key=errors.__getitem__)
            rows.append([method, *(f"{error:.2f}" for error in errors.values()), f"{best[method]:g}"])
        content |= {"best_rates": best}
        title, remarks = "Held-out error % at each peak rate", []
    else:
        header = ["data", "images", *METHODS]
        groups = [(name, size) for name in settings.data for size in settings.sizes]
        rows = [
            [
                name,
                f"{size:,}",
                *(
                    report.show_mean_and_std(
                        [r.test_error_percent for r in runs if (r.data, r.size, r.method) == (name, size, method)]
                    )
                    for method in METHODS
                ),
            ]
            for name, size in groups
        ]
        remarks = verdict(settings, runs)
        title = f"Test error % from {settings.weights.name}, mean ± std of {settings.seeds} seeds"
        plot(folder / "errors.png", settings, runs)
    content |= {"table": {"header": header, "rows": rows}, "remarks": remarks, "runs": runs}
    report.write_json(folder / "result.json", content)
    claim, _, rest = (__doc__ or "").partition("\n")
    environment = content["environment"]
    picture = "" if settings.rate_grid else "![Test error against training images](errors.png)\n\n"
    (folder / "report.md").write_text(
        f"# {claim}\n{rest}\n## {title}\n\n{report.markdown_table(header, rows)}\n\n"
        + "".join(f"{remark}\n\n" for remark in remarks)
        + picture
        + f"{environment['date']}, {environment['processor']} ({environment['cores']} cores), {environment['device']}, "
        f"jax {environment['versions']['jax']}, commit {environment['commit']}, `{environment['command']}`\n"
    )
    report.print_table(title, header, rows)
    print("\n".join([*remarks, f"Written to {folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}"]))


def cell(runs: Sequence[Run]) -> tuple[float, float]:
    """Mean and standard deviation of the test errors."""
    return report.mean_and_std([run.test_error_percent for run in runs])


def verdict(settings: Settings, runs: list[Run]) -> list[str]:
    """For each data set and size the best method, and whether it is ahead of the next by two standard errors."""
    remarks = []
    for name in settings.data:
        for size in settings.sizes:
            found = {m: cell([r for r in runs if (r.data, r.size, r.method) == (name, size, m)]) for m in METHODS}
            ended = sorted((m for m in METHODS if np.isfinite(found[m][0])), key=lambda m: found[m][0])
            if len(ended) < 2:
                continue
            (best, best_std), (second, second_std) = found[ended[0]], found[ended[1]]
            noise = np.hypot(best_std, second_std) / np.sqrt(settings.seeds)
            if not np.isfinite(noise):
                word = "one seed cannot tell them apart"
            else:
                word = "by more than two standard errors" if second - best > 2 * noise else "within two standard errors"
            remarks.append(
                f"{name}, {size:,} images: {ended[0]} {best:.2f} %, before {ended[1]} {second:.2f} % ({word})."
            )
    return remarks


def plot(path: Path, settings: Settings, runs: list[Run]) -> None:
    """Test error against training images, a panel for each data set."""
    panels = []
    for name in settings.data:
        curves = {}
        for method in METHODS:
            by_seed = [
                [r.test_error_percent for r in runs if (r.data, r.method, r.seed) == (name, method, seed)]
                for seed in range(settings.seeds)
            ]
            complete = [errors for errors in by_seed if len(errors) == len(settings.sizes)]
            if complete:
                curves[method] = np.asarray(settings.sizes), np.asarray(complete)
        if curves:
            panels.append(
                report.Panel(
                    name, "training images", "test error (%)", curves, ("from scratch",), log_y=True, log_x=True
                )
            )
    if panels:
        report.plot_curves(path, "ResNet-20 from CIFAR-10 to other images (mean ± std; from scratch dashed)", panels)


if __name__ == "__main__":
    run(main, VARIANTS, __doc__ or "")
