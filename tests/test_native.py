"""oneDNN's convolutions (native/): XLA's numbers, in every transformation, and errors instead of crashes."""

import functools
import os
import subprocess
import sys
import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import export, lax

from jaxdl import models, native, report, train
from jaxdl.models import layers
from jaxdl.native import convolution

pytestmark = pytest.mark.skipif(native.VERSION is None, reason="needs jaxdl-native (pip install ./native), switched on")


def drawn(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def by_onednn(x, kernel, **options):
    return layers.convolve(x, kernel, **options)


def xla(x, kernel, **options):
    return layers.convolve(x, kernel, native=False, canonical_gradients=False, **options)


def assert_close(found, expected, tolerance=1e-5):
    """Relative to the largest number of the array."""

    def close(a, b):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.max(np.abs(b), initial=0), 1e-30))

    jax.tree.map(close, found, expected)


def with_gradients(convolve, x, kernel, **options):
    """Results and both gradients for a drawn cotangent."""

    @jax.jit
    def run(x, kernel):
        y, pull = jax.vjp(functools.partial(convolve, **options), x, kernel)
        return y, pull(drawn(2, y.shape))

    return run(x, kernel)


@st.composite
def geometries(draw):
    """Shapes and settings of a convolution, so that the window fits."""
    window = draw(st.tuples(*[st.integers(1, 7)] * 2))
    dilation = draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = draw(st.tuples(*[st.tuples(*[st.integers(0, 4)] * 2)] * 2))
    covered = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    least = [max(1, c - sum(p)) for c, p in zip(covered, padding, strict=True)]
    sides = [draw(st.integers(n, n + 12)) for n in least]
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    per_group, features = (groups * draw(st.sampled_from([1, 2, 3, 8, 16, 17])) for _ in range(2))
    batch = draw(st.sampled_from([1, 2, 5, 16]))
    options = {
        "strides": draw(st.tuples(*[st.integers(1, 4)] * 2)),
        "padding": padding,
        "dilation": dilation,
        "feature_group_count": groups,
    }
    return (batch, *sides, per_group), (*window, per_group // groups, features), options


def compared(geometry):
    shape, kernel_shape, options = geometry
    x, kernel = drawn(0, shape), drawn(1, kernel_shape)
    found, expected = (with_gradients(convolve, x, kernel, **options) for convolve in (by_onednn, xla))
    assert_close(found, expected)


# The same shapes each time: XLA's compiler, which it is compared with, aborts on a few (jaxlib 0.10).
@settings(deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(geometries())
def test_numbers_and_gradients_are_xlas(geometry):
    compared(geometry)


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(geometries())
def test_numbers_and_gradients_are_xlas_in_many_cases(geometry):
    compared(geometry)


KNOWN = {
    "ResNet's first": ((2, 64, 64, 3), (7, 7, 3, 64), {"strides": 2, "padding": 3}),
    "AlexNet's first": ((2, 64, 64, 3), (11, 11, 3, 64), {"strides": 4, "padding": 2}),
    "AlexNet's in groups": ((2, 13, 13, 48), (5, 5, 24, 128), {"padding": 2, "feature_group_count": 2}),
    "depthwise": ((2, 14, 14, 32), (3, 3, 1, 32), {"feature_group_count": 32}),
    "1x1, stride 2": ((2, 15, 15, 24), (1, 1, 24, 48), {"strides": 2}),
    "one of everything": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "one channel, odd": ((3, 7, 9, 1), (3, 3, 1, 5), {"padding": "VALID"}),
    "rows under no window": ((2, 8, 8, 4), (2, 2, 4, 4), {"strides": 3, "padding": "VALID"}),
    "CIFAR": ((128, 32, 32, 16), (3, 3, 16, 16), {}),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_convolutions(name):
    compared(KNOWN[name])


def test_layer_is_flaxs():
    x = drawn(0, (2, 9, 9, 6))
    layer = layers.Conv(4, (3, 3), strides=2, feature_group_count=2)
    variables = layer.init(jax.random.key(0), x)
    assert_close(layer.apply(variables, x), layer.clone(native=False).apply(variables, x))
    assert "jaxdl_native" in jax.jit(layer.apply).lower(variables, x).as_text()
    assert "jaxdl_native" not in jax.jit(layer.clone(native=False).apply).lower(variables, x).as_text()


def test_the_same_bits_again():
    x, kernel = drawn(0, (64, 16, 16, 32)), drawn(1, (3, 3, 32, 32))
    jax.tree.map(np.testing.assert_array_equal, *(with_gradients(by_onednn, x, kernel) for _ in range(2)))


X, KERNEL = (3, 7, 6, 4), (3, 2, 4, 5)
OPTIONS = {"strides": (2, 1), "padding": ((1, 0), (1, 2)), "dilation": (1, 2)}


def loss(convolve, x, kernel):
    return jnp.sum(jnp.square(jnp.sin(convolve(x, kernel, **OPTIONS))))  # nothing cancels


def in_scan(convolve, x, kernel):
    return lax.scan(lambda sum, k: (sum + loss(convolve, x, k), loss(convolve, x, k)), 0.0, jnp.stack([kernel] * 3))


def in_fori_loop(convolve, x, kernel):
    def body(i, kernel):
        return kernel - 0.01 * (i + 1) * jax.grad(loss, 2)(convolve, x, kernel)

    return lax.fori_loop(0, 3, body, kernel)


TRANSFORMATIONS = {
    "grad": lambda f, x, k: jax.grad(loss, (1, 2))(f, x, k),
    "jvp": lambda f, x, k: jax.jvp(functools.partial(loss, f), (x, k), (jnp.cos(x), jnp.cos(k))),
    "linearize": lambda f, x, k: jax.linearize(functools.partial(loss, f), x, k)[1](x, k),
    "jacobian of the gradient": lambda f, x, k: jax.jacrev(jax.grad(loss, 2), 1)(f, x[:1], k),
    "hessian": lambda f, x, k: jax.hessian(loss, 2)(f, x, k),
    "grad of grad": lambda f, x, k: jax.grad(
        lambda x, k: sum(jnp.sum(jnp.cos(g)) for g in jax.grad(loss, (1, 2))(f, x, k)), (0, 1)
    )(x, k),
    "remat": lambda f, x, k: jax.grad(jax.checkpoint(functools.partial(loss, f)), (0, 1))(x, k),
    "scan": in_scan,
    "grad of scan": lambda f, x, k: jax.grad(lambda x: in_scan(f, x, k)[0])(x),
    "fori_loop": in_fori_loop,
    "map": lambda f, x, k: lax.map(lambda x: f(x[None], k, **OPTIONS), x),
    "cond": lambda f, x, k: lax.cond(x[0, 0, 0, 0] > 0, lambda: loss(f, x, k), lambda: loss(f, -x, k)),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations(name):
    x, kernel = drawn(0, X), drawn(1, KERNEL)
    found, expected = (
        jax.jit(functools.partial(TRANSFORMATIONS[name], convolve))(x, kernel) for convolve in (by_onednn, xla)
    )
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (3, 2), (4, None)], ids=str)
@pytest.mark.parametrize("what", ["results", "gradients", "second"])
def test_vmap(axes, what):
    """The numbers of single members, and never a convolution of XLA's, in groups or not."""
    members = 3
    x, kernel = (
        drawn(i, shape if axis is None else (*shape[:axis], members, *shape[axis:]))
        for i, (shape, axis) in enumerate(zip((X, KERNEL), axes, strict=True))
    )

    def compute(convolve, x, kernel):
        if what == "results":
            return convolve(x, kernel, **OPTIONS)
        return TRANSFORMATIONS["grad" if what == "gradients" else "grad of grad"](convolve, x, kernel)

    mapped = jax.jit(jax.vmap(functools.partial(compute, by_onednn), axes))
    single = jax.jit(functools.partial(compute, xla))
    for number in range(members):
        one = (a if axis is None else jnp.take(a, number, axis) for a, axis in zip((x, kernel), axes, strict=True))
        assert_close(jax.tree.map(lambda leaf, n=number: leaf[n], mapped(x, kernel)), single(*one), 2e-5)
    assert "stablehlo.convolution" not in mapped.lower(x, kernel).as_text()


def test_nested_vmap():
    x, kernel = drawn(0, (2, 3, *X)), drawn(1, (2, *KERNEL))
    found, expected = (
        jax.jit(jax.vmap(jax.vmap(functools.partial(f, **OPTIONS), (0, None))))(x, kernel) for f in (by_onednn, xla)
    )
    assert_close(found, expected)


@pytest.mark.parametrize("native", [True, 0, "no"])
def test_native_is_none_or_false(native):
    with pytest.raises(ValueError, match="Conv: native must be None or False"):
        layers.Conv(4, (3, 3), native=native)
    with pytest.raises(ValueError, match="convolve: native must be None or False"):
        layers.convolve(drawn(0, X), drawn(1, KERNEL), native=native)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_other_dtypes_are_xlas(dtype, x64):
    x, kernel = drawn(0, X).astype(dtype), drawn(1, KERNEL).astype(dtype)
    lowered = jax.jit(jax.grad(functools.partial(loss, by_onednn), (0, 1))).lower(x, kernel)
    assert "jaxdl_native" not in lowered.as_text()
    assert all(grad.dtype == dtype for grad in lowered.compile()(x, kernel))


def test_without_jit():
    x, kernel = drawn(0, X), drawn(1, KERNEL)
    expected = jax.grad(functools.partial(loss, by_onednn), (0, 1))(x, kernel)
    with jax.disable_jit():
        assert_close(jax.grad(functools.partial(loss, by_onednn), (0, 1))(x, kernel), expected)
        assert layers.max_pool(x).shape == (3, 3, 3, 4)


def test_debugging_of_nan_names_the_operation():
    nan, inf, huge, kernel = jnp.full(X, jnp.nan), jnp.full(X, jnp.inf), jnp.full(X, 3e38), drawn(1, KERNEL)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan.*jaxdl_convolution"):
        by_onednn(nan, kernel)
    with jax.debug_infs(True), pytest.raises(FloatingPointError, match="inf.*jaxdl_max_pool"):
        layers.max_pool(inf)
    with jax.debug_infs(True), pytest.raises(FloatingPointError, match="inf.*jaxdl_convolution"):
        jax.jit(lambda x: jnp.tanh(by_onednn(x, 9 * jnp.abs(kernel))) + jnp.inf)(huge)


def test_a_stride_beyond_all_images():
    x, kernel = drawn(0, (2, 3, 3, 4)), drawn(1, (3, 3, 4, 5))
    np.testing.assert_allclose(by_onednn(x, kernel, strides=2**30), by_onednn(x, kernel, padding="VALID"), rtol=1e-4)


def test_no_images():
    assert by_onednn(drawn(0, (0, 8, 8, 3)), drawn(1, (3, 3, 3, 4))).shape == (0, 8, 8, 4)


def test_compiled_ahead_of_time():
    x, kernel = drawn(0, X), drawn(1, KERNEL)
    compiled = jax.jit(jax.grad(functools.partial(loss, by_onednn))).lower(x, kernel).compile()
    assert_close(compiled(x, kernel), jax.grad(functools.partial(loss, xla))(x, kernel), 2e-5)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_never_see_it(platform):
    """The same traced function, lowered for one of them, has XLA's convolutions alone."""
    gradients = jax.jit(jax.grad(functools.partial(loss, by_onednn), (0, 1)))
    lowered = export.export(gradients, platforms=[platform])(drawn(0, X), drawn(1, KERNEL)).mlir_module()
    assert "jaxdl_native" not in lowered
    assert "stablehlo.convolution" in lowered


def test_what_is_not_on_the_cpu_is_computed_as_here():
    """The rules for other platforms, run on this one."""
    x, kernel = drawn(0, X), drawn(1, KERNEL)
    (y, (dx, dw)), options = with_gradients(xla, x, kernel, **OPTIONS), OPTIONS
    window = convolution.Window(x.shape, kernel.shape, y.shape, options["strides"], options["padding"], (1, 2), 1)
    assert_close(convolution._input_gradient_of_xla(drawn(2, y.shape), kernel, settings=window), dx)
    assert_close(convolution._weight_gradient_of_xla(x, drawn(2, y.shape), settings=window), dw)


def call(name="convolution", x=(2, 8, 8, 4), kernel=(3, 3, 4, 6), result=(2, 8, 8, 6), dtype=jnp.float32, **changed):
    """Calls the compiled part itself."""
    attributes = {"strides": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1, "threads": 2} | changed
    attributes = {
        key: value if isinstance(value, str) else np.asarray(value, np.int64) if np.ndim(value) else np.int64(value)
        for key, value in attributes.items()
    }
    target = jax.ffi.ffi_call(f"jaxdl_native.{name}", jax.ShapeDtypeStruct(result, dtype))
    return jax.block_until_ready(target(jnp.ones(x, dtype), jnp.ones(kernel, dtype), **attributes))


def test_the_compiled_part_takes_a_right_call():
    assert call().shape == (2, 8, 8, 6)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x": (2, 8, 8)}, "rank"),
        ({"kernel": (3, 3, 4)}, "rank"),
        ({"result": (2, 8, 48)}, "rank"),
        ({"dtype": jnp.int32}, "dtype"),
        ({"dtype": jnp.bfloat16}, "dtype"),
        ({"x": (3, 8, 8, 4)}, "must be as many"),
        ({"x": (2, 8, 8, 5)}, "kernel's channels"),
        ({"kernel": (3, 3, 4, 7)}, "kernel's channels"),
        ({"kernel": (3, 4, 4, 6)}, "images out must have the sides"),
        ({"result": (2, 9, 8, 6)}, "images out must have the sides"),
        ({"result": (2, 8, 10**6, 6)}, "images out must have the sides"),
        ({"strides": [0, 1]}, "at least 1"),
        ({"strides": [-1, 1]}, "at least 1"),
        ({"strides": [1]}, "2 numbers"),
        ({"strides": [1, 1, 1]}, "2 numbers"),
        ({"strides": [2**62, 1]}, "below"),
        ({"dilation": [2**62, 1]}, "below"),
        ({"padding": [1, 1]}, "padding 4"),
        ({"padding": [-1, 1, 1, 1]}, "at least 0"),
        ({"padding": [2**62, 1, 1, 1]}, "below"),
        ({"groups": 0}, "groups must divide"),
        ({"groups": -1}, "groups must divide"),
        ({"groups": 3}, "groups must divide"),
        ({"threads": 0}, "threads must be"),
        ({"threads": 10**9}, "threads must be"),
        ({"strides": 1}, "Wrong attribute type"),
        ({"groups": "two"}, "Wrong attribute type"),
        ({"kernel": (9, 9, 4, 6), "padding": [0, 0, 0, 0], "result": (2, 1, 1, 6)}, "images out must have the sides"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["convolution", "convolution_input_gradient", "convolution_weight_gradient"])
def test_the_compiled_part_refuses_wrong_calls(name, changed, words):
    places = {"convolution": "x kernel result", "convolution_input_gradient": "result kernel x"}
    first, second, result = places.get(name, "x result kernel").split()
    shapes = {"x": (2, 8, 8, 4), "kernel": (3, 3, 4, 6), "result": (2, 8, 8, 6)} | changed
    others = {key: value for key, value in changed.items() if key not in ("x", "kernel", "result")}
    with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match=words):
        call(name, shapes[first], shapes[second], shapes[result], **others)


def test_the_compiled_part_refuses_empty_arrays():
    """Where the result is empty XLA does not even call."""
    with pytest.raises(jax.errors.JaxRuntimeError, match="every axis"):
        call(x=(2, 0, 8, 4))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["convolution", "convolution_input_gradient", "convolution_weight_gradient"]),
    *[st.lists(st.integers(0, 6), min_size=3, max_size=5).map(tuple)] * 3,
    st.lists(st.integers(-2, 4), min_size=1, max_size=3),
    st.lists(st.integers(-2, 4), min_size=3, max_size=5),
    st.integers(-1, 4),
)
def test_the_compiled_part_survives_anything(name, x, kernel, result, strides, padding, groups):
    try:
        found = call(name, x, kernel, result, strides=strides, padding=padding, groups=groups)
    except (ValueError, jax.errors.JaxRuntimeError):
        return
    assert found.shape == result


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jaxdl import native, report
from jaxdl.native import package
from jaxdl.models import layers
x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 9, 9, 3)), jnp.float32)
kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 3, 4)), jnp.float32)
function = jax.jit(lambda x, kernel: layers.convolve(x, kernel))
print(native.VERSION, package.threads(), report.environment()["convolutions"])
print("jaxdl_native" in function.lower(x, kernel).as_text(), float(jnp.sum(jnp.sin(function(x, kernel)))))
"""


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_it_can_be_switched_off(tmp_path):
    """In a process of its own; the cache of compiled programs is shared and holds both."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    found = {switch: run(PROGRAM, JAXDL_NATIVE=switch, **cache).stdout.split() for switch in ("1", "0", "1", "0")}
    on, off = found["1"], found["0"]
    assert on[0] == native.VERSION
    assert on[2:5] == ["oneDNN", native.VERSION, "True"]
    assert (off[0], off[2], off[3]) == ("None", "XLA", "False")
    np.testing.assert_allclose(float(on[-1]), float(off[-1]), rtol=1e-5)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an operating system that binds to cores")
def test_it_takes_the_cores_that_the_process_may_use():
    bound = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    found = run(bound + PROGRAM).stdout.split()
    assert found[:2] == [native.VERSION, "1"]
    assert found[-2] == "True"


SAVE = """
import pickle, sys, jax, jax.numpy as jnp
from jax.experimental import serialize_executable
from jaxdl.models import layers
x, kernel = jnp.ones((4, 9, 9, 3)), jnp.ones((3, 3, 3, 4))
compiled = jax.jit(lambda x, kernel: layers.convolve(x, kernel)).lower(x, kernel).compile()
with open(sys.argv[1], "wb") as file:
    pickle.dump(serialize_executable.serialize(compiled), file)
"""
LOAD = """
import pickle, sys, jax.numpy as jnp
from jax.experimental import serialize_executable
with open(sys.argv[1], "rb") as file:
    run = serialize_executable.deserialize_and_load(*pickle.load(file))
print(run(jnp.ones((4, 9, 9, 3)), jnp.ones((3, 3, 3, 4))).shape)
"""


def test_a_program_compiled_with_it_and_run_without_it_says_what_is_missing(tmp_path):
    assert run(SAVE, tmp_path / "program").returncode == 0
    assert "(4, 9, 9, 4)" in run("import jaxdl_native\n" + LOAD, tmp_path / "program").stdout
    without = run(LOAD, tmp_path / "program")
    assert without.returncode == 1  # an error of Python's, not a signal
    assert "jaxdl_native.convolution" in without.stderr


def test_many_threads_at_once():
    """Each has shapes of its own, and all share the cache of primitives."""
    errors = []

    def work(number):
        try:
            x, kernel = drawn(number, (8, 16 + number, 16, 8)), drawn(number + 1, (3, 3, 8, 8))
            function = jax.jit(lambda x, kernel: jax.grad(functools.partial(loss, by_onednn), (0, 1))(x, kernel))
            expected = function(x, kernel)
            for _ in range(50):
                jax.tree.map(np.testing.assert_array_equal, function(x, kernel), expected)
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert not worker.is_alive()
    assert errors == []


FORK = """
import multiprocessing, warnings
import jax, jax.numpy as jnp
from jaxdl.models import layers
warnings.simplefilter("ignore")
x, kernel = jnp.ones((16, 16, 16, 8)), jnp.ones((3, 3, 8, 8))
layers.convolve(x, kernel).block_until_ready()
def work(queue):
    queue.put("alive")
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=work, args=(queue,)) for _ in range(4)]
    for child in children: child.start()
    print([queue.get(timeout=30) for _ in children])
    for child in children: child.join(30); assert child.exitcode == 0
    layers.convolve(x, kernel).block_until_ready()
    print("end")
"""


OPENMP = """
import jax, jax.numpy as jnp
from jaxdl.models import layers
x, kernel = jnp.ones((16, 32, 32, 16)), jnp.ones((3, 3, 16, 16))
gradients = jax.jit(jax.grad(lambda x, kernel: layers.convolve(x, kernel).sum(), (0, 1)))(x, kernel)
print([float(g.mean()) for g in gradients], layers.max_pool(x).shape)
"""


@pytest.mark.parametrize(
    "setting",
    [{"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true", "OMP_MAX_ACTIVE_LEVELS": "0"}, {"OMP_PROC_BIND": "true"}],
    ids=str,
)
def test_it_waits_for_no_threads_that_openmp_does_not_give(setting):
    """oneDNN plans its work for a number of threads, and its barriers wait for them."""
    assert run(OPENMP, **setting).stdout == run(OPENMP).stdout != ""


def test_forked_workers():
    """Data loaders fork: the children end, and the parent computes on."""
    done = run(FORK)
    assert done.stdout.endswith("end\n"), done.stderr


@pytest.mark.slow
def test_it_keeps_no_memory():
    """1,000 shapes, of which the primitives are dropped, then 100,000 calls of one."""

    def resident():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024

    def shapes(start):
        for number in range(start, start + 1000):
            call(x=(1, 8, 8 + number, 4), result=(1, 8, 8 + number, 6))

    jax.clear_caches()
    x, kernel = drawn(0, (1, 8, 8, 4)), drawn(1, (3, 3, 4, 6))

    @jax.jit
    def often(x, kernel):
        return lax.fori_loop(0, 10_000, lambda _, x: x + 1e-9 * by_onednn(x, kernel[..., :4]), x)

    often(x, kernel).block_until_ready()
    shapes(0)
    jax.clear_caches()
    before = resident()
    shapes(1000)
    jax.clear_caches()
    after_shapes = resident()
    for _ in range(10):
        often(x, kernel).block_until_ready()
    assert after_shapes - before < 120, "MB after 1,000 more shapes; JAX itself keeps some of each"
    assert resident() - after_shapes < 20


@pytest.mark.parametrize(
    "model",  # without ReLU, whose gradient jumps where rounding changes the sign
    [models.resnet_cifar(8, activation=nn.gelu), models.cuda_convnet(activation=nn.gelu)],
    ids=["ResNet-8", "cuda-convnet"],
)
def test_gradients_of_our_nets_are_those_of_double_precision(model, x64):
    x, labels = drawn(0, (16, 32, 32, 3)), jnp.arange(16) % 10
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x)

    def gradients(dtype):
        params, others = jax.tree.map(lambda leaf: leaf.astype(dtype), (variables["params"], dict(variables)))

        def mean_loss(params):
            logits, _ = model.apply({**others, "params": params}, x.astype(dtype), train=True, mutable=["batch_stats"])
            return jnp.mean(train.cross_entropy(logits, labels))

        lowered = jax.jit(jax.value_and_grad(mean_loss)).lower(params)
        assert ("jaxdl_native" in lowered.as_text()) == (dtype is jnp.float32)
        return lowered.compile()(params)

    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients(jnp.float64))
    assert_close(gradients(jnp.float32), exact)


def test_results_say_what_computed():
    assert report.environment()["convolutions"] == f"oneDNN {native.VERSION}"
