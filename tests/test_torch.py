"""Every rule against torch.optim: numbers recorded by tests/oracles/torch_optimizers.py, compared in float64."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import torch_optimizers as oracle

from jaxdl import optim

FOLDER = Path(__file__).parent / "oracles"
RECORDED = np.load(FOLDER / "torch_optimizers.npz")
RATES = json.loads((FOLDER / "torch_schedules.json").read_text())["rates"]


def rate(peak):
    """The recorded runs' rate: it changes twice."""
    changes = oracle.RATE_CHANGES
    constants = [lambda step, factor=factor: jnp.asarray(peak * factor) for factor in changes.values()]
    return optim.join(constants, list(changes)[1:])


OURS = {
    "sgd": optim.sgd(rate(0.1)),
    "sgd l2": optim.sgd(rate(0.1), weight_decay=0.01),
    "momentum": optim.momentum(rate(0.01)),
    "momentum l2": optim.sgd(rate(0.01), momentum=0.9, weight_decay=0.01),
    "momentum dampened": optim.momentum(rate(0.01), dampening=0.3),
    "momentum dampened l2": optim.momentum(rate(0.01), momentum=0.8, dampening=0.9, weight_decay=0.1),
    "nesterov": optim.nesterov(rate(0.01)),
    "nesterov l2": optim.sgd(rate(0.01), momentum=0.95, nesterov=True, weight_decay=0.01),
    "adagrad": optim.adagrad(rate(0.1)),
    "adagrad start l2": optim.adagrad(rate(0.1), initial_accumulator=0.1, eps=1e-3, weight_decay=0.01),
    "rmsprop": optim.rmsprop(rate(0.01)),
    "rmsprop l2": optim.rmsprop(rate(0.01), decay=0.9, eps=1e-3, weight_decay=0.01),
    "rmsprop momentum": optim.rmsprop(rate(0.001), momentum=0.9),
    "rmsprop centered": optim.rmsprop(rate(0.01), decay=0.9, eps=1e-2, centered=True),
    "adam": optim.adam(rate(0.01)),
    "adam l2": optim.adam(rate(0.01), b1=0.8, b2=0.99, eps=1e-3, weight_decay=0.1),
    "adamw": optim.adamw(rate(0.01), weight_decay=0.01),
    "adamw strong": optim.adamw(rate(0.01), b1=0.8, b2=0.99, eps=1e-3, weight_decay=0.5),
}


def test_every_recorded_variant_is_compared():
    assert set(OURS) == set(oracle.VARIANTS) == set(RECORDED.files)


@pytest.mark.parametrize("name", OURS)
def test_a_thousand_steps(x64, name):
    tx, params = OURS[name], jnp.asarray(oracle.start())

    @jax.jit
    def run(params, stream):
        def body(carry, gradient):
            params, state = carry
            updates, state = tx.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(body, (params, tx.init(params)), stream)[1]

    found = np.asarray(run(params, jnp.asarray(oracle.gradients())))[np.array(oracle.CHECKPOINTS) - 1]
    np.testing.assert_allclose(found, RECORDED[name], rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("one_cycle", optim.one_cycle(0.5, 101)),
        ("cosine_decay", optim.cosine_decay(0.5, 100, end=0.01)),
        ("cosine_cycles", optim.cosine_cycles(0.5, 7, end=0.01, period_multiplier=2)),
        ("step_decay", optim.step_decay(0.5, (20, 50), factor=0.2)),
        ("exponential", optim.exponential_decay(0.5, -np.log(0.97))),
    ],
)
def test_schedules(x64, name, schedule):
    found = [float(schedule(step)) for step in range(100)]
    np.testing.assert_allclose(found, RATES[name], rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("plateau", {"patience": 3}),
        ("plateau max", {"mode": "max", "patience": 2, "factor": 0.5}),
        ("plateau absolute cooldown", {"patience": 1, "threshold": 0.05, "threshold_mode": "absolute", "cooldown": 4}),
        ("plateau floor", {"patience": 0, "min_scale": 0.02, "factor": 0.3}),
    ],
)
@pytest.mark.parametrize("observed", [False, True])
def test_plateau(name, settings, observed):
    """torch judges a value after the update; here the update that is told it, or the next one, obeys."""
    tx = optim.reduce_on_plateau(**settings, every=None if observed else 1)
    state, found = tx.init(jnp.zeros(())), []
    for value in oracle.plateau_values():
        if observed:
            state = optim.observe(state, value)
        updates, state = tx.update(jnp.ones(()), state, value=None if observed else value)
        found.append(0.5 * float(updates))
    np.testing.assert_allclose(found[:-1], RATES[name][1:], rtol=1e-5)
    assert len(set(RATES[name])) > 2  # the rate did fall, more than once
