"""Trees of inputs and targets, metrics, and a module's own collections, on one, two and eight devices: the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import data, optim, train

KEY = jax.random.key(0)


class Keeper(nn.Module):
    """Two inputs, two outputs; keeps a running mean and a counter, and adds a loss."""

    @nn.compact
    def __call__(self, inputs, *, train: bool):
        x = nn.tanh(nn.Dense(8)(jnp.concatenate([inputs["a"], inputs["b"]], -1)))
        calls = self.variable("counters", "calls", lambda: jnp.zeros([], jnp.int32))
        mean = self.variable("running", "mean", lambda: jnp.zeros(8))
        before = mean.value  # what devices average after the step; within it each has the mean of its own part
        if train and not self.is_initializing():
            calls.value = calls.value + 1
            mean.value = 0.5 * mean.value + 0.5 * x.mean(0)
        self.sow("losses", "size", 0.1 * jnp.mean(jnp.square(x)))
        return {"class": nn.Dense(3)(x - before), "size": nn.Dense(1)(x)}


def loss(outputs, targets):
    return train.cross_entropy(outputs["class"], targets["class"]) + train.squared_error(
        outputs["size"], targets["size"]
    )


def dataset():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    return data.from_arrays({"a": a, "b": b}, {"class": a.argmax(1) % 3, "size": b.sum(1, keepdims=True)}, name="mine")


CHOSEN = {"loss": loss, "metrics": {"class_error": lambda o, t: train.error(o["class"], t["class"])}}
LAYOUTS = [
    ("sharded", 2),
    ("pmap", 8),
    *(pytest.param(*c, marks=pytest.mark.slow) for c in [("pmap", 2), ("sharded", 8)]),
]


def trained(parallel, devices, **chosen):
    model, tx, train_set = Keeper(), optim.adam(0.01), dataset()
    state = train.init_state(model, tx, KEY, train_set)
    return train.fit(
        state,
        model,
        tx,
        train_set,
        steps=6,
        batch_size=16,
        eval_set=train_set,
        devices=jax.devices()[:devices],
        parallel=parallel,
        gradient_norm=True,
        progress=False,
        **CHOSEN,
        **chosen,
    )


@pytest.fixture(scope="module")
def alone():
    return trained("single", 1)


@pytest.mark.parametrize(("parallel", "devices"), LAYOUTS)
def test_it_trains_the_same_on_any_number_of_devices(alone, parallel, devices):
    state, history = trained(parallel, devices, scan=devices == 2)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # noqa: E731
    jax.tree.map(close, (state.params, state.collections), (alone[0].params, alone[0].collections))
    assert int(state.collections["counters"]["calls"]) == 6
    for name in ("loss", "gradient_norm", "learning_rate", "eval_loss"):
        close(getattr(history, name), getattr(alone[1], name))
    jax.tree.map(close, (history.metrics, history.eval_metrics), (alone[1].metrics, alone[1].eval_metrics))


@pytest.mark.parametrize(("parallel", "devices"), LAYOUTS[:2])
def test_a_loop_of_ones_own(alone, parallel, devices):
    model, tx, train_set = Keeper(), optim.adam(0.01), dataset()
    state = train.init_state(model, tx, KEY, train_set)
    step = train.make_step(model, tx, parallel=parallel, devices=jax.devices()[:devices], **CHOSEN)
    for batch in data.batches(train_set, state.key, 16, steps=6):
        state, metrics = step(state, batch)
    np.testing.assert_allclose(metrics.loss, alone[1].loss[-1], rtol=1e-4)
    # Five examples cannot be spread over two devices: they are computed in full on both.
    odd = jax.tree.map(lambda x: x[:5], (train_set.inputs, train_set.targets))
    state, metrics = step(state, odd)
    assert np.isfinite(metrics.metrics["class_error"])


def test_members_spread_over_devices(alone):
    train_set = dataset()
    found = train.population(
        Keeper(),
        optim.adam(0.01),
        train_set,
        keys=jax.random.split(KEY, 8).at[3].set(KEY),
        steps=6,
        batch_size=16,
        eval_set=train_set,
        progress=False,
        **CHOSEN,
    )
    np.testing.assert_allclose(found.histories[3].loss, alone[1].loss, rtol=1e-4)
    assert found.state.collections["counters"]["calls"].tolist() == [6] * 8
    assert len(found.state.params["Dense_0"]["kernel"].devices()) == 8
