"""Flax's normalisations in a model's field `norm`: they are told of training in their own words."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_dataset, small_resnet

from jaxdl import ensemble, models, optim, train
from jaxdl.models import layers
from jaxdl.models.layers.normalization import normalize
from jaxdl.tree import path_name

THEIRS = nn.BatchNorm
OURS = functools.partial(layers.BatchNorm, unbiased=False, momentum=0.99)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(1, 2, (6, 8, 8, 3)), jnp.float32)


def shapes(tree):
    return {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def drawn(model):
    return jax.jit(lambda: model.init(jax.random.key(0), IMAGES, train=False))()


def assert_close(one, other, atol=1e-5):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol), one, other)


def applied(model, variables, *, train):
    """Outputs and batch statistics."""
    run = jax.jit(lambda v: model.apply(v, IMAGES, train=train, mutable=["batch_stats"]))
    return run(variables)


@pytest.mark.parametrize(
    ("blocks", "fields"),
    [(1, {}), pytest.param(2, {"scan": True, "remat": True}, marks=pytest.mark.slow), (1, {"preactivation": True})],
)
def test_batch_norm_is_ours_with_its_settings(blocks, fields):
    """Two computations of one thing: names, shapes, outputs, statistics and gradients."""
    both = [small_resnet(5, blocks=blocks, norm=norm, **fields) for norm in (THEIRS, OURS)]
    variables = drawn(both[0])
    assert shapes(variables) == shapes(jax.eval_shape(lambda: both[1].init(jax.random.key(0), IMAGES, train=False)))

    def loss(params, model):
        logits, after = model.apply({**variables, "params": params}, IMAGES, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(logits)), (logits, after)

    theirs, ours = (jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)(variables["params"], m) for m in both)
    assert_close(theirs[1], ours[1])
    assert_close(theirs[0], ours[0], atol=1e-3)
    still = jax.tree.map(np.array_equal, theirs[1][1]["batch_stats"], variables["batch_stats"])
    assert not any(jax.tree.leaves(still))

    (logits, after), other = (applied(model, variables, train=False) for model in both)
    assert_close(logits, other[0])
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, after["batch_stats"], variables["batch_stats"])))


def test_zero_gamma():
    """The last scale of each branch alone."""
    params = drawn(models.resnet_cifar(8, 5, norm=THEIRS, zero_gamma=True))["params"]
    scales = {
        path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if "scale" in str(path)
    }
    assert {path for path, scale in scales.items() if not scale.any()} == {
        f"stage{i}_block1/norm2/scale" for i in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (functools.partial(nn.GroupNorm, num_groups=4), functools.partial(layers.GroupNorm, groups=4, epsilon=1e-6)),
        (nn.InstanceNorm, functools.partial(layers.InstanceNorm, epsilon=1e-6)),
        (
            functools.partial(nn.LayerNorm, reduction_axes=(-3, -2, -1)),
            functools.partial(layers.LayerNorm, epsilon=1e-6),
        ),
    ],
    ids=["group", "instance", "layer"],
)
def test_norms_of_single_examples_are_ours_with_their_settings(theirs, ours):
    both = [small_resnet(5, norm=norm) for norm in (theirs, ours)]
    variables = drawn(both[0])
    assert set(variables) == {"params"}
    assert shapes(variables) == shapes(jax.eval_shape(lambda: both[1].init(jax.random.key(0), IMAGES, train=False)))
    assert_close(*(applied(model, variables, train=True) for model in both), atol=1e-4)


def test_layer_norm_of_flax_is_over_channels():
    """And a norm without biases fits in as well: whatever takes neither `train` nor `use_running_average`."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return [normalize(norm, x, train=True, name=norm.__name__) for norm in (nn.LayerNorm, nn.RMSNorm)]

    found = Net().init_with_output(jax.random.key(0), IMAGES)[0]
    x = np.asarray(IMAGES, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-6), x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_modules_are_told_what_they_ask_for():
    told = []

    class Both(nn.Module):
        def __call__(self, x, *, train=None, use_running_average=None):
            told.append((train, use_running_average))
            return x

    class Keywords(nn.Module):
        def __call__(self, x, **keywords):
            told.append(keywords)
            return x

    for norm in (Both, Keywords, lambda **fields: Both(**fields)):
        normalize(norm, IMAGES, train=True)
    assert told == [(True, None), {"train": True}, (True, None)]


@pytest.mark.parametrize(
    ("norm", "axis"),
    [(THEIRS, "parts"), (functools.partial(THEIRS, axis_name="parts"), None), (functools.partial(THEIRS), None)],
)
def test_statistics_over_devices(norm, axis):
    """Two parts of a batch under a mapped axis: as the whole batch, where the context or the field names the axis."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return normalize(norm, x, train=train, name="norm")

    def run(x):
        with layers.synchronized_statistics(axis):
            return Net().apply(variables, x, train=True, mutable=["batch_stats"])

    variables = Net().init(jax.random.key(0), IMAGES, train=True)
    found, after = jax.vmap(run, axis_name="parts")(IMAGES.reshape(2, 3, 8, 8, 3))
    x = np.asarray(IMAGES, np.float64).reshape(2, 3, 8, 8, 3)
    over = (0, 1, 2, 3) if axis or "axis_name" in norm.keywords else (1, 2, 3)
    mean, var = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    np.testing.assert_allclose(found, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)
    means = np.broadcast_to(0.01 * mean.reshape(-1, 3), (2, 3))
    np.testing.assert_allclose(after["batch_stats"]["norm"]["mean"], means, rtol=1e-4)


@pytest.mark.parametrize("norm", [THEIRS, functools.partial(nn.GroupNorm, num_groups=16)])
def test_vgg(norm):
    model, images = models.vgg_cifar(11, 3, norm=norm, dropout=0), jnp.zeros((2, 32, 32, 3))
    found = shapes(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))
    ours = models.vgg_cifar(11, 3, norm=layers.BatchNorm if norm is THEIRS else layers.GroupNorm)
    assert found == shapes(jax.eval_shape(lambda: ours.init(jax.random.key(0), images, train=False)))


@pytest.mark.slow
def test_training():
    """Steps, evaluation, and statistics taken anew over a data set, with Flax's and with ours of its settings."""
    dataset, tx, found = random_dataset(shape=(8, 8, 3)), optim.momentum(0.05), []
    for norm in (THEIRS, OURS):
        model = models.resnet_cifar(8, 3, norm=norm)
        state = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
        before = jax.tree.map(np.asarray, state.batch_stats)
        step = train.make_step(model, tx, preprocess=dataset.standardize)
        for _ in range(3):
            state, metrics = step(state, (dataset.images[:16], dataset.labels[:16]))
        assert not np.array_equal(state.batch_stats["stem_norm"]["mean"], before["stem_norm"]["mean"])
        error = train.evaluate(model, state, dataset, preprocess=dataset.standardize).loss
        again = ensemble.update_batch_stats(model, state.params, dataset, preprocess=dataset.standardize)
        found.append((metrics.loss, error, state.variables, again))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *found)


def test_in_low_precision():
    model = small_resnet(3, norm=THEIRS, dtype=jnp.bfloat16)
    variables = drawn(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert applied(model, variables, train=True)[0].dtype == jnp.float32
