"""Max and average pooling of `jaxdl-native`: XLA's numbers, in every transformation, and errors instead of crashes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import export, lax

from jaxdl import native
from jaxdl.models import layers
from jaxdl.native import package, pooling

pytestmark = pytest.mark.skipif(native.VERSION is None, reason="needs jaxdl-native (pip install ./native), switched on")

POOLS = {"max": layers.max_pool, "avg": layers.avg_pool}
OPTIONS = {"window": 3, "stride": 2, "padding": 1, "ceil_mode": True}


def drawn(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def with_ties(seed, shape):
    """Few different numbers, so that windows have several maxima."""
    return jnp.asarray(np.random.default_rng(seed).integers(-2, 3, shape), jnp.float32)


def windows(pool, x, *, window, stride, padding, ceil_mode):
    """The pooled windows and the gradient of x for a drawn cotangent, by a NumPy loop: results, cotangent, gradient."""
    batch, height, width, channels = x.shape

    def count(side):
        number = (side + 2 * padding - window) / stride
        found = int(np.ceil(number) if ceil_mode else np.floor(number)) + 1
        return found - 1 if ceil_mode and (found - 1) * stride >= side + padding else found

    y = np.zeros((batch, count(height), count(width), channels))
    cotangent = np.random.default_rng(2).normal(size=y.shape)
    gradient = np.zeros(x.shape)
    for n, i, j, c in np.ndindex(y.shape):
        rows = slice(max(0, i * stride - padding), i * stride - padding + window)
        columns = slice(max(0, j * stride - padding), j * stride - padding + window)
        part = x[n, rows, columns, c]
        if pool == "avg":
            y[n, i, j, c] = part.mean()
            gradient[n, rows, columns, c] += cotangent[n, i, j, c] / part.size
        else:
            y[n, i, j, c] = part.max()
            gradient[n, rows, columns, c][np.unravel_index(part.argmax(), part.shape)] += cotangent[n, i, j, c]
    return y, cotangent, gradient


@st.composite
def cases(draw):
    window = draw(st.integers(1, 5))
    padding = draw(st.integers(0, window // 2))
    sides = draw(st.tuples(*[st.integers(max(1, window - 2 * padding), window + 8)] * 2))
    channels = draw(st.sampled_from([1, 3, 4, 8, 15, 16, 17, 40]))
    options = {
        "window": window,
        "stride": draw(st.integers(1, 6)),
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
    }
    return (draw(st.integers(1, 3)), *sides, channels), options


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(pool=st.sampled_from(list(POOLS)), case=cases(), seed=st.integers(0, 99))
def test_numbers_and_gradients_are_those_of_a_loop(pool, case, seed):
    shape, options = case
    x = with_ties(seed, shape)
    expected, cotangent, gradient = windows(pool, np.asarray(x, np.float64), **options)
    y, pull = jax.vjp(functools.partial(POOLS[pool], **options), x)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.asarray(cotangent, jnp.float32))[0], gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
def test_it_is_the_packages(pool):
    function = functools.partial(POOLS[pool], **OPTIONS)
    x = drawn(0, (2, 9, 9, 3))
    assert f"jaxdl_native.{pool}_pool" in jax.jit(function).lower(x).as_text()
    assert "jaxdl_native" not in jax.jit(function).lower(x.astype(jnp.bfloat16)).as_text()
    large = functools.partial(POOLS[pool], window=17)
    assert "jaxdl_native" not in jax.jit(large).lower(drawn(0, (2, 20, 20, 3))).as_text()


def test_a_window_of_256_places():
    """A byte numbers them."""
    x = drawn(0, (1, 40, 33, 5)).at[0, 15, 15].set(10.0)
    gradient = jax.grad(lambda x: layers.max_pool(x, window=16).sum())(x)
    np.testing.assert_array_equal(gradient[0, 15, 15], np.ones(5))
    assert gradient.sum() == 2 * 2 * 5


def test_nan_and_infinities():
    x = drawn(0, (1, 4, 4, 17)).at[0, 0, 1].set(jnp.nan).at[0, 2:, 2:].set(-jnp.inf).at[0, 3, 0].set(jnp.inf)
    y, pull = jax.vjp(functools.partial(layers.max_pool, window=2), x)
    np.testing.assert_array_equal(y[0, 0, 0], np.full(17, np.nan))
    np.testing.assert_array_equal(y[0, 1, 0], np.full(17, np.inf))
    np.testing.assert_array_equal(y[0, 1, 1], np.full(17, -np.inf))
    (gradient,) = pull(jnp.ones_like(y))
    for place in ((0, 1), (3, 0), (2, 2)):  # where NaN is, where infinity is, and the first of equal ones
        np.testing.assert_array_equal(gradient[0][place], np.ones(17))
    assert gradient.sum() == y.size


X = (3, 7, 6, 4)


def loss(pool, x):
    return jnp.sum(jnp.sin(POOLS[pool](x, **OPTIONS)))


TRANSFORMED = {
    "jit": lambda f, x: jax.jit(f)(x),
    "gradient": lambda f, x: jax.grad(f)(x),
    "forward mode": lambda f, x: jax.jvp(f, (x,), (jnp.cos(x),)),
    "gradient of a gradient": lambda f, x: jax.grad(lambda x: jnp.sum(jnp.cos(jax.grad(f)(x))))(x),
    "forward over reverse": lambda f, x: jax.jvp(jax.grad(f), (x,), (jnp.cos(x),)),
    "reverse over forward": lambda f, x: jax.grad(lambda x: jax.jvp(f, (x,), (jnp.cos(x),))[1])(x),
    "scan": lambda f, x: lax.scan(lambda sum, part: (sum + f(part), jax.grad(f)(part)), 0.0, jnp.stack([x, x + 1])),
    "fori_loop": lambda f, x: lax.fori_loop(0, 3, lambda _, x: x - 0.1 * jax.grad(f)(x), x),
    "map": lambda f, x: lax.map(jax.grad(f), jnp.stack([x, x + 1])),
    "vmap": lambda f, x: jax.vmap(jax.value_and_grad(f))(jnp.stack([x, x + 1])),
    "vmap of another axis": lambda f, x: jax.vmap(jax.grad(f), in_axes=3, out_axes=1)(jnp.stack([x, x + 1], 3)),
    "vmap of cotangents": lambda f, x: jax.jacrev(lambda x: jnp.stack([f(x), f(2 * x)]))(x),
    "vmap of tangents": lambda f, x: jax.jacfwd(lambda t: f(x + t))(0.0),
    "remat": lambda f, x: jax.grad(jax.checkpoint(f))(x),
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("way", TRANSFORMED)
def test_transformations(way, pool, monkeypatch):
    x = drawn(0, X)
    found = TRANSFORMED[way](functools.partial(loss, pool), x)
    monkeypatch.setattr(package, "VERSION", None)
    jax.clear_caches()
    expected = TRANSFORMED[way](functools.partial(loss, pool), x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)


@pytest.mark.parametrize("pool", POOLS)
def test_in_double_precision_it_is_xlas(pool, x64):
    assert "jaxdl_native" not in jax.jit(functools.partial(loss, pool)).lower(jnp.ones(X, jnp.float64)).as_text()


@pytest.mark.parametrize("pool", POOLS)
def test_the_same_bits_from_any_number_of_threads(pool, monkeypatch):
    x = drawn(0, (5, 17, 17, 24))
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(package, "threads", lambda threads=threads: threads)
        jax.clear_caches()
        found.append(jax.jit(jax.value_and_grad(functools.partial(loss, pool)))(x))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, found[0])
    jax.clear_caches()


@pytest.mark.parametrize("pool", POOLS)
def test_no_members_and_no_images(pool):
    members = jax.vmap(jax.grad(functools.partial(loss, pool)))(jnp.zeros((0, *X)))
    assert members.shape == (0, *X)
    assert POOLS[pool](jnp.zeros((0, 4, 4, 3))).shape == (0, 2, 2, 3)


def test_a_stride_beyond_all_images():
    x = drawn(0, X)
    for options in ({"window": 2, "stride": 2**30}, {"window": 2, "stride": 7}):
        np.testing.assert_array_equal(layers.max_pool(x, **options)[:, 0, 0], x[:, :2, :2].max((1, 2)))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("pool", POOLS)
def test_other_platforms_never_see_it(pool, platform):
    lowered = export.export(jax.jit(jax.grad(functools.partial(loss, pool))), platforms=[platform])(drawn(0, X))
    assert "jaxdl_native" not in lowered.mlir_module()


def test_the_rules_for_other_platforms():
    """Computed here, against the package's."""
    x = with_ties(0, X)
    how = pooling.Windows(X[1:3], 3, 2, ((1, 2), (1, 1)))
    best, places = package.bind(pooling._max, x, settings=how)
    c = drawn(1, best.shape)
    others, others_places = pooling._max_of_xla(x, settings=how)
    np.testing.assert_array_equal(others, best)
    # Windows at the edge number their padding too, so places are the same.
    np.testing.assert_array_equal(others_places, places)
    for one, arrays, by_xla in (
        (pooling._pick, (x, places), pooling._pick_of_xla),
        (pooling._place, (c, places), pooling._transpose_of_xla(pooling._pick_of_xla)),
        (pooling._mean, (x,), pooling._mean_of_xla),
        (pooling._spread, (c,), pooling._transpose_of_xla(pooling._mean_of_xla)),
    ):
        found = package.bind(one, *arrays, settings=how)
        np.testing.assert_allclose(found, by_xla(*arrays, settings=how), rtol=1e-5, atol=1e-6)


def call(name="max_pool_pick", x=(2, 8, 8, 4), places=(2, 4, 4, 4), result=(2, 4, 4, 4), **changed):
    """Calls the compiled part itself, with places that no maximum can have too."""
    attributes = {"window": 2, "stride": 2, "padding": [0, 0, 0, 0], "threads": 2} | changed
    attributes = {k: np.asarray(v, np.int64) if np.ndim(v) else np.int64(v) for k, v in attributes.items()}
    results = jax.ShapeDtypeStruct(result, jnp.float32)
    arrays = [jnp.ones(x)]
    if name == "max_pool":
        results = (results, jax.ShapeDtypeStruct(places, jnp.uint8))
    elif name.startswith("max"):
        arrays.append(jnp.asarray(np.random.default_rng(0).integers(0, 256, places), jnp.uint8))
    return jax.block_until_ready(jax.ffi.ffi_call(f"jaxdl_native.{name}", results)(*arrays, **attributes))


def test_the_compiled_part_takes_a_right_call():
    assert call().shape == (2, 4, 4, 4)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x": (2, 8, 8)}, "rank"),
        ({"places": (2, 4, 4)}, "rank"),
        ({"places": (2, 4, 4, 5)}, "a place for each"),
        ({"x": (3, 8, 8, 4)}, "as many"),
        ({"x": (2, 8, 8, 5)}, "as many channels"),
        ({"x": (2, 9, 10, 4)}, "images out must have the sides"),
        ({"x": (2, 1, 8, 4)}, "images out must have the sides"),
        ({"window": 0}, "window must be"),
        ({"window": 17}, "window must be"),
        ({"stride": 0}, "stride must be"),
        ({"stride": 2**62}, "stride must be"),
        ({"padding": [0, 0]}, "padding must have 4"),
        ({"padding": [-1, 0, 0, 0]}, "padding must be"),
        ({"padding": [2, 0, 0, 0]}, "padding must be"),
        ({"threads": 0}, "threads must be"),
        ({"threads": 10**9}, "threads must be"),
    ],
    ids=str,
)
def test_the_compiled_part_refuses_a_wrong_call(changed, words):
    with pytest.raises(jax.errors.JaxRuntimeError, match=words):
        call(**changed)


SIDES = st.integers(0, 20)
NUMBERS = st.one_of(st.integers(-2, 20), st.sampled_from([2**31, 2**62, -(2**62)]))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(["max_pool", "max_pool_pick", "max_pool_place", "avg_pool", "avg_pool_spread"]),
    x=st.tuples(*[SIDES] * 4),
    result=st.tuples(*[SIDES] * 4),
    window=NUMBERS,
    stride=NUMBERS,
    padding=st.lists(NUMBERS, min_size=3, max_size=5),
)
def test_the_compiled_part_survives_anything(name, x, result, window, stride, padding):
    places = x if name == "max_pool_place" else result
    try:
        call(name, x, places, result, window=window, stride=stride, padding=padding)
    except (ValueError, jax.errors.JaxRuntimeError):
        return
