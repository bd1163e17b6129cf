"""Evaluation on several views of each image: the mean of their softmax, against a NumPy loop over the views."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_resnet

from jaxdl import data, ensemble, optim, train

KEY = jax.random.key(0)
TEST = data.load("fashion_mini")[1][:60]
MODEL = small_resnet()


def corners(images):
    """Windows of 24 x 24 pixels of 28 x 28, and the mirror image of one."""
    windows = [images[:, y : y + 24, x : x + 24] for y, x in ((0, 0), (4, 4), (0, 4))]
    return jnp.stack([*windows, windows[0][:, :, ::-1]], 1)


def state_of(model=MODEL, seed=0):
    return train.init_state(model, optim.sgd(0.1), jax.random.key(seed), (24, 24, 1))


def by_loop(model, variables, dataset):
    """The probabilities of each image: a mean over views that NumPy cuts."""
    images = np.asarray(dataset.standardize(dataset.images))
    total = 0
    for y, x, mirrored in ((0, 0, False), (4, 4, False), (0, 4, False), (0, 0, True)):
        window = images[:, y : y + 24, x : x + 24]
        logits = model.apply(variables, window[:, :, ::-1] if mirrored else window, train=False)
        exponentials = np.exp(np.asarray(logits, np.float64))
        total = total + exponentials / exponentials.sum(1, keepdims=True)
    return total / 4


def test_evaluate_is_a_loop_over_the_views():
    state = state_of()
    found = train.evaluate(MODEL, state, TEST, batch_size=16, views=corners)
    expected = by_loop(MODEL, state.variables, TEST)
    np.testing.assert_allclose(found.loss, -np.log(expected[np.arange(60), TEST.labels]).mean(), rtol=1e-5)
    assert found.error == pytest.approx((expected.argmax(1) != TEST.labels).mean(), abs=1e-6)
    whole = train.evaluate(MODEL, state, TEST)
    assert whole.loss != found.loss


def test_members_are_loops_over_the_views():
    states = [state_of(seed=seed) for seed in range(2)]
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state.variables for state in states))
    found = ensemble.evaluate(MODEL, members, TEST, batch_size=16, views=corners)
    each = [by_loop(MODEL, state.variables, TEST) for state in states]
    rows = np.arange(60), TEST.labels
    np.testing.assert_allclose(found.members.nll, [-np.log(p[rows]).mean() for p in each], rtol=1e-5)
    np.testing.assert_allclose(found.ensemble.nll[1], -np.log(np.mean(each, 0)[rows]).mean(), rtol=1e-5)


def test_views_of_trees():
    class Twice(nn.Module):
        """A model of two inputs, one of which has no train."""

        @nn.compact
        def __call__(self, inputs):
            return nn.Dense(3)(jnp.concatenate([inputs["a"], inputs["b"]], -1))

    rng = np.random.default_rng(0)
    table = data.from_arrays({"a": rng.normal(size=(8, 2)), "b": rng.normal(size=(8, 3))}, np.arange(8) % 3, classes=3)
    state = train.init_state(Twice(), optim.sgd(0.1), KEY, table)

    def views(inputs):
        return jax.tree.map(lambda x: jnp.stack([x, x], 1), inputs)

    found, expected = (train.evaluate(Twice(), state, table, views=v) for v in (views, None))
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (3, "views must be a function"),
        (nn.Dense, "views must be a function, got the class"),
        (lambda images: images, r"views must map inputs \[batch, ...\] to \[batch, views, ...\]"),
        (lambda images: images[:1, None], r"views must map inputs \[batch, ...\] to \[batch, views, ...\]"),
    ],
)
def test_wrong_views(views, message):
    with pytest.raises(ValueError, match=message):
        train.evaluate(MODEL, state_of(), TEST, views=views)


def test_views_are_for_classes():
    members = jax.tree.map(lambda leaf: leaf[None], state_of().variables)
    with pytest.raises(ValueError, match='views go with average="softmax"'):
        ensemble.evaluate(
            MODEL, members, TEST, views=corners, average="outputs", metrics={"e": lambda o, t: jnp.zeros(len(o))}
        )
    table = data.from_arrays(np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32))
    net = nn.Dense(1)
    state = train.init_state(net, optim.sgd(0.1), KEY, table)
    with pytest.raises(ValueError, match=r"views average the softmax of logits \[batch, classes\]"):
        train.evaluate(net, state, table, loss=train.squared_error, views=lambda x: jnp.stack([x, x], 1))
