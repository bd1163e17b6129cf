"""The adaptive rules against NumPy recurrences written from the papers' equations, and against optax."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import optim

GRADS = np.random.default_rng(0).normal(size=(300, 6)) * np.logspace(-3, 3, 6)


def run(tx, grads, dtype=None):
    state, found = tx.init(jnp.zeros(grads.shape[1], dtype)), []
    for g in grads:
        update, state = tx.update(jnp.asarray(g, dtype), state)
        found.append(np.asarray(update, np.float64))
    return np.array(found)


def root(square, eps, inside):
    return np.sqrt(square + eps) if inside else np.sqrt(square) + eps


def adagrad(grads, start, eps, inside):
    return grads / root(start + np.cumsum(grads**2, 0), eps, inside)


def rmsprop(grads, decay, eps, inside, centered, corrected):
    s = m = np.zeros(grads.shape[1])
    out = []
    for t, g in enumerate(grads, 1):
        s, m = decay * s + (1 - decay) * g**2, decay * m + (1 - decay) * g
        c = 1 - decay**t if corrected else 1
        out.append(g / root(np.maximum(s / c - (m / c) ** 2 * centered, 0), eps, inside))
    return np.array(out)


def adam(grads, b1, b2, eps, inside, corrected):
    s = m = np.zeros(grads.shape[1])
    out = []
    for t, g in enumerate(grads, 1):
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        c1, c2 = (1 - b1**t, 1 - b2**t) if corrected else (1, 1)
        out.append(m / c1 / root(s / c2, eps, inside))
    return np.array(out)


@pytest.mark.parametrize(("start", "eps", "inside"), [(0.0, 1e-10, False), (0.1, 1e-7, True), (1.0, 1e-2, False)])
def test_adagrad(x64, start, eps, inside):
    tx = optim.scale_by_adagrad(initial_accumulator=start, eps=eps, eps_in_sqrt=inside)
    np.testing.assert_allclose(run(tx, GRADS), adagrad(GRADS, start, eps, inside), rtol=1e-11)


@pytest.mark.parametrize(
    ("decay", "inside", "centered", "corrected"), [*itertools.product((0.9, 0.99), *[(False, True)] * 3)]
)
def test_rmsprop(x64, decay, inside, centered, corrected):
    eps = 1e-2
    tx = optim.scale_by_rmsprop(decay, eps=eps, eps_in_sqrt=inside, centered=centered, bias_correction=corrected)
    expected = rmsprop(GRADS, decay, eps, inside, centered, corrected)
    # The first variance is a difference of equals when centered and corrected: rounding there is not compared.
    skip = 1 if centered and corrected else 0
    np.testing.assert_allclose(run(tx, GRADS)[skip:], expected[skip:], rtol=1e-9)


@pytest.mark.parametrize(("inside", "corrected"), [*itertools.product((False, True), (False, True))])
def test_adam(x64, inside, corrected):
    tx = optim.scale_by_adam(0.8, 0.99, eps=1e-4, eps_in_sqrt=inside, bias_correction=corrected)
    np.testing.assert_allclose(run(tx, GRADS), adam(GRADS, 0.8, 0.99, 1e-4, inside, corrected), rtol=1e-9, atol=1e-12)


def test_adam_without_decay_is_the_sign(x64):
    tx = optim.scale_by_adam(0, 0, eps=0)
    np.testing.assert_allclose(run(tx, GRADS), np.sign(GRADS), rtol=1e-12)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (
            optim.scale_by_adagrad(initial_accumulator=0.1, eps=1e-7, eps_in_sqrt=True),
            optax.scale_by_rss(initial_accumulator_value=0.1, eps=1e-7),
        ),
        (optim.scale_by_rmsprop(0.9, eps_in_sqrt=True), optax.scale_by_rms(0.9, eps_in_sqrt=True)),
        (optim.scale_by_rmsprop(0.9), optax.scale_by_rms(0.9, eps_in_sqrt=False)),
        (
            optim.scale_by_rmsprop(0.9, centered=True, eps=1e-2, eps_in_sqrt=True),
            optax.scale_by_stddev(0.9, eps=1e-2, eps_in_sqrt=True),
        ),
        (optim.scale_by_adam(0.8, 0.99), optax.scale_by_adam(0.8, 0.99)),
    ],
)
def test_equals_optax(x64, mine, theirs):
    np.testing.assert_allclose(run(mine, GRADS), run(theirs, GRADS), rtol=1e-9)


def test_bias_correction_is_exact_in_float32():
    """1 - 0.999 in float32 would be off by 3e-5; Adam's first step must be the sign to a few last bits."""
    first = run(optim.scale_by_adam(eps=0), GRADS[:1], jnp.float32)
    np.testing.assert_allclose(first, np.sign(GRADS[:1]), rtol=5e-7)
    injected = optax.inject_hyperparams(optim.scale_by_adam)(eps=0.0)
    np.testing.assert_allclose(run(injected, GRADS[:1], jnp.float32), np.sign(GRADS[:1]), rtol=5e-7)


def test_bfloat16_average_still_moves():
    """In bfloat16 itself 0.999 s rounds back to s: the average could not fall, and would stop rising half-way."""
    tx = optim.scale_by_rmsprop(0.999)
    state = tx.init(jnp.zeros(1, jnp.bfloat16))
    update = jax.jit(tx.update)
    for _ in range(2000):
        _, state = update(jnp.ones(1, jnp.bfloat16), state)
    assert float(state.second_moment[0]) == pytest.approx(1 - 0.999**2000, rel=1e-3)


@pytest.mark.parametrize("tx", [optim.scale_by_adagrad(), optim.scale_by_rmsprop(centered=True), optim.scale_by_adam()])
def test_zero_gradients_give_zero_updates(tx):
    np.testing.assert_array_equal(run(tx, np.zeros((3, 2)), jnp.float32), 0)


@pytest.mark.parametrize(
    ("make", "kwargs", "name"),
    [
        (optim.scale_by_adagrad, {"eps": -1e-8}, "eps"),
        (optim.scale_by_adagrad, {"initial_accumulator": float("nan")}, "initial_accumulator"),
        (optim.scale_by_rmsprop, {"decay": 1.0}, "decay"),
        (optim.scale_by_rmsprop, {"eps": None}, "eps"),
        (optim.scale_by_adam, {"b1": 1}, "b1"),
        (optim.scale_by_adam, {"b2": -0.5}, "b2"),
        (optim.scale_by_adam, {"eps": float("inf")}, "eps"),
    ],
)
def test_bad_values(make, kwargs, name):
    with pytest.raises(ValueError, match=rf"^{make.__name__}: {name} must be a finite number .*, got {name}="):
        make(**kwargs)
