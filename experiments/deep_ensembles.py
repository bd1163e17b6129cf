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

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.ablation import Ablation, Case, Comparison, Curves, Measured, Results, Settings, Work
from experiments.ablation.measures import ensemble_scores
from experiments.ablation.sweep import Sweep
from jaxdl import ensemble, optim, report, train
from jaxdl.arguments import check_integer, check_real, require
from jaxdl.models import layers


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
class EnsembleSettings(Settings):
    """Settings, networks and ensembles."""

    members: int = 4
    """Runs in an ensemble, and snapshots of one run."""
    widths: tuple[int, ...] = (16, 32, 32)
    """Channels of the convolutions: the paper's SmallCNN."""
    rate: float = 1.6e-3
    """Adam's first rate; it is halved at every quarter of the run."""

    def __post_init__(self):
        """Refuses what cannot be run."""
        super().__post_init__()
        check_integer("deep_ensembles", "members", self.members, at_least=2, remedy="pass --members 2 or more")
        check_real("deep_ensembles", "rate", self.rate, at_least=0)


def cases(settings: EnsembleSettings, train_set) -> list[Case]:
    """Ensembles of both kinds. There is a snapshot after each epoch."""
    epoch = train_set.steps_per_epoch(settings.batch_size)
    epochs = settings.steps // epoch
    require(epochs >= settings.members, f"--steps must be {settings.members} epochs of {epoch} steps or more")
    quarters = {max(round(part * settings.steps / 4), 1): 0.5 for part in (1, 2, 3)}
    tx = optax.chain(
        optim.adam(optax.piecewise_constant_schedule(settings.rate, quarters)),
        optim.snapshots(period=epoch, keep=epochs),
    )
    model = SimpleCNN(settings.widths, train_set.num_classes)
    return [
        Case("independent runs", model, tx, facts={"runs": settings.members}),
        Case("snapshots of one run", model, tx, facts={"runs": 1}),
    ]


def measure(work: Work) -> Measured:
    """Trains the runs, and scores their last weights, or the last snapshots of the only one.

    The runs of an ensemble have the keys of the seeds from `seed * members` on. Curves of the first ensemble:
    `trajectory_of_run_<n>`, the snapshots placed in a plane by what they predict on 500 test images.
    """
    model, runs, members = work.model, work.case.facts["runs"], work.settings.members
    first = work.seed * members
    found = train.population(
        model,
        work.tx,
        work.train_set,
        keys=jax.vmap(jax.random.key)(jnp.arange(first, first + runs)),
        steps=work.steps,
        batch_size=work.batch_size,
        progress=lambda step, loss: work.progress(step // runs, loss),
        **work.saving(),
    )
    if any(found.diverged):
        return Measured({}, {}, next(filter(None, found.diverged)))
    snapshots = [
        optim.snapshot_variables(jax.tree.map(lambda leaf, run=run: leaf[run], found.state.opt_state))
        for run in range(runs)
    ]
    if runs == 1:
        return ensemble_scores(model, jax.tree.map(lambda leaf: leaf[-members:], snapshots[0]), work.test_set)
    scores = ensemble_scores(model, found.state.variables, work.test_set)
    if work.seed > 0:
        return scores
    seen = np.concatenate([ensemble.probabilities(model, some, work.test_set[:500]) for some in snapshots[:3]])
    places = ensemble.project_predictions(seen, via="tsne").reshape(min(runs, 3), -1, 2)
    return scores.add({}, {f"trajectory_of_run_{run}": (path[:, 0], path[:, 1]) for run, path in enumerate(places)})


def trajectories(sweep: Sweep, results: Results) -> list[str]:
    """Draws the snapshots of three runs."""
    paths = {
        curve.name.removeprefix("trajectory_of_").replace("_", " "): np.stack([curve.x, curve.y], 1)
        for curve in results.curves
        if curve.name.startswith("trajectory")
    }
    if not paths:
        return []
    title = "Training trajectories, by t-SNE of predictions (a dot an epoch)"
    report.plot_paths(sweep.folder / "trajectories.png", title, paths)
    return ["trajectories.png"]


ABLATION = Ablation(
    "deep_ensembles",
    __doc__,
    variants={
        "default": EnsembleSettings(data="fashion_mini", steps=8 * 78),
        "paper": EnsembleSettings(widths=(64, 128, 256, 256), steps=40 * 390),
        "smoke": EnsembleSettings(
            data="fashion_mini", seeds=1, members=2, steps=4, batch_size=32, train_size=64, widths=(4, 4)
        ),
    },
    cases=cases,
    measure=measure,
    comparisons=[
        Comparison(
            "independent runs disagree on more test images than snapshots of one run",
            "disagreement",
            better="independent runs",
            worse="snapshots of one run",
            ratio=True,
            more=True,
        ),
        Comparison(
            "an ensemble of independent runs has a lower test error than one of as many snapshots",
            "test_error",
            better="independent runs",
            worse="snapshots of one run",
        ),
    ],
    table=(*(f"error_of_{m}" for m in range(1, 10)), "disagreement", "disagreement_by_error", "weight_cosine"),
    figures=(Curves("error_of_members", "Ensembles", "test error (%)", "members"),),
    note="Error of m: of the last m members together, in percent. Disagreement: percent of the test images for which "
    "two members name different classes; by error: divided by the error. Cosine: between two members' weights. "
    "Snapshots are the last ones of each ensemble's first run; they cost one run. The paper has figures only.",
    picture=trajectories,
)

if __name__ == "__main__":
    ABLATION.main()
