"""Newton's method and L-BFGS: on functions with known minima, and in a training step."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from helpers import NoisyNormNet, random_dataset

from jaxdl import models, optim, train

SET = random_dataset(50)
FULL = (SET.images, SET.labels)


def rosenbrock(p):
    return (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2


def minimise(tx, loss, params, steps):
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params


def train_steps(model, tx, steps):
    state = train.init_state(model, tx, jax.random.key(0), SET.image_shape)
    step = train.make_step(model, tx, preprocess=SET.standardize)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, FULL)
        losses.append(float(metrics.loss))
    return state, losses


def test_newton_solves_a_quadratic_in_one_step(x64):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, vector = root @ root.T + np.eye(6), rng.normal(size=6)
    found = minimise(optim.newton(0.0), lambda p: 0.5 * p @ matrix @ p - vector @ p, jnp.zeros(6), 1)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, vector), rtol=1e-10)


def test_newton_step_is_damped_and_scaled(x64):
    found = minimise(optim.newton(2.0, learning_rate=0.5), lambda p: 3 * p**2, jnp.asarray(1.0), 1)
    assert float(found) == pytest.approx(1 - 0.5 * 6 / (6 + 2), rel=1e-12)


@pytest.mark.parametrize(("tx", "steps"), [(optim.newton(0.0), 8), (optim.lbfgs(), 60)])
def test_rosenbrock(x64, tx, steps):
    found = minimise(tx, rosenbrock, {"x": jnp.asarray(-1.2), "y": jnp.asarray(1.0)}, steps)
    np.testing.assert_allclose([found["x"], found["y"]], [1, 1], rtol=1e-6)


def ridge_logistic_optimum():
    """Softmax regression with an L2 penalty on the whole set, solved by SciPy in float64."""
    inputs = np.asarray(SET.standardize(jnp.asarray(SET.images)), np.float64).reshape(50, -1)
    size = inputs.shape[1]

    def loss(flat):
        kernel, bias = flat[: 3 * size].reshape(size, 3), flat[3 * size :]
        logits = inputs @ kernel + bias
        log_p = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
        slope = np.exp(log_p)
        slope[np.arange(50), SET.labels] -= 1
        value = -log_p[np.arange(50), SET.labels].mean() + 0.05 * np.sum(kernel**2)
        return value, np.concatenate([(inputs.T @ slope / 50 + 0.1 * kernel).ravel(), slope.sum(0) / 50])

    return scipy.optimize.minimize(loss, np.zeros(3 * size + 3), jac=True, method="L-BFGS-B", tol=1e-14).fun


class Penalised(models.MLP):
    """Softmax regression that hands its penalty to the loss by a last logit-like column."""

    def __call__(self, x, *, train):
        logits = super().__call__(x, train=train)
        kernel = self.variables["params"]["Dense_0"]["kernel"]
        return jnp.concatenate([logits, jnp.full((len(logits), 1), 0.05 * jnp.sum(kernel**2))], 1)


def penalised_loss(columns, labels):
    return train.cross_entropy(columns[:, :-1], labels) + columns[:, -1]


@pytest.mark.parametrize(("tx", "steps"), [(optim.newton(1e-6), 12), (optim.lbfgs(), 60)])
def test_in_make_step_they_reach_scipys_optimum(tx, steps):
    model = Penalised(3, ())
    state = train.init_state(model, tx, jax.random.key(0), SET.image_shape)
    step = train.make_step(model, tx, preprocess=SET.standardize, loss=penalised_loss)
    for _ in range(steps):
        state, metrics = step(state, FULL)
    assert float(metrics.loss) == pytest.approx(ridge_logistic_optimum(), rel=1e-4)


@pytest.mark.slow
def test_lbfgs_with_batch_statistics_and_dropout():
    """A search within a step is of one function: the loss falls at a rate that plain descent does not reach."""
    state, losses = train_steps(NoisyNormNet(), optim.lbfgs(), 15)
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.2 * losses[0]
    assert float(jnp.abs(state.batch_stats["BatchNorm_0"]["mean"]).max()) > 0


class FlaxConvNet(nn.Module):
    """models.convnet(3, widths=(2,), hidden=3) in Flax's own layers; the parameters have the same names."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.max_pool(nn.Conv(2, (3, 3))(x), (2, 2), (2, 2)))
        x = nn.relu(nn.Dense(3)(x.reshape(len(x), -1)))
        return nn.Dense(3)(x)


@pytest.mark.slow
def test_newton_goes_through_layers_with_gradients_of_their_own(x64):
    """The same step as with Flax's layers, whose second derivatives are autodiff's."""
    ours = models.convnet(3, widths=(2,), hidden=3)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(20, 6, 5, 2)))
    params = ours.init(jax.random.key(0), inputs, train=False)["params"]
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    tx = optim.newton(1.0)
    updates = []
    for model in (ours, FlaxConvNet()):

        def loss(params, model=model):
            return train.cross_entropy(model.apply({"params": params}, inputs, train=True), SET.labels[:20]).mean()

        @jax.jit
        def update(params, loss=loss):
            return tx.update(jax.grad(loss)(params), tx.init(params), params, value_fn=loss)[0]

        updates.append(update(params))
    chex.assert_trees_all_close(*updates, rtol=1e-8, atol=1e-10)


def test_newton_refuses_many_parameters():
    with pytest.raises(ValueError, match=r"newton: 5,001 parameters need a Hessian.*max_parameters=5,000.*Use lbfgs"):
        optim.newton(0.1).init(jnp.zeros(5001))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.newton(-1), "newton: damping must be a finite number >= 0, got damping=-1"),
        (lambda: optim.newton(1, learning_rate=-1), "newton: learning_rate"),
        (lambda: optim.newton(1, max_parameters=0), "newton: max_parameters"),
        (lambda: optim.newton(1).update(jnp.ones(1), optax.EmptyState()), "newton: update needs the parameters and"),
        (lambda: optim.lbfgs().update(jnp.ones(1), optim.lbfgs().init(jnp.ones(1))), "lbfgs: update needs"),
        (lambda: optim.lbfgs(memory=0), "lbfgs: memory must be an integer >= 1, got memory=0"),
        (lambda: optim.lbfgs(max_linesearch_steps=0), "lbfgs: max_linesearch_steps"),
    ],
)  # fmt: skip
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()
