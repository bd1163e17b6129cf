"""A population of ResNets, killed in one process and ended in another: the same bits."""

import functools
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from helpers import numbers, random_dataset, started

from jaxdl import models, optim, train

CHILD = Path(__file__).parent / "children" / "train_population.py"
STEPS = 12


def run(folder, via, *, updates=None, number=None):
    """Runs the child, and sends a signal once so many updates, of all members, are known to be made."""
    command = [sys.executable, str(CHILD), str(folder / "run"), str(folder / "out"), str(STEPS), via]
    with started(command) as child:
        if updates is not None:
            for line in child.stdout:
                if int(line.split()[1]) >= updates:
                    break
            child.send_signal(number)
        _, errors = child.communicate()
    return child.returncode, errors


def result(folder):
    with np.load(folder / "out.npz") as file:
        return [file[name] for name in file.files]


@pytest.mark.slow
@pytest.mark.parametrize("via", ["map", "map, both", "vmap, both", "loop, both"])
def test_killed_and_rerun_it_ends_with_the_same_bits(via, tmp_path):
    """One member diverges and one is stopped, before the second signal; both stay so."""
    via, *both = via.split(", ")
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    code, errors = run(undisturbed, via)
    assert code == 0, errors
    expected = result(undisturbed)
    code, errors = run(disturbed, via, updates=10 if both else 15, number=signal.SIGKILL)
    assert code == -signal.SIGKILL, errors
    if both:
        code, errors = run(disturbed, via, updates=20, number=signal.SIGTERM)
        assert code == train.PREEMPTED, errors
    code, errors = run(disturbed, via)
    assert code == 0, errors
    found = result(disturbed)
    assert "the loss is" in str(expected[0][2])
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, wanted)


@pytest.mark.parametrize("via", ["vmap", "loop"])
def test_other_hyperparameters_are_another_run(via, tmp_path):
    """A checkpoint holds them: going on from it with others, silently with the old ones, would be a wrong result."""
    tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.1)
    dataset, model, keys = random_dataset(), models.mlp(3, widths=(4,)), jax.random.split(jax.random.key(0), 2)

    def run(rates):
        found = {"keys": keys, "batch_size": 10, "via": via, "checkpoint_dir": tmp_path, "progress": False}
        return train.population(model, tx, dataset, steps=3, hyperparams={"learning_rate": rates}, **found)

    first = run([0.1, 0.2])
    jax.tree.map(np.testing.assert_array_equal, numbers(run([0.1, 0.2]).state), numbers(first.state))
    with pytest.raises(ValueError, match="learning_rate.*there"):
        run([0.1, 0.3])


def test_other_hyperparameters_of_a_single_run(tmp_path):
    tx = optax.inject_hyperparams(optim.momentum)(learning_rate=optim.cosine_decay(0.1, 9), momentum=0.9)
    dataset, model = random_dataset(), models.mlp(3, widths=(4,))
    state = train.init_state(model, tx, jax.random.key(0), dataset)
    run = functools.partial(train.fit, model=model, tx=tx, train_set=dataset, batch_size=10, checkpoint_dir=tmp_path)
    state, _ = run(state, steps=3, progress=False)  # the scheduled rate is another by now, and no obstacle
    state, _ = run(state, steps=5, progress=False)
    with pytest.raises(ValueError, match="momentum.*there"):
        run(train.set_hyperparams(state, momentum=0.5), steps=7, progress=False)
