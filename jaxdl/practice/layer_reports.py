"""What `inspect` saw of a network's layers and weights, as data, as tables and as a picture."""

import dataclasses
import os
from typing import NamedTuple

import numpy as np

from jaxdl.practice.columns import text_table
from jaxdl.practice.findings import Finding
from jaxdl.practice.inspection_pictures import plot_inspection


class Distribution(NamedTuple):
    """The numbers of a layer for all examples of a batch, units and positions."""

    mean: float
    std: float
    norm: float  # the root of the mean over the examples of the squared L2 norm
    zeros: float  # share of numbers that are exactly 0
    sample: np.ndarray  # float32 [at most 4096], for histograms: all numbers, or some drawn at random


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What was seen of a layer, or of a nonlinearity.

    Attributes:
      name: its path, as in "stage1_block1/conv1"; nonlinearities have a number: "stage1_block1/relu_0".
      kind: the module's class or the function's name: "Conv", "relu".
      role: "layer" (it has a kernel), "activation" (a nonlinearity) or "module" (any other).
      shape: of its output for one example.
      activation: its output.
      gradient: the gradient of the batch's mean loss with respect to its output.
      saturated: of tanh and sigmoid the share of outputs within 2 % of an end: |tanh| > 0.98, sigmoid < 0.02 or > 0.98;
        None for what does not saturate.
      dead: of a nonlinearity bool [units], whether a unit (a channel) is 0 for all examples at all positions; else
        None.
    """

    name: str
    kind: str
    role: str
    shape: tuple[int, ...]
    activation: Distribution
    gradient: Distribution
    saturated: float | None
    dead: np.ndarray | None

    @property
    def dead_share(self) -> float:
        """The share of dead units; 0 where units cannot be dead."""
        return 0.0 if self.dead is None else float(np.mean(self.dead))


class WeightReport(NamedTuple):
    """What was seen of a parameter."""

    name: str  # its path, as in "head/kernel"
    shape: tuple[int, ...]
    norm: float  # L2 norm
    gradient_norm: float  # of the gradient of the batch's mean loss, and of losses that the model sows
    update_ratio: float | None  # norm of the next update / norm; None if it was not asked for or is frozen


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What `inspect` saw; prints as the verdict and two tables.

    Attributes:
      layers: modules and nonlinearities in the order of their computation.
      weights: the parameters.
      loss: mean loss of the batch.
      examples: in the batch.
      findings: what is amiss; empty if all is well.
      verdict: the same in words, with the numbers.
    """

    layers: tuple[LayerReport, ...]
    weights: tuple[WeightReport, ...]
    loss: float
    examples: int
    findings: tuple[Finding, ...]
    verdict: str

    def __getitem__(self, name: str) -> LayerReport:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"Inspection: there is no layer {name!r}; there are {', '.join(x.name for x in self.layers)}")

    def table(self) -> str:
        """Two tables: of the layers, and of the weights."""

        def percent(share):
            return "" if share is None else f"{100 * share:.1f}"

        layers = [
            (
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.shape)),
                f"{layer.activation.mean:.3g}",
                f"{layer.activation.std:.3g}",
                percent(layer.activation.zeros),
                percent(layer.saturated),
                percent(None if layer.dead is None else layer.dead_share),
                f"{layer.gradient.std:.2e}",
                f"{layer.gradient.norm:.2e}",
            )
            for layer in self.layers
        ]
        weights = [
            (
                w.name,
                f"{w.norm:.3g}",
                f"{w.gradient_norm:.2e}",
                "" if w.update_ratio is None else f"{w.update_ratio:.1e}",
            )
            for w in self.weights
        ]
        header = ("layer", "kind", "output", "mean", "std", "zeros %", "saturated %", "dead %", "grad std", "grad norm")
        return "\n\n".join(
            [
                text_table(header, layers, left=2),
                text_table(("weight", "norm", "gradient norm", "update / weight"), weights),
            ]
        )

    def __str__(self) -> str:
        return f"{self.verdict}\n\n{self.table()}"

    def plot(self, path: str | os.PathLike) -> None:
        """Draws histograms of activations and gradients over depth, their sizes, and the update ratios, to a PNG."""
        plot_inspection(path, self)
