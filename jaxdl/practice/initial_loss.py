"""The loss before the first update, against that of a model that knows nothing."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, check_real
from jaxdl.data import Dataset, Stream, batches
from jaxdl.data.checks import check_dataset
from jaxdl.modules import apply_model
from jaxdl.practice.findings import Finding, with_findings
from jaxdl.program_cache import remembered
from jaxdl.train.losses import (
    Loss,
    Metric,
    cross_entropy,
    label_smoothing,
    sigmoid_cross_entropy,
    squared_error,
)
from jaxdl.train.state import TrainState, check_state, check_variables
from jaxdl.train.task import Preprocess, Task, check_task, make_task

_TOO_HIGH = 1.25  # nats above the reference, or a quarter of it if that is more: logits of deviation 1.6
_TIMES = 3.0  # for squared errors: how often the reference


@dataclasses.dataclass(frozen=True)
class InitialLoss:
    """What `check_initial_loss` found. Losses are means over examples, in nats for cross-entropies.

    Attributes:
      loss: the measured loss, without the decay's term, with losses that the model sows.
      standard_error: of that mean, from the deviation over examples.
      penalty: the decay's term, weight_decay / 2 times the sum of all squared parameters.
      reference: the loss if all outputs are 0: log(classes) for cross-entropy, log 2 for sigmoid cross-entropy (a mean
        over labels), the mean square of the targets for squared errors; None for another loss.
      constant: the loss of the best prediction that is the same for every input: the entropy of the classes, the mean
        entropy of the labels, or the variance of the targets; None for another loss.
      constant_by_class: loss of that constant prediction on each class, -log of its share, float64 [classes]; inf for
        classes without examples, and None unless the targets are class numbers.
      output_std: standard deviation of the outputs over examples and outputs; NaN for a tree of outputs.
      metrics: means of the metrics by name.
      examples: how many were looked at.
      findings: what is amiss.
      verdict: all in words.
    """

    loss: float
    standard_error: float
    penalty: float
    reference: float | None
    constant: float | None
    constant_by_class: np.ndarray | None
    output_std: float
    metrics: dict[str, float]
    examples: int
    findings: tuple[Finding, ...]
    verdict: str

    @property
    def total(self) -> float:
        """What training minimises: the loss and the decay's term."""
        return self.loss + self.penalty

    def __str__(self) -> str:
        return self.verdict


def check_initial_loss(
    state: TrainState,
    model: nn.Module,
    train_set: Dataset | Stream,
    *,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    weight_decay: float = 0.0,
    batch_size: int = 128,
    batches: int = 8,
) -> InitialLoss:
    """Compares the loss of a state that has not been trained with that of a model that knows nothing.

    The loss is computed as an update does: with batch statistics and dropout, on the batches that training would begin
    with, without augmentation. No gradient is taken. If all classes get the same probability, cross-entropy is
    log(classes), whatever the labels are, soft ones or smoothed ones too. A random last layer adds about half the
    variance of its logits.

    Args:
      state: from `train.init_state`; it stays as it is.
      model: the module that the state belongs to.
      train_set: the set to train on.
      loss: as for `train.fit`. `cross_entropy`, `label_smoothing`, `sigmoid_cross_entropy` and `squared_error` have
        a reference.
      metrics: as for `train.fit`.
      preprocess: as for `train.fit`; by default `train_set.standardize`.
      weight_decay: the factor of a coupled L2 penalty, as of `optim.add_l2` for all parameters.
      batch_size: examples in a batch.
      batches: how many; fewer if an epoch has fewer.

    Returns:
      The loss, what it is compared with, findings and a verdict.

    Raises:
      ValueError: an argument is wrong, or the state is of another model.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice, train
      >>> train_set, _ = data.load("fashion_mini")
      >>> model = models.mlp(widths=(32,))
      >>> state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), train_set)
      >>> found = practice.check_initial_loss(state, model, train_set, weight_decay=1e-4)
      >>> round(found.reference, 3), bool(found.loss < 4), found.findings
      (2.303, True, ())

    Reference: the lecture notes, `Check initial loss`: turn off weight decay, log(C) for softmax with C classes.
    """
    name = "check_initial_loss"
    check_state(name, state)
    check_dataset(name, "train_set", train_set)
    preprocess = preprocess or train_set.standardize
    task = make_task(name, model, loss=loss, metrics=metrics, preprocess=preprocess)
    check_real(name, "weight_decay", weight_decay, at_least=0)
    check_integer(name, "batches", batches, at_least=1)
    count = min(batches, train_set.steps_per_epoch(batch_size))
    shapes = check_task(name, task, train_set, batch_size)
    check_variables(name, model, state.variables, shapes)

    values, targets = _measured(task, state, train_set, batch_size, count)
    losses = np.concatenate([each["losses"] for each in values]).astype(np.float64)
    sown = float(np.mean([each["sown"] for each in values]))
    means = {name: float(np.mean([each["metrics"][name] for each in values])) for name in values[0]["metrics"]}
    penalty = weight_decay / 2 * sum(float(np.sum(np.square(p, dtype=np.float64))) for p in _arrays(state.params))
    reference, constant, by_class = references(task.loss, targets, shapes.outputs)
    found = InitialLoss(
        loss=float(losses.mean()) + sown,
        standard_error=float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else float("nan"),
        penalty=penalty,
        reference=reference,
        constant=constant,
        constant_by_class=by_class,
        output_std=float(np.mean([each["output_std"] for each in values])),
        metrics=means,
        examples=len(losses),
        findings=(),
        verdict="",
    )
    found = dataclasses.replace(found, findings=tuple(_findings(found, task.loss, sown)))
    return dataclasses.replace(found, verdict=_verdict(found, int(state.step)))


def _arrays(params: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def _measured(
    task: Task, state: TrainState, train_set: Dataset | Stream, batch_size: int, count: int
) -> tuple[list[dict[str, Any]], Any]:
    """What each of the first batches gives, and targets: all of a set in memory, those of the batches of a stream."""
    program = _program(task)
    variables = jax.tree.map(jnp.asarray, state.variables)
    start = int(state.step)
    found, seen = [], []
    for number, batch in enumerate(batches(train_set, state.key, batch_size, start=start, steps=start + count)):
        key = jax.random.fold_in(state.key, number)
        found.append(jax.device_get(program(variables, batch, key)))
        seen.append(batch.targets)
    if isinstance(train_set, Dataset):
        return found, train_set.targets
    return found, jax.tree.map(lambda *parts: np.concatenate(parts), *seen)


@remembered()
def _program(task: Task) -> Callable[..., dict[str, Any]]:
    def values(variables, batch, key):
        carried = [name for name in variables if name != "params"]
        rngs = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        inputs = task.inputs(batch.inputs)
        outputs, updated = apply_model(
            task.model, variables, inputs, train=True, rngs=rngs, mutable=[*carried, "losses"]
        )
        losses, metrics = task.values(outputs, batch.targets)
        sown = sum(jax.tree.leaves(updated.get("losses", {})), jnp.zeros(()))
        std = jnp.std(outputs.astype(jnp.float32)) if hasattr(outputs, "shape") else jnp.nan
        means = {name: jnp.mean(each) for name, each in metrics.items()}
        return {"losses": losses, "metrics": means, "sown": sown, "output_std": std}

    return jax.jit(values)


def references(loss: Loss, targets: Any, outputs: Any) -> tuple[float | None, float | None, np.ndarray | None]:
    """The loss at outputs of 0, that of the best constant prediction, and the latter by class."""
    if loss is cross_entropy or isinstance(loss, label_smoothing):
        classes = outputs.shape[-1]
        numbers = targets.ndim == 1
        shares = np.bincount(targets, minlength=classes) / len(targets) if numbers else targets.mean(0, dtype=float)
        smoothing = loss.smoothing if isinstance(loss, label_smoothing) else 0.0
        smooth = (1 - smoothing) * shares + smoothing / classes  # what the best constant prediction predicts
        with np.errstate(divide="ignore"):
            by_class = -np.log(smooth)
        constant = float(np.sum(np.where(smooth > 0, smooth * np.where(smooth > 0, by_class, 0), 0)))
        return float(np.log(classes)), constant, by_class if numbers else None
    if loss is sigmoid_cross_entropy:
        share = np.clip(targets.reshape(len(targets), -1).mean(0, dtype=float), 1e-12, 1 - 1e-12)
        entropies = -share * np.log(share) - (1 - share) * np.log(1 - share)
        return float(np.log(2)), float(entropies.mean()), None
    if loss is squared_error:
        wide = np.asarray(targets, np.float64).reshape(len(targets), -1)
        return float(np.mean(np.square(wide))), float(np.mean(wide.var(0))), None
    return None, None, None


def _findings(found: InitialLoss, loss: Loss, sown: float) -> list[Finding]:
    if not np.isfinite(found.loss):
        text = (
            "the loss is not finite before any update: look for NaN in inputs and parameters, and for log(0) or x / 0."
        )
        return [Finding("initial loss not finite", text)]
    findings = []
    own, error = found.loss - sown, found.standard_error if np.isfinite(found.standard_error) else 0.0
    if found.reference is not None and found.constant is not None:
        numbers = {"loss": own, "reference": found.reference, "constant": found.constant, "se": error}
        is_square = loss is squared_error
        limit = _TIMES * found.reference if is_square else found.reference + max(_TOO_HIGH, found.reference / 4)
        if own > limit + 3 * error:
            remedy = (
                "the outputs are far larger than the targets: standardise targets and inputs"
                if is_square
                else "the logits are too large: initialise the last layer with smaller numbers, or normalise the inputs"
            )
            text = (
                f"the loss is {own:.4g} (± {error:.2g}), and {found.reference:.4g} if all outputs are 0; the outputs"
                f" have a standard deviation of {found.output_std:.3g}. Probably {remedy}."
            )
            findings.append(Finding("initial loss too high", text, numbers, serious=own > 2 * limit))
        if own < found.constant - max(4 * error, 0.05 * found.constant):
            text = (
                f"the loss is {own:.4g} (± {error:.2g}), below {found.constant:.4g}, the best that is possible without"
                " looking at the inputs. The state was trained already, or the labels leak into the inputs."
            )
            findings.append(Finding("initial loss too low", text, numbers))
        if is_square and found.reference > 2 * found.constant:
            text = (
                f"the mean square of the targets is {found.reference:.4g}, their variance {found.constant:.4g}: their"
                " mean is far from 0, and learning it takes the first updates. Subtract it from the targets."
            )
            findings.append(Finding("targets not centred", text, numbers, serious=False))
    if found.penalty > abs(found.loss):
        text = (
            f"the decay's term is {found.penalty:.4g}, more than the loss of {found.loss:.4g}: training will shrink the"
            " parameters before it learns anything. Use a smaller weight_decay."
        )
        findings.append(Finding("decay dominates", text, {"penalty": found.penalty, "loss": found.loss}))
    return findings


def _verdict(found: InitialLoss, step: int) -> str:
    words = [
        f"Loss {found.loss:.4g} ± {found.standard_error:.2g} over {found.examples:,} examples after {step} updates"
    ]
    if found.reference is None or found.constant is None:
        words.append("; there is no reference for this loss.")
    else:
        words.append(
            f"; {found.reference:.4g} if all outputs are 0, {found.constant:.4g} for the best constant prediction."
        )
    if found.penalty:
        words.append(f" With the decay's term of {found.penalty:.3g} it is {found.total:.4g}.")
    words.append(" This is as it should be." if not found.findings and found.reference is not None else "")
    return with_findings("".join(words), found.findings)
