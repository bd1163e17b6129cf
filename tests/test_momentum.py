import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import optim


def velocities(grads, decay, dampening, nesterov):
    """The rule as written in torch.optim.SGD's documentation, in NumPy's float64."""
    velocity, out = None, []
    for g in grads:
        velocity = g if velocity is None else decay * velocity + (1 - dampening) * g
        out.append(g + decay * velocity if nesterov else velocity)
    return np.array(out)


@pytest.mark.parametrize(
    ("decay", "dampening", "nesterov"), [(0.9, 0, False), (0.9, 0.3, False), (0.95, 0, True), (0, 0, True)]
)
def test_equals_the_recurrence(x64, decay, dampening, nesterov):
    grads = np.random.default_rng(0).normal(size=(200, 5))
    tx = optim.scale_by_momentum(decay, dampening=dampening, nesterov=nesterov)
    state, found = tx.init(jnp.zeros(5)), []
    for g in grads:
        update, state = tx.update(jnp.asarray(g), state)
        found.append(update)
    np.testing.assert_allclose(found, velocities(grads, decay, dampening, nesterov), rtol=1e-12, atol=1e-13)
    assert int(state.count) == 200


@pytest.mark.parametrize("nesterov", [False, True])
def test_equals_optax(x64, nesterov):
    grads = np.random.default_rng(1).normal(size=(50, 3))
    mine, theirs = optim.scale_by_momentum(0.9, nesterov=nesterov), optax.trace(0.9, nesterov=nesterov)
    a, b = mine.init(jnp.zeros(3)), theirs.init(jnp.zeros(3))
    for g in map(jnp.asarray, grads):
        (u, a), (v, b) = mine.update(g, a), theirs.update(g, b)
        np.testing.assert_allclose(u, v, rtol=1e-13, atol=1e-14)


def test_converges_to_the_geometric_sum(x64):
    """A constant gradient is amplified 1 / (1 - decay) times in the long run."""
    tx = optim.scale_by_momentum(0.9)
    state = tx.init(jnp.zeros(()))
    for _ in range(400):
        update, state = tx.update(jnp.ones(()), state)
    assert float(update) == pytest.approx(10, rel=1e-12)


def test_accumulator_dtype():
    tx = optim.scale_by_momentum(0.9, accumulator_dtype=jnp.float32)
    params = jnp.zeros(3, jnp.bfloat16)
    assert tx.init(params).velocity.dtype == jnp.float32
    assert tx.update(params, tx.init(params))[0].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "kwargs", [{"decay": 1.0}, {"decay": -0.1}, {"decay": "0.9"}, {"decay": 0.9, "dampening": 1.0}]
)
def test_bad_values(kwargs):
    with pytest.raises(ValueError, match=r"scale_by_momentum: \w+ must be a finite number in \[0, 1\), got"):
        optim.scale_by_momentum(**kwargs)


def test_nesterov_takes_no_dampening():
    with pytest.raises(ValueError, match=r"takes no dampening, got dampening=0.1; pass dampening=0"):
        optim.scale_by_momentum(0.9, nesterov=True, dampening=0.1)
