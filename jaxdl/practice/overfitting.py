"""Trains on a few minibatches until the error is zero: a network that cannot is not ready for more data."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.arguments import check_integer
from jaxdl.data import Dataset, Stream
from jaxdl.data import batches as data_batches
from jaxdl.data.checks import check_dataset, input_struct
from jaxdl.optim.requests import initial_state, requests, update
from jaxdl.practice.findings import Finding
from jaxdl.practice.overfitting_verdict import Run, judge
from jaxdl.practice.samples import check_sums, target_kind
from jaxdl.practice.without_dropout import WithoutDropout, dropout_in
from jaxdl.report.plots import Panel, plot_curves
from jaxdl.train.errors import NonFiniteLossError
from jaxdl.train.events import Event, Stepped
from jaxdl.train.history import History
from jaxdl.train.loop import Progress, fit
from jaxdl.train.losses import Loss, Metric, cross_entropy
from jaxdl.train.state import TrainState, check_state
from jaxdl.train.task import Augment, Preprocess, make_task

NEAR_ZERO = 0.05  # share of the first loss that counts as zero where there is no error


@dataclasses.dataclass(frozen=True)
class Overfit:
    """What `overfit_batch` found.

    Attributes:
      reached: updates after which all examples were classified rightly in one pass (or, without the metric "error",
        after which the loss was at most 5% of the first); None if that did not happen.
      loss: of each update's batch, before the update, float32 [updates].
      error: the share of that batch classified wrongly, float32 [updates]; None without that metric.
      batches: minibatches in one pass.
      contradictions: examples that cannot be fitted, because an equal one has another label.
      regularisation: what the model, the optimizer and the call do against fitting: "Dropout 0.5", "augmentation",
        "weight decay".
      reached_without: the same as `reached`, for a second run without dropout and augmentation, if there was one.
      findings: what is amiss.
      verdict: all in words.
    """

    reached: int | None
    loss: np.ndarray
    error: np.ndarray | None
    batches: int
    contradictions: int
    regularisation: tuple[str, ...]
    reached_without: int | None
    findings: tuple[Finding, ...]
    verdict: str

    def __str__(self) -> str:
        return self.verdict

    def plot(self, path: str | os.PathLike) -> None:
        """Draws loss and error over the updates to a PNG."""
        updates = np.arange(1, len(self.loss) + 1)
        panels = [Panel("Loss", "updates", "loss of the batch", {"loss": (updates, self.loss[None])}, log_y=True)]
        if self.error is not None:
            curve = {"error": (updates, 100 * self.error[None])}
            panels.append(Panel("Error", "updates", "error of the batch (%)", curve, y_limits=(0, None)))
        panels = [dataclasses.replace(panel, own_legend=True) for panel in panels]
        plot_curves(Path(path), f"Overfitting {self.batches} minibatches", panels)


def overfit_batch(
    state: TrainState,
    model: nn.Module,
    tx: optax.GradientTransformation,
    train_set: Dataset | Stream,
    *,
    batches: int = 2,
    batch_size: int = 32,
    steps: int = 200,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    progress: bool | Progress = True,
) -> Overfit:
    """Trains a copy of a state on a few minibatches, again and again, until their error is zero.

    Any network that is worth training on a whole set can learn a few examples by heart. The run ends at the first pass
    without an error. If it does not come to that, and the model has dropout or `augment` is given, the run is made once
    more without these (BatchNorm stays as in training).

    Args:
      state: the state to start from; it stays as it is.
      model: the module that the state belongs to.
      tx: the optimizer that the state belongs to.
      train_set: the set from which the first minibatches are taken.
      batches: minibatches in one pass.
      batch_size: examples in a minibatch.
      steps: updates at most.
      loss: as for `train.fit`.
      metrics: as for `train.fit`; "error" must become 0. Without a metric of that name the loss must fall to 5% of its
        first value.
      preprocess: as for `train.fit`; by default `train_set.standardize`.
      augment: as for `train.fit`; by default none, because other images at every pass are harder to learn by heart.
      progress: as for `train.fit`.

    Returns:
      The curves, findings and a verdict. Findings: "rate too high" (the loss is not finite, or grew), "loss does not
      fall", "rate too low", "too few updates", "regularisation", "labels contradict", "stuck above zero".

    Raises:
      ValueError: an argument is wrong.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice, train
      >>> train_set, _ = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(64,)), optim.momentum(0.03)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set)
      >>> found = practice.overfit_batch(state, model, tx, train_set, progress=False)
      >>> found.reached is not None, found.findings
      (True, ())

    Reference: the lecture notes, `Overfit a small sample`.
    """
    name = "overfit_batch"
    check_state(name, state)
    check_dataset(name, "train_set", train_set)
    for argument, value in (("batches", batches), ("steps", steps)):
        check_integer(name, argument, value, at_least=1)
    batches = min(batches, train_set.steps_per_epoch(batch_size))
    check_integer(name, "steps", steps, at_least=2 * batches, remedy=f"{batches} updates are one pass")
    preprocess = preprocess or train_set.standardize
    make_task(name, model, loss=loss, metrics=metrics, preprocess=preprocess, augment=augment)
    few = _first_batches(train_set, state.key, batch_size, batches)
    settings = {"loss": loss, "metrics": metrics, "preprocess": preprocess, "progress": progress}

    start = state._replace(step=jnp.zeros_like(state.step))  # so that passes begin with the first update
    run = _run(start, model, tx, few, batch_size, steps, augment=augment, **settings)
    structs = input_struct(name, few[:2].example.inputs, preprocess)
    dropout = dropout_in(model, state.variables, structs)
    on = [*dropout, *(["augmentation"] if augment is not None else [])]
    again = None
    if run.reached is None and on:
        plain = WithoutDropout(model) if dropout else model
        again = _run(start, plain, tx, few, batch_size, steps, augment=None, **settings)
    everything = (*on, *(["weight decay"] if _decays(tx, state) else []))
    contradictions = _contradictions(few)
    findings, verdict = judge(run, again, loss, few, contradictions, everything)
    without = None if again is None else again.reached
    return Overfit(
        run.reached, run.loss, run.error, batches, contradictions, everything, without, tuple(findings), verdict
    )


def _first_batches(train_set: Dataset | Stream, key: jax.Array, batch_size: int, count: int) -> Dataset:
    """The examples of the first minibatches that training would see."""
    seen = list(data_batches(train_set, key, batch_size, steps=count))
    inputs, targets = jax.tree.map(lambda *parts: np.concatenate(parts), *map(tuple, seen))
    names = train_set.class_names
    return Dataset(train_set.name, train_set.split, inputs, targets, names, train_set.standardize)


class _UntilZero:
    """A watcher that ends a run at the end of a pass without an error, and remembers how many updates were made."""

    def __init__(self, batches: int):
        self._batches = batches
        self._values: list[float] = []
        self._first: float | None = None
        self.reached: int | None = None

    def __call__(self, event: Event) -> bool:
        if not isinstance(event, Stepped) or self.reached is not None:
            return False
        found = event.metrics.metrics.get("error")
        before = len(self._values)
        self._values += np.asarray(event.metrics.loss if found is None else found, np.float64).tolist()
        for end in range(self._batches, len(self._values) + 1, self._batches):
            if end <= before:
                continue
            value = float(np.mean(self._values[end - self._batches : end]))
            self._first = value if self._first is None else self._first
            if value <= (0 if found is not None else NEAR_ZERO * self._first):
                self.reached = end
                return True
        return False


def _run(state, model, tx, few: Dataset, batch_size: int, steps: int, **settings) -> Run:
    watcher = _UntilZero(len(few) // batch_size)
    devices = jax.local_devices()[:1]
    broke = None
    try:
        _, history = fit(
            state,
            model,
            tx,
            few,
            steps=steps,
            batch_size=batch_size,
            eval_set=few,
            eval_every=steps,
            watch=[watcher],
            devices=devices,
            gradient_norm=True,
            **settings,
        )
    except NonFiniteLossError as error:
        history, broke = error.history, error.step
    return _as_run(history, watcher.reached, broke, len(few) // batch_size)


def _as_run(history: History, reached: int | None, broke: int | None, batches: int) -> Run:
    stop = reached or len(history.loss)
    error = history.metrics.get("error")
    error = None if error is None else error[:stop]
    return Run(reached, broke, history.loss[:stop], error, history.gradient_norm[:stop], batches)


def _decays(tx: optax.GradientTransformation, state: TrainState) -> bool:
    """Whether an update without a gradient would change parameters: coupled or decoupled decay, or another penalty."""
    zeros = jax.tree.map(jnp.zeros_like, state.params)

    def one(params, batch_stats):
        opt_state = initial_state(tx, params, batch_stats)
        asked = requests(params, opt_state)
        updates, _ = update(
            tx,
            asked,
            zeros,
            opt_state,
            params,
            value=jnp.zeros(()),
            batch_stats=batch_stats,
            value_fn=lambda params: jnp.zeros(()),
            grad_fn=lambda params, number=0: zeros,
        )
        return optax.tree.norm(updates)

    return bool(jax.jit(one)(state.params, state.batch_stats) > 0)


def _contradictions(few: Dataset) -> int:
    """How many examples a model must get wrong: in each group of equal inputs, all but those of the commonest label."""
    if target_kind(few.targets) != "classes":
        return 0
    _, groups = np.unique(check_sums(few.inputs), return_inverse=True)
    most = sum(np.bincount(few.targets[groups == group]).max() for group in range(groups.max() + 1))
    return len(few) - int(most)
