import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import optim

CHAINS = [optim.sgd, optim.momentum, optim.nesterov, optim.adagrad, optim.rmsprop, optim.adam]


def descend(tx, steps=30):
    """Points visited on a non-convex function, in float64."""
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(3 * x) + x**2 * jnp.arange(1, 4))))
    params = jnp.array([1.0, -2.0, 0.5])
    state, points = tx.init(params), []
    for _ in range(steps):
        updates, state = tx.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
        points.append(np.asarray(params))
    return np.array(points)


def schedule(step):
    return 0.02 / (1 + 0.1 * step)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (optim.sgd(0.02), optax.sgd(0.02)),
        (optim.sgd(schedule), optax.sgd(schedule)),
        (optim.momentum(schedule), optax.sgd(schedule, momentum=0.9)),
        (optim.nesterov(schedule), optax.sgd(schedule, momentum=0.9, nesterov=True)),
        (optim.sgd(0.02, momentum=0.9, nesterov=True), optim.nesterov(0.02)),
        (optim.sgd(0.02, momentum=0.9, dampening=0.1), optim.momentum(0.02, dampening=0.1)),
        (optim.sgd(0.02, weight_decay=0.1), optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.02))),
        (
            optim.adagrad(0.1, initial_accumulator=0.1, eps=1e-7, eps_in_sqrt=True),
            optax.adagrad(0.1, initial_accumulator_value=0.1, eps=1e-7),
        ),
        (optim.rmsprop(schedule, decay=0.9, eps_in_sqrt=True), optax.rmsprop(schedule, decay=0.9, eps=1e-8)),
        (optim.adam(schedule), optax.adam(schedule)),
        (optim.adam(0.01, weight_decay=0.1), optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.01))),
    ],
)
def test_chains_visit_the_same_points(x64, mine, theirs):
    np.testing.assert_allclose(descend(mine), descend(theirs), rtol=1e-10)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be a finite number >= 0, got learning_rate=-0.1; pass a rate"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"learning_rate": "0.1"}, "learning_rate must be"),
        ({"learning_rate": 0.1, "weight_decay": -1}, "weight_decay must be a finite number >= 0, got weight_decay=-1"),
    ],
)
def test_bad_values(chain, kwargs, message):
    with pytest.raises(ValueError, match=f"^{chain.__name__}: {message}"):
        chain(**kwargs)


def test_sgd_needs_momentum_to_look_ahead():
    with pytest.raises(ValueError, match="sgd: nesterov=True needs momentum > 0, got momentum=0.0"):
        optim.sgd(0.1, nesterov=True)


def test_plain_sgd_keeps_no_velocity():
    assert jax.tree.leaves(optim.sgd(0.1).init(jnp.zeros(3))) == []


def test_l2_is_masked_and_needs_parameters():
    params, mask = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, {"kernel": True, "bias": False}
    tx = optim.add_l2(0.5, mask)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_array_equal(updates["kernel"], 0.5)
    np.testing.assert_array_equal(updates["bias"], 0)
    with pytest.raises(ValueError, match="add_l2: update needs the parameters; call tx.update"):
        optim.add_l2(0.5).update(params, optax.EmptyState())


def test_every_chain_is_here():
    """Each public function of the module that makes a whole optimizer stands in the lists of these tests."""
    made = {
        f
        for _, f in inspect.getmembers(optim, inspect.isfunction)
        if "learning_rate" in inspect.signature(f).parameters
    }
    assert made == set(CHAINS)
