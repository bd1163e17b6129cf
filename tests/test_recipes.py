import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import optim

CHAINS = [
    optim.sgd,
    optim.momentum,
    optim.nesterov,
    optim.adagrad,
    optim.rmsprop,
    optim.adam,
    optim.adamw,
    optim.sgdw,
    optim.alexnet_sgd,
]


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
        (optim.adamw(schedule, weight_decay=0.1), optax.adamw(schedule, weight_decay=0.1)),
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
        ({"learning_rate": "0.1"}, "learning_rate must be a finite number >= 0, got learning_rate='0.1'; pass a rate"),
        (
            {"learning_rate": jnp.array([0.1, 0.2])},
            r"learning_rate must be one number, got .*; train.population trains",
        ),
        ({"learning_rate": None}, "learning_rate must be .*got learning_rate=None"),
        ({"learning_rate": True}, "learning_rate must be .*got learning_rate=True"),
        (
            {"learning_rate": optax.sgd(0.1)},
            r"learning_rate must be .*this is a whole gradient transformation: optax.ch",
        ),
        (
            {"learning_rate": optim.cosine_decay},
            "learning_rate must be a schedule, .*missing a required argument.*call it",
        ),
        ({"learning_rate": 0.1, "weight_decay": True}, "weight_decay must be .*got weight_decay=True"),
        ({"learning_rate": 0.1, "weight_decay": None}, "weight_decay must be .*got weight_decay=None"),
        ({"learning_rate": 0.1, "weight_decay": -1}, "weight_decay must be a finite number >= 0, got weight_decay=-1"),
    ],
)
def test_bad_values(chain, kwargs, message):
    with pytest.raises(ValueError, match=f"^{chain.__name__}: {message}"):
        chain(**kwargs)


def test_sgdw_equals_its_equation(x64):
    """In NumPy; and at a constant rate the paper's Algorithm 1, which has the rate inside the velocity."""
    gradient = lambda x: 3 * np.cos(3 * x) + 2 * x * np.arange(1, 4)  # noqa: E731
    x, m, expected = np.array([1.0, -2.0, 0.5]), np.zeros(3), []
    for step in range(30):
        m = 0.8 * m + gradient(x)
        x = x - schedule(step) * m - schedule(step) * 0.05 * x
        expected.append(x)
    np.testing.assert_allclose(descend(optim.sgdw(schedule, momentum=0.8, weight_decay=0.05)), expected, rtol=1e-11)
    x, m, expected = np.array([1.0, -2.0, 0.5]), np.zeros(3), []
    for _ in range(30):
        m = 0.8 * m + 0.02 * gradient(x)
        x = x - m - 0.001 * x
        expected.append(x)
    np.testing.assert_allclose(descend(optim.sgdw(0.02, momentum=0.8, weight_decay=0.05)), expected, rtol=1e-11)


def test_alexnet_sgd_equals_the_papers_recurrence(x64):
    """v <- 0.9 v - 0.0005 eps w - eps g; w <- w + v, with a rate that is divided by 10 on the way."""
    gradient = lambda x: 3 * np.cos(3 * x) + 2 * x * np.arange(1, 4)  # noqa: E731
    w, v, expected = np.array([1.0, -2.0, 0.5]), np.zeros(3), []
    for step in range(30):
        eps = 0.01 if step < 15 else 0.001
        v = 0.9 * v - 0.0005 * eps * w - eps * gradient(w)
        w = w + v
        expected.append(w)
    rule = optim.alexnet_sgd(optim.step_decay(0.01, (15,)))
    np.testing.assert_allclose(descend(rule), expected, rtol=1e-11)
    outside = descend(optim.momentum(optim.step_decay(0.01, (15,)), weight_decay=0.0005))
    np.testing.assert_allclose(outside[:15], expected[:15], rtol=1e-11)
    assert not np.allclose(outside[15], expected[15], rtol=1e-3)


def test_masked_decay_of_the_w_chains():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    for chain in (optim.adamw, optim.sgdw):
        tx = chain(1.0, weight_decay=0.25, mask=optim.no_bias_no_norm)
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
        np.testing.assert_array_equal(updates["kernel"], -0.25)
        np.testing.assert_array_equal(updates["bias"], 0)


def test_sgd_needs_momentum_to_look_ahead():
    with pytest.raises(ValueError, match="sgd: nesterov=True needs momentum > 0, got momentum=None; pass momentum=0.9"):
        optim.sgd(0.1, nesterov=True)


def test_plain_sgd_keeps_no_velocity():
    for momentum in (None, 0, 0.0):
        assert jax.tree.leaves(optim.sgd(0.1, momentum=momentum).init(jnp.zeros(3))) == []
        assert len(jax.tree.leaves(optim.rmsprop(0.1, momentum=momentum).init(jnp.zeros(3)))) == 2


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
    assert made == {*CHAINS, optim.newton}


@pytest.mark.parametrize("chain", [*CHAINS, optim.scale_by_adagrad, optim.scale_by_rmsprop, optim.scale_by_adam])
def test_flags_must_be_bools(chain):
    """What merely counts as true, "no" for example, is refused: by each chain and link that has a flag."""
    parameters = inspect.signature(chain).parameters
    rate = {"learning_rate": 0.1} if "learning_rate" in parameters else {}
    flags = [name for name, parameter in parameters.items() if isinstance(parameter.default, bool)]
    for name in flags:
        with pytest.raises(ValueError, match=f": {name} must be True or False, got {name}='no'"):
            chain(**rate, **{name: "no"})


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("kernel", "mask must be a tree of bools like the parameters, got mask='kernel'; pass a function"),
        (0.5, "got mask=0.5"),
        ({}, "got mask={}"),
        ({"kernel": 1}, "got mask={'kernel': 1}; pass a function of the parameters such as optim.no_bias_no_norm"),
    ],
)
@pytest.mark.parametrize("chain", [optim.adamw, optim.sgdw])
def test_masks_that_are_none(chain, mask, words):
    with pytest.raises(ValueError, match=f"^decoupled_weight_decay: .*{words}"):
        chain(0.1, mask=mask)


def test_a_mask_is_no_schedule():
    """optax takes every function for a schedule, and hands on what it gives."""
    tx = optax.inject_hyperparams(optim.adamw)(0.1, mask=optim.no_bias_no_norm)
    with pytest.raises(ValueError, match=r'mask must be .*add static_args=\("mask",\)'):
        tx.init({"kernel": jnp.ones((2, 2))})
    optax.inject_hyperparams(optim.adamw, static_args=("mask",))(0.1, mask=optim.no_bias_no_norm).init(
        {"kernel": jnp.ones((2, 2))}
    )
