"""Searches in a folder, coarse and then finer, with a small ResNet; writes what it found as JSON.

Usage: search.py FOLDER OUT. Prints a line for each trial and part of an epoch that has been made.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
from helpers import random_dataset, small_resnet

from jaxdl import optim, practice
from jaxdl.practice import trials

folder, out = Path(sys.argv[1]), Path(sys.argv[2])


def told(name, function):
    """The function, which says that it begins: the test kills the process at one of these lines."""

    def call(*args, **kwargs):
        print(name, flush=True)
        return function(*args, **kwargs)

    return call


def chain(learning_rate, decay):
    return optim.momentum(learning_rate, weight_decay=decay)


trials.population = told("population", trials.population)
trials.fit = told("fit", trials.fit)
model, dataset, key = small_resnet(3), random_dataset(120, (8, 8, 1)), jax.random.key(0)
space = {"learning_rate": (1e-3, 0.3), "decay": (1e-6, 1e-2)}
options = {"batch_size": 16, "progress": False, "held_out": 0.2}
coarse = practice.coarse_search(model, chain, dataset, key, space=space, trials=4, folder=folder / "coarse", **options)
fine = practice.refine_search(
    model, chain, dataset, key, around=coarse, trials=4, epochs=4, folder=folder / "fine", **options
)
rows = [
    [found.number, dict(found.hyperparameters), found.error, found.loss, found.updates, found.history.loss.tolist()]
    for found in [*coarse.trials, *fine.trials]
]
out.write_text(json.dumps(rows))
