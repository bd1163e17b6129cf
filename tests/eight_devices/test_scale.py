"""The same training on 1, 2 and 8 devices. Run by tests/test_eight_devices.py in a process that has eight."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import ConvNormNet, NoisyNormNet, numbers, random_dataset, shapes_filled, without_times
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl import data, ensemble, models, optim, train
from jaxdl.mesh import MEMBERS, members_mesh
from jaxdl.train.batch_sources import ResidentBatches
from jaxdl.train.sharding import make_layout

KEY = jax.random.key(0)
SET = random_dataset(120)


MODEL = ConvNormNet()
CHAINS = {
    "momentum, averages": optax.chain(optim.momentum(0.05), optim.swa(4, period=3), optim.ema(0.9)),
    "adam, snapshots": optax.chain(optim.adam(0.01), optim.snapshots(6, 3)),
    "plateau of the loss": optax.chain(optim.momentum(0.05), optim.reduce_on_plateau(0.5, patience=1, every=3)),
    "plateau of the evaluation": optax.chain(optim.adam(0.01), optim.reduce_on_plateau(0.5, patience=0, every=None)),
}
OTHER_CHAINS = {
    "clipped, decayed": optax.chain(optax.clip_by_global_norm(0.1), optim.momentum(0.05, weight_decay=1e-2)),
    "look-ahead": optax.chain(optax.scale_by_learning_rate(0.05), optim.scale_by_nesterov_lookahead(0.9)),
}
FAST = [  # every chain that differs in kind, and every way
    ("momentum, averages", ("pmap", 2)),
    ("momentum, averages", ("sharded", 8)),
    ("momentum, averages", ("zero", 8)),
    ("plateau of the evaluation", ("zero", 8)),
    ("adam, snapshots", ("pmap", 8)),
]
SCALES = [("pmap", 2), ("pmap", 8), ("sharded", 2), ("sharded", 8), ("zero", 8)]
CASES = [
    pytest.param(name, scale, marks=() if (name, scale) in FAST else pytest.mark.slow)
    for name in CHAINS
    for scale in SCALES
]
MEMBERS_AND_VIA = pytest.mark.parametrize(
    ("members", "via"),
    [(6, "map"), *(pytest.param(*c, marks=pytest.mark.slow) for c in [(8, "vmap"), (8, "map"), (6, "vmap")])],
)
ONE_DEVICE = [pytest.param(("pmap", 1), marks=pytest.mark.slow), ("sharded", 1), ("zero", 1)]


def options(parallel, count):
    if parallel == "zero":
        return {"parallel": "sharded", "shard_state": True, "devices": jax.devices()[:count]}
    return {"parallel": parallel, "devices": jax.devices()[:count]}


def fresh(model=MODEL, tx=CHAINS["momentum, averages"]):
    return train.init_state(model, tx, KEY, SET.image_shape)


def fit(tx, model=MODEL, steps=20, dataset=SET, **kwargs):
    state = train.init_state(model, tx, KEY, dataset.image_shape)
    kwargs = {"batch_size": 16, "eval_set": SET, "eval_every": 4} | kwargs
    return train.fit(state, model, tx, dataset, steps=steps, progress=False, **kwargs)


@pytest.fixture(scope="module")
def alone():
    """Each chain's run on one device."""
    found = {}

    def run(name):
        if name not in found:
            found[name] = fit((CHAINS | OTHER_CHAINS)[name], devices=jax.devices()[:1], parallel="single")
        return found[name]

    return run


def test_there_are_eight_devices():
    assert jax.device_count() == 8


@pytest.mark.parametrize(("name", "scale"), CASES, ids=str)
def test_same_parameters_on_any_number_of_devices(name, scale, alone):
    """20 steps of 7.5 an epoch, with evaluations; relative to each array's greatest number."""
    expected, expected_history = alone(name)
    state, history = fit((CHAINS | OTHER_CHAINS)[name], scan=False, **options(*scale))
    assert_close(numbers(state), numbers(expected))
    chex.assert_trees_all_close(without_times(history), without_times(expected_history), rtol=1e-4, atol=1e-6)


def assert_close(found, expected, rtol=1e-5):
    def close(path, a, b):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.max(np.abs(b), initial=0), err_msg=str(path))

    jax.tree_util.tree_map_with_path(close, found, expected)


@pytest.mark.parametrize("name", OTHER_CHAINS)
@pytest.mark.parametrize("scale", [("pmap", 8), pytest.param(("sharded", 2), marks=pytest.mark.slow)], ids=str)
def test_same_parameters_with_other_chains(name, scale, alone):
    test_same_parameters_on_any_number_of_devices(name, scale, alone)


@pytest.mark.parametrize("scale", ONE_DEVICE, ids=str)
def test_same_parameters_on_one(scale, alone):
    test_same_parameters_on_any_number_of_devices("adam, snapshots", scale, alone)


@pytest.mark.parametrize("scale", [("pmap", 8), ("zero", 8)], ids=str)
def test_scanned_epochs(scale, alone):
    expected, _ = alone("adam, snapshots")
    state, _ = fit(CHAINS["adam, snapshots"], scan=True, **options(*scale))
    assert_close(numbers(state), numbers(expected))


@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("parallel", ["pmap", "sharded"])
def test_long_runs_do_not_hang(parallel, scan):
    """Several CPU devices deadlock below jax 0.12 if more than about 32 steps are under way (../shared/FACTS.md).

    An epoch of 300 steps, so that nothing else makes the host wait.
    """
    model, tx, long_set = models.mlp(3, widths=(8,)), CHAINS["momentum, averages"], random_dataset(16 * 300)
    arguments = {"scan": scan, "eval_set": None, "eval_every": None, **options(parallel, 8)}
    state, _ = fit(tx, model, steps=300, dataset=long_set, **arguments)
    assert int(state.step) == 300


@pytest.mark.parametrize("parallel", [pytest.param("pmap", marks=pytest.mark.slow), "sharded"])
def test_an_own_loop_waits_for_the_devices_now_and_then(parallel, monkeypatch):
    """As for `fit`: nothing else in such a loop need wait. (A deadlock there was not seen, unlike in `fit`.)"""
    waits, real = [], jax.block_until_ready
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: waits.append(None) or real(tree))
    model, tx = models.mlp(3, widths=(8,)), CHAINS["momentum, averages"]
    state = train.init_state(model, tx, KEY, SET.image_shape)
    step = train.make_step(model, tx, parallel=parallel, preprocess=SET.standardize)
    spread = NamedSharding(Mesh(np.array(jax.devices()), ("devices",)), PartitionSpec("devices"))
    batch = jax.device_put((SET.images[:16], SET.labels[:16]), spread)  # no copy holds it up
    for _ in range(100):
        state, metrics = step(state, batch)
    assert np.isfinite(float(metrics.loss))
    assert len(waits) == 6


@pytest.mark.slow
def test_an_evaluation_of_many_batches_does_not_deadlock():
    model, wide_set = models.resnet_cifar(8, 3), random_dataset(8 * 200, shape=(8, 8, 3))
    state = train.init_state(model, optim.sgd(0.1), KEY, wide_set.image_shape)
    step = train.make_step(model, optim.sgd(0.1), parallel="sharded", preprocess=wide_set.standardize)
    state = step.place(state)
    expected = train.evaluate(model, jax.device_put(state, jax.devices()[0]), wide_set)
    assert train.evaluate(model, state, wide_set, batch_size=1).loss == pytest.approx(expected.loss, rel=1e-5)


@pytest.mark.parametrize("parallel", ["pmap", "sharded"])
def test_gradients_are_means_not_sums(parallel):
    """The trap of shard_map: with its defaults a replicated parameter's gradient arrives summed over the devices.

    One plain step, against NumPy.
    """
    images = np.random.default_rng(0).normal(size=(16, 2, 2, 1)).astype(np.float32)
    labels = np.arange(16, dtype=np.int32) % 3

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(3)(x.reshape(len(x), -1))

    tx = optim.sgd(1.0)
    state = train.init_state(Linear(), tx, KEY, (2, 2, 1))
    before = jax.device_get(state.params["Dense_0"])
    x = images.reshape(16, 4).astype(np.float64)
    logits = x @ before["kernel"] + before["bias"]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = x.T @ (p - np.eye(3)[labels]) / 16
    step = train.make_step(Linear(), tx, **options(parallel, 8))
    state, _ = step(state, (images, labels))
    np.testing.assert_allclose(before["kernel"] - np.asarray(state.params["Dense_0"]["kernel"]), gradient, atol=1e-6)


@pytest.mark.parametrize(
    "examples", [pytest.param(16, marks=pytest.mark.slow), 13, pytest.param(3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("scale", [("pmap", 8), ("sharded", 8), ("zero", 2)], ids=str)
def test_uneven_batches(examples, scale):
    """A last batch of any size gives the update of that batch."""
    tx = CHAINS["adam, snapshots"]
    batch = SET.images[:examples], SET.labels[:examples]
    found = []
    for arguments in (options(*scale), {"parallel": "single"}):
        step = train.make_step(MODEL, tx, preprocess=SET.standardize, **arguments)
        state = fresh(MODEL, tx)
        for _ in range(2):
            state, metrics = step(state, batch)
        found.append((numbers(state), jax.device_get(metrics)))
    assert_close(*found)


@pytest.mark.parametrize("parallel", ["pmap", "sharded"])
def test_batch_norm_per_device(parallel):
    """Against each device's part by itself: means of losses, gradients and running statistics."""
    tx = optim.sgd(0.1)
    step = train.make_step(MODEL, tx, preprocess=SET.standardize, batch_norm="per_device", **options(parallel, 2))
    solo = train.make_step(MODEL, tx, preprocess=SET.standardize, parallel="single")
    reached, metrics = step(fresh(MODEL, tx), (SET.images[:16], SET.labels[:16]))
    parts = [solo(fresh(MODEL, tx), (SET.images[rows], SET.labels[rows])) for rows in (slice(0, 8), slice(8, 16))]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *[(numbers(s)[:2], jax.device_get(m[:2])) for s, m in parts])
    assert_close((numbers(reached)[:2], jax.device_get(metrics[:2])), expected)
    together = solo(fresh(MODEL, tx), (SET.images[:16], SET.labels[:16]))[1]
    assert abs(float(together.loss) - float(metrics.loss)) > 1e-4  # the two are not the same thing


@pytest.mark.parametrize(
    "scale", [("sharded", 8), *(pytest.param(s, marks=pytest.mark.slow) for s in [("pmap", 2), ("single", 1)])], ids=str
)
def test_accumulated_gradients(scale):
    """Without BatchNorm the same as at once; with it, the same on any number of devices."""
    tx = optim.momentum(0.05)
    dense = models.mlp(3, widths=(8,))
    whole, _ = fit(tx, dense, parallel="single", devices=jax.devices()[:1])
    parts, _ = fit(tx, dense, accumulate=2, **options(*scale))
    assert_close(numbers(parts), numbers(whole))
    expected, _ = fit(tx, accumulate=2, parallel="single", devices=jax.devices()[:1])
    found, _ = fit(tx, accumulate=2, **options(*scale))
    assert_close(numbers(found), numbers(expected))


@pytest.mark.parametrize("scale", [pytest.param(("pmap", 8), marks=pytest.mark.slow), ("sharded", 2)], ids=str)
def test_augmentation_does_not_depend_on_the_devices(scale):
    tx = optim.momentum(0.05)
    augment = data.Compose((data.AlternatingFlip(SET.steps_per_epoch(16)), data.RandomCrop(1), data.RandomFlip()))
    expected, _ = fit(tx, augment=augment, parallel="single", devices=jax.devices()[:1])
    found, _ = fit(tx, augment=augment, **options(*scale))
    assert_close(numbers(found), numbers(expected))
    plain, _ = fit(tx, **options(*scale))
    assert not np.allclose(plain.params["conv"]["kernel"], found.params["conv"]["kernel"])


def test_mixing_does_not_depend_on_the_devices():
    """Pairs stay on a device if it has an even number of examples: 16 of them on 2 devices."""
    tx = optim.momentum(0.05)
    augment = data.Compose((data.RandomFlip(), data.Mixup(1.0, num_classes=3), data.CutMix(1.0)))
    expected, _ = fit(tx, augment=augment, parallel="single", devices=jax.devices()[:1])
    found, _ = fit(tx, augment=augment, **options("sharded", 2))
    assert_close(numbers(found), numbers(expected))


def test_zero_spreads_the_state():
    """Each device holds a part: about an eighth of what is large."""
    tx = optim.adam(0.01)
    model = models.mlp(3, widths=(256, 256))
    state = train.init_state(model, tx, KEY, SET.image_shape)
    state, _ = train.fit(state, model, tx, SET, steps=3, batch_size=16, progress=False, **options("zero", 8))
    total = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert held < 0.2 * total
    layout = make_layout("test", None, "sharded", shard_state=True)
    data_and_order = ResidentBatches(SET, layout, 16).of(state, 0)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(data_and_order))  # the data are not cut


def test_dropout_draws_on_each_device():
    """Equal images on two devices are dropped differently: the mean of their losses is not that of either draw."""
    tx = optim.sgd(0.0)
    losses = {}
    for scale in (("pmap", 2), ("sharded", 2), ("single", 1)):
        arguments = {"batch_norm": "per_device", **options(*scale)}
        step = train.make_step(NoisyNormNet(), tx, preprocess=SET.standardize, **arguments)
        state = train.init_state(NoisyNormNet(), tx, KEY, SET.image_shape)
        rows = [*range(8), *range(8)] if scale[1] == 2 else range(8)
        _, metrics = step(state, (SET.images[list(rows)], SET.labels[list(rows)]))
        losses[scale[0]] = float(metrics.loss)
    assert losses["pmap"] == pytest.approx(losses["sharded"], rel=1e-5)
    assert abs(losses["pmap"] - losses["single"]) > 1e-3


def test_auto_is_sharded_over_all_and_evaluation_counts_every_example():
    state, history = fit(CHAINS["momentum, averages"], eval_set=SET[:37])
    logits = MODEL.apply(jax.device_get(state.variables), SET.standardize(jnp.asarray(SET.images[:37])), train=False)
    assert history.eval_error[-1] == pytest.approx(float(np.mean(np.argmax(logits, -1) != SET.labels[:37])), abs=1e-9)
    assert train.evaluate(MODEL, state, SET[:37]).error == history.eval_error[-1]
    spread = jax.device_put(state, jax.sharding.NamedSharding(jax.make_mesh((8,), ("other",)), jax.P()))
    step = train.make_step(MODEL, CHAINS["momentum, averages"], preprocess=SET.standardize)
    reached, _ = step(spread, (SET.images[:16], SET.labels[:16]))
    assert len(reached.step.devices()) == 8


def test_bad_arguments():
    with pytest.raises(ValueError, match="batch_size=12 cannot be spread evenly over 8 devices; pass a multiple of 8"):
        fit(CHAINS["momentum, averages"], batch_size=12)
    with pytest.raises(ValueError, match=r'parallel="single" takes one device, got 8'):
        train.make_step(MODEL, optim.sgd(0.1), parallel="single", devices=jax.devices())


@pytest.mark.slow
def test_continues_on_another_number_of_devices(tmp_path):
    """Ten steps on eight devices, ten more on two."""
    tx = CHAINS["adam, snapshots"]
    expected, expected_history = fit(tx, parallel="single", devices=jax.devices()[:1])
    fit(tx, steps=10, checkpoint_dir=tmp_path, **options("zero", 8))
    state, history = fit(tx, checkpoint_dir=tmp_path, **options("pmap", 2))
    assert_close(numbers(state), numbers(expected))
    chex.assert_trees_all_close(history.loss, expected_history.loss, rtol=1e-4)
    restored, _ = train.restore(tmp_path, train.init_state(MODEL, tx, KEY, SET.image_shape))
    chex.assert_trees_all_equal(numbers(restored), numbers(state))


@MEMBERS_AND_VIA
def test_a_population_over_devices(members, via):
    """Members spread over eight devices, or six; each as it would be alone."""
    tx = optax.chain(optim.momentum(0.05), optim.ema(0.9))
    keys = jax.random.split(KEY, members)
    arguments = {"batch_size": 16, "eval_set": SET, "eval_every": 4, "progress": False}
    found = train.population(MODEL, tx, SET, keys=keys, steps=10, via=via, **arguments)
    assert len(found.state.step.devices()) == members
    for number in range(members):
        state = train.init_state(MODEL, tx, keys[number], SET.image_shape)
        expected, _ = train.fit(state, MODEL, tx, SET, steps=10, parallel="single", **arguments)
        assert_close(numbers(jax.tree.map(lambda leaf, m=number: leaf[m], found.state)), numbers(expected))


@MEMBERS_AND_VIA
def test_an_ensemble_over_devices(members, via):
    """Each member's probabilities and their mean are those on one device."""
    variables = jax.vmap(lambda key: MODEL.init(key, SET.images[:1] / 255.0, train=False))(
        jax.random.split(KEY, members)
    )
    inputs = SET.standardize(SET.images)
    apply = jax.jit(lambda variables: MODEL.apply(variables, inputs, train=False))
    logits = [apply(jax.tree.map(lambda leaf, m=m: leaf[m], variables)) for m in range(members)]
    expected = jax.nn.softmax(np.stack(logits))
    each = ensemble.probabilities(MODEL, variables, SET, batch_size=30, via=via)
    np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-6)
    for devices, count in ((None, members), (jax.devices()[:3], 3 if members == 6 else 2)):
        found = ensemble.predict(MODEL, variables, SET.images, preprocess=SET.standardize, via=via, devices=devices)
        assert len(found.devices()) == count
        np.testing.assert_allclose(found, expected.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_many_predictions_at_once_do_not_deadlock():
    """As for steps; members and images lie where the program wants them, so that no copy holds it up."""
    model, images = models.resnet_cifar(8, 3), jnp.ones((8, 32, 32, 3))
    variables = jax.tree.map(lambda leaf: jnp.stack([leaf] * 8), shapes_filled(model, images.shape[1:]))
    mesh = members_mesh("test", 8, None)
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec(MEMBERS)))
    images = jax.device_put(images, NamedSharding(mesh, PartitionSpec()))
    jax.block_until_ready([ensemble.predict(model, variables, images) for _ in range(100)])
