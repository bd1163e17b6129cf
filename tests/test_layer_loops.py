"""Layers that no peer has, or that torch's numbers do not settle, against loops in NumPy; and their gradients."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxdl.models import layers


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_local_response_norm_is_the_papers(x64):
    a, (n, alpha, beta, k) = normal((2, 3, 3, 7)), (5, 0.1, 0.75, 2.0)
    b = np.zeros_like(a)
    for i in range(7):
        neighbours = a[..., max(0, i - n // 2) : min(6, i + n // 2) + 1]
        b[..., i] = a[..., i] / (k + alpha * (neighbours**2).sum(-1)) ** beta
    mine = layers.local_response_norm(jnp.asarray(a), size=n, alpha=alpha, beta=beta, k=k)
    np.testing.assert_allclose(mine, b, rtol=1e-12)


@pytest.mark.parametrize("size", [3, 4])
def test_spatial_response_norm(x64, size):
    a, (alpha, beta) = normal((2, 6, 5, 3)), (0.4, 0.75)
    b = np.zeros_like(a)
    for r, c in np.ndindex(6, 5):
        rows = slice(max(0, r - size // 2), r + (size - 1) // 2 + 1)
        columns = slice(max(0, c - size // 2), c + (size - 1) // 2 + 1)
        squares = (a[:, rows, columns] ** 2).sum((1, 2))
        b[:, r, c] = a[:, r, c] / (1 + alpha / size**2 * squares) ** beta
    mine = layers.spatial_response_norm(jnp.asarray(a), size=size, alpha=alpha, beta=beta)
    np.testing.assert_allclose(mine, b, rtol=1e-12)


def test_response_norm_is_computed_in_float32():
    """bfloat16 squares of large activations would lose the sum's small members."""
    x = jnp.asarray(100 * normal((1, 2, 2, 8)), jnp.bfloat16)
    y = layers.local_response_norm(x, alpha=1.0)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        y.astype(np.float32), layers.local_response_norm(x.astype(jnp.float32), alpha=1.0), rtol=2**-8
    )


@pytest.mark.parametrize("padding", [0, 1])
def test_local_conv_loop_and_flax(x64, padding):
    x = normal((2, 5, 6, 3))
    layer = layers.LocalConv(4, window=3, padding=padding)
    variables = layer.init(jax.random.key(0), jnp.asarray(x))
    kernel, bias = (np.asarray(variables["params"][k], np.float64) for k in ("kernel", "bias"))
    bias = normal(bias.shape, 1)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    expected = np.zeros((2, *bias.shape))
    for i, j in np.ndindex(bias.shape[:2]):
        window = padded[:, i : i + 3, j : j + 3].transpose(0, 3, 1, 2).reshape(2, -1)
        expected[:, i, j] = window @ kernel[i, j] + bias[i, j]
    variables = {"params": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
    np.testing.assert_allclose(layer.apply(variables, jnp.asarray(x)), expected, rtol=1e-10, atol=1e-12)
    theirs = nn.ConvLocal(4, (3, 3), padding=padding)
    assert jax.tree.map(jnp.shape, theirs.init(jax.random.key(0), jnp.asarray(x))) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_allclose(theirs.apply(variables, jnp.asarray(x)), expected, rtol=1e-10, atol=1e-12)


RATIOS = [1.0, 2**0.5, 2 ** (1 / 3), 1.9, 2.0, 2.7]


@pytest.mark.parametrize(
    ("ratio", "pseudo_random", "overlapping"),
    [  # every ratio, and every kind of regions
        pytest.param(*case, marks=() if case[0] == 2**0.5 or all(case[1:]) else pytest.mark.slow)
        for case in itertools.product(RATIOS, (True, False), (True, False))
    ],
)
def test_fractional_max_pool(ratio, overlapping, pseudo_random):
    """Every output is the maximum of one region; regions are found again from an input that tells its place."""
    n = (25, 19)
    layer = layers.FractionalMaxPool(ratio, overlapping, pseudo_random)
    rows = jnp.broadcast_to(jnp.arange(n[0], dtype=jnp.float32)[:, None], n)
    columns = jnp.broadcast_to(jnp.arange(n[1], dtype=jnp.float32), n)
    noise = normal(n).astype(np.float32)
    stacked = jnp.stack([rows, -rows, columns, -columns, noise], -1)[None]
    apply = jax.jit(lambda key: layer.apply({}, stacked, train=True, rngs={"dropout": key}))
    seen = set()
    for seed in range(8):
        y = np.asarray(apply(jax.random.key(seed)))[0]
        sizes = (int(n[0] / ratio), int(n[1] / ratio))
        assert y.shape == (*sizes, 5)
        high_row, low_row, high_column, low_column = y[:, 0, 0], -y[:, 0, 1], y[0, :, 2], -y[0, :, 3]
        for low, high, side, size in ((low_row, high_row, n[0], sizes[0]), (low_column, high_column, n[1], sizes[1])):
            starts, ends = low.astype(int), high.astype(int) + 1
            assert starts[0] == 0
            assert ends[-1] == side
            # Neighbours meet (or share a row), and every window has one of the two sizes next to the ratio.
            np.testing.assert_array_equal(ends[:-1], starts[1:] + overlapping)
            widths = np.diff([*starts, side])
            assert set(widths) <= {side // size, side // size + 1}
        for i, j in np.ndindex(sizes):
            region = noise[int(low_row[i]) : int(high_row[i]) + 1, int(low_column[j]) : int(high_column[j]) + 1]
            assert y[i, j, 4] == region.max()
        seen.add((tuple(low_row), tuple(low_column)))
    if ratio not in (1.0, 2.0):
        assert len(seen) > 1  # drawn anew


def test_fractional_max_pool_in_evaluation():
    """The same regions always; other ones if a random stream is given, as for the paper's several passes."""
    x, layer = jnp.asarray(normal((2, 25, 25, 3))), layers.FractionalMaxPool()
    still = layer.apply({}, x, train=False)
    np.testing.assert_array_equal(still, layer.apply({}, x, train=False))
    drawn = [layer.apply({}, x, train=False, rngs={"dropout": jax.random.key(seed)}) for seed in range(6)]
    assert any(not np.array_equal(d, still) for d in drawn)


def test_shortcuts():
    x = jnp.asarray(normal((2, 5, 4, 3)), jnp.float32)
    y = np.asarray(layers.shortcut_a(x, 8, 2, None))
    expected = np.zeros((2, 3, 2, 8), np.float32)
    for i, j in np.ndindex(3, 2):
        expected[:, i, j, 2:5] = x[:, 2 * i, 2 * j]
    np.testing.assert_array_equal(y, expected)
    calls = []
    project = lambda x: calls.append(x) or x + 1  # noqa: E731
    assert layers.shortcut_b(x, 3, 1, project) is x
    assert not calls
    for shortcut, features, stride in ((layers.shortcut_b, 4, 1), (layers.shortcut_b, 3, 2), (layers.shortcut_c, 3, 1)):
        np.testing.assert_array_equal(shortcut(x, features, stride, project), x + 1)
    assert len(calls) == 3
    with pytest.raises(ValueError, match="zeros cannot take 3 channels to 2; use shortcut_b or shortcut_c"):
        layers.shortcut_a(x, 2, 1, None)
    np.testing.assert_array_equal(layers.add_skip(x, 2 * x), 3 * x)
    np.testing.assert_array_equal(layers.concatenate_skip(x, 2 * x), np.concatenate([x, 2 * x], -1))


NORMS = [layers.BatchNorm, layers.LayerNorm, layers.InstanceNorm, functools.partial(layers.GroupNorm, groups=3)]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_normalised_has_mean_zero_and_variance_one(norm, mean):
    """In float32, also where the mean is a thousand deviations."""
    x = jnp.asarray(normal((8, 5, 4, 6)) + mean, jnp.float32)
    variables = norm().init(jax.random.key(0), x, train=False)
    y, _ = norm().apply(variables, x, train=True, mutable=["batch_stats"])
    axes = {layers.BatchNorm: (0, 1, 2), layers.LayerNorm: (1, 2, 3), layers.InstanceNorm: (1, 2)}.get(norm)
    y = np.asarray(y, np.float64).reshape(8, 5, 4, 3, 2) if axes is None else np.asarray(y, np.float64)
    axes = axes or (1, 2, 4)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5 + 16 * mean * np.finfo(np.float32).eps / 2)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-3)


def batch_norm_in_numpy(x, mean, var, momentum=0.9, epsilon=1e-5):
    """Output and running statistics after a training step, in double precision."""
    x, axes = np.asarray(x, np.float64), tuple(range(x.ndim - 1))
    y = (x - x.mean(axes)) / np.sqrt(x.var(axes) + epsilon)
    return y, momentum * mean + (1 - momentum) * x.mean(axes), momentum * var + (1 - momentum) * x.var(axes, ddof=1)


@jax.jit
def batch_norm_step(variables, x):
    return layers.BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("outlier", [False, True])
@pytest.mark.parametrize("shape", [(16, 6, 5, 3), (64, 3)])
@pytest.mark.parametrize("mean", [0.0, 1.0, 100.0, 1e4])
def test_batch_norm_loses_no_digits(mean, shape, outlier):
    """The first step, from running statistics of 0 and 1, and the next, for deviations far below and above the mean.

    An outlier is a first example that is a thousand deviations away: the cancellation is then of as many digits as the
    batch's examples have, and no more.
    """
    initial = layers.BatchNorm().init(jax.random.key(0), jnp.ones(shape), train=False)
    digits = np.finfo(np.float32).eps * (16 * shape[0] if outlier else 32)
    for deviation in (1e-3, 1e-2, 1.0, 1e3):
        variables, running = initial, (np.zeros(3), np.ones(3))
        for seed in range(2):
            x = (mean + deviation * normal(shape, seed)).astype(np.float32)
            x[0] += np.float32(1000 * deviation * outlier)
            y, updated = batch_norm_step(variables, jnp.asarray(x))
            variables = variables | updated
            expected, *running = batch_norm_in_numpy(x, *running)
            found = updated["batch_stats"]
            np.testing.assert_allclose(y, expected, rtol=digits, atol=digits * np.abs(expected).max())
            scale = np.abs(running[0]).max() + np.sqrt(np.max(running[1]))
            np.testing.assert_allclose(found["mean"], running[0], rtol=0, atol=digits * scale)
            np.testing.assert_allclose(found["var"], running[1], rtol=digits)


@pytest.mark.parametrize("norm", NORMS)
def test_norms_keep_bfloat16_and_float32_statistics(norm):
    x = jnp.asarray(normal((4, 3, 3, 6)), jnp.bfloat16)
    variables = norm().init(jax.random.key(0), x, train=False)
    y, updated = norm().apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updated))} == {jnp.dtype("float32")}
    wide, _ = norm().apply(variables, x.astype(jnp.float32), train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.astype(np.float32), wide, atol=2e-2)
    assert norm(dtype=jnp.float32).apply(variables, x, train=False).dtype == jnp.float32


def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch():
    x = jnp.asarray(normal((4, 3, 2, 2, 5)), jnp.float32)
    variables = layers.BatchNorm().init(jax.random.key(0), x[0], train=False)
    layer = layers.BatchNorm(axis_name="parts")
    run = lambda layer: lambda x: layer.apply(variables, x, train=True, mutable=["batch_stats"])  # noqa: E731
    y, parts = jax.jit(jax.vmap(run(layer), axis_name="parts"))(x)
    whole, updated = jax.jit(run(layers.BatchNorm()))(x.reshape(12, 2, 2, 5))
    np.testing.assert_allclose(y.reshape(whole.shape), whole, rtol=1e-5, atol=1e-5)
    for ours, one in zip(jax.tree.leaves(parts), jax.tree.leaves(updated), strict=True):
        for part in ours:
            np.testing.assert_allclose(part, one, rtol=1e-5, atol=1e-6)


def test_batch_norm_over_a_mapped_axis_loses_no_digits():
    """Parts of other means, each large against its deviation: against the whole batch in double precision, with the
    gradient and the same running statistics, bit for bit, in each part.
    """
    parts = normal((4, 3, 2, 2, 5)) * 0.01 + 100 + 0.1 * np.arange(4)[:, None, None, None, None]
    x, cotangent = jnp.asarray(parts, jnp.float32), jnp.asarray(normal(parts.shape, 1), jnp.float32)
    layer = layers.BatchNorm(axis_name="parts")
    variables = layers.BatchNorm().init(jax.random.key(0), x[0], train=False)

    def loss(layer, x, cotangent):
        y, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y) * cotangent), (y, updated["batch_stats"])

    gradient, (y, found) = jax.jit(
        jax.vmap(jax.grad(lambda x, c: loss(layer, x, c), has_aux=True), axis_name="parts")
    )(x, cotangent)  # fmt: skip
    with jax.enable_x64(True):
        whole, c = (jnp.asarray(np.asarray(a, np.float64).reshape(12, 2, 2, 5)) for a in (x, cotangent))
        expected, (y_expected, running) = jax.jit(
            jax.grad(lambda x: loss(layers.BatchNorm(), x, c), has_aux=True)
        )(whole)  # fmt: skip
        expected, y_expected, running = jax.device_get((expected, y_expected, running))
    np.testing.assert_allclose(y.reshape(whole.shape), y_expected, atol=2e-6)
    np.testing.assert_allclose(gradient.reshape(whole.shape), expected, atol=2e-6 * np.abs(expected).max())
    for name, statistic in found.items():
        np.testing.assert_array_equal(statistic, jnp.broadcast_to(statistic[0], statistic.shape))
        np.testing.assert_allclose(statistic[0], running[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(64, 32), (256, 32), (32, 16), (16, 8), (96, 32), (100, 25), (6, 3), (7, 1), (2, 1), (1, 1)],
)
def test_group_norms_default_groups(channels, groups):
    """As many as divide the channels, 32 at most, with two channels or more in each."""
    x = jnp.asarray(normal((2, 4, 4, channels)), jnp.float32)
    default, explicit = (jax.jit(layers.GroupNorm(g).init_with_output)(jax.random.key(0), x)[0] for g in (None, groups))
    np.testing.assert_array_equal(default, explicit)
    split = np.asarray(x, np.float64).reshape(2, 16, groups, channels // groups)
    expected = (split - split.mean((1, 3), keepdims=True)) / np.sqrt(split.var((1, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(default, expected.reshape(x.shape), atol=1e-5)


def stochastic(layer, **call):
    return lambda x: layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(1)}, **call)


def with_params(layer, shape, **call):
    variables = layer.init({"params": jax.random.key(0), "dropout": jax.random.key(2)}, jnp.ones(shape), **call)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    rngs = {"dropout": jax.random.key(1)}
    return lambda x, p: layer.apply({**variables, "params": p}, x, rngs=rngs, mutable=["batch_stats"], **call)[
        0
    ], variables


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(layers.local_response_norm, alpha=0.2),
        functools.partial(layers.local_response_norm, alpha=0.2, beta=0.6),
        functools.partial(layers.spatial_response_norm, alpha=0.9),
        functools.partial(layers.max_pool, window=3, stride=2, padding=1, ceil_mode=True),
        functools.partial(layers.avg_pool, window=3, stride=2, padding=1, ceil_mode=True),
        functools.partial(layers.adaptive_avg_pool, size=3),
        functools.partial(layers.shortcut_a, features=5, stride=2, project=None),
        stochastic(layers.FractionalMaxPool()),
        stochastic(layers.Dropout(0.4)),
        stochastic(layers.SpatialDropout(0.4)),
        stochastic(layers.StochasticDepth(per_example=True), survival=0.6),
    ],
)
def test_gradients_against_finite_differences(x64, function):
    check_grads(jax.jit(function), (jnp.asarray(normal((2, 6, 5, 4))),), order=1, modes=["rev"], rtol=1e-6, eps=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "shape", "call"),
    [
        (layers.BatchNorm(), (3, 4, 3, 2), {"train": True}),
        (layers.BatchNorm(), (3, 4, 3, 2), {"train": False}),
        (layers.GroupNorm(2), (3, 4, 3, 4), {"train": True}),
        (layers.LayerNorm(), (3, 4, 3, 2), {"train": True}),
        (layers.InstanceNorm(), (3, 4, 3, 2), {"train": True}),
        (layers.PReLU(), (3, 4, 3, 2), {}),
        (layers.PReLU(shared=True), (3, 4, 3, 2), {}),
        (layers.LocalConv(3, window=3, padding=1), (2, 4, 3, 2), {}),
        (layers.DropConnect(3, activation=jnp.tanh), (4, 5), {"train": True}),
        (layers.DropConnect(3, activation=jnp.tanh), (4, 5), {"train": False}),
        (layers.DropConnect(3, activation=jnp.tanh, samples=5), (4, 5), {"train": False}),
    ],
)
def test_gradients_of_modules_against_finite_differences(x64, layer, shape, call):
    function, variables = with_params(layer, shape, **call)
    params = jax.tree.map(lambda p: p + 0.1 * jnp.asarray(normal(p.shape, 3)), variables["params"])
    arguments = (jnp.asarray(normal(shape)), params)
    check_grads(jax.jit(lambda x, p: jnp.sin(function(x, p))), arguments, order=1, modes=["rev"], rtol=1e-5, eps=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: layers.max_pool(x, padding=2),
            "padding must be at most half the window, got padding=2 with window=2",
        ),
        (lambda x: layers.avg_pool(x, window=9), "avg_pool: the input must be .* with sides >= window=9"),
        (lambda x: layers.adaptive_avg_pool(x, 0), "size must be an integer >= 1"),
        (lambda x: layers.local_response_norm(x, k=0), "k must be positive, got k=0"),
        (lambda x: layers.spatial_response_norm(x[0]), r"x must be \[batch, height, width, channels\]"),
        (lambda x: layers.FractionalMaxPool(0.9), "ratio must be a finite number >= 1"),
        (lambda x: layers.FractionalMaxPool(9.0).apply({}, x, train=False), "leaves nothing of images"),
        (lambda x: layers.GroupNorm(4).init(jax.random.key(0), x), "groups=4 must divide the 3 channels"),
        (lambda x: layers.InstanceNorm().init(jax.random.key(0), x[:, 0, 0]), "more than one position"),
        (lambda x: layers.BatchNorm(momentum=1.0), r"momentum must be a finite number in \[0, 1\)"),
        (lambda x: layers.LocalConv(3, window=9).init(jax.random.key(0), x), "sides >= window=9"),
        (lambda x: layers.DropConnect(3).init(jax.random.key(0), x, train=False), "flatten images first"),
        (lambda x: layers.Dropout(1.0), r"rate must be a finite number in \[0, 1\)"),
        (lambda x: layers.linear_decay(0.0, 3), r"final must be in \(0, 1\]"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((2, 6, 6, 3)))
