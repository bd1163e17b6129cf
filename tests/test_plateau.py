"""reduce_on_plateau beyond what torch's recorded runs show (tests/test_torch.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_dataset

from jaxdl import models, optim, train

SET = random_dataset(50)


def scales(values, **settings):
    """The scale that each update is multiplied by."""
    tx = optim.reduce_on_plateau(**settings)
    update = jax.jit(lambda state, value: tx.update(jnp.ones(()), state, value=value))
    state, found = tx.init(jnp.zeros(())), []
    for value in values:
        scaled, state = update(state, value)
        found.append(float(scaled))
    return found


def test_patience():
    """The first value improves on nothing and still is no failure; three bad ones in a row are one too many."""
    np.testing.assert_allclose(scales([5.0, 5.0, 5.0, 5.0, 5.0], patience=2), [1, 1, 1, 0.1, 0.1])
    np.testing.assert_allclose(scales([5.0, 6.0, 6.0, 4.0, 6.0, 6.0, 6.0], patience=2), [1] * 6 + [0.1])
    np.testing.assert_allclose(scales([5.0, 5.0], patience=0), [1, 0.1])


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("level", [-100.0, 100.0])
def test_relative_threshold_is_right_for_negative_values(mode, level):
    """A change of half the threshold is none, one of twice the threshold is one, on either side of 0."""
    better = -1.0 if mode == "min" else 1.0
    settings = {"mode": mode, "threshold": 0.01, "patience": 0}
    np.testing.assert_allclose(scales([level, level + 0.5 * better], **settings), [1, 0.1])
    np.testing.assert_allclose(scales([level, level + 2.0 * better], **settings), [1, 1])
    np.testing.assert_allclose(scales([level, level - 2.0 * better], **settings), [1, 0.1])


def test_absolute_threshold():
    settings = {"threshold": 1.0, "threshold_mode": "absolute", "patience": 0}
    np.testing.assert_allclose(scales([-3.0, -3.9, -4.1], **settings), [1, 0.1, 0.1])


def test_cooldown_and_floor():
    np.testing.assert_allclose(
        scales([1.0] * 8, patience=0, cooldown=2), [1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 1e-3], rtol=1e-5
    )
    np.testing.assert_allclose(scales([1.0] * 4, patience=0, min_scale=0.05), [1, 0.1, 0.05, 0.05])
    np.testing.assert_allclose(scales([1.0] * 3, patience=0, min_scale=2.0), [1, 1, 1])  # never above the full rate


def test_means_are_judged():
    """Every third value a mean of three: 4, 4, 1; the noise within does not count."""
    found = scales([3.0, 4.0, 5.0, 9.0, 0.0, 3.0, 1.0, 1.0, 1.0], patience=0, every=3)
    np.testing.assert_allclose(found, [1] * 5 + [0.1] * 4)


def test_value_must_be_given():
    tx = optim.reduce_on_plateau()
    with pytest.raises(ValueError, match="update needs the value to watch; call tx.update.*value=loss.*call observe"):
        tx.update(jnp.ones(()), tx.init(jnp.zeros(())))


def test_make_step_gives_the_loss():
    """A rate of 0 stands still: the loss cannot improve, and the scale falls after the patience."""
    model, tx = models.mlp(3, widths=()), optax.chain(optim.sgd(0.0), optim.reduce_on_plateau(patience=2))
    state = train.init_state(model, tx, jax.random.key(0), SET.image_shape)
    step = train.make_step(model, tx, preprocess=SET.standardize)
    for _ in range(4):
        state, _ = step(state, (SET.images, SET.labels))
    assert float(state.opt_state[1].scale) == pytest.approx(0.1)


@pytest.mark.parametrize("scan", [True, False])
def test_fit_tells_the_evaluation_error(scan):
    """AlexNet's recipe. At a rate of 0 every evaluation gives one value; only evaluations count, not steps."""
    model = models.mlp(3, widths=())
    tx = optax.chain(optim.sgd(0.0), optim.reduce_on_plateau(patience=1, every=None))
    state = train.init_state(model, tx, jax.random.key(0), SET.image_shape)
    kwargs = {"batch_size": 16, "eval_set": SET, "eval_every": 5, "progress": False, "scan": scan}
    for steps, scale in ((15, 1.0), (16, 0.1), (25, 0.1), (26, 0.01)):
        state, _ = train.fit(state, model, tx, SET, steps=steps, **kwargs)
        assert float(state.opt_state[1].scale) == pytest.approx(scale), steps


def test_a_run_in_parts_is_told_the_same_errors():
    """An evaluation at the end of a part, which the whole run does not make there, must not count."""
    model = models.mlp(3, widths=())
    tx = optax.chain(optim.sgd(0.0), optim.reduce_on_plateau(patience=0, every=None))
    kwargs = {"batch_size": 16, "eval_set": SET, "eval_every": 5, "progress": False}
    states = []
    for stops in ((11,), (3, 7, 9, 11)):
        state = train.init_state(model, tx, jax.random.key(0), SET.image_shape)
        for steps in stops:
            state, _ = train.fit(state, model, tx, SET, steps=steps, **kwargs)
        states.append([float(leaf) for leaf in state.opt_state[1]])
    assert states[0] == states[1]
    assert states[0][0] == pytest.approx(0.1)


def test_observe_reaches_nested_states_and_only_those_that_listen():
    inner = optax.chain(optim.momentum(0.1), optim.reduce_on_plateau(every=None))
    tx = optax.chain(optim.reduce_on_plateau(), optax.masked(inner, lambda p: jax.tree.map(lambda _: True, p)))
    state = optim.observe(optim.observe(tx.init(jnp.zeros(3)), 2.0), 4.0)
    fed, listening = (
        s
        for s in jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, optim.PlateauState))
        if isinstance(s, optim.PlateauState)
    )
    assert int(fed.count) == 0
    assert (int(listening.count), float(listening.total)) == (2, 6.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": 1.0}, r"factor must be a finite number in \[0, 1\)"),
        ({"factor": 0.0}, r"factor must be in \(0, 1\), got factor=0.0"),
        ({"patience": -1}, "patience must be an integer >= 0, got patience=-1"),
        ({"cooldown": 1.5}, "cooldown"),
        ({"threshold": -1}, "threshold"),
        ({"min_scale": -1}, "min_scale"),
        ({"mode": "lower"}, "mode must be one of 'min', 'max', got mode='lower'"),
        ({"threshold_mode": "abs"}, "threshold_mode must be"),
        ({"every": 0}, "every must be an integer >= 1, got every=0; pass None to be fed by observe"),
    ],
)
def test_bad_values(settings, message):
    with pytest.raises(ValueError, match=f"^reduce_on_plateau: {message}"):
        optim.reduce_on_plateau(**settings)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda state: optim.observe(state, [0.1]), r"observe: value must be one number, got value=\[0.1\]"),
        (lambda state: optim.observe(state, jnp.ones(2)), r"must be one number, got value=.*jax.vmap\(optim.observe\)"),
        (lambda state: optim.observe(state, "0.1"), "must be one number, got value='0.1'"),
        (lambda state: optim.observe(state, None), "must be one number, got value=None"),
        (lambda state: optim.observe(state, float("nan")), "observe: value must be finite, got value=nan"),
        (lambda state: optim.observe(state, jnp.array(jnp.inf)), "observe: value must be finite, got value=.*inf"),
        (lambda state: optim.observe(0.1, state), "observe: value must be one number"),
        (lambda state: optim.observe(optim.reduce_on_plateau(), 0.1), "got a gradient transformation; pass its state"),
        (
            lambda state: optim.loss_scale(optim.sgd(0.1)),
            "loss_scale: .* got a gradient transformation; pass its state",
        ),
        (
            lambda state: optim.dynamic_loss_scale(optim.sgd),
            "inner must be a gradient transformation, got .*pass optim.mo",
        ),
        (lambda state: optim.dynamic_loss_scale({}), "inner must be a gradient transformation, got inner={}"),
    ],
)
def test_wrong_calls(call, words):
    state = optim.reduce_on_plateau(every=None).init(jnp.ones(2))
    with pytest.raises(ValueError, match=words):
        call(state)
