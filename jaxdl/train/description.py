"""Describes a run: the settings that must not change when it is resumed, and its optimizer."""

import importlib.metadata
import warnings
from typing import Any

import jax
import optax

from jaxdl import native
from jaxdl.data import Dataset, Stream
from jaxdl.identity import describe
from jaxdl.train.arrays import crc32
from jaxdl.train.hyperparams import injected_hyperparams
from jaxdl.train.state import TrainState
from jaxdl.train.task import Task


class IndistinctRunWarning(UserWarning):
    """A part of a run hides its state, so that resuming cannot notice if it was replaced by another."""


def describe_run(
    function: str,
    task: Task,
    tx: optax.GradientTransformation,
    state: TrainState,
    train_set: Dataset | Stream,
    eval_set: Dataset | Stream | None,
    *,
    convolutions: bool,
    **settings: Any,
) -> dict[str, Any]:
    """The description kept beside the arrays: settings that must not change, and those whose change is a warning."""
    parts = {"model": task.model, "loss": task.loss}
    parts |= {"metrics": "by default" if task.metrics is None else [name for name, _ in task.metrics]}
    parts |= {f"metrics[{name!r}]": metric for name, metric in task.metrics or ()}
    parts |= {"preprocess": task.preprocess, "augment": task.augment}
    described = {}
    # A checkpoint holds them, so those of a state that is given in its place would be lost without a word.
    parts |= {"hyperparams": injected_hyperparams(state.opt_state)}
    for name, value in {**parts, **settings, "optimizer": tx.update}.items():
        described[name], unknown = describe(value)
        if unknown:
            warnings.warn(
                f"{function}: {name} holds an object of type {', '.join(sorted(set(unknown)))}, whose state cannot be "
                "read, so a resumed run will not notice if it has changed; use a function, or a frozen dataclass with "
                "__call__",
                IndistinctRunWarning,
                stacklevel=4,
            )
    optimizer = described.pop("optimizer")
    return {
        "settings": {
            "data": _named(train_set),
            "key": str(jax.random.key_data(state.key).tolist()),
            **described,
        },
        "optimizer": optimizer,
        "eval_set": "none" if eval_set is None else _named(eval_set),
        "versions": {name: importlib.metadata.version(name) for name in ("jaxdl", "jax", "flax", "optax")},
        "convolutions": native.convolutions() if convolutions else "none",
    }


def _named(dataset: Dataset | Stream) -> str:
    if isinstance(dataset, Stream):
        return f"{dataset!r}, {dataset.source.digest()}, {describe(dataset.view)[0]}"
    total = 0
    for array in jax.tree.leaves((dataset.inputs, dataset.targets)):
        total ^= crc32(array)
    return f"{dataset!r}, CRC-32 {total:08x}"
