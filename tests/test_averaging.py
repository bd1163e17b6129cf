"""Averages and snapshots against lists of iterates kept outside, torch's recorded numbers, and in training."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import NoisyNormNet, random_dataset, random_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import torch_averages as oracle

from jaxdl import models, optim, train
from jaxdl.optim.snapshotting import with_batch_stats

MOST_STEPS = 14
RECORDED = np.load(Path(__file__).parent / "oracles" / "torch_averages.npz")


def led(tx, points):
    """Leads the parameters from 0 through the points given, in one scan: state and parameters after each update."""

    def body(carry, point):
        params, state = carry
        updates = jax.tree.map(lambda q, p: (q - p).astype(p.dtype), point, params)
        passed, state = tx.update(updates, state, params)
        params = optax.apply_updates(params, passed)
        return (params, state), (state, params)

    params = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), points)
    return jax.lax.scan(body, (params, tx.init(params)), points)[1]


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def each(stacked, steps):
    """A list of states and parameters, one after each update."""
    stacked = jax.device_get(stacked)
    return [jax.tree.map(lambda leaf, n=n: jnp.asarray(leaf[n]), stacked) for n in range(steps)]


def walk(tx, points):
    return each(jax.jit(functools.partial(led, tx))(stack(points)), len(points))


@functools.cache
def walker(make, chain, dtype, **fixed):
    """The walk for any numbers, which are traced: examples share one program."""
    points = stack(random_tree(seed, dtype) for seed in range(MOST_STEPS))
    # What bfloat16 rounds is rounded within a program too, so that an average sees the iterates that the test sees.
    exact = {"xla_allow_excess_precision": False}
    program = jax.jit(
        lambda numbers, points: led(CHAINS[chain](make(**numbers, **fixed)), points), compiler_options=exact
    )
    return lambda steps, **numbers: each(program(numbers, points), steps)


def tree_points(steps, dtype=jnp.float32):
    return [random_tree(seed, dtype) for seed in range(steps)]


def iterates(states):
    return [jax.tree.map(lambda p: np.asarray(p, np.float64), params) for _, params in states]


def due(steps, start, period):
    """Numbers of the updates whose iterates count, from 1."""
    return list(range(start + period, steps + 1, period))


def close(tree, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.asarray(a, np.float64), b, **tolerance), tree, expected)


CHAINS = {
    "alone": lambda tx: tx,
    "last": lambda tx: optax.chain(optax.identity(), tx),
    "nested": lambda tx: optax.chain(optax.identity(), optax.chain(optax.clip(1e9), tx)),
}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, 12),
    start=st.integers(0, 8),
    period=st.integers(1, 4),
    chain=st.sampled_from(list(CHAINS)),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
)
def test_swa_is_the_mean_of_the_iterates(steps, start, period, chain, dtype):
    states = walker(optim.swa, chain, dtype)(steps, start=start, period=period)
    reached, numbers = iterates(states), due(steps, start, period)
    state, params = states[-1]
    found = optim.swa_params(state, params)
    if not numbers:
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, found, params)))
        return
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *[reached[n - 1] for n in numbers])
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
    # Accumulated in float32 whatever the parameters are: bfloat16 rounds once, at the end.
    close(found, mean, rtol=1e-5 if dtype == jnp.float32 else 2**-8, atol=1e-6)


def warmed_ema(decay, debias):
    return optim.ema(lambda t: jnp.minimum(decay, (1 + t) / (10 + t)), debias=debias)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, 10),
    decay=st.floats(0, 0.999),
    debias=st.booleans(),
    warm=st.booleans(),
    chain=st.sampled_from(list(CHAINS)),
)
def test_ema_is_its_sum(steps, decay, debias, warm, chain):
    decays = [min(decay, (1 + t) / (10 + t)) if warm else decay for t in range(steps)]
    states = walker(warmed_ema if warm else optim.ema, chain, jnp.float32, debias=debias)(steps, decay=decay)
    reached = iterates(states)
    weights = []  # of each iterate in the sum
    for t, beta in enumerate(decays):
        beta = 0.0 if t == 0 and not debias else beta
        weights = [w * beta for w in weights] + [1 - beta]
    total = sum(weights)
    assert total == pytest.approx(1) or debias
    expected = jax.tree.map(lambda *leaves: sum(w * x for w, x in zip(weights, leaves, strict=True)) / total, *reached)
    close(optim.ema_params(*states[-1]), expected, rtol=2e-4, atol=2e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, MOST_STEPS),
    start=st.integers(0, 5),
    period=st.integers(1, 4),
    keep=st.integers(1, 4),
    chain=st.sampled_from(list(CHAINS)),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
)
@pytest.mark.slow
def test_snapshots_are_copies(steps, start, period, keep, chain, dtype):
    """Bitwise, the oldest dropped, in the order of time."""
    states = walker(optim.snapshots, chain, dtype, keep=keep)(steps, start=start, period=period)
    numbers = due(steps, start, period)[-keep:]
    state, _ = states[-1]
    assert optim.snapshot_count(state) == len(numbers)
    if not numbers:
        with pytest.raises(ValueError, match=f"at least one snapshot, got none after {steps} updates"):
            optim.snapshot_variables(state)["params"]
        return
    copies = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[states[n - 1][1] for n in numbers])
    jax.tree.map(np.testing.assert_array_equal, optim.snapshot_variables(state)["params"], copies)


@pytest.mark.parametrize(
    ("name", "tx", "read"),
    [
        ("mean", optim.swa(0), optim.swa_params),
        ("late", optim.swa(3, 3), optim.swa_params),
        ("ema", optim.ema(oracle.DECAY, debias=False), optim.ema_params),
    ],
)
def test_averages_are_torchs(x64, name, tx, read):
    """After every update of a random walk, in double precision."""
    points = oracle.iterates()
    for number, (state, params) in enumerate(walk(tx, list(map(jnp.asarray, points)))):
        if name == "late" and number < 5:
            np.testing.assert_array_equal(read(state, params), params)  # torch has the initial weights there
        else:
            np.testing.assert_allclose(read(state, params), RECORDED[name][number], rtol=1e-10, atol=1e-10)


def test_an_iterate_that_is_not_due_may_be_nan():
    points = [jnp.array([jnp.nan]), jnp.array([1.0]), jnp.array([jnp.nan]), jnp.array([2.0])]
    params, state = jnp.zeros(1), optim.swa(0, 2).init(jnp.zeros(1))
    for point in points:
        _, state = optim.swa(0, 2).update(point, state, params)
    assert float(optim.swa_params(state, params)[0]) == 1.5


def test_storage_dtype_and_bytes():
    params = random_tree()
    full, half = (optim.snapshots(1, 3, dtype=dtype).init(params) for dtype in (None, jnp.bfloat16))
    assert optim.snapshot_bytes(full) == 3 * 4 * (12 + 4 + 1)
    assert optim.snapshot_bytes(half) == 3 * 2 * (12 + 4 + 1)


def test_several_in_a_chain_need_names():
    params = random_tree()
    tx = optax.chain(optim.swa(0), optim.swa(2, name="late"), optim.ema(0.5), optim.ema(0.9, name="long"))
    state = tx.init(params)
    with pytest.raises(
        ValueError, match="name must choose one optim.swa, got name=None for 2 of them, called 'swa', 'late'"
    ):
        optim.swa_params(state, params)
    with pytest.raises(ValueError, match="one of 'ema', 'long', got name='short'; pass one of these"):
        optim.ema_params(state, params, name="short")
    for name in ("swa", "late"):
        optim.swa_params(state, params, name=name)
    twice = optax.chain(optim.swa(0), optim.swa(2)).init(params)
    with pytest.raises(ValueError, match="got name='swa' for 2 of them, .* make each with its own, optim.swa"):
        optim.swa_params(twice, params, name="swa")
    for read in (optim.swa_params, optim.ema_params):
        with pytest.raises(ValueError, match="there is no .* in this optimizer state; end the chain with optim"):
            read(optim.sgd(0.1).init(params), params)


def test_several_snapshots_in_a_chain_need_names():
    tx = optax.chain(optim.sgd(1.0), optim.snapshots(2, 3), optim.snapshots(3, 1, name="late"))
    params, state = jnp.zeros(1), tx.init(jnp.zeros(1))
    for _ in range(6):  # reaches 1, 2, ..., 6
        updates, state = tx.update(-jnp.ones(1), state, params)
        params = optax.apply_updates(params, updates)
    assert optim.snapshot_variables(state, name="snapshots")["params"].ravel().tolist() == [2.0, 4.0, 6.0]
    assert optim.snapshot_variables(state, name="late")["params"].ravel().tolist() == [6.0]
    assert optim.snapshot_count(state, name="snapshots") == 3
    assert optim.snapshot_bytes(state, name="late") == 4
    for read in (optim.snapshot_variables, optim.snapshot_count, optim.snapshot_bytes):
        with pytest.raises(
            ValueError, match="choose one optim.snapshots, got name=None for 2 of them, called 'snapshots', 'late'"
        ):
            read(state)
        with pytest.raises(ValueError, match="one of 'snapshots', 'late', got name='early'"):
            read(state, name="early")
        with pytest.raises(ValueError, match="there is no snapshots in this optimizer state; end the chain with optim"):
            read(optim.sgd(0.1).init(params))


def test_a_part_of_the_parameters():
    params = random_tree()
    mask = {"dense": {"kernel": True, "bias": False}, "scale": False}
    states = walk(optax.masked(optim.swa(0), mask), tree_points(3))
    found = optim.swa_params(*states[-1])
    kernels = [reached["dense"]["kernel"] for reached in iterates(states)]
    np.testing.assert_allclose(found["dense"]["kernel"], np.mean(kernels, 0), rtol=1e-5)
    np.testing.assert_array_equal(found["scale"], states[-1][1]["scale"])
    assert jax.tree.structure(found) == jax.tree.structure(params)


@pytest.mark.parametrize(
    "mask", [{"dense": {"kernel": True, "bias": False}, "scale": True}, {"dense": False, "scale": True}]
)
def test_snapshots_of_a_part_of_the_parameters(mask):
    """What is masked is in every member what it is in the parameters."""
    states = walk(optax.masked(optim.snapshots(1, 2), mask), tree_points(3))
    state, params = states[-1]
    with pytest.raises(
        ValueError,
        match=r"snapshot_variables: params must be given, .*call snapshot_variables\(opt_state, params=state",
    ):
        optim.snapshot_variables(state)["params"]
    found = optim.snapshot_variables(state, params=params)["params"]
    mask = jax.tree.map(lambda hit, part: jax.tree.map(lambda _: hit, part), mask, params)
    expected = jax.tree.map(lambda hit, *last: jnp.stack(last if hit else last[-1:] * 2), mask, states[1][1], params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    variables = optim.snapshot_variables(state, params=params)
    jax.tree.map(np.testing.assert_array_equal, variables, {"params": expected, "batch_stats": {}})
    average = optim.swa_params(*walk(optax.masked(optim.swa(0), mask), tree_points(3))[-1])
    np.testing.assert_array_equal(average["dense"]["bias"], params["dense"]["bias"])


def whole(opt_state):
    return train.TrainState(jnp.ones(2), {}, opt_state, jnp.zeros([], jnp.int32), jax.random.key(0))


TX = optax.chain(optim.swa(0), optim.ema(0.9), optim.snapshots(1, 2))
MEMBERS = jax.vmap(TX.init)(jnp.ones((3, 2)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda p, s: optim.swa_params(p, s),
            r"swa_params: .*stands in the place of the parameters; the order is swa_par",
        ),
        (lambda p, s: optim.ema_params(p, s), r"the order is ema_params\(opt_state, params\)"),
        (
            lambda p, s: optim.snapshot_variables(p)["params"],
            "snapshot_variables: there is no snapshots in this optimizer state",
        ),
        (lambda p, s: optim.swa_params(whole(s), p), "swa_params: .*got a whole TrainState; pass state.opt_state"),
        (lambda p, s: optim.ema_params(whole(s), p), "ema_params: .*pass state.opt_state"),
        (lambda p, s: optim.snapshot_variables(whole(s)), "snapshot_variables: .*pass state.opt_state"),
        (lambda p, s: optim.snapshot_count(whole(s)), "snapshot_count: .*pass state.opt_state"),
        (lambda p, s: optim.snapshot_bytes(whole(s)), "snapshot_bytes: .*pass state.opt_state"),
        (lambda p, s: optim.swa_params(TX, p), "swa_params: .*got a gradient transformation; pass its state, tx.init"),
        (
            lambda p, s: optim.snapshot_variables(TX),
            "snapshot_variables: .*got a gradient transformation; pass its state",
        ),
        (lambda p, s: optim.swa_params(s, jnp.ones(3)), "not the parameters that go with this optimizer state"),
        (lambda p, s: optim.ema_params(s, {"w": p}), "not the parameters that go with this optimizer state"),
        (lambda p, s: optim.swa_params(MEMBERS, p), r"\[3\] members .*jax.tree.map\(lambda x: x\[i\], state\)"),
        (lambda p, s: optim.ema_params(MEMBERS, p), r"\[3\] members .*jax.tree.map\(lambda x: x\[i\], state\)"),
        (
            lambda p, s: optim.snapshot_variables(MEMBERS)["params"],
            r"\[3\] members .*jax.tree.map\(lambda x: x\[i\], state\)",
        ),
        (lambda p, s: optim.snapshot_variables(MEMBERS), r"\[3\] members side by side; take one first"),
        (lambda p, s: optim.snapshot_count(MEMBERS), r"\[3\] members side by side; take one first"),
        (
            lambda p, s: optim.snapshot_variables(s)["params"],
            "snapshot_variables: opt_state must hold at least one snapshot, got none after 0 updates",
        ),
        (
            lambda p, s: jax.jit(optim.snapshot_variables)(s),
            "is not known within jit or vmap, so call snapshot_variables outside",
        ),
    ],
)
def test_wrong_calls_of_readers(call, words):
    with pytest.raises(ValueError, match=words):
        call(jnp.ones(2), TX.init(jnp.ones(2)))


def test_averages_of_each_member():
    """Within vmap, and of one that was taken out."""
    params = jnp.ones((3, 2))
    assert jax.vmap(optim.swa_params)(MEMBERS, params).shape == (3, 2)
    assert optim.swa_params(jax.tree.map(lambda x: x[1], MEMBERS), params[1]).shape == (2,)


def test_updates_are_counted_not_micro_steps():
    """Within MultiSteps, and not where apply_if_finite throws an update away."""
    params = jnp.zeros(1)
    inner = optax.chain(optax.sgd(1.0), optim.swa(0), optim.snapshots(1, 4))
    tx = optax.MultiSteps(inner, 2)
    state = tx.init(params)
    for gradient in (-1.0, -3.0, -5.0, -7.0):
        updates, state = tx.update(jnp.full(1, gradient), state, params)
        params = optax.apply_updates(params, updates)
    assert optim.snapshot_variables(state)["params"].ravel().tolist() == [2.0, 8.0]
    assert float(optim.swa_params(state, params)[0]) == 5.0

    params = jnp.zeros(1)
    tx = optax.apply_if_finite(inner, 5)
    state = tx.init(params)
    for gradient in (-1.0, jnp.nan, -3.0):
        updates, state = tx.update(jnp.full(1, gradient), state, params)
        params = optax.apply_updates(params, updates)
    assert optim.snapshot_variables(state)["params"].ravel().tolist() == [1.0, 4.0]
    assert float(optim.swa_params(state, params)[0]) == 2.5


def test_injected_hyperparameters():
    params = jnp.zeros(1)
    tx = optax.inject_hyperparams(optim.ema, static_args=("debias", "name"))(decay=0.5)
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(jnp.ones(1), state, params)
    state.hyperparams["decay"] = jnp.asarray(0.0)
    _, state = tx.update(3 * jnp.ones(1), state, params)
    assert float(optim.ema_params(state, params)[0]) == 3.0


def test_nothing_recompiles_when_one_falls_due():
    tx = optax.chain(optim.momentum(0.1), optim.swa(3, 2), optim.ema(0.9), optim.snapshots(2, 2))
    dataset = random_dataset()
    model = NoisyNormNet()
    state = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
    step = jax.jit(train.make_step(model, tx, preprocess=dataset.standardize))
    for _ in range(7):
        state, _ = step(state, (dataset.images[:8], dataset.labels[:8]))
    assert step._cache_size() == 1


@pytest.mark.parametrize(
    ("model", "scan"),
    [
        (NoisyNormNet(), False),
        (NoisyNormNet(), True),
        pytest.param(models.resnet_cifar(8, 3), False, marks=pytest.mark.slow),
        pytest.param(models.resnet_cifar(8, 3), True, marks=pytest.mark.slow),
    ],
)
def test_in_training(model, scan):
    """`fit` ends with the averages and snapshots, statistics too, that a loop with copies kept outside gives."""
    dataset = random_dataset(shape=(8, 8, 3))
    last = (optim.swa(2, 2), optim.ema(0.8), optim.snapshots(3, 2, start=1))
    tx = optax.chain(optim.momentum(0.01, weight_decay=1e-3), *last)
    state = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
    copies = []
    for step in range(1, 9):
        state, _ = train.fit(state, model, tx, dataset, steps=step, batch_size=16, scan=False, progress=False)
        copies.append(jax.tree.map(np.asarray, (state.params, state.batch_stats)))
    start = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
    whole, _ = train.fit(start, model, tx, dataset, steps=8, batch_size=16, scan=scan, progress=False)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if scan else {"rtol": 0, "atol": 0}
    stored = (
        optim.snapshot_variables(whole.opt_state)["params"],
        optim.snapshot_variables(whole.opt_state)["batch_stats"],
    )
    close(stored, jax.tree.map(lambda *leaves: np.stack(leaves), copies[3], copies[6]), **tolerance)
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *[copies[n - 1][0] for n in (4, 6, 8)])
    close(optim.swa_params(whole.opt_state, whole.params), mean, rtol=1e-4, atol=1e-5)
    # A snapshot is a complete model: in evaluation it is the network of that step.
    member = jax.tree.map(lambda leaf: leaf[0], {"params": stored[0], "batch_stats": stored[1]})
    x = dataset.standardize(jnp.asarray(dataset.images[:4]))
    then = {"params": copies[3][0], "batch_stats": copies[3][1]}
    np.testing.assert_allclose(
        model.apply(member, x, train=False), model.apply(then, x, train=False), rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_snapshots_of_lbfgs():
    """Its line search hands on what it is told to the loss, which knows nothing of batch statistics."""
    dataset, model = random_dataset(), NoisyNormNet()
    tx = optax.chain(optim.lbfgs(memory=2), optim.snapshots(1, 2))
    state = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
    state, _ = train.fit(state, model, tx, dataset, steps=2, batch_size=50, progress=False)
    last = jax.tree.map(lambda leaf: leaf[-1], optim.snapshot_variables(state.opt_state))
    jax.tree.map(np.testing.assert_array_equal, last, state.variables)


def test_batch_statistics_must_be_given_where_there_is_room():
    params, statistics = {"w": jnp.ones(2)}, {"mean": jnp.zeros(3)}
    tx = optim.snapshots(1, 2)
    state = with_batch_stats(tx.init(params), statistics)
    assert optim.snapshot_bytes(state) == 2 * 4 * (2 + 3)
    with pytest.raises(ValueError, match="this state stores batch statistics, so update needs them"):
        tx.update(params, state, params)
    _, state = tx.update(params, state, params, batch_stats={"mean": jnp.arange(3.0)})
    assert optim.snapshot_variables(state)["batch_stats"]["mean"].tolist() == [[0.0, 1.0, 2.0]]
    assert optim.snapshot_variables(tx.update(params, tx.init(params), params)[1])["batch_stats"] == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.swa(-1), "swa: start must be an integer >= 0, got start=-1; use start=0"),
        (
            lambda: optim.swa(0, 0),
            "swa: period must be an integer >= 1, got period=0; use period=1 to average every step",
        ),
        (lambda: optim.swa(0.75), r"swa: start must be an integer >= 0, got start=0.75; .*int\(0.75 \* steps\)"),
        (lambda: optim.swa(True), "swa: start must be an integer >= 0, got start=True"),
        (lambda: optim.swa(0, name=""), "swa: name must be a string that is not empty, got name=''"),
        (lambda: optim.swa(0, name=None), "swa: name must be a string that is not empty, got name=None"),
        (lambda: optim.ema(999), r"ema: decay must be a finite number in \[0, 1\), got decay=999; 0.999 remembers"),
        (lambda: optim.ema("0.9"), "ema: decay must be a finite number"),
        (lambda: optim.ema(optim.cosine_decay), "ema: decay must be a schedule"),
        (lambda: optim.ema(0.9, debias="no"), "ema: debias must be True or False, got debias='no'"),
        (
            lambda: optim.snapshots(10, 2, dtype=int),
            "snapshots: dtype must be a floating-point dtype, got .*; pass jax.numpy.fl",
        ),
        (
            lambda: optim.snapshots(10, 2, dtype="small"),
            "snapshots: dtype must be a floating-point dtype, got dtype='small'",
        ),
        (lambda: optim.snapshots(10, 2.0), "snapshots: keep must be an integer >= 1, got keep=2.0"),
        (lambda: optim.snapshots(1, 1, name=""), "snapshots: name must be a string that is not empty"),
        (lambda: optim.ema(1.0), r"ema: decay must be a finite number in \[0, 1\), got decay=1.0"),
        (lambda: optim.snapshots(0, 1), "snapshots: period must be an integer >= 1"),
        (lambda: optim.snapshots(1, 0), "snapshots: keep must be an integer >= 1"),
        (lambda: optim.snapshots(1, 1, start=-1), "snapshots: start must be an integer >= 0"),
        (lambda: optim.snapshots(1, 1, dtype=jnp.int8), "dtype must be a floating-point dtype"),
        (lambda: optim.swa(0).update(1.0, optim.swa(0).init(jnp.ones(()))), "swa: update needs the parameters"),
        (lambda: optim.ema(0.5).update(1.0, optim.ema(0.5).init(jnp.ones(()))), "ema: update needs the parameters"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()
