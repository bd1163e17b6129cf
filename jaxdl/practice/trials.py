"""The trials of a search: all as one population at first, and then those that go on."""

import contextlib
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxdl.arguments import check_flag, check_integer, check_key, check_real, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_dataset
from jaxdl.practice.chains import check_optimizer, check_used
from jaxdl.practice.search_result import SearchResult, Trial
from jaxdl.practice.spaces import Range, draw
from jaxdl.progress import progress_bar
from jaxdl.train import History, NonFiniteLossError, Stepped, TrainState, fit, population
from jaxdl.train.task import check_task, make_task


class Work:
    """What both searches do, on sets that are split, with keys that are divided."""

    def __init__(self, name, model, chain, train_set, key, held_out, batch_size, folder, progress):
        check_dataset(name, "train_set", train_set)
        check_key(name, "key", key)
        check_flag(name, "progress", progress)
        require(
            folder is None or isinstance(folder, str | os.PathLike),
            f"{name}: folder must be a path, got folder={shown(folder)}",
        )
        split_key, self._draw_key, self._members_key = jax.random.split(key, 3)
        if isinstance(held_out, Dataset | Stream):
            require(
                held_out.example.inputs == train_set.example.inputs,
                f"{name}: held_out must have inputs as train_set has them, got {held_out!r} and {train_set!r}; pass a "
                "part of the same data, or a share such as 0.1",
            )
            self._train_set, self._held_out = train_set, held_out
        else:
            check_real(
                name, "held_out", held_out, at_least=0, below=1, remedy="pass a data set, or a share such as 0.1"
            )
            require(
                len(train_set) * float(held_out) >= 1,
                f"{name}: held_out={held_out} of {len(train_set)} examples holds out none; pass a share such as 0.1",
            )
            self._train_set, self._held_out = train_set.split_at_random(1 - float(held_out), split_key)
        self._name, self._model, self._chain, self._batch_size = name, model, chain, batch_size
        self._folder, self._progress = None if folder is None else Path(folder), progress

    def updates(self, epochs: float, steps: int | None) -> int:
        """How many updates a whole trial makes."""
        if steps is not None:
            return check_integer(self._name, "steps", steps, at_least=1)
        check_real(self._name, "epochs", epochs, at_least=0, remedy="pass epochs=1 or steps=500")
        require(epochs > 0, f"{self._name}: epochs must be above 0, got epochs={epochs}; pass epochs=1 or steps=500")
        return max(1, round(epochs * self._train_set.steps_per_epoch(self._batch_size)))

    def search(
        self, space: dict[str, Range], trials: int, budgets: list[int], eta: int, arguments: dict[str, Any]
    ) -> SearchResult:
        """Makes all trials for the first budget, and a share `1 / eta` of them for each further one."""
        values = draw(space, self._draw_key, trials)
        first = {name: float(drawn[0]) for name, drawn in values.items()}
        self._check(first, arguments)
        tx = optax.inject_hyperparams(self._chain)(**first)
        arguments |= {"batch_size": self._batch_size, "eval_set": self._held_out, "progress": False}
        going_on = [math.ceil(trials / eta**rung) for rung in range(1, len(budgets))]
        more = [after - before for before, after in itertools.pairwise(budgets)]
        total = trials * budgets[0] + sum(number * updates for number, updates in zip(going_on, more, strict=True))
        with self._bar(total) as report:
            found = population(
                self._model,
                tx,
                self._train_set,
                keys=jax.random.split(self._members_key, trials),
                steps=budgets[0],
                hyperparams=values,
                **(arguments | {"progress": report}),
                **self._kept("rung_0"),
            )
            ends = [
                _trial(number, {name: float(drawn[number]) for name, drawn in values.items()}, history, reason)
                for number, (history, reason) in enumerate(zip(found.histories, found.diverged, strict=True))
            ]
            states: Any = functools.partial(_member, found.state)
            done = trials * budgets[0]
            for rung, (number, budget) in enumerate(zip(going_on, budgets[1:], strict=True), 1):
                survivors = [trial for trial in _sorted(ends) if trial.diverged is None][:number]
                next_states = {}
                for trial in survivors:
                    ended, state = self._continue(
                        trial, states(trial.number), tx, budget, rung, arguments, done, report
                    )
                    ends[trial.number], next_states[trial.number] = ended, state
                    done += budget - budgets[rung - 1]
                states = next_states.__getitem__
        return SearchResult(space, tuple(_sorted(ends)), _chance(self._held_out), len(self._held_out))

    def _check(self, values: Mapping[str, float], arguments: Mapping[str, Any]) -> None:
        """Raises `ValueError` unless the parts fit, and the optimizer depends on all hyperparameters."""
        name, example = self._name, "lambda learning_rate: optim.momentum(learning_rate)"
        check_optimizer(name, self._chain(**values), "hyperparameters", example)
        preprocess = arguments["preprocess"] or self._train_set.standardize
        task = make_task(name, self._model, **{**arguments, "preprocess": preprocess})
        shapes = check_task(name, task, self._train_set, self._batch_size)
        check_used(name, self._chain, values, shapes.variables)

    def _continue(self, trial: Trial, state: TrainState, tx, budget: int, rung: int, arguments, done: int, report):
        """Trains a trial until `budget` updates, as the population would have."""
        begun = trial.updates

        def note(event):
            if isinstance(event, Stepped):
                report(done + event.step - begun, float(event.metrics.loss[-1]))

        where = self._kept(os.path.join(f"rung_{rung}", f"trial_{trial.number:04d}"))
        own = {"steps": budget, "watch": [note], "devices": jax.local_devices()[:1], **where}
        try:
            state, history = fit(state, self._model, tx, self._train_set, **arguments, **own)
            reason = None
        except NonFiniteLossError as error:
            history, reason = error.history, str(error)
        return _trial(trial.number, trial.hyperparameters, _joined(trial.history, history), reason), state

    def _kept(self, part: str) -> dict[str, Any]:
        return {} if self._folder is None else {"checkpoint_dir": self._folder / part, "keep_checkpoints": 1}

    @contextlib.contextmanager
    def _bar(self, total: int) -> Iterator[Callable[[int, float], None]]:
        if not self._progress or jax.process_index() != 0:
            yield lambda done, loss: None
            return
        with progress_bar("searching", total) as update:
            yield lambda done, loss: update(done, f"loss {loss:.3f}")


def _member(states: TrainState, number: int) -> TrainState:
    """The state of one member of a population."""
    return jax.tree.map(lambda leaf: leaf[number], states)


def _trial(number: int, hyperparameters: Mapping[str, float], history: History, reason: str | None) -> Trial:
    """A trial as its history shows it. One that ends far above where it began has diverged too, though still finite."""
    error = loss = math.nan
    if reason is None and history.eval_loss[-1] > 3 * history.loss[0]:
        reason = f"the held-out loss is {history.eval_loss[-1]:.3g}, and training began at {history.loss[0]:.3g}"
    if reason is None:
        loss = float(history.eval_loss[-1])
        error = float(history.eval_error[-1]) if "error" in history.eval_metrics else math.nan
    return Trial(number, hyperparameters, error, loss, len(history.loss), reason, history)


def _sorted(trials: list[Trial]) -> list[Trial]:
    """The best first; those that made fewer updates were worse, and those that diverged come last."""
    return sorted(trials, key=lambda t: (t.diverged is not None, -t.updates, t.score, t.number))


def _joined(first: History, then: History) -> History:
    """The history of a run that was continued."""
    if not len(then.loss):
        return first
    seconds = first.seconds + then.eval_seconds
    arrays = {
        name: np.concatenate([getattr(first, name), getattr(then, name)])
        for name in ("step", "loss", "learning_rate", "gradient_norm", "eval_step", "eval_loss", "skipped")
    }
    both = {
        name: {key: np.concatenate([old, getattr(then, name)[key]]) for key, old in getattr(first, name).items()}
        for name in ("metrics", "eval_metrics")
        if getattr(then, name)
    }
    return first._replace(
        **arrays,
        **both,
        eval_seconds=np.concatenate([first.eval_seconds, seconds]),
        seconds=first.seconds + then.seconds,
    )


def _chance(held_out: Dataset | Stream) -> float | None:
    """The error of always naming the most frequent class; None where targets are no class numbers."""
    labels = held_out.targets if isinstance(held_out, Dataset) and held_out.class_names else None
    if labels is None or np.ndim(labels) != 1 or not np.issubdtype(np.asarray(labels).dtype, np.integer):
        return None
    return 1 - float(np.bincount(labels).max()) / len(labels)
