"""A case: one of the things that an experiment compares; and what is measured of it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np
import optax

from jaxdl import train
from jaxdl.arguments import require, shown


@dataclasses.dataclass(frozen=True)
class Paper:
    """A number from a paper. `experiments.paper.number` finds it in `paper_targets.json`.

    Attributes:
      value: the number, in the units of our metric.
      std: its standard deviation over runs, or None.
      where: paper, table, setting.
    """

    value: float
    std: float | None
    where: str

    def __str__(self) -> str:
        return f"{self.value:g}" + (f" ± {self.std:g}" if self.std is not None else "")


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing that an experiment compares, run from every seed.

    Attributes:
      name: in tables and legends; no two cases have the same.
      model: the module to train.
      tx: the optimizer.
      steps: updates; by default those of the settings.
      batch_size: images in a batch; by default that of the settings.
      augment: as for `train.fit`.
      fit: further arguments of `train.fit`: loss, preprocess, watch and so on.
      start: variables to start from, of another run for example; `new` as for `train.init_state`.
      new: as for `train.init_state`.
      hyperparams: numbers for hyperparameters that `tx` injects (`optax.inject_hyperparams`), set in the first state.
        Cases that differ only in them share one compiled program.
      facts: what sets the case apart, for figures and for comparisons of groups: {"rate": 0.1, "norm": "BN"}.
      paper: numbers of the paper by the name of the metric.
    """

    name: str
    model: nn.Module | None = None
    tx: optax.GradientTransformation | None = None
    steps: int | None = None
    batch_size: int | None = None
    augment: Callable | None = None
    fit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: Any = None
    new: tuple[str, ...] = ()
    hyperparams: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, Paper] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        require(
            isinstance(self.name, str) and bool(self.name), f"Case: name must be a text, got name={shown(self.name)}"
        )
        require(
            (self.model is None) == (self.tx is None),
            f"Case {self.name!r}: model and tx belong together; pass both, or neither if the measure needs none",
        )


def grouped(cases: Iterable[Case], fact: str) -> dict[Any, list[str]]:
    """The names of the cases by a fact of theirs; cases without it are left out.

    Example:
      >>> grouped([Case("a", facts={"rule": "SGD"}), Case("b", facts={"rule": "SGD"}), Case("c")], "rule")
      {'SGD': ['a', 'b']}
    """
    groups: dict[Any, list[str]] = {}
    for case in cases:
        if fact in case.facts:
            groups.setdefault(case.facts[fact], []).append(case.name)
    return groups


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one run gave.

    Attributes:
      metrics: numbers by name; NaN for one that the run does not have, such as the steps to a loss never reached.
      curves: for each name x [n] and y [n].
      diverged: why the run stopped before its end, or None. Its metrics do not count.
      state: the training state, for measures that look further.
      history: of the run.
    """

    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    diverged: str | None = None
    state: train.TrainState | None = None
    history: train.History | None = None

    def add(self, metrics: Mapping[str, float], curves: Mapping[str, Any] | None = None) -> "Measured":
        """With further numbers and curves."""
        return dataclasses.replace(self, metrics={**self.metrics, **metrics}, curves={**self.curves, **(curves or {})})
