"""Whole runs: a net trained as some advice says, judged by held-out images, with a diagnosis of its curves."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from experiments.practice.advice import Advice
from jaxdl import data, practice, train


@dataclasses.dataclass
class Run:
    """A whole run of step 6."""

    advice: Advice
    error: float  # in percent, of the held-out images
    state: Any
    diagnosis: Any


def whole_run(advice: Advice, net: nn.Module, train_set: data.Dataset, held_out: data.Dataset, key: jax.Array) -> Run:
    """Trains from the key as the advice says; the error of a run that diverged is infinite."""
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
        )
        error, diverged = 100 * float(history.eval_error[-1]), None
    except train.NonFiniteLossError as failure:
        history, error, diverged = failure.history, math.inf, str(failure)
    return Run(advice, error, state, practice.diagnose(history, num_classes=train_set.num_classes, diverged=diverged))


def best_of(runs: Sequence[Run]) -> Run:
    """The run with the least error."""
    return min(runs, key=lambda run: run.error)
