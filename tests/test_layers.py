import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxdl.models import layers


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def convolve_loop(x, kernel, stride, pads):
    """Cross-correlation, one output pixel at a time."""
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    kh, kw, _, features = kernel.shape
    rows, columns = (x.shape[1] - kh) // stride[0] + 1, (x.shape[2] - kw) // stride[1] + 1
    y = np.zeros((len(x), rows, columns, features))
    for i, j in np.ndindex(rows, columns):
        top, left = i * stride[0], j * stride[1]
        y[:, i, j] = np.einsum("nhwc,hwcf->nf", x[:, top : top + kh, left : left + kw], kernel)
    return y


CONVOLUTIONS = [
    *itertools.product([(3, 3)], [(1, 1), (2, 2), (3, 2)], [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (3, 2))]),
    ((1, 1), (2, 2), ((0, 0), (0, 0))),
    ((5, 2), (1, 3), ((2, 2), (0, 1))),
    ((2, 3), (4, 1), ((3, 0), (0, 4))),  # stride and padding both beyond the window
]


@pytest.mark.parametrize("canonical", [True, False])
@pytest.mark.parametrize(("window", "strides", "pads"), CONVOLUTIONS)
def test_convolution(x64, window, strides, pads, canonical):
    x, kernel = normal((2, 9, 8, 3)), normal((*window, 3, 4), 1)
    y = layers.convolve(
        jnp.asarray(x), jnp.asarray(kernel), strides=strides, padding=pads, canonical_gradients=canonical
    )
    np.testing.assert_allclose(y, convolve_loop(x, kernel, strides, pads), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("window", "strides", "pads"), CONVOLUTIONS)
def test_canonical_gradients(x64, window, strides, pads):
    """Against finite differences and autodiff, and to second order."""
    x, kernel = jnp.asarray(normal((2, 9, 8, 3))), jnp.asarray(normal((*window, 3, 4), 1))

    def loss(x, kernel, canonical=True):
        y = layers.convolve(x, kernel, strides=strides, padding=pads, canonical_gradients=canonical)
        return jnp.sum(jnp.sin(y))

    def twice(x, kernel, canonical=True):
        """Depends on second derivatives in every direction."""
        grads = jax.grad(loss, (0, 1))(x, kernel, canonical)
        return sum(jnp.sum(g * jnp.cos(jnp.arange(g.size)).reshape(g.shape)) for g in grads)

    check_grads(loss, (x, kernel), order=1, modes=["rev"], rtol=1e-5)
    for function in (loss, twice):
        mine, autodiff = (jax.grad(function, (0, 1))(x, kernel, canonical) for canonical in (True, False))
        for a, b in zip(mine, autodiff, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_convolution_and_its_gradients_of_any_geometry(data):
    """Windows, strides, paddings and images drawn at random: canonical against autodiff's own gradients."""
    draw = lambda low, high: data.draw(st.tuples(*[st.integers(low, high)] * 2))  # noqa: E731
    window, strides, pads = draw(1, 4), draw(1, 3), (draw(0, 4), draw(0, 4))
    image = tuple(max(k, n) for k, n in zip(window, draw(1, 9), strict=True))
    x, kernel = jnp.asarray(normal((2, *image, 2)), jnp.float32), jnp.asarray(normal((*window, 2, 3), 1), jnp.float32)
    outcomes = []
    for canonical in (True, False):
        y, pull = jax.vjp(
            lambda x, kernel, canonical=canonical: layers.convolve(
                x, kernel, strides=strides, padding=pads, canonical_gradients=canonical
            ),
            x,
            kernel,
        )
        outcomes.append((y, *pull(jnp.cos(y))))
    for mine, autodiff in zip(*outcomes, strict=True):
        np.testing.assert_allclose(mine, autodiff, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2])
@pytest.mark.parametrize("strides", [1, 2])
def test_conv_equals_flax(padding, strides):
    """The same names, initial numbers and outputs."""
    x, key = jnp.asarray(normal((2, 9, 8, 4)), jnp.float32), jax.random.key(0)
    for groups, bias in ((1, True), (2, False)):
        kwargs = {"strides": strides, "padding": padding, "feature_group_count": groups, "use_bias": bias}
        mine, theirs = layers.Conv(6, (3, 5), **kwargs), nn.Conv(6, (3, 5), **kwargs)
        variables = mine.init(key, x)
        assert jax.tree.structure(variables) == jax.tree.structure(theirs.init(key, x))
        jax.tree.map(np.testing.assert_array_equal, variables, theirs.init(key, x))
        np.testing.assert_allclose(mine.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-6)


def test_conv_computes_in_the_dtype_asked_for():
    layer = layers.Conv(2, (3, 3), dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), jnp.ones((1, 4, 4, 1)))
    assert layer.apply(variables, jnp.ones((1, 4, 4, 1))).dtype == jnp.bfloat16
    grads = jax.grad(lambda v: layer.apply(v, jnp.ones((1, 4, 4, 1))).sum().astype(jnp.float32))(variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"features": 0}, "Conv: features must be an integer >= 1, got features=0"),
        ({"kernel_size": (3, 0)}, "Conv: kernel_size must be an integer >= 1"),
        ({"kernel_size": (3, 3, 3)}, r"Conv: kernel_size must be one number or a pair .* got kernel_size=\(3, 3, 3\)"),
        ({"strides": -1}, "Conv: strides must be an integer >= 1"),
        ({"feature_group_count": 2, "canonical_gradients": True}, "needs feature_group_count=1"),
    ],
)
def test_conv_bad_values(kwargs, message):
    with pytest.raises(ValueError, match=message):
        layers.Conv(**{"features": 4, "kernel_size": (3, 3)} | kwargs)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (layers.Conv(4, (3, 3)), (8, 8, 3), r"must be \[batch, height, width, channels\], got shape \(8, 8, 3\)"),
        (layers.Conv(4, (3, 3), feature_group_count=2), (1, 8, 8, 3), "must divide the 3 input and 4 output channels"),
        (layers.Conv(4, (3, 3), padding="FULL"), (1, 8, 8, 3), "padding must be"),
        (layers.Conv(4, (3, 3), padding=-1), (1, 8, 8, 3), "padding must be an integer >= 0"),
    ],
)
def test_conv_bad_inputs(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.init(jax.random.key(0), jnp.ones(shape))


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3), (1, 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_and_its_gradient_equal_flax(window, stride, ties):
    x = normal((2, 9, 8, 3))
    x = jnp.asarray(np.round(np.maximum(x, 0)) if ties else x, jnp.float32)
    cotangent = None
    results = []
    for pool in (
        lambda x: layers.max_pool(x, window=window, stride=stride),
        lambda x: nn.max_pool(x, (window, window), (stride, stride)),
    ):
        y, pull = jax.vjp(pool, x)
        cotangent = jnp.asarray(normal(y.shape, 1), jnp.float32) if cotangent is None else cotangent
        results.append((y, pull(cotangent)[0]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-6, atol=1e-6)


def test_max_pool_lets_no_nan_slip():
    for place in np.ndindex(2, 2):
        x = np.zeros((1, 2, 2, 1), np.float32)
        x[0, *place, 0] = np.nan
        assert np.isnan(layers.max_pool(jnp.asarray(x))).all()


def test_max_pool_bad_values():
    x = jnp.ones((1, 4, 4, 1))
    with pytest.raises(ValueError, match="max_pool: stride must be an integer >= 1, got stride=0"):
        layers.max_pool(x, stride=0)
    with pytest.raises(ValueError, match=r"sides >= window=5, got shape \(1, 4, 4, 1\); use fewer pooling layers"):
        layers.max_pool(x, window=5)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
@pytest.mark.parametrize("shape", [(7, 5), (3, 2, 4, 6)])
def test_initializers_are_those_of_jax(mode, distribution, shape):
    key = jax.random.key(3)
    mine = layers.variance_scaling(1.7, mode, distribution)(key, shape, jnp.float32)
    theirs = jax.nn.initializers.variance_scaling(1.7, mode, distribution)(key, shape, jnp.float32)
    if distribution == "normal":  # jax 0.12 multiplies the factors of a normal draw in another order
        np.testing.assert_array_max_ulp(np.asarray(mine), np.asarray(theirs), maxulp=4)
    else:
        np.testing.assert_array_equal(mine, theirs)


def test_named_initializers():
    key, shape = jax.random.key(0), (3, 3, 8, 16)
    np.testing.assert_array_equal(
        layers.lecun_normal(key, shape, jnp.float32), jax.nn.initializers.lecun_normal()(key, shape)
    )
    he = layers.he_normal(key, (1000, 200), jnp.float32)
    assert float(he.std()) == pytest.approx(np.sqrt(2 / 1000), rel=0.01)


def test_initializer_bad_values():
    with pytest.raises(ValueError, match="scale must be a finite number >= 0"):
        layers.variance_scaling(-1)
    with pytest.raises(ValueError, match="mode must be one of"):
        layers.variance_scaling(1, "fan")
    with pytest.raises(ValueError, match=r"a kernel needs two axes or more, got shape=\(3,\)"):
        layers.he_normal(jax.random.key(0), (3,), jnp.float32)
