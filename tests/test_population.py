"""Many models at once, each as it would be alone."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import numbers, random_dataset

from jaxdl import models, optim, train
from jaxdl.models import layers
from jaxdl.train import populations
from jaxdl.train.task import Task, check_task
from jaxdl.train.update import Rule

SET = random_dataset(50)
KEYS = jax.vmap(jax.random.key)(jnp.arange(3))


class Net(nn.Module):
    """Batch statistics and dropout. (A bias before BatchNorm has gradient 0, whose rounding Adam would make large.)"""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(8, use_bias=False)(x.reshape(len(x), -1))
        x = nn.relu(layers.BatchNorm()(x, train=train))
        return nn.Dense(3)(nn.Dropout(0.25, deterministic=not train)(x))


MODEL = Net()
TX = optax.inject_hyperparams(optim.momentum)(learning_rate=0.05, weight_decay=1e-3)
RATES = np.array([0.01, 0.05, 0.1], np.float32)


def solo(member, model=MODEL, tx=TX, steps=11, **hyperparams):
    state = train.init_state(model, tx, KEYS[member], SET.image_shape)
    state = train.set_hyperparams(state, **{name: values[member] for name, values in hyperparams.items()})
    return train.fit(
        state, model, tx, SET, steps=steps, batch_size=16, eval_set=SET, eval_every=4, progress=False, scan=False
    )


def population(model=MODEL, tx=TX, steps=11, **kwargs):
    arguments = {"keys": KEYS, "batch_size": 16, "eval_set": SET, "eval_every": 4, "progress": False} | kwargs
    return train.population(model, tx, SET, steps=steps, **arguments)


def member(state, number):
    return numbers(jax.tree.map(lambda leaf: leaf[number], state))


@functools.cache
def alone(name, member):
    """A chain's run for one member, which every way of training them together is compared with."""
    tx, hyperparams = CHAINS[name]
    return solo(member, tx=tx, **hyperparams)


CHAINS = {
    "rates and decays": (TX, {"learning_rate": RATES, "weight_decay": np.array([0.0, 1e-3, 1e-2], np.float32)}),
    "averages": (optax.chain(optim.adam(0.01), optim.swa(4), optim.snapshots(4, 2)), {}),
    "plateau": (optax.chain(optim.momentum(0.05), optim.reduce_on_plateau(0.5, patience=0, every=None)), {}),
    "injected within": (
        optax.chain(optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optim.adam)(learning_rate=0.01)),
        {"learning_rate": RATES / 10},
    ),
}
FAST = [*(("rates and decays", via) for via in ("vmap", "map", "loop")), ("averages", "map"), ("plateau", "map")]


@pytest.mark.parametrize(
    ("name", "via"),
    [
        pytest.param(name, via, marks=() if (name, via) in FAST else pytest.mark.slow)
        for name in CHAINS
        for via in ("vmap", "map", "loop")
    ],
)
def test_each_member_ends_as_it_would_alone(name, via):
    """With dropout and batch statistics, over epochs of three steps and evaluations after every fourth."""
    tx, hyperparams = CHAINS[name]
    found = population(tx=tx, hyperparams=hyperparams, via=via)
    assert found.diverged == (None,) * 3
    for number in range(3):
        state, history = alone(name, number)
        chex.assert_trees_all_close(member(found.state, number), numbers(state), rtol=1e-5, atol=1e-6)
        for field in ("step", "loss", "eval_step", "eval_loss", "eval_error"):
            ours, theirs = getattr(found.histories[number], field), getattr(history, field)
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=field)
        # Where dropout leaves nothing, the classes tie but for rounding: at most one image of a batch.
        np.testing.assert_allclose(found.histories[number].error, history.error, atol=1 / 16)


@pytest.mark.parametrize("via", ["vmap", "map", pytest.param("loop", marks=pytest.mark.slow)])
def test_a_convolutional_population(via):
    model, tx = models.convnet(3, widths=(4,), hidden=8), optim.momentum(0.05)
    found = population(model, tx, via=via)
    for number in range(3):
        state, _ = solo(number, model, tx)
        chex.assert_trees_all_close(member(found.state, number), numbers(state), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("via", ["vmap", "map", "loop"])
def test_diverged_members_do_not_disturb_the_others(via):
    model = models.mlp(3, widths=(8,))
    rates = np.array([0.05, 1e30, 0.05], np.float32)
    found = population(model, steps=23, hyperparams={"learning_rate": rates}, via=via)
    assert found.diverged[0] is found.diverged[2] is None
    assert "is not finite" in found.diverged[1] or "the loss is" in found.diverged[1]
    ended = len(found.histories[1].loss)
    assert ended < 6
    assert np.all(np.isfinite(found.histories[1].loss))
    assert np.all(np.isnan(jax.tree.leaves(found.state.params)[0][1]))
    for number in (0, 2):
        state, history = solo(number, model, steps=23, learning_rate=rates)
        chex.assert_trees_all_close(member(found.state, number), numbers(state), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.histories[number].loss, history.loss, rtol=1e-5)


@pytest.mark.parametrize("via", ["vmap", "map", "loop"])
def test_stopped_members_stay_where_they_stopped(via):
    """The second is stopped after its evaluation at step 8; the others go on to step 11."""
    rates = np.array([0.01, 0.0501, 0.1], np.float32)
    hyperparams = {"learning_rate": rates}
    expected = solo(1, steps=8, **hyperparams)

    def stop(history):
        return len(history.eval_step) == 2 and np.allclose(
            history.loss, expected[1].loss[: len(history.loss)], rtol=1e-4
        )

    found = population(hyperparams=hyperparams, via=via, stop=stop)
    assert [len(history.loss) for history in found.histories] == [11, 8, 11]
    for number, steps in enumerate((11, 8, 11)):
        state, _ = solo(number, steps=steps, **hyperparams)
        chex.assert_trees_all_close(member(found.state, number), numbers(state), rtol=1e-5, atol=1e-6)


def test_members_share_one_compilation():
    """Eight members trace the model as often as one does."""
    traces = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            traces.append(train)
            return nn.Dense(3)(x.reshape(x.shape[0], -1))

    counts, tx = [], optim.momentum(0.05)
    for keys in (KEYS[:1], jax.random.split(jax.random.key(5), 8)):
        for via in ("vmap", "map", "loop"):
            before = len(traces)
            population(Counted(), tx, keys=keys, via=via)
            counts.append(len(traces) - before)
    assert counts[5] == 0  # the loop of eight after the loop of one
    assert max(counts[3:5]) <= max(counts[:2])


def test_auto(monkeypatch):
    """By what the step computes, not by the parameters' axes: Flax's convolutions are slow in loops."""

    class FlaxConv(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(3)(nn.Conv(4, (3, 3))(x).mean((1, 2)))

    class FourAxes(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return jnp.einsum("nhwc,hwck->nk", x, self.param("kernel", nn.initializers.normal(), (6, 5, 2, 3)))

    dataset = random_dataset()

    def chosen(model):
        task = Task(model, preprocess=dataset.standardize)
        shapes = check_task("test", task, dataset, 8)
        state = train.init_state(model, TX, KEYS[0], dataset)
        return populations._fastest(Rule(task, TX), shapes.convolutions, state, dataset, 8, devices=1)

    ours, theirs, dense, einsum = models.convnet(3), FlaxConv(), models.mlp(3), FourAxes()
    assert [chosen(model) for model in (dense, einsum, ours, theirs)] == ["vmap", "vmap", "map", "loop"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [chosen(model) for model in (dense, theirs)] == ["vmap", "map"]


def test_progress_counts_all_members(capsys):
    population(progress=True, via="vmap")
    assert "33/33" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": jax.random.key(0)}, r"keys must be typed PRNG keys \[members\]"),
        ({"keys": 3}, "keys must be typed PRNG keys"),
        (
            {"hyperparams": {"learning_rate": [0.1]}},
            r"hyperparams\['learning_rate'\] must have one number for each of the 3",
        ),
        (
            {"hyperparams": {"rate": [1, 2, 3]}},
            r"rate is not among the injected hyperparameters, \['learning_rate', 'momentum', 'weight_decay'\]",
        ),
        ({"via": "pmap"}, "via must be one of 'auto', 'vmap', 'map', 'loop', got via='pmap'"),
        ({"stop": lambda h: True, "eval_set": None}, "stop needs eval_set, .*got eval_set=None; pass eval_set"),
        ({"steps": 0}, "population: steps must be an integer >= 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        population(**arguments)
