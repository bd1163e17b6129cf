"""The learning rate that is told before an update is the one that the update is made with, as measured on it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from helpers import random_tree
from test_optim_contract import TRANSFORMATIONS

from jaxdl import optim, transfer

PARAMS = random_tree(seed=1)
UPDATES = 5


def grads(number):
    """Gradients of an update: other ones each time, none of them near 0."""
    return jax.tree.map(lambda g: jnp.sign(g) * (0.5 + jnp.abs(g)), random_tree(seed=number + 10))


def updates_of(tx, start=None):
    """The updates that a chain makes, at parameters that stay where they are."""
    state, found = tx.init(PARAMS) if start is None else start, []
    for number in range(UPDATES):
        updates, state = tx.update(grads(number), state, PARAMS)
        found.append(updates)
    return found


def ratio(updates, others):
    """By how much one tree's numbers are larger than another's: the largest ratio, of those that there are."""
    found = jax.tree.map(lambda u, v: np.abs(np.asarray(u, np.float64) / np.where(v == 0, np.nan, v)), updates, others)
    return max(np.nanmax(leaf) for leaf in jax.tree.leaves(found) if not np.isnan(leaf).all())


def measured(tx, unit):
    """The rate of each update: how much larger it is than that of the same chain with a rate of 1."""
    return [ratio(*pair) for pair in zip(updates_of(tx), updates_of(unit), strict=True)]


def told(tx):
    """The rate that is told before each update, in a jitted loop."""

    @jax.jit
    def step(state, gradient):
        return optim.learning_rate(tx, state), tx.update(gradient, state, PARAMS)[1]

    state, rates = tx.init(PARAMS), []
    for number in range(UPDATES):
        rate, state = step(state, grads(number))
        assert (rate.dtype, rate.shape) == (jnp.float32, ())
        rates.append(float(rate))
    return rates


BIASES = {"dense": {"kernel": False, "bias": True}, "scale": False}
LABELS = {"dense": {"kernel": "weights", "bias": "rest"}, "scale": "rest"}
ALL_BUT_BIASES = jax.tree.map(lambda leaf: not leaf, BIASES)


def injected(rate):
    """A chain made from an injected number that is no rate itself."""

    def chain(peak):
        return optim.momentum(lambda step: peak * (rate(step) if callable(rate) else rate))

    return optax.inject_hyperparams(chain)(peak=1.0)


def half_as_fast(rate):
    return lambda step: 0.5 * (rate(step) if callable(rate) else rate)


CHAINS = {
    "sgd": optim.sgd,
    "sgd, all": lambda rate: optim.sgd(rate, momentum=0.9, nesterov=True, weight_decay=0.01),
    "sgd, dampened": lambda rate: optim.sgd(rate, momentum=0.9, dampening=0.1),
    "momentum": optim.momentum,
    "nesterov": lambda rate: optim.nesterov(rate, weight_decay=0.1),
    "adagrad": optim.adagrad,
    "rmsprop": lambda rate: optim.rmsprop(rate, momentum=0.9, centered=True),
    "adam": lambda rate: optim.adam(rate, weight_decay=0.1),
    "adamw": lambda rate: optim.adamw(rate, mask=optim.no_bias_no_norm),
    "sgdw": optim.sgdw,
    "alexnet_sgd": lambda rate: optim.alexnet_sgd(rate, momentum=0.0),
    "the README's": lambda rate: optax.chain(
        optim.add_l2(1e-4),
        optim.scale_by_momentum(0.9, nesterov=True),
        optax.scale_by_learning_rate(rate),
        optim.swa(1),
        optim.ema(0.9),
        optim.snapshots(period=1, keep=2),
    ),
    "look-ahead": lambda rate: optax.chain(
        optax.scale_by_learning_rate(rate), optim.scale_by_nesterov_lookahead(0.0), optim.swa(0)
    ),
    "clipped": lambda rate: optax.chain(
        optax.clip_by_global_norm(1.0), optax.adaptive_grad_clip(0.1), optax.zero_nans(), optim.adam(rate)
    ),
    "a gradient scaled": lambda rate: optax.chain(optax.scale(128.0), optim.adam(rate)),
    "optax.sgd": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "optax.adam": optax.adam,
    "optax.nadam": optax.nadam,
    "optax.adamw": optax.adamw,
    "optax.lamb": optax.lamb,
    "optax.lion": optax.lion,
    "optax.rmsprop": optax.rmsprop,
    "optax.adagrad": optax.adagrad,
    "optax.adafactor": lambda rate: optax.adafactor(rate, min_dim_size_to_factor=2, weight_decay_rate=None),
    "optax.contrib.muon": lambda rate: optax.contrib.muon(rate, weight_decay=0.0),
    "optax.chain within optax.chain": lambda rate: optax.chain(optax.chain(optax.chain(optim.adam(rate)))),
    "optax.named_chain": lambda rate: optax.named_chain(
        ("z", optim.scale_by_adam()), ("a", optax.scale_by_learning_rate(rate)), ("m", optim.ema(0.9))
    ),
    "a schedule, then turned": lambda rate: optax.chain(
        optax.scale_by_adam(), optax.scale_by_schedule(rate if callable(rate) else lambda _: rate), optax.scale(-1)
    ),
    "a schedule that turns": lambda rate: optax.chain(
        optax.scale_by_adam(), optax.scale_by_schedule(lambda step: -(rate(step) if callable(rate) else rate))
    ),
    "two factors": lambda rate: optax.chain(
        optim.scale_by_momentum(0.9),
        optax.scale_by_learning_rate(rate),
        optax.scale_by_schedule(lambda step: 1 / (1.0 + step)) if callable(rate) or rate != 1 else optax.identity(),
    ),
    "halved afterwards": lambda rate: optax.chain(
        optim.adam(rate), optax.scale(0.5) if callable(rate) or rate != 1 else optax.identity()
    ),
    "halved afterwards, no rule": lambda rate: optax.chain(
        optim.sgd(rate), optax.scale(0.5) if callable(rate) or rate != 1 else optax.identity()
    ),
    "a gradient scaled, no rule": lambda rate: optax.chain(optax.scale(1 / 128), optim.momentum(rate)),
    "injected": lambda rate: optax.inject_hyperparams(optim.momentum)(learning_rate=rate, weight_decay=0.01),
    "injected, optax": lambda rate: optax.inject_hyperparams(optax.adamw)(learning_rate=rate),
    "injected, peak": injected,
    "injected, dtype": lambda rate: optax.inject_hyperparams(optim.sgd, hyperparam_dtype=jnp.float32)(rate),
    "injected, among others": lambda rate: optax.chain(
        optax.clip(10.0), optax.inject_hyperparams(optim.adam)(rate, b1=0.8), optim.swa(0)
    ),
    "injected, static": lambda rate: optax.inject_hyperparams(optim.adamw, static_args=("mask", "eps"))(
        rate, mask=optim.no_bias_no_norm
    ),
    "partition": lambda rate: optax.partition(
        {"weights": optim.adam(half_as_fast(rate)), "rest": optim.momentum(rate)}, LABELS
    ),
    "partition, by a function": lambda rate: optax.partition(
        {"weights": optim.adam(rate), "rest": optim.sgd(half_as_fast(rate))}, lambda _: LABELS
    ),
    "partition, a label not used": lambda rate: optax.partition(
        {"weights": optim.adam(rate), "rest": optax.set_to_zero(), "other": optim.sgd(100.0)}, LABELS
    ),
    "masked, two parts": lambda rate: optax.chain(
        optax.masked(optim.adam(rate), BIASES), optax.masked(optim.sgd(half_as_fast(rate)), ALL_BUT_BIASES)
    ),
    "masked, all": lambda rate: optax.masked(optim.adam(rate), jax.tree.map(lambda _: True, BIASES)),
    "masked, a part slower": lambda rate: optax.chain(
        optim.adam(rate), optax.masked(optax.scale(0.5), BIASES) if callable(rate) or rate != 1 else optax.identity()
    ),
    "masked, a part frozen": lambda rate: optax.chain(optim.adam(rate), optax.masked(optax.set_to_zero(), BIASES)),
    "masked, decay": lambda rate: optim.sgdw(rate, mask=lambda _: BIASES),
    "frozen": lambda rate: optax.chain(optim.adam(rate), transfer.freeze(lambda path: "kernel" in path), optim.swa(0)),
    "by depth": lambda rate: optax.chain(
        optim.adam(rate),
        transfer.scale_by_depth(("dense", "scale"), 2.0) if callable(rate) or rate != 1 else optax.identity(),
    ),
    "apply_if_finite": lambda rate: optax.apply_if_finite(optim.adam(rate), 3),
    "dynamic_loss_scale": lambda rate: optim.dynamic_loss_scale(optim.adam(rate), initial=8.0, period=2),
    "flatten": lambda rate: optax.flatten(optax.adam(rate)),
    "jitted": lambda rate: optax.GradientTransformation(optim.adam(rate).init, jax.jit(optim.adam(rate).update)),
    "extra args": lambda rate: optax.with_extra_args_support(optim.adam(rate)),
    "after a rule that is not known": lambda rate: optax.chain(own_rule(), optax.scale_by_learning_rate(rate)),
}


def own_rule():
    """A user's link: the signs of the gradients."""
    return optax.GradientTransformation(
        lambda _: optax.EmptyState(), lambda updates, state, _=None: (jax.tree.map(jnp.sign, updates), state)
    )


def as_numbers(rate):
    """A schedule's numbers, in NumPy."""
    return [0.3 if rate == 0.3 else float(rate(np.int32(number))) for number in range(UPDATES)]


RATES = {
    "constant": 0.3,
    "cosine": optim.cosine_decay(0.4, 8),
    "steps": optim.step_decay(0.5, boundaries=(1, 3)),
    "a user's": lambda step: 0.05 * (step + 1.0),
}


# Chains of which others of the same kind are in the fast tests.
SLOW = {
    "sgd, dampened",
    "nesterov",
    "rmsprop",
    "a gradient scaled, no rule",
    "halved afterwards, no rule",
    "injected, dtype",
    "injected, static",
    "masked, all",
    "optax.nadam",
    "optax.lamb",
    "optax.lion",
    "optax.rmsprop",
    "optax.adagrad",
    "optax.adafactor",
    "optax.contrib.muon",
}


@pytest.mark.parametrize(
    "rate",
    [pytest.param(rate, id=name, marks=() if name == "cosine" else pytest.mark.slow) for name, rate in RATES.items()],
)
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CHAINS])
def test_the_rate_told_is_the_rate_measured(name, rate):
    make = CHAINS[name]
    found = told(make(rate))
    np.testing.assert_allclose(found, measured(make(rate), make(1.0)), rtol=2e-5)
    if name != "two factors" and not name.startswith("halved"):
        np.testing.assert_allclose(found, as_numbers(rate), rtol=2e-6)


@pytest.mark.parametrize("name", ["momentum", "the README's", "injected", "injected, peak", "partition", "frozen"])
def test_in_a_scan_and_side_by_side(name):
    tx = CHAINS[name](RATES["cosine"])
    alone = told(tx)

    def body(state, _):
        return tx.update(grads(0), state, PARAMS)[1], optim.learning_rate(tx, state)

    _, scanned = jax.lax.scan(body, tx.init(PARAMS), length=UPDATES)
    np.testing.assert_allclose(scanned, alone, rtol=1e-6)
    ahead = tx.init(PARAMS)
    for number in range(3):
        ahead = tx.update(grads(number), ahead, PARAMS)[1]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), tx.init(PARAMS), ahead)
    np.testing.assert_allclose(jax.vmap(lambda s: optim.learning_rate(tx, s))(both), [alone[0], alone[3]], rtol=1e-6)


MASKS_BY_FUNCTION = {
    "a label not used": lambda rate: optax.partition(
        {"weights": optim.adam(rate), "rest": optim.sgd(half_as_fast(rate)), "other": optim.sgd(9.0)}, lambda _: LABELS
    ),
    "a mask of all": lambda rate: optax.chain(
        optim.adam(rate),
        optax.masked(
            optax.scale(0.5) if callable(rate) else optax.identity(), lambda p: jax.tree.map(lambda _: True, p)
        ),
    ),
    "a mask in a part": lambda rate: optax.partition(
        {
            "weights": optax.chain(
                optim.adam(rate), optax.masked(optax.scale(0.5) if callable(rate) else optax.identity(), of_shape)
            ),
            "rest": optax.set_to_zero(),
        },
        lambda _: LABELS,
    ),
}


def of_shape(params):
    """A mask by the parameters' shapes."""
    return jax.tree.map(lambda leaf: leaf.ndim == 2, params)


@pytest.mark.parametrize("name", MASKS_BY_FUNCTION)
def test_with_the_parameters_it_sees_which_parts_there_are(name):
    rate = RATES["cosine"]
    tx, unit = MASKS_BY_FUNCTION[name](rate), MASKS_BY_FUNCTION[name](1.0)
    state, made = tx.init(PARAMS), measured(tx, unit)
    told_rate = jax.jit(lambda s, params: optim.learning_rate(tx, s, params=params))
    for number in range(UPDATES):
        assert float(told_rate(state, PARAMS)) == pytest.approx(made[number], rel=1e-5)
        assert float(optim.learning_rate(tx, state)) > 1.5 * made[number]  # the largest there might be
        state = tx.update(grads(number), state, PARAMS)[1]


@pytest.mark.parametrize("name", CHAINS)
def test_the_parameters_change_nothing_where_all_parts_are_there(name):
    tx = CHAINS[name](0.3)
    state = tx.init(PARAMS)
    assert optim.learning_rate(tx, state, params=PARAMS) == optim.learning_rate(tx, state)


def test_members_with_numbers_of_their_own():
    def chain(peak):
        return optim.momentum(optim.cosine_decay(peak, 10))

    tx = optax.inject_hyperparams(chain)(peak=0.1)
    states = jax.vmap(lambda _: tx.init(PARAMS))(jnp.arange(2))
    states.hyperparams["peak"] = jnp.array([0.1, 0.4])
    rates = jax.jit(jax.vmap(lambda state: optim.learning_rate(tx, state)))(states)
    np.testing.assert_allclose(rates, [0.1, 0.4], rtol=1e-6)
    constant = optim.sgd(0.3)
    np.testing.assert_allclose(
        jax.vmap(lambda _: optim.learning_rate(constant, constant.init(PARAMS)))(jnp.arange(2)), [0.3, 0.3]
    )


def test_a_hyperparameter_that_was_changed():
    tx = optax.inject_hyperparams(optim.adam)(learning_rate=0.1)
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = 0.7  # a Python float, as users write it
    assert optim.learning_rate(tx, state) == np.float32(0.7)
    updates = tx.update(grads(0), state, PARAMS)[0]
    assert ratio(updates, updates_of(optim.adam(1.0))[0]) == pytest.approx(0.7, rel=1e-5)


def test_alexnet_s_rate_inside_the_velocity():
    tx, state, before, found = optim.alexnet_sgd(RATES["steps"], weight_decay=0.0), None, None, []
    state = tx.init(PARAMS)
    for number in range(UPDATES):
        updates, after = tx.update(grads(number), state, PARAMS)
        fresh = updates if before is None else jax.tree.map(lambda u, v: u - 0.9 * v, updates, before)
        found.append((float(optim.learning_rate(tx, state)), ratio(fresh, grads(number))))
        state, before = after, updates
    np.testing.assert_allclose(*zip(*found, strict=True), rtol=1e-4)


@pytest.mark.parametrize("as_object", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("inner", ["sgd", "injected"])
def test_the_rate_of_the_next_update_that_multi_steps_applies(inner, as_object):
    rate = optim.step_decay(0.5, boundaries=(1, 2, 3))
    tx = optax.MultiSteps(CHAINS[inner](rate), every_k_schedule=3)
    unit = optax.MultiSteps(CHAINS[inner](1.0), every_k_schedule=3)
    if not as_object:
        tx = tx.gradient_transformation()
    state, unit_state, told_since, applied = tx.init(PARAMS), unit.init(PARAMS), [], 0
    told_rate = jax.jit(lambda s: optim.learning_rate(tx, s))
    update, unit_update = jax.jit(tx.update), jax.jit(unit.update)
    for number in range(9):
        told_since.append(float(told_rate(state)))
        updates, state = update(grads(number), state, PARAMS)
        unit_updates, unit_state = unit_update(grads(number), unit_state, PARAMS)
        if any(np.any(leaf) for leaf in jax.tree.leaves(updates)):
            np.testing.assert_allclose(told_since, [ratio(updates, unit_updates)] * 3, rtol=1e-5)
            told_since, applied = [], applied + 1
    assert applied == 3


PLATEAUS = {
    "each": lambda: optim.reduce_on_plateau(0.5, patience=1),
    "of two": lambda: optim.reduce_on_plateau(0.5, patience=0, every=2),
    "of optax": lambda: optax.contrib.reduce_on_plateau(0.5, patience=2),
    "of optax, of two": lambda: optax.contrib.reduce_on_plateau(0.5, patience=1, accumulation_size=2),
}


@pytest.mark.parametrize("name", PLATEAUS)
def test_on_a_plateau(name):
    tx = optax.chain(optim.sgd(optim.step_decay(0.8, boundaries=(3,))), PLATEAUS[name](), optim.swa(0))
    state, found = tx.init(PARAMS), []
    told_rates = jax.jit(lambda s, value: (optim.learning_rate(tx, s, value=value), optim.learning_rate(tx, s)))
    update = jax.jit(lambda grads, s, value: tx.update(grads, s, PARAMS, value=value))
    for number in range(8):
        value = jnp.asarray(2.0 if number else 1.0)
        knowing, before = told_rates(state, value)
        updates, state = update(grads(number), state, value)
        found.append((float(knowing), ratio(updates, grads(number)), float(before)))
    knowing, made, before = np.array(found).T
    np.testing.assert_allclose(knowing, made, rtol=1e-5)
    assert len(set(np.round(made / np.where(np.arange(8) < 3, 0.8, 0.08), 4))) >= 3  # it fell, more than once
    # Without the loss it is told from one update to the next: the scale of the one before.
    scale = made / np.where(np.arange(8) < 3, 0.8, 0.08)
    np.testing.assert_allclose(before[1:], (scale[:-1] * np.where(np.arange(8) < 3, 0.8, 0.08)[1:]), rtol=1e-5)


def test_on_a_plateau_that_is_observed():
    tx = optax.chain(optim.sgd(0.8), optim.reduce_on_plateau(0.5, patience=0, every=None))
    state, found = tx.init(PARAMS), []
    for number in range(6):
        if number % 2 == 0:
            state = optim.observe(state, 1.0)
        rates = float(optim.learning_rate(tx, state)), float(optim.learning_rate(tx, state, value=3.0))
        updates, state = tx.update(grads(number), state, PARAMS)
        found.append((*rates, ratio(updates, grads(number))))
    told_rates, with_value, made = zip(*found, strict=True)
    np.testing.assert_allclose(told_rates, made, rtol=1e-6)
    np.testing.assert_allclose(with_value, made, rtol=1e-6)
    np.testing.assert_allclose(made, [0.8, 0.8, 0.4, 0.4, 0.2, 0.2], rtol=1e-6)


def test_a_plateau_before_the_rate():
    for rate, scale in ((optim.sgd, 0.5), (optim.adam, 1.0)):  # Adam undoes a scale, sgd does not
        tx = optax.chain(optim.reduce_on_plateau(0.5, patience=0, every=None), rate(0.8))
        state = optim.observe(tx.init(PARAMS), 1.0)
        _, state = tx.update(grads(0), state, PARAMS)
        state = optim.observe(state, 1.0)
        assert float(optim.learning_rate(tx, state)) == pytest.approx(0.8 * scale)


def test_an_overflow_moves_no_schedule():
    tx = optim.dynamic_loss_scale(optim.sgd(optim.step_decay(0.5, boundaries=(1, 2))), initial=4.0)
    state, found = tx.init(PARAMS), []
    for number in range(3):
        found.append(float(optim.learning_rate(tx, state)))
        bad = jnp.inf if number == 1 else 1.0
        _, state = tx.update(jax.tree.map(lambda g, bad=bad: g * bad, grads(number)), state, PARAMS)
    found.append(float(optim.learning_rate(tx, state)))
    np.testing.assert_allclose(found, [0.5, 0.05, 0.05, 0.005], rtol=1e-6)


def loss(params):
    return sum(jnp.sum((1 + jnp.arange(leaf.size).reshape(leaf.shape)) * leaf**2) for leaf in jax.tree.leaves(params))


def test_newton():
    gradient = jax.grad(loss)(PARAMS)
    updates = {
        rate: optim.newton(0.1, learning_rate=rate).update(gradient, optax.EmptyState(), PARAMS, value_fn=loss)[0]
        for rate in (0.3, 1.0)
    }
    found = optim.learning_rate(optim.newton(0.1, learning_rate=0.3), optax.EmptyState())
    assert float(found) == pytest.approx(ratio(updates[0.3], updates[1.0]), rel=1e-5)
    tx = optax.inject_hyperparams(optim.newton)(damping=0.1, learning_rate=0.3)
    assert jax.jit(lambda s: optim.learning_rate(tx, s))(tx.init(PARAMS)) == np.float32(0.3)


@pytest.mark.parametrize("search", [optax.scale_by_backtracking_linesearch(15), optax.scale_by_zoom_linesearch(15)])
def test_the_last_step_of_a_line_search(search):
    tx, params = optax.chain(optax.scale(-1.0), search), PARAMS
    state = tx.init(params)
    for _ in range(3):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)
        made = ratio(updates, gradient)
        assert float(optim.learning_rate(tx, state)) == pytest.approx(made, rel=1e-5)
        assert made < 1
        params = optax.apply_updates(params, updates)


@pytest.mark.slow
def test_lbfgs_tells_its_last_step():
    tx, params = optim.lbfgs(memory=3), PARAMS
    state = tx.init(params)
    for _ in range(4):
        value, gradient = jax.value_and_grad(loss)(params)
        direction = optax.scale_by_lbfgs(3).update(gradient, state[0], params)[0]
        updates, state = tx.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)
        assert float(optim.learning_rate(tx, state)) == pytest.approx(ratio(updates, direction), rel=1e-4)
        params = optax.apply_updates(params, updates)


def own_factory(rate):
    """Works when the state is made and when it is used, but not with numbers that are compared in Python in jit."""
    if rate < 0:
        raise ValueError
    return optim.sgd(rate)


def passed_by(tx):
    """A user's wrapper, which might do anything."""
    return optax.GradientTransformation(tx.init, lambda *arguments: tx.update(*arguments))


UNTOLD = {
    "no rate": lambda: optax.scale_by_adam(),
    "nothing": lambda: optax.identity(),
    "a gradient scaled": lambda: optax.chain(optax.scale(1 / 128), optim.scale_by_adam()),
    "a direction": lambda: optax.chain(optax.scale(0.5), optim.scale_by_momentum(0.9)),
    "a wrapper of a user's": lambda: passed_by(optim.sgd(0.1)),
    "a user's link after the rate": lambda: optax.chain(optim.sgd(0.1), own_rule()),
    "a user's link within the rates": lambda: optax.chain(
        optax.scale_by_schedule(lambda _: 0.1), own_rule(), optax.scale(-1)
    ),
    "a user's link, then turned": lambda: optax.chain(own_rule(), optax.scale(-1.0)),
    "a user's wrapper in a part": lambda: optax.partition(
        {"weights": passed_by(optim.sgd(1.0)), "rest": optim.sgd(0.1)}, LABELS
    ),
    "a rate or a gradient scaled": lambda: optax.chain(optax.scale(0.1), optax.scale(-1)),
    "two injected": lambda: optax.inject_hyperparams(
        lambda rate, scaling: optax.chain(optax.scale(scaling), optim.sgd(rate))
    )(0.1, 0.5),
    "Adam after the rate": lambda: optax.chain(optim.sgd(0.1), optax.scale_by_adam()),
    "all frozen": lambda: optax.chain(optim.sgd(0.1), optax.set_to_zero()),
    "Polyak's step": lambda: optax.polyak_sgd(),
    "resilient": lambda: optax.rprop(0.1),
    "prodigy": lambda: optax.contrib.prodigy(),
    "dog": lambda: optax.contrib.dog(),
    "schedule-free": lambda: optax.contrib.schedule_free_sgd(0.1),
    "passed by now and then": lambda: optax.chain(
        optim.sgd(0.1), optax.conditionally_transform(optax.scale(0.5), lambda step: step % 2 == 0)
    ),
    "a rate for each number": lambda: optax.chain(optax.scale_by_learning_rate(jnp.arange(4.0))),
    "a schedule of several numbers": lambda: optax.sgd(lambda step: jnp.full((1,), 0.1)),
    "a factory that looks at numbers": lambda: optax.inject_hyperparams(own_factory)(0.1),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_none_rather_than_a_wrong_number(name):
    tx = UNTOLD[name]()
    state = tx.init(PARAMS)
    assert jax.jit(lambda s: optim.learning_rate(tx, s))(state) is None
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
    assert jax.vmap(lambda s, _: optim.learning_rate(tx, s))(stacked, jnp.arange(2)) is None


def test_a_state_of_another_chain_has_none():
    assert optim.learning_rate(optim.sgd(lambda step: 0.1 + step), optim.adam(0.1).init(PARAMS)) is None
    assert optim.learning_rate(optim.sgd(lambda step: 0.1 + step), ()) is None


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_every_transformation_of_ours_is_known(name):
    tx = TRANSFORMATIONS[name]()
    if tx.update.__module__ == "test_optim_contract":  # its wrapper, which tells of a loss
        tx = dict(zip(tx.update.__code__.co_freevars, tx.update.__closure__, strict=True))["tx"].cell_contents
    tx = optax.chain(tx, optax.scale(-1))
    assert optim.learning_rate(tx, tx.init(PARAMS)) is not None


def test_a_schedule_in_double_precision_and_low_precision(x64):
    for dtype in (jnp.float64, jnp.bfloat16):
        params = random_tree(dtype=dtype)
        tx = optim.momentum(optim.cosine_decay(0.1, 10))
        rate = optim.learning_rate(tx, tx.init(params))
        assert rate.dtype == jnp.float32
        assert float(rate) == pytest.approx(0.1)


def test_it_costs_no_more_than_the_schedule():
    tx = CHAINS["the README's"](RATES["cosine"])
    state = tx.init(PARAMS)
    told_by = jax.make_jaxpr(lambda s: optim.learning_rate(tx, s))(state)
    schedule = jax.make_jaxpr(RATES["cosine"])(jnp.zeros([], jnp.int32))
    assert len(told_by.eqns) <= len(schedule.eqns) + 3  # the sign, its loss, the dtype
