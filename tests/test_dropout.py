"""Dropout and its kin: what they do in training and evaluation, and what they draw from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import shapes_filled, small_resnet

from jaxdl import models
from jaxdl.models import layers

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5, 6)) + 1, jnp.float32)
CASES = {
    "dropout": (layers.Dropout(0.3), (X,)),
    "spatial dropout": (layers.SpatialDropout(0.3), (X,)),
    "stochastic depth": (layers.StochasticDepth(), (X, 0.7)),
    "stochastic depth, per example": (layers.StochasticDepth(per_example=True), (X, 0.7)),
    "DropConnect": (layers.DropConnect(5, 0.3, activation=lambda x: x), (X.reshape(3, -1),)),
}


@pytest.fixture(params=CASES)
def case(request):
    layer, arguments = CASES[request.param]
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return layer, arguments, layer.init(rngs, *arguments, train=True)


def test_expectation_over_draws_is_evaluation(case):
    """To four standard errors of 4,000 draws."""
    layer, arguments, variables = case

    def draw(key):
        return layer.apply(variables, *arguments, train=True, rngs={"dropout": key})

    draws = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(5), 4000)), np.float64)
    evaluated = np.asarray(layer.apply(variables, *arguments, train=False))
    z = (draws.mean(0) - evaluated) / (draws.std(0) / np.sqrt(len(draws)))
    assert np.abs(z).max() < 5
    assert draws.std(0).min() > 0  # everything is drawn


def test_draws_depend_on_the_key_alone(case):
    layer, arguments, variables = case

    def draw(seed):
        return np.asarray(layer.apply(variables, *arguments, train=True, rngs={"dropout": jax.random.key(seed)}))

    np.testing.assert_array_equal(draw(3), draw(3))
    assert any(not np.array_equal(draw(3), draw(seed)) for seed in (4, 5, 6, 7, 8, 9))


def test_evaluation_needs_no_key_and_training_does(case):
    layer, arguments, variables = case
    layer.apply(variables, *arguments, train=False)
    with pytest.raises(Exception, match="dropout"):
        layer.apply(variables, *arguments, train=True)


def test_what_is_dropped_together():
    key = {"dropout": jax.random.key(2)}
    spatial = np.asarray(layers.SpatialDropout(0.5).apply({}, X, train=True, rngs=key))
    channels = (spatial != 0).reshape(3, 20, 6)
    assert (channels.all(1) | ~channels.any(1)).all()
    assert 0 < channels.any(1).sum() < 18
    branch = np.asarray(
        layers.StochasticDepth(per_example=True).apply({}, jnp.ones((40, 2, 2, 3)), 0.5, train=True, rngs=key)
    )
    kept = branch.reshape(40, -1)
    assert ((kept == 1).all(1) | (kept == 0).all(1)).all()
    assert 0 < kept[:, 0].sum() < 40
    whole = np.asarray(layers.StochasticDepth().apply({}, jnp.ones((40, 2, 2, 3)), 0.5, train=True, rngs=key))
    assert len(np.unique(whole)) == 1


def test_rate_zero_changes_nothing():
    key = {"dropout": jax.random.key(2)}
    np.testing.assert_array_equal(layers.Dropout(0.0).apply({}, X, train=True, rngs=key), X)
    np.testing.assert_array_equal(layers.StochasticDepth().apply({}, X, 1.0, train=True, rngs=key), X)


def test_drop_connect_by_hand():
    """Every example has its own mask: rows of the output are W masked at the places that the draw of that key gives."""
    layer = layers.DropConnect(4, 0.5)
    x = X.reshape(3, -1)[:, :7]
    variables = layer.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x, train=True)
    # With inputs of one-hot rows, the pre-activations are entries of M * W: either 0 or the weight itself.
    y = np.asarray(
        layer.clone(activation=lambda x: x).apply(
            variables, jnp.eye(7), train=True, rngs={"dropout": jax.random.key(3)}
        )
    )
    weights = np.asarray(variables["params"]["kernel"])
    kept = y != 0
    np.testing.assert_allclose(y[kept], weights[kept], rtol=1e-6)
    assert 5 < kept.sum() < 23


@pytest.mark.slow
def test_drop_connect_samples_match_the_moments_of_the_masks():
    """The paper's evaluation draws from a normal distribution with the mean and variance that the masks give."""
    layer = layers.DropConnect(5, 0.4, activation=lambda x: x)
    squared = layers.DropConnect(5, 0.4, activation=jnp.square, samples=20000)
    x = X.reshape(3, -1)
    variables = layer.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x, train=True)
    keys = jax.random.split(jax.random.key(5), 8000)
    masked = jax.jit(jax.vmap(lambda key: layer.apply(variables, x, train=True, rngs={"dropout": key})))(keys)
    sampled = squared.apply(variables, x, train=False, rngs={"dropout": jax.random.key(6)})
    np.testing.assert_allclose(sampled, jnp.square(masked).mean(0), rtol=0.1)
    mean = layer.apply(variables, x, train=False)
    assert float(jnp.abs(jnp.square(mean) - sampled).max()) > 0.1  # the variance is there


def test_linear_decay_is_the_papers():
    """Ends at the final probability, from 1 at the input; the mean depth kept of 54 blocks at 0.5 is 40.25."""
    probabilities = layers.linear_decay(0.5, 54)
    assert probabilities[-1] == 0.5
    np.testing.assert_allclose(np.diff(probabilities), -0.5 / 54)
    assert sum(probabilities) == pytest.approx((3 * 54 - 1) / 4)  # Huang et al. 2016, sec. 3


@pytest.mark.parametrize(
    ("model", "side"),
    [
        (models.alexnet(5, widths=(8, 8, 8, 8, 8), hidden=16), 96),
        (models.wide_resnet(10, 1, 5, dropout=0.3), 8),
        (small_resnet(5, blocks=2, stochastic_depth=0.5), 8),
        (small_resnet(5, blocks=2, stochastic_depth=0.5, scan=True), 8),
    ],
)
def test_models_draw_in_training_alone(model, side):
    x = jax.random.normal(jax.random.key(0), (2, side, side, 3))
    variables = shapes_filled(model, x.shape[1:])
    evaluate = jax.jit(lambda x: model.apply(variables, x, train=False))
    np.testing.assert_array_equal(evaluate(x), evaluate(x))
    np.testing.assert_allclose(evaluate(x[:1]), evaluate(x)[:1], rtol=1e-3, atol=1e-5)  # no example sees another
    train = jax.jit(
        lambda seed: model.apply(
            variables, x, train=True, rngs={"dropout": jax.random.key(seed)}, mutable=["batch_stats"]
        )[0]
    )
    np.testing.assert_array_equal(train(0), train(0))
    assert any(not np.array_equal(train(0), train(seed)) for seed in range(1, 6))
