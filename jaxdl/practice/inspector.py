"""Inspections during training."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import optax

from jaxdl.arguments import check_integer, require
from jaxdl.data import Dataset, Stream
from jaxdl.practice.inputs import batch_of
from jaxdl.practice.inspection import inspect
from jaxdl.practice.inspection_verdict import series
from jaxdl.practice.layer_reports import Inspection
from jaxdl.train import Evaluated, TrainState, cross_entropy
from jaxdl.train.losses import Loss
from jaxdl.train.state import check_state, check_tx
from jaxdl.train.task import Preprocess, make_task


class Inspector:
    """A watcher for `train.fit` that inspects the model at its evaluations, and keeps the statistics over time.

    Watchers see the state at evaluations, so `fit` needs `eval_set` and, for inspections within an epoch, `eval_every`.
    Each inspection computes one gradient on the batch. The state before training is inspected by `inspector.look`.

    Args:
      model: as for `inspect`, and so are `batch`, `tx`, `loss` and `preprocess`.
      batch: always the same one, so that changes are those of the model.
      every: updates between inspections, at least; by default every evaluation is one.
      tx: as for `inspect`.
      loss: as for `inspect`.
      preprocess: as for `inspect`.

    Attributes:
      steps: the numbers of updates after which the model was inspected.
      inspections: one `Inspection` for each.

    Raises:
      ValueError: an argument is wrong; or, at the first inspection, as for `inspect`.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice, train
      >>> train_set, test_set = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(16,)), optim.sgd(0.1)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set)
      >>> inspector = practice.Inspector(model, train_set, tx=tx)
      >>> inspector.look(state)
      >>> options = {"steps": 4, "eval_every": 2, "progress": False}
      >>> _ = train.fit(state, model, tx, train_set, eval_set=test_set, watch=[inspector], **options)
      >>> inspector.steps, inspector.over_time(lambda layer: layer.activation.std).shape
      ([0, 2, 4], (3, 1))
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        *,
        every: int = 1,
        tx: optax.GradientTransformation | None = None,
        loss: Loss = cross_entropy,
        preprocess: Preprocess | None = None,
    ):
        self.every = check_integer("Inspector", "every", every, at_least=1)
        make_task("Inspector", model, loss=loss, metrics=None, preprocess=preprocess)
        if tx is not None:
            check_tx("Inspector", tx)
        if not isinstance(batch, Dataset | Stream):
            batch_of("Inspector", batch)
        self._model, self._batch = model, batch
        self._options: dict[str, Any] = {"tx": tx, "loss": loss, "preprocess": preprocess}
        self.steps: list[int] = []
        self.inspections: list[Inspection] = []

    def __call__(self, event: Any) -> None:
        """Inspects the model if the event is an evaluation."""
        if not isinstance(event, Evaluated):
            return
        require(
            event.member is None,
            "Inspector: it watches one run, train.fit, and got an event of a population; inspect its members one by "
            "one, with practice.inspect",
        )
        if not self.steps or event.step >= self.steps[-1] + self.every:
            self.look(event.state)

    def look(self, state: TrainState) -> None:
        """Inspects a training state, that before training for example."""
        check_state("Inspector", state)
        found = inspect(self._model, state, self._batch, **self._options)
        self.steps.append(int(state.step))
        self.inspections.append(found)

    def over_time(self, number: Callable[[Any], float]) -> np.ndarray:
        """A number of each nonlinearity at each inspection, [times, layers].

        Args:
          number: takes a `LayerReport`, as in `lambda layer: layer.dead_share`.
        """
        return np.array([[number(layer) for layer in series(found.layers)] for found in self.inspections])

    def plot(self, path: str | os.PathLike) -> None:
        """Draws activations, gradients, dead units and update ratios over time, a line for each layer, to a PNG."""
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        require(len(self.steps) > 0, "Inspector: there is no inspection to draw; pass it to train.fit, or call look")
        names = [layer.name for layer in series(self.inspections[0].layers)]
        weights = [w.name for w in self.inspections[0].weights if len(w.shape) > 1 and w.update_ratio is not None]
        panels: list[tuple[str, np.ndarray, list[str], bool]] = [
            ("Activations: standard deviation", self.over_time(lambda x: x.activation.std), names, True),
            ("Gradients: norm per example", self.over_time(lambda x: x.gradient.norm), names, True),
            ("Dead units, percent", 100 * self.over_time(lambda x: x.dead_share), names, False),
        ]
        if weights:
            ratios = [{w.name: w.update_ratio for w in found.weights} for found in self.inspections]
            values = np.array([[now[name] for name in weights] for now in ratios], float)
            panels.append(("Updates: norm of update / norm of weight", values, weights, True))
        figure = Figure(figsize=(11, 8), layout="constrained", dpi=130)
        figure.suptitle("Layers during training: dark lines are the first layers, light ones the last", fontsize=12)
        for axes, (title, values, lines, log) in zip(figure.subplots(2, 2).ravel(), panels, strict=False):
            colours = colormaps["viridis"](np.linspace(0, 0.9, len(lines)))
            for values_of, name, colour in zip(values.T, lines, colours, strict=True):
                shown = np.where(values_of > 0, values_of, np.nan) if log else values_of
                axes.plot(self.steps, shown, marker="o", markersize=3, linewidth=1.2, color=colour, label=name)
            if log and (values > 0).any():
                axes.set_yscale("log")
            if not log:
                axes.set_ylim(-3, 103)
            if title.startswith("Updates"):
                axes.axhline(1e-3, color="0.4", linestyle="--", linewidth=1)
            axes.set(title=title, xlabel="updates")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if len(lines) <= 8:
                axes.legend(frameon=False, fontsize=7)
        for axes in figure.axes[len(panels) :]:
            axes.remove()
        figure.savefig(Path(path))
