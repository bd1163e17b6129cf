"""What every transformation and chain promises. A new one joins by a line in TRANSFORMATIONS."""

import functools

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_tree

from jaxdl import optim, transfer


def told(tx):
    """For transformations that ask for more than the gradient: told of a loss whose gradient is what they are given."""

    def update(grads, state, params):
        def loss(point):
            steps = jax.tree.map(lambda p, q, g: jnp.sum((p - q) ** 2 + g * (p - q)), point, params, grads)
            return sum(jax.tree.leaves(steps))

        return tx.update(grads, state, params, value=loss(params), grad=grads, value_fn=loss)

    return optax.GradientTransformation(tx.init, update)


TRANSFORMATIONS = {
    "scale_by_momentum": lambda: optim.scale_by_momentum(0.9),
    "scale_by_momentum, dampened": lambda: optim.scale_by_momentum(0.9, dampening=0.2),
    "scale_by_momentum, Nesterov": lambda: optim.scale_by_momentum(0.9, nesterov=True),
    "scale_by_momentum, float32": lambda: optim.scale_by_momentum(0.9, accumulator_dtype=jnp.float32),
    "scale_by_adagrad": lambda: optim.scale_by_adagrad(),
    "scale_by_adagrad, optax's form": lambda: optim.scale_by_adagrad(
        initial_accumulator=0.1, eps=1e-7, eps_in_sqrt=True
    ),
    "scale_by_rmsprop": lambda: optim.scale_by_rmsprop(),
    "scale_by_rmsprop, centered": lambda: optim.scale_by_rmsprop(0.9, eps_in_sqrt=True, centered=True),
    "scale_by_rmsprop, corrected": lambda: optim.scale_by_rmsprop(0.9, bias_correction=True),
    "scale_by_adam": lambda: optim.scale_by_adam(),
    "scale_by_adam, uncorrected": lambda: optim.scale_by_adam(bias_correction=False, eps_in_sqrt=True),
    "scale_by_nesterov_lookahead": lambda: optim.scale_by_nesterov_lookahead(0.9),
    "add_l2": lambda: optim.add_l2(0.1),
    "add_l1": lambda: optim.add_l1(0.1),
    "add_elastic_net": lambda: optim.add_elastic_net(0.1, 0.2),
    "decoupled_weight_decay": lambda: optim.decoupled_weight_decay(0.1),
    "reduce_on_plateau": lambda: optim.reduce_on_plateau(every=None),
    "reduce_on_plateau, told": lambda: told(optim.reduce_on_plateau(patience=1)),
    "newton": lambda: told(optim.newton(0.1)),
    "lbfgs": lambda: told(optim.lbfgs(memory=3)),
    "sgd": lambda: optim.sgd(0.1),
    "sgd, all": lambda: optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "momentum": lambda: optim.momentum(optax.linear_schedule(0.1, 0.0, 10)),
    "nesterov": lambda: optim.nesterov(0.1),
    "adagrad": lambda: optim.adagrad(0.1),
    "rmsprop": lambda: optim.rmsprop(0.1),
    "adam": lambda: optim.adam(0.1, weight_decay=0.01),
    "adamw": lambda: optim.adamw(0.1),
    "sgdw": lambda: optim.sgdw(optim.warmup_cosine(0.1, 2, 10)),
    "alexnet_sgd": lambda: optim.alexnet_sgd(0.1),
    "swa": lambda: optim.swa(1, 2),
    "ema": lambda: optim.ema(0.9),
    "ema, copied first": lambda: optim.ema(lambda step: 0.9 - 0.5 / (step + 1), debias=False),
    "snapshots": lambda: optim.snapshots(1, 2),
    "snapshots, bfloat16": lambda: optim.snapshots(2, 3, dtype=jnp.bfloat16),
    "dynamic_loss_scale": lambda: optim.dynamic_loss_scale(optim.momentum(0.1), initial=4.0, period=2),
    "freeze": lambda: transfer.freeze(lambda path: path.endswith("bias")),
    "scale_by_depth": lambda: transfer.scale_by_depth(("dense", "scale")),
}
INJECTED = {
    "sgd": (optim.sgd, {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "momentum": (optim.momentum, {"learning_rate": 0.1, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.1}),
    "nesterov": (optim.nesterov, {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.1}),
    "adagrad": (optim.adagrad, {"learning_rate": 0.1, "eps": 1e-3, "initial_accumulator": 0.2, "weight_decay": 0.1}),
    "rmsprop": (optim.rmsprop, {"learning_rate": 0.1, "decay": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    "adam": (optim.adam, {"learning_rate": 0.1, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": (optim.adamw, {"learning_rate": 0.1, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1}),
    "sgdw": (optim.sgdw, {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.1}),
    "alexnet_sgd": (optim.alexnet_sgd, {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.1}),
}
# Links and wrappers as functions of numbers, which optax injects.
LINKS = {
    "ema": (optim.ema, {"decay": 0.9}),
    "ema, copied first": (lambda decay: optim.ema(decay, debias=False), {"decay": 0.9}),
    "swa": (optim.swa, {"start": 1, "period": 2}),
    "snapshots": (lambda period, start: optim.snapshots(period, 3, start=start), {"period": 1, "start": 1}),
    "reduce_on_plateau": (
        lambda factor, threshold, min_scale, patience: told(
            optim.reduce_on_plateau(factor, threshold=threshold, min_scale=min_scale, patience=patience)
        ),
        {"factor": 0.5, "threshold": 0.5, "min_scale": 0.2, "patience": 0},
    ),
    "dynamic_loss_scale": (
        lambda rate, initial, factor: optim.dynamic_loss_scale(
            optim.momentum(rate), initial=initial, period=2, factor=factor
        ),
        {"rate": 0.1, "initial": 4.0, "factor": 2.0},
    ),
    "add_l1": (optim.add_l1, {"weight": 0.1}),
    "add_elastic_net": (optim.add_elastic_net, {"l1": 0.1, "l2": 0.2}),
    "decoupled_weight_decay": (optim.decoupled_weight_decay, {"weight_decay": 0.1}),
    "scale_by_nesterov_lookahead": (optim.scale_by_nesterov_lookahead, {"momentum": 0.9}),
    "newton": (lambda damping: told(optim.newton(damping)), {"damping": 0.1}),
    "scale_by_depth": (lambda factor: transfer.scale_by_depth(("dense", "scale"), factor), {"factor": 2.6}),
}
STEPS = 4
MEMBERS = 3
DTYPES = [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64]


# Slow tests: other arguments of a transformation that has a line of its own, chains of links that have theirs, and
# L-BFGS, whose line search takes ten times as long to compile as the others (test_second_order.py has its fast tests).
SLOW = {
    "lbfgs",
    "scale_by_momentum, dampened",
    "scale_by_adagrad, optax's form",
    "scale_by_rmsprop, corrected",
    "scale_by_adam, uncorrected",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "sgdw",
}


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TRANSFORMATIONS])
def name(request):
    return request.param


def gradients(step, dtype=jnp.float32):
    return random_tree(100 + step, dtype)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def run(tx, params, steps=STEPS, update=None, offset=0):
    """All updates of a short run, and the last state."""
    state, all_updates = tx.init(params), []
    for step in range(steps):
        updates, state = (update or tx.update)(gradients(step + offset, params["scale"].dtype), state, params)
        params = optax.apply_updates(params, updates)
        all_updates.append(updates)
    return all_updates, state


def scanned(tx, params, stream):
    """The same run as one `lax.scan`."""

    def body(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), updates

    (_, state), updates = jax.lax.scan(body, (params, tx.init(params)), stream)
    return updates, state


# The suite's time is the compiler's. So there are four programs for a transformation, and the tests look at what they
# computed: a run with nothing compiled, a step that is compiled once, and all wrappers and all dtypes together.


@functools.cache
def eager(name):
    """The run that others are compared with, each operation by itself: updates and states after each step."""
    tx, params = TRANSFORMATIONS[name](), random_tree()
    state, all_updates, states = tx.init(params), [], []
    for step in range(STEPS):
        updates, state = tx.update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
        all_updates.append(updates)
        states.append(state)
    return all_updates, states


def compiled(parts, *arguments):
    """One program that computes all parts, and each part's result. A part that cannot be traced fails by itself."""
    failed = {}

    @jax.jit
    def program(*arguments):
        found = {}
        for part, function in parts.items():
            try:
                found[part] = function(*arguments)
            except Exception as error:
                failed[part] = error
        return found

    found = program(*arguments)

    def result(part):
        if part in failed:
            raise failed[part]
        return found[part]

    return result


@functools.cache
def wrapped(name):
    """What scans, maps and optax's wrappers make of it."""
    tx = TRANSFORMATIONS[name]()

    def first(tx, trees, stream):
        params, grads = jax.tree.map(lambda leaf: leaf[0], (trees, stream))
        return tx.update(grads, tx.init(params), params)[0]

    def member(arguments):
        params, grads = arguments
        return tx.update(grads, tx.init(params), params)

    def accumulated(trees, stream):
        """Two micro-steps with a half and three halves of each gradient."""
        micro = jax.tree.map(
            lambda leaf: jnp.stack([0.5 * leaf[:2], 1.5 * leaf[:2]], 1).reshape(4, *leaf.shape[1:]), stream
        )
        return scanned(optax.MultiSteps(tx, every_k_schedule=2), jax.tree.map(lambda leaf: leaf[0], trees), micro)

    partition = optax.partition(
        {"tx": tx, "rest": optax.identity()}, jax.tree.map(lambda m: "tx" if m else "rest", mask(name))
    )
    parts = {
        "scan": lambda trees, stream: scanned(tx, jax.tree.map(lambda leaf: leaf[0], trees), stream),
        "vmap": lambda trees, stream: jax.vmap(member)((trees, jax.tree.map(lambda leaf: leaf[:MEMBERS], stream)))[0],
        "alone": lambda trees, stream: jax.lax.map(member, (trees, jax.tree.map(lambda leaf: leaf[:MEMBERS], stream)))[
            0
        ],
        "chain": functools.partial(first, optax.chain(optax.identity(), tx, optax.scale(2.0))),
        "masked": functools.partial(first, optax.masked(tx, mask(name))),
        "partition": functools.partial(first, partition),
        "multi_steps": accumulated,
    }
    return compiled(parts, stack(map(random_tree, range(MEMBERS))), stack(map(gradients, range(STEPS))))


@functools.cache
def in_dtypes(name):
    """Runs in each dtype where there is double precision, all from bfloat16's numbers: the same run."""
    tx = TRANSFORMATIONS[name]()

    def in_dtype(dtype, params, stream):
        params, stream = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, stream))
        updates, state = scanned(tx, params, stream)
        return updates, state, tx.init(params)

    stream = stack(gradients(step, jnp.bfloat16) for step in range(STEPS))
    parts = {jnp.dtype(dtype).name: functools.partial(in_dtype, dtype) for dtype in DTYPES}
    return compiled(parts, random_tree(dtype=jnp.bfloat16), stream)


def mask(name):
    """What a wrapper lets a transformation see. (L-BFGS sees all parameters together: a part is another problem.)"""
    together = name == "lbfgs"
    return {"dense": {"kernel": True, "bias": together}, "scale": together}


def test_pure(name):
    """The same in, the same out; nothing that went in is changed."""
    tx, params, grads = TRANSFORMATIONS[name](), random_tree(), gradients(0)
    state = tx.init(params)
    before = jax.tree.map(np.array, (params, grads, state))
    first, second = tx.update(grads, state, params), tx.update(grads, state, params)
    chex.assert_trees_all_equal(first, second)
    chex.assert_trees_all_equal(before, (params, grads, state))
    chex.assert_trees_all_equal(tx.init(params), state)


def test_structure(name):
    """Updates are like the gradients, and the state keeps its structure, shapes and dtypes."""
    params = random_tree()
    updates, states = eager(name)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates[-1], params)
    chex.assert_trees_all_equal_shapes_and_dtypes(states[-1], TRANSFORMATIONS[name]().init(params))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(states[-1]))


def test_jit_compiles_once(name):
    tx, traces = TRANSFORMATIONS[name](), []

    @jax.jit
    def update(grads, state, params):
        traces.append(None)
        return tx.update(grads, state, params)

    updates, states = eager(name)
    chex.assert_trees_all_close(run(tx, random_tree(), update=update), (updates, states[-1]), rtol=1e-5, atol=1e-7)
    assert len(traces) == 1


def test_scan(name):
    updates, state = wrapped(name)("scan")
    expected, states = eager(name)
    chex.assert_trees_all_close(updates, stack(expected), rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(state, states[-1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("transform", [jax.vmap, jax.pmap])
def test_members_side_by_side(name, transform):
    """vmap over three members, pmap over the devices there are, three at most: each member as if alone."""
    tx = TRANSFORMATIONS[name]()
    if transform is jax.vmap:
        updates, count = wrapped(name)("vmap"), MEMBERS
    else:
        count = min(MEMBERS, jax.device_count())
        trees, grads = stack(map(random_tree, range(count))), stack(map(gradients, range(count)))
        updates, _ = jax.pmap(lambda grads, params: tx.update(grads, tx.init(params), params))(grads, trees)
    alone = wrapped(name)("alone")
    for i in range(count):
        ours, expected = jax.tree.map(lambda leaf, i=i: leaf[i], (updates, alone))
        chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[0], updates), eager(name)[0][0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_is_kept(name, dtype, x64):
    updates, state, fresh = in_dtypes(name)(jnp.dtype(dtype).name)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    chex.assert_tree_all_finite(updates)
    chex.assert_trees_all_equal_dtypes(state, fresh)


def test_low_precision_is_near_high(name, x64):
    """bfloat16 has 8 bits: after four steps the first update is within 2 %, and none is off by more than 10 %."""
    low, high = (in_dtypes(name)(dtype)[0] for dtype in ("bfloat16", "float64"))
    for i, tolerance in ((0, 0.02), (STEPS - 1, 0.1)):
        for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(high), strict=True):
            limit = tolerance * np.abs(b[i]).max() + 1e-12
            np.testing.assert_allclose(np.asarray(a[i], np.float64), b[i], atol=limit)


def test_in_chain_masked_and_partition(name):
    """What is masked goes by untouched."""
    expected = eager(name)[0][0]
    chex.assert_trees_all_close(wrapped(name)("chain"), jax.tree.map(lambda u: 2 * u, expected), rtol=1e-6)
    untouched = (expected if mask(name)["scale"] else gradients(0))["dense"]["bias"]
    for part in ("masked", "partition"):
        updates = wrapped(name)(part)
        np.testing.assert_allclose(updates["dense"]["kernel"], expected["dense"]["kernel"], rtol=1e-6)
        np.testing.assert_allclose(updates["dense"]["bias"], untouched, rtol=1e-6)


def test_multi_steps_counts_updates(name):
    """Two micro-steps with half of the gradients each make the one update of their mean."""
    updates, state = wrapped(name)("multi_steps")
    expected, states = eager(name)
    chex.assert_trees_all_close(jax.tree.map(lambda u: u[1::2], updates), stack(expected[:2]), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(state.inner_opt_state, states[1], rtol=1e-5, atol=1e-6)


def test_state_survives_a_round_trip_through_bytes(name):
    state = eager(name)[1][-1]
    fresh = TRANSFORMATIONS[name]().init(random_tree())
    restored = flax.serialization.from_bytes(fresh, flax.serialization.to_bytes(state))
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal_structs(restored, state)


@pytest.mark.parametrize(("chain", "values"), INJECTED.values(), ids=INJECTED.keys())
def test_injected_hyperparameters(chain, values):
    """They can be changed and read back with no second compilation, and then act as if given so from the start."""
    params = random_tree()
    tx = optax.inject_hyperparams(chain)(**values)
    traces = []

    @jax.jit
    def update(grads, state, params):
        traces.append(None)
        return tx.update(grads, state, params)

    state = tx.init(params)
    updates, state = update(gradients(0), state, params)
    chex.assert_trees_all_close(updates, run(chain(**values), params, steps=1)[0][0], rtol=1e-4, atol=1e-7)
    changed = {name: 0.5 * value for name, value in values.items()}
    for name, value in changed.items():
        state.hyperparams[name] = jnp.asarray(value, state.hyperparams[name].dtype)
    updates, after = update(gradients(1), state, params)
    assert len(traces) == 1
    assert {name: float(after.hyperparams[name]) for name in changed} == pytest.approx(changed)
    expected, _ = chain(**changed).update(gradients(1), state.inner_state, params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("chain", "values"), LINKS.values(), ids=LINKS)
def test_injected_numbers_of_links(chain, values):
    """A traced number does what the number itself does, and does not compile anew when it changes."""
    params = random_tree()
    tx = optax.inject_hyperparams(chain)(**values)
    traces = []

    @jax.jit
    def update(grads, state, params):
        traces.append(None)
        return tx.update(grads, state, params)

    updates, state = run(tx, params, update=update)
    expected, expected_state = run(chain(**values), params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6, atol=1e-7)
    chex.assert_trees_all_close(state.inner_state, expected_state, rtol=1e-6, atol=1e-6)
    for name, value in values.items():
        # optax makes weakly typed integers of Python's, as here, and strongly typed floats.
        changed = value + 1 if isinstance(value, int) else np.float32(0.9 * value)
        state.hyperparams[name] = jnp.asarray(changed)
    update(gradients(STEPS), state, params)
    assert len(traces) == 1


def donated(tx, params):
    """Two steps that donate what they are given, which XLA refuses where an array lies in two places."""

    def step(params, state):
        updates, state = tx.update(gradients(0), state, params)
        return optax.apply_updates(params, updates), state

    step, state = jax.jit(step, donate_argnums=(0, 1)), tx.init(params)
    for _ in range(2):
        params, state = step(params, state)
    return params


def test_parameters_and_state_can_be_donated(name):
    """In a loop of one's own: every array of the state lies in one place, and is not one of the parameters'."""
    tx, params = TRANSFORMATIONS[name](), random_tree()
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, tx.init(params))) if leaf.size]
    assert len(set(places)) == len(places)
    chex.assert_tree_all_finite(donated(tx, params))


@pytest.mark.parametrize(("chain", "values"), (INJECTED | LINKS).values(), ids=INJECTED | LINKS)
def test_injected_state_can_be_donated(chain, values):
    chex.assert_tree_all_finite(donated(optax.inject_hyperparams(chain)(**values), random_tree()))


@pytest.mark.parametrize("chain", [chain for chain, _ in INJECTED.values()], ids=INJECTED)
def test_injecting_the_rate_changes_no_state(chain):
    """Defaults that mean "none" are not injected: nothing is kept for them."""
    params = random_tree()
    injected = optax.inject_hyperparams(chain)(learning_rate=0.1).init(params).inner_state
    chex.assert_trees_all_equal_shapes_and_dtypes(injected, chain(0.1).init(params))


def test_nesterov_with_injected_momentum():
    """Dampening, which it does not take, is not injected by default."""
    params = random_tree()
    tx = optax.inject_hyperparams(optim.sgd)(learning_rate=0.1, momentum=0.9, nesterov=True)
    chex.assert_trees_all_close(run(tx, params)[0], run(optim.nesterov(0.1), params)[0], rtol=1e-5, atol=1e-7)


def test_newton_can_be_injected_as_it_is():
    """The limit of its size, a number that optax injects, too, is known where the state is made outside of jit."""
    params = random_tree()
    tx = optax.inject_hyperparams(optim.newton)(damping=0.1)
    updates, _ = run(told(tx), params, update=jax.jit(told(tx).update))
    chex.assert_trees_all_close(updates, run(told(optim.newton(0.1)), params)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ValueError, match=r"newton: max_parameters must be known when compiling, .*static_args=\('max_p"
    ):
        jax.jit(tx.init)(params)
    with pytest.raises(ValueError, match=r"snapshots: keep must be known when compiling.*static_args=\('keep',\)"):
        jax.jit(optax.inject_hyperparams(optim.snapshots)(1, 2).init)(params)
    with pytest.raises(ValueError, match=r"lbfgs: memory must be known when compiling"):
        jax.jit(optax.inject_hyperparams(optim.lbfgs)().init)(params)
