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

KEY = jax.random.key(0)


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


def dilated(kernel, dilation):
    """The kernel with zeros between its rows and columns."""
    window = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    wide = np.zeros((*window, *kernel.shape[2:]))
    wide[:: dilation[0], :: dilation[1]] = kernel
    return wide


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


@pytest.mark.parametrize("canonical", [True, False])
@pytest.mark.parametrize(("window", "dilation"), [((3, 3), (2, 2)), ((2, 3), (3, 1)), ((1, 1), (4, 4))])
def test_dilated_convolution(x64, window, dilation, canonical):
    """A kernel with zeros between its rows and columns."""
    x, kernel, pads = normal((2, 9, 8, 3)), normal((*window, 3, 4), 1), ((2, 1), (0, 3))
    y = layers.convolve(
        jnp.asarray(x),
        jnp.asarray(kernel),
        strides=(2, 1),
        padding=pads,
        dilation=dilation,
        canonical_gradients=canonical,
    )
    np.testing.assert_allclose(y, convolve_loop(x, dilated(kernel, dilation), (2, 1), pads), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("window", "strides", "pads"),
    [
        ((3, 1), (1, 1), ((3, 1), (0, 0))),  # as wide as the window
        ((1, 1), (1, 1), ((1, 0), (0, 2))),
        ((2, 3), (3, 2), ((5, 4), (0, 0))),
        ((1, 1), (2, 3), ((0, 0), (0, 0))),  # last rows under no window
        ((3, 2), (2, 3), ((4, 1), (1, 0))),
    ],
)
def test_gradients_do_not_read_beyond_the_images(window, strides, pads, groups):
    """XLA's convolutions with negative padding do, in jaxlib 0.10: the memory that was there before shows."""
    x, kernel = normal((2, 9, 5, 8)), normal((*window, 8 // groups, 8), 1)
    options = {"strides": strides, "padding": pads, "feature_group_count": groups, "native": False}

    @jax.jit
    def gradients(x, kernel):
        y, pull = jax.vjp(lambda x, kernel: layers.convolve(x, kernel, **options), x, kernel)
        return y, *pull(jnp.cos(y))

    # In double precision XLA takes another path, which is right.
    with jax.enable_x64(True):
        expected = gradients(jnp.asarray(x), jnp.asarray(kernel))
    for _ in range(20):
        _ = [np.full(size, 1e30, np.float32) for size in range(64, 4096, 64) for _ in range(20)]
        for found, wanted in zip(gradients(jnp.float32(x), jnp.float32(kernel)), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("window", "strides", "pads", "dilation"),
    [
        *((*case, 1) for case in CONVOLUTIONS),
        ((3, 3), (1, 1), ((2, 2), (2, 2)), 2),
        ((3, 2), (2, 3), ((0, 3), (1, 4)), (2, 3)),
    ],
)
def test_canonical_gradients(x64, window, strides, pads, dilation):
    """Against finite differences and autodiff, and to second order."""
    x, kernel = jnp.asarray(normal((2, 9, 8, 3))), jnp.asarray(normal((*window, 3, 4), 1))

    def loss(x, kernel, canonical=True):
        y = layers.convolve(x, kernel, strides=strides, padding=pads, dilation=dilation, canonical_gradients=canonical)
        return jnp.sum(jnp.sin(y))

    def twice(x, kernel, canonical=True):
        """Depends on second derivatives in every direction."""
        grads = jax.grad(loss, (0, 1))(x, kernel, canonical)
        return sum(jnp.sum(g * jnp.cos(jnp.arange(g.size)).reshape(g.shape)) for g in grads)

    @jax.jit
    def gradients(x, kernel):
        """Of both functions, ours and autodiff's."""
        return [
            [jax.grad(function, (0, 1))(x, kernel, canonical) for canonical in (True, False)]
            for function in (loss, twice)
        ]

    check_grads(jax.jit(loss), (x, kernel), order=1, modes=["rev"], rtol=1e-5)
    for mine, autodiff in gradients(x, kernel):
        for a, b in zip(mine, autodiff, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.data())
def test_convolution_and_its_gradients_of_any_geometry(data):
    """Windows, strides, paddings, dilations and images drawn at random, in double precision: against autodiff's own
    gradients of lax's convolution.
    """
    with jax.enable_x64(True):
        check_any_geometry(data)


def check_any_geometry(data):
    draw = lambda low, high: data.draw(st.tuples(*[st.integers(low, high)] * 2))  # noqa: E731
    window, strides, dilation, pads = draw(1, 4), draw(1, 3), draw(1, 3), (draw(0, 4), draw(0, 4))
    padding = data.draw(st.sampled_from([pads, "SAME", "VALID"]))
    image = tuple(max((k - 1) * d + 1, n) for k, d, n in zip(window, dilation, draw(1, 9), strict=True))
    x, kernel = jnp.asarray(normal((2, *image, 2))), jnp.asarray(normal((*window, 2, 3), 1))

    def mine(x, kernel):
        return layers.convolve(x, kernel, strides=strides, padding=padding, dilation=dilation, canonical_gradients=True)

    def theirs(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=layout
        )

    @jax.jit
    def both(x, kernel):
        (y, pull), (expected, pull_expected) = jax.vjp(mine, x, kernel), jax.vjp(theirs, x, kernel)
        cotangent = jnp.cos(expected)
        return (y, *pull(cotangent)), (expected, *pull_expected(cotangent))

    for a, b in zip(*both(x, kernel), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 2), ((2, 1), (1, 3))])
def test_conv_equals_flax(padding, strides, dilation):
    """The same names, initial numbers and outputs."""
    x, key = jnp.asarray(normal((2, 9, 14, 4)), jnp.float32), jax.random.key(0)
    for groups, bias in ((1, True), (2, False)):
        kwargs = {"strides": strides, "padding": padding, "feature_group_count": groups, "use_bias": bias}
        mine = layers.Conv(6, (3, 5), dilation=dilation, **kwargs)
        theirs = nn.Conv(6, (3, 5), kernel_dilation=dilation, **kwargs)
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
        ({"strides": (1, 2, 3)}, r"strides must be one number or a pair \(height, width\), got strides=\(1, 2, 3\)"),
        ({"dilation": 0}, "Conv: dilation must be an integer >= 1, got dilation=0"),
        ({"dilation": (1, 2, 3)}, "Conv: dilation must be one number or a pair"),
        ({"padding": "FULL"}, "Conv: padding must be .* got padding='FULL'$"),
        ({"padding": "same"}, "Conv: padding must be .* got padding='same'; use padding=\"SAME\""),
        ({"padding": -1}, "Conv: padding must be an integer >= 0"),
        ({"padding": ((1, 1), (0, -1))}, "Conv: padding must be an integer >= 0, got padding=-1"),
        ({"padding": (1, 2)}, r"got padding=\(1, 2\); use padding=\(\(1, 1\), \(2, 2\)\)"),
        ({"use_bias": "no"}, "Conv: use_bias must be True or False, got use_bias='no'"),
        ({"canonical_gradients": 1}, "Conv: canonical_gradients must be True or False"),
        ({"dtype": "int8"}, "Conv: dtype must be a floating-point dtype or None, got dtype='int8'"),
        ({"param_dtype": "float33"}, "Conv: param_dtype must be a floating-point dtype"),
        ({"kernel_init": "he"}, "Conv: kernel_init must be a function .* pass layers.he_normal"),
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
        (layers.Conv(4, (3, 3), padding="VALID"), (1, 8, 2, 3), "smaller than the window"),
        (layers.Conv(4, (3, 3), padding=1, dilation=5), (1, 8, 8, 3), r"which covers \(11, 11\); use larger images"),
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

    @jax.jit
    def both(x):
        results = []
        for pool in (
            lambda x: layers.max_pool(x, window=window, stride=stride),
            lambda x: nn.max_pool(x, (window, window), (stride, stride)),
        ):
            y, pull = jax.vjp(pool, x)
            results.append((y, pull(jnp.asarray(normal(y.shape, 1), jnp.float32))[0]))
        return results

    results = both(x)
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


WRONG_CALLS = {
    "integers into Conv": (
        lambda x: layers.Conv(2, (3, 3)).init(KEY, x.astype(jnp.uint8)),
        "Conv: .* floating point, .* uint8",
    ),
    "one image into Conv": (lambda x: layers.Conv(2, (3, 3)).init(KEY, x[0]), r"add the batch's axis: x\[None\]"),
    "a list into Conv": (lambda x: layers.Conv(2, (3, 3)).init(KEY, [[1.0]]), r"must be an array .* got \[\[1.0\]\]"),
    "another dtype": (
        lambda x: layers.convolve(x, jnp.ones((3, 3, 3, 2), jnp.bfloat16)),
        "kernel must be .* got bfloat16",
    ),
    "other channels": (
        lambda x: layers.convolve(x, jnp.ones((3, 3, 4, 2))),
        r"convolve: kernel must be .* \[3, 3, 4, 2\]",
    ),
    "window 0": (lambda x: layers.max_pool(x, window=0), "max_pool: window must be an integer >= 1, got window=0"),
    "a pair of windows": (lambda x: layers.avg_pool(x, window=(2, 2)), r"avg_pool: window must be .* window=\(2, 2\)"),
    "ceil_mode": (lambda x: layers.max_pool(x, ceil_mode="no"), "max_pool: ceil_mode must be True or False, .*'no'"),
    "integers pooled": (lambda x: layers.max_pool(x.astype(int)), "max_pool: the input must be floating point"),
    "integers averaged": (lambda x: layers.adaptive_avg_pool(x.astype(int), 2), "adaptive_avg_pool: .* floating point"),
    "overlapping": (
        lambda x: layers.FractionalMaxPool(overlapping=1),
        "FractionalMaxPool: overlapping must be True or",
    ),
    "pseudo_random": (lambda x: layers.FractionalMaxPool(pseudo_random=None), "pseudo_random must be True or False"),
    "std": (lambda x: layers.normal("x"), "normal: std must be a finite number >= 0, got std='x'"),
    "scale": (lambda x: layers.variance_scaling(None), "variance_scaling: scale must be a finite number"),
    "distribution": (lambda x: layers.variance_scaling(1, "fan_in", "gauss"), "distribution must be one of 'normal', "),
    "slope": (lambda x: layers.PReLU(initial_slope=float("nan")), "PReLU: initial_slope must be a finite number"),
    "shared": (lambda x: layers.PReLU(shared="no"), "PReLU: shared must be True or False"),
    "rate": (lambda x: layers.Dropout(1.0), r"Dropout: rate must be a finite number in \[0, 1\), got rate=1.0"),
    "DropConnect": (lambda x: layers.DropConnect(4, rate=-0.1), "DropConnect: rate must be"),
    "its activation": (
        lambda x: layers.DropConnect(4, activation="tanh"),
        "DropConnect: activation must be a function",
    ),
    "survival": (lambda x: layers.StochasticDepth().apply({}, x, 1.5, train=False), r"survival must be in \(0, 1\]"),
    "survival 0": (lambda x: layers.StochasticDepth().apply({}, x, 0, train=False), r"in \(0, 1\], got survival=0"),
    "per_example": (lambda x: layers.StochasticDepth(per_example=2), "StochasticDepth: per_example must be True or"),
    "decay": (lambda x: layers.linear_decay("0.5", 3), "linear_decay: final must be a finite number"),
    "no layers": (lambda x: layers.linear_decay(0.5, 0), "linear_decay: layers must be an integer >= 1"),
    "LocalConv": (lambda x: layers.LocalConv(4, window=0), "LocalConv: window must be an integer >= 1"),
    "its padding": (lambda x: layers.LocalConv(4, window=3, padding="SAME"), "LocalConv: padding must be an integer"),
    "LayerNorm": (lambda x: layers.LayerNorm(epsilon=-1), "LayerNorm: epsilon must be a finite number >= 0"),
    "InstanceNorm": (lambda x: layers.InstanceNorm(epsilon=-1), "InstanceNorm: epsilon must be a finite number >= 0"),
    "groups": (lambda x: layers.GroupNorm(groups=0), "GroupNorm: groups must be an integer >= 1, got groups=0"),
    "unbiased": (lambda x: layers.BatchNorm(unbiased="yes"), "BatchNorm: unbiased must be True or False"),
    "scale_init": (lambda x: layers.BatchNorm(scale_init=1.0), "function .* pass flax.linen.initializers.ones"),
    "dtype": (lambda x: layers.GroupNorm(dtype=jnp.int32), "GroupNorm: dtype must be a floating-point dtype"),
    "integers normalised": (
        lambda x: layers.BatchNorm().init(KEY, x.astype(int), train=False),
        "must be floating point",
    ),
    "one axis": (lambda x: layers.LayerNorm().init(KEY, x[0, 0, 0]), r"LayerNorm: the input must be \[batch, "),
    "divide_by_size": (
        lambda x: layers.local_response_norm(x, divide_by_size=5),
        "divide_by_size must be True or False",
    ),
    "integers in LRN": (lambda x: layers.local_response_norm(x.astype(int)), "local_response_norm: x must be floating"),
    "stride of A": (lambda x: layers.shortcut_a(x, 8, 0, None), "shortcut_a: stride must be an integer >= 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_calls_say_what_is_wrong(name):
    call, message = WRONG_CALLS[name]
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((2, 6, 6, 3)))


def test_checks_let_lifted_modules_through():
    """Flax constructs modules anew within scan, remat and vmap."""
    layer = nn.vmap(
        nn.remat(layers.Conv), variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=0, axis_size=2
    )(2, (3, 3), dilation=2)
    x = jnp.ones((2, 1, 6, 6, 3))
    assert layer.apply(layer.init(KEY, x), x).shape == (2, 1, 6, 6, 2)
