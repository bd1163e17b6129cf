import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import optim, train


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


def wavy(x):
    """A non-convex function."""
    return jnp.sum(jnp.sin(3 * x) + 0.5 * x**2 * jnp.arange(1, 4)) + jnp.prod(jnp.cos(x))


def test_rate_inside_the_velocity(x64):
    """Lecture notes' v <- mu v + eta g: the same points while the rate is constant; when the rate is multiplied by c,
    the old velocity is worth c times as much with the rate outside, and what it was with the rate inside."""
    grads = np.random.default_rng(0).normal(size=(40, 3))
    rate = lambda step: jnp.where(step < 20, 0.1, 0.01)  # noqa: E731
    inside = optax.chain(optax.scale_by_learning_rate(rate), optim.scale_by_momentum(0.9))
    outside = optim.momentum(rate)
    a, b = inside.init(jnp.zeros(3)), outside.init(jnp.zeros(3))
    moves = []
    for g in map(jnp.asarray, grads):
        (u, a), (w, b) = inside.update(g, a), outside.update(g, b)
        moves.append((u, w))
    moves = np.array(moves)
    velocity = velocities(grads, 0.9, 0, False)
    np.testing.assert_allclose(moves[:20, 0], moves[:20, 1], rtol=1e-12)
    np.testing.assert_allclose(moves[20, 1], -0.01 * (0.9 * velocity[19] + grads[20]), rtol=1e-12)
    np.testing.assert_allclose(moves[20, 0], -(0.1 * 0.9 * velocity[19] + 0.01 * grads[20]), rtol=1e-12)


def test_lookahead_visits_the_points_of_the_reformulation(x64):
    """theta' = theta - mu v, to rounding, on a non-convex function."""
    lookahead = optax.chain(optax.scale_by_learning_rate(0.02), optim.scale_by_nesterov_lookahead(0.9))
    reformulated = optim.nesterov(0.02, momentum=0.9)
    params = other = jnp.array([1.0, -2.0, 0.5])
    state, other_state = lookahead.init(params), reformulated.init(other)
    gap = 0.0

    @jax.jit
    def step(params, state, other, other_state):
        updates, state = lookahead.update(jax.grad(wavy)(optim.lookahead_params(params, state)), state, params)
        other_updates, other_state = reformulated.update(jax.grad(wavy)(other), other_state, other)
        return optax.apply_updates(params, updates), state, optax.apply_updates(other, other_updates), other_state

    for _ in range(100):
        np.testing.assert_allclose(optim.lookahead_params(params, state), other, rtol=1e-11)
        params, state, other, other_state = step(params, state, other, other_state)
        gap = max(gap, float(jnp.abs(params - other).max()))
    assert gap > 0.01  # the parameters themselves are others


def test_lookahead_equals_the_equation(x64):
    """With a rate that changes, against v <- mu v + eta grad(theta - mu v), theta <- theta - v in NumPy."""
    rates = [0.02] * 30 + [0.002] * 30
    tx = optax.chain(
        optax.scale_by_learning_rate(lambda step: jnp.where(step < 30, 0.02, 0.002)),
        optim.scale_by_nesterov_lookahead(0.9),
    )
    params = jnp.array([1.0, -2.0, 0.5])
    state, theta, v = tx.init(params), np.asarray(params), np.zeros(3)
    slope = jax.jit(jax.grad(wavy))

    @jax.jit
    def step(params, state):
        updates, state = tx.update(slope(optim.lookahead_params(params, state)), state, params)
        return optax.apply_updates(params, updates), state

    for eta in rates:
        v = 0.9 * v + eta * np.asarray(slope(jnp.asarray(theta - 0.9 * v)))
        theta = theta - v
        params, state = step(params, state)
        np.testing.assert_allclose(params, theta, rtol=1e-11)


def test_lookahead_params_of_other_chains():
    params = jnp.ones(3)
    assert optim.lookahead_params(params, optim.adam(0.1).init(params)) is params
    two = optax.chain(optim.scale_by_nesterov_lookahead(0.9), optim.scale_by_nesterov_lookahead(0.9))
    with pytest.raises(ValueError, match=r"must hold one scale_by_nesterov_lookahead over all parameters, got 2"):
        optim.lookahead_params(params, two.init(params))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, tx: optim.lookahead_params(tx.init(p), p), r"the order is lookahead_params\(params, opt_state\)"),
        (lambda p, tx: optim.lookahead_params(p, tx), "got a gradient transformation; pass its state"),
        (
            lambda p, tx: optim.lookahead_params(p, train.TrainState(p, {}, tx.init(p), jnp.zeros([]), None)),
            "got a whole TrainState; pass state.opt_state",
        ),
        (
            lambda p, tx: optim.scale_by_momentum(0.9, nesterov="no"),
            "nesterov must be True or False, got nesterov='no'",
        ),
        (
            lambda p, tx: optim.scale_by_momentum(0.9, accumulator_dtype=int),
            "accumulator_dtype must be a floating-point",
        ),
        (lambda p, tx: optim.scale_by_momentum(0.9, accumulator_dtype="half float"), "accumulator_dtype must be a fl"),
    ],
)
def test_wrong_calls(call, words):
    tx = optax.chain(optax.scale_by_learning_rate(0.1), optim.scale_by_nesterov_lookahead(0.9))
    with pytest.raises(ValueError, match=words):
        call(jnp.ones(3), tx)


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
    "kwargs", [{"momentum": 1.0}, {"momentum": -0.1}, {"momentum": "0.9"}, {"momentum": 0.9, "dampening": 1.0}]
)
def test_bad_values(kwargs):
    with pytest.raises(ValueError, match=r"scale_by_momentum: \w+ must be a finite number in \[0, 1\), got"):
        optim.scale_by_momentum(**kwargs)


def test_nesterov_takes_no_dampening():
    with pytest.raises(ValueError, match=r"takes no dampening, got dampening=0.1; leave it out"):
        optim.scale_by_momentum(0.9, nesterov=True, dampening=0.1)
