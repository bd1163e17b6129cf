"""Whole runs: a net trained as some advice says, judged by held-out images, with a diagnosis of its curves."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from experiments.practice.advice import Advice
from experiments.practice.document import Table
from jaxdl import data, practice, train


@dataclasses.dataclass
class Run:
    """A whole run of step 6; error and loss are those of the held-out images."""

    advice: Advice
    error: float  # in percent
    loss: float  # in nats
    state: Any
    diagnosis: Any


def whole_run(
    advice: Advice, net: nn.Module, train_set: data.Dataset, held_out: data.Dataset, key: jax.Array, folder: Path
) -> Run:
    """Trains from the key as the advice says; error and loss of a run that diverged are infinite.

    `folder` holds checkpoints: after a kill the same call goes on, and a finished run is only read.
    """
    tx = advice.chain()
    state = train.init_state(net, tx, key, train_set)
    try:
        state, history = train.fit(
            state,
            net,
            tx,
            train_set,
            steps=advice.steps,
            batch_size=advice.batch_size,
            eval_set=held_out,
            eval_every=max(1, advice.steps // 15),
            augment=advice.changes(train_set),
            checkpoint_dir=folder,
            checkpoint_every=max(1, advice.steps // 5),
            keep_checkpoints=1,
        )
        error, loss, diverged = 100 * float(history.eval_error[-1]), float(history.eval_loss[-1]), None
    except train.NonFiniteLossError as failure:
        history, error, loss, diverged = failure.history, math.inf, math.inf, str(failure)
    diagnosis = practice.diagnose(history, num_classes=train_set.num_classes, diverged=diverged)
    return Run(advice, error, loss, state, diagnosis)


def best_of(runs: Sequence[Run], images: int) -> Run:
    """Of the runs within one standard error of the least error, the one with the least loss.

    Errors counted on a few thousand images differ by chance; the loss of the same images tells more of two runs that
    are about equally good.

    Args:
      runs: at least one.
      images: how many the errors were counted on.
    """
    least = min(run.error for run in runs)
    share = least / 100
    margin = 100 * math.sqrt(share * (1 - share) / images) if math.isfinite(least) else 0.0
    return min((run for run in runs if run.error <= least + margin), key=lambda run: run.loss)


def table_of(runs: Sequence[Run]) -> Table:
    """A row for each run."""
    rows = [
        [
            f"{run.advice.rate:.3g}",
            f"{run.advice.weight_decay:.2g}",
            run.advice.augment,
            f"{run.advice.steps:,}",
            f"{run.error:.2f}",
            f"{run.loss:.3f}",
            ", ".join(finding.name for finding in run.diagnosis.findings) or "nothing",
        ]
        for run in runs
    ]
    return Table(
        ["peak rate", "decay", "augmentation", "updates", "held-out error (%)", "held-out loss", "diagnosis"], rows
    )
