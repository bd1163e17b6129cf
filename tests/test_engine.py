"""What a step can be asked for: losses, precision, accumulation, augmentation, memory, a cache of programs."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import numbers, random_dataset

from jaxdl import data, models, optim, train
from jaxdl.models import layers
from jaxdl.train import pace

KEY = jax.random.key(0)
SET = random_dataset(64, shape=(8, 8, 3))
BATCH = SET.images[:16], SET.labels[:16]


def make(model, tx, **kwargs):
    state = train.init_state(model, tx, KEY, SET.image_shape)
    return state, train.make_step(model, tx, preprocess=SET.standardize, **kwargs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_equals_numpy(smoothing, x64):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)) * 5, rng.integers(0, 4, 6)
    targets = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = train.label_smoothing(smoothing)(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(found, -np.sum(targets * log_p, 1), rtol=1e-12)


def test_label_smoothing_is_a_loss_like_others():
    for wrong in (-0.1, 1.0, "much"):
        with pytest.raises(ValueError, match="label_smoothing: smoothing must be"):
            train.label_smoothing(wrong)
    model, tx = models.mlp(3), optim.sgd(0.1)
    step = train.make_step(model, tx, loss=train.label_smoothing(0.1))
    assert step is train.make_step(model, tx, loss=train.label_smoothing(0.1))
    assert step is not train.make_step(model, tx, loss=train.label_smoothing(0.2))


def test_clipping_sees_the_gradient_of_the_whole_batch():
    model, tx = models.mlp(3, widths=(8,)), optax.chain(optax.clip_by_global_norm(0.01), optim.sgd(1.0))
    state, step = make(model, tx, accumulate=4)
    before = jax.device_get(state.params)
    state, _ = step(state, BATCH)
    moved = jax.tree.map(lambda a, b: a - b, before, jax.device_get(state.params))
    assert float(optax.tree.norm(moved)) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_accumulated_gradients_are_those_of_the_batch(parts):
    model, tx = models.convnet(3, widths=(4,), hidden=8), optim.momentum(0.05)
    (state, whole), (again, accumulated) = make(model, tx), make(model, tx, accumulate=parts)
    for _ in range(3):
        state, expected = whole(state, BATCH)
        again, found = accumulated(again, BATCH)
    chex.assert_trees_all_close(numbers(again), numbers(state), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_accumulation_normalises_by_the_part():
    """Part j is the examples j, j + 2, ...; running statistics move once for each part."""
    model, tx = models.resnet_cifar(8, 3), optim.sgd(0.0)
    state, step = make(model, tx, accumulate=2)
    state, _ = step(state, BATCH)
    expected, part = make(model, tx)
    for start in range(2):
        expected, _ = part(expected, (BATCH[0][start::2], BATCH[1][start::2]))
    chex.assert_trees_all_close(state.batch_stats, expected.batch_stats, rtol=1e-5, atol=1e-6)


def test_parts_that_do_not_divide_the_batch():
    state, step = make(models.mlp(3), optim.sgd(0.1), accumulate=3)
    with pytest.raises(ValueError, match="accumulate=3 does not divide the 16 examples that a device is given"):
        step(state, BATCH)
    with pytest.raises(ValueError, match="fit: accumulate=3 does not divide the 16 examples of a device"):
        train.fit(state, models.mlp(3), optim.sgd(0.1), SET, steps=3, batch_size=16, accumulate=3)
    with pytest.raises(ValueError, match="make_step: accumulate must be an integer >= 1"):
        make(models.mlp(3), optim.sgd(0.1), accumulate=0)
    with pytest.raises(
        ValueError, match="batch_norm must be one of 'synchronized', 'per_device', got batch_norm='mine'"
    ):
        make(models.mlp(3), optim.sgd(0.1), batch_norm="mine")
    with pytest.raises(
        ValueError, match="parallel must be one of 'auto', 'single', 'pmap', 'sharded', got parallel='ddp'"
    ):
        make(models.mlp(3), optim.sgd(0.1), parallel="ddp")
    with pytest.raises(ValueError, match="devices must be a list of different JAX devices"):
        make(models.mlp(3), optim.sgd(0.1), devices=[jax.devices()[0]] * 2)
    with pytest.raises(ValueError, match='shard_state=True goes with parallel="sharded"'):
        make(models.mlp(3), optim.sgd(0.1), parallel="pmap", shard_state=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_learns(dtype):
    """Parameters and statistics stay float32; the loss falls about as in float32."""
    losses = {}
    for used in (None, dtype):
        model = models.resnet_cifar(8, 3, dtype=used)
        tx = optim.momentum(0.02)
        tx = optim.dynamic_loss_scale(tx) if used == jnp.float16 else tx
        state = train.init_state(model, tx, KEY, SET.image_shape)
        state, history = train.fit(state, model, tx, SET, steps=24, batch_size=16, progress=False)
        assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))} == {np.dtype("float32")}
        losses[used] = history.loss
    assert losses[dtype][-4:].mean() < 0.5 * losses[dtype][:4].mean()
    np.testing.assert_allclose(losses[dtype][:4], losses[None][:4], rtol=0.1)


class Faint(nn.Module):
    """A float16 network whose gradients are below float16's least number, unless they are scaled."""

    @nn.compact
    def __call__(self, x, *, train):
        w = self.param("w", nn.initializers.ones, (3,))
        y = jnp.mean(x, (1, 2)).astype(jnp.float16) * w.astype(jnp.float16)
        return (y * jnp.float16(2**-12)).astype(jnp.float32) * jnp.float32(2**-12)


def test_loss_scale_saves_gradients_from_underflow():
    """The gradient is about 2^-26, float16's least number 2^-24. The rate is large enough to see a step."""
    images = SET.standardize(jnp.asarray(BATCH[0]))

    def wide(w):  # the same in float32
        return jnp.mean(train.cross_entropy(jnp.mean(images, (1, 2)) * w * 2.0**-24, BATCH[1]))

    gradient = jax.grad(wide)(jnp.ones(3))
    plain, scaled = optim.sgd(2.0**24), optim.dynamic_loss_scale(optim.sgd(2.0**24))
    (state, step), (again, scaled_step) = make(Faint(), plain), make(Faint(), scaled)
    lost, kept = step(state, BATCH)[0].params["w"], scaled_step(again, BATCH)[0].params["w"]
    assert not np.allclose(lost, 1 - 2.0**24 * gradient, rtol=0.3, atol=0)
    np.testing.assert_allclose(kept - 1, -(2.0**24) * gradient, rtol=0.02, atol=1e-4)


def test_loss_scale_halves_where_gradients_overflow_and_doubles_after_a_while():
    """float16 overflows at 65,504: from 2^24 the scale falls until gradients are finite, and nothing moves before."""
    model = models.resnet_cifar(8, 3, dtype=jnp.float16)
    tx = optim.dynamic_loss_scale(optim.momentum(0.02), initial=2.0**24, period=5)
    state, step = make(model, tx)
    before, scales, skipped = numbers(state), [], 0
    for _ in range(24):
        state, metrics = step(state, BATCH)
        assert bool(metrics.finite)  # an overflow of the scaled gradient is no fault of the run
        scales.append(float(optim.loss_scale(state.opt_state)))
        skipped = int(state.opt_state.skipped)
        if skipped == len(scales):
            chex.assert_trees_all_equal(numbers(state)[:2], before[:2])
    assert 0 < skipped < 18
    assert scales[skipped - 1] == 2.0 ** (24 - skipped)
    assert scales[skipped + 4] == 2 * scales[skipped - 1]
    assert not np.allclose(state.params["head"]["kernel"], before.params["head"]["kernel"])


def test_loss_scale_changes_nothing_in_float32():
    model = models.convnet(3, widths=(4,), hidden=8)
    plain, scaled = optim.adam(0.01), optim.dynamic_loss_scale(optim.adam(0.01), initial=2.0**10)
    (state, step), (again, scaled_step) = make(model, plain), make(model, scaled)
    for _ in range(4):
        state, metrics = step(state, BATCH)
        again, found = scaled_step(again, BATCH)
    chex.assert_trees_all_close(again.params, state.params, rtol=1e-5, atol=1e-7)
    assert float(found.loss) == pytest.approx(float(metrics.loss), rel=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"initial": 0.5}, "initial must be a finite number >= 1"),
        ({"period": 0}, "period must be an integer >= 1"),
        ({"factor": 1}, "factor must be above 1"),
    ],
)
def test_loss_scale_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f"dynamic_loss_scale: {message}"):
        optim.dynamic_loss_scale(optim.sgd(0.1), **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
def test_rematerialised_gradients_are_the_same(scan):
    """Of optimised programs, in which both compute the same sums; without optimisation they round apart by 2e-7."""
    tx = optim.momentum(0.05)
    found = []
    for remat in (False, True):
        state, step = make(models.resnet_cifar(14, 3, scan=scan, remat=remat), tx)
        state, _ = step(state, BATCH)
        found.append(numbers(state))
    chex.assert_trees_all_close(*found, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_rematerialisation_saves_memory():
    """In a scan, also on the CPU: what the compiler plans for temporary arrays."""
    sizes = []
    for remat in (False, True):
        state, step = make(models.resnet_cifar(20, 3, scan=True, remat=remat), optim.sgd(0.1))
        sizes.append(step.lower(state, (SET.images, SET.labels)).compile().memory_analysis().temp_size_in_bytes)
    assert sizes[1] < 0.6 * sizes[0]


def test_random_crop_is_a_crop_of_the_padded_image():
    images = np.random.default_rng(0).integers(1, 255, (200, 6, 5, 3)).astype(np.uint8)
    found = np.asarray(data.RandomCrop(2)(jax.random.split(KEY, 200), jnp.asarray(images)))
    assert found.dtype == np.uint8
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = set()
    for image, original in zip(found, padded, strict=True):
        matches = [(y, x) for y in range(5) for x in range(5) if np.array_equal(image, original[y : y + 6, x : x + 5])]
        assert len(matches) == 1
        places |= set(matches)
    assert len(places) == 25


def test_random_flip_mirrors_half_of_the_images():
    images = np.random.default_rng(0).integers(0, 255, (1000, 3, 4, 1)).astype(np.uint8)
    found = np.asarray(data.RandomFlip()(jax.random.split(KEY, 1000), jnp.asarray(images)))
    same, flipped = (np.all(found == version, (1, 2, 3)) for version in (images, images[:, :, ::-1]))
    assert np.all(same | flipped)
    assert 430 < flipped.sum() < 570


def test_composed_changes_have_random_numbers_of_their_own():
    """Two flips by the same numbers would always be none."""
    images = np.random.default_rng(0).integers(0, 255, (200, 3, 4, 1)).astype(np.uint8)
    twice = data.Compose((data.RandomFlip(), data.RandomFlip()))
    found = np.asarray(twice(jax.random.split(KEY, 200), jnp.asarray(images)))
    assert 50 < np.all(found == images, (1, 2, 3)).sum() < 150
    for wrong in ([data.RandomFlip()], (3,)):
        with pytest.raises(ValueError, match="Compose: changes must be a tuple of functions"):
            data.Compose(wrong)
    with pytest.raises(ValueError, match="RandomCrop: padding must be an integer >= 0"):
        data.RandomCrop(-1)


def test_augmentation_differs_between_steps_and_examples_and_not_in_evaluation():
    """Every image is the same; a model that hands its input on shows what it was given."""
    seen = []

    class Shows(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            jax.debug.callback(lambda x, t=train: seen.append((t, np.asarray(x))), x)
            return nn.Dense(3)(x.reshape(len(x), -1))

    row = np.arange(8, dtype=np.uint8)[None, :, None] * np.ones((8, 1, 3), np.uint8)
    same = data.Dataset("same", "train", np.stack([row] * 64), SET.labels, SET.class_names, SET.standardize)
    tx = optim.sgd(0.0)
    state = train.init_state(Shows(), tx, KEY, same.image_shape)
    seen.clear()
    train.fit(
        state,
        Shows(),
        tx,
        same,
        steps=2,
        batch_size=16,
        augment=data.CROP_AND_FLIP,
        eval_set=same,
        scan=False,
        progress=False,
    )
    jax.effects_barrier()
    trained = [x for t, x in seen if t]
    evaluated = [x for t, x in seen if not t]
    assert len(trained) == 2
    assert len({image.tobytes() for x in trained for image in x}) > 20
    assert not np.array_equal(*trained)
    assert len({image.tobytes() for x in evaluated for image in x}) == 1


def test_the_host_waits_once_in_sixteen_steps(monkeypatch):
    """Metrics are fetched in blocks, and the newest block is still under way when the one before is fetched."""
    fetched, real = [], jax.device_get

    def device_get(tree):
        fetched.append(len(tree) if isinstance(tree, list) else 1)
        return real(tree)

    monkeypatch.setattr(jax, "device_get", device_get)
    monkeypatch.setattr(pace, "_SECONDS", 60)  # however slow the machine is
    model, tx, long_set = models.mlp(3, widths=(8,)), optim.sgd(0.1), random_dataset(4 * 100)
    state = train.init_state(model, tx, KEY, long_set.image_shape)
    train.fit(state, model, tx, long_set, steps=100, batch_size=4, scan=False, progress=False)
    assert fetched == [1, 16, 16, 16, 16, 16, 19]  # the first tells how long a step takes


def test_synchronized_statistics_leave_other_axes_alone():
    """A module with an axis of its own keeps it."""
    x = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)
    norm = layers.BatchNorm()
    variables = norm.init(KEY, x[0], train=False)

    def apply(part):
        with layers.synchronized_statistics("parts"):
            return norm.apply(variables, part, train=True, mutable=["batch_stats"])[0]

    found = jax.vmap(apply, axis_name="parts")(x)
    expected = norm.apply(variables, x.reshape(16, 3), train=True, mutable=["batch_stats"])[0]
    np.testing.assert_allclose(found.reshape(16, 3), expected, atol=1e-5)
