"""Colour, Cutout, mixing, test views and statistics of a set, against Pillow and NumPy; augmentation in training."""

import colorsys
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED
from helpers import numbers, random_dataset, small_resnet
from PIL import Image, ImageEnhance
from scipy import stats

from jaxdl import data, models, optim, train

KEYS = jax.random.split(jax.random.key(0), 8)
MANY = jax.random.split(jax.random.key(1), 4000)


@pytest.fixture(scope="module")
def images():
    """Eight real images in three different channels."""
    found = data.load("fashion_mini")[0].images[:8]
    return np.concatenate([found, np.roll(found, 1, 0), 255 - np.roll(found, 2, 0)], -1)


@pytest.fixture(scope="module")
def cifar():
    """CIFAR-10's training set."""
    if not (SHARED / "data/tfds/cifar10").exists():
        pytest.skip("CIFAR-10 is not in ../shared/data/tfds")
    return data.load("cifar10", data_dir=SHARED / "data/tfds", download=False)[0]


def drawn(change, keys, *size):
    return jax.device_get(jax.jit(jax.vmap(lambda key: change.draw(key, *size)))(keys))


def bytes_of(values):
    return np.clip(np.round(np.asarray(values, float)), 0, 255)


# Colour


@pytest.mark.slow
def test_principal_components_of_cifar(cifar):
    """Against numpy.cov over all 51 million pixels, in any batches; the first one is brightness."""
    found = data.PcaColor.of(cifar)
    pixels = cifar.images[:10_000].reshape(-1, 3) / 255
    small = data.PcaColor.of(cifar[:10_000])
    covariance = np.cov(pixels.T, bias=True)
    vectors = np.array(small.eigenvectors)
    rebuilt = vectors.T @ np.diag(small.eigenvalues) @ vectors
    np.testing.assert_allclose(rebuilt, covariance, rtol=1e-7)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance)[::-1], small.eigenvalues, rtol=1e-7)
    assert found.eigenvalues[0] > 10 * found.eigenvalues[1] > 10 * found.eigenvalues[2]
    np.testing.assert_allclose(found.eigenvectors[0], np.full(3, 1 / np.sqrt(3)), atol=0.03)
    batches = (cifar.images[start : start + 7001] for start in range(0, len(cifar), 7001))
    assert data.PcaColor.of(batches) == found


def test_sums_are_exact():
    """Against Python's integers, for images that a float32 sum would round."""
    images = np.random.default_rng(0).integers(250, 256, (50, 41, 43, 2)).astype(np.uint8)
    found = data.PcaColor.of(images)
    a, b = (images[..., c].ravel().tolist() for c in range(2))
    n, s = len(a), [sum(a), sum(b)]
    exact = [[n * sum(x * y for x, y in zip(p, q, strict=True)) - sum(p) * sum(q) for q in (a, b)] for p in (a, b)]
    expected = np.array(exact, float) / (n * 255) ** 2
    vectors = np.array(found.eigenvectors)
    np.testing.assert_allclose(vectors.T @ np.diag(found.eigenvalues) @ vectors, expected, rtol=1e-6, atol=1e-12)
    mean = data.SubtractMeanImage.of(iter([images[:13], images[13:]])).mean
    np.testing.assert_array_equal(mean, (images.astype(object).sum(0).astype(float) / 50).astype(np.float32))
    assert s[0] / n == pytest.approx(mean[..., 0].mean(), rel=1e-6)


@pytest.mark.parametrize("by", ["eigenvalue", "deviation"])
def test_pca_color_shifts_have_the_papers_covariance(by, images):
    color = data.PcaColor.of(images, by=by)
    shifts = drawn(color, MANY)
    scales = np.array(color.eigenvalues) if by == "eigenvalue" else np.sqrt(color.eigenvalues)
    along = shifts @ np.array(color.eigenvectors).T / (0.1 * scales)
    for values in along.T:
        assert stats.kstest(values, stats.norm.cdf).pvalue > 0.01
    np.testing.assert_allclose(np.cov(along.T), np.eye(3), atol=0.07)
    # One colour for all pixels of an image, in units of full brightness.
    floats = images.astype(np.float32) / 255
    bytes_found, floats_found = jax.jit(lambda: (color(KEYS, images), color(KEYS, floats)))()
    expected = images + 255 * drawn(color, KEYS)[:, None, None, :]
    assert np.abs(np.asarray(bytes_found, float) - bytes_of(expected)).max() <= 1
    np.testing.assert_allclose(255 * floats_found, expected, atol=1e-3)
    assert (bytes_found != images).mean() > 0.3


def test_jitter_is_pillows(images):
    """One change at a time; torchvision uses the same functions of Pillow."""
    changes = {
        ImageEnhance.Brightness: (data.ColorJitter(brightness=0.6), 0),
        ImageEnhance.Contrast: (data.ColorJitter(contrast=0.6), 1),
        ImageEnhance.Color: (data.ColorJitter(saturation=0.6), 2),
    }
    results = jax.jit(lambda: [change(KEYS, images) for change, _ in changes.values()])()
    for (enhance, (change, place)), found in zip(changes.items(), results, strict=True):
        for image, original, factors in zip(np.asarray(found, float), images, drawn(change, KEYS), strict=True):
            assert 0.4 <= factors[place] <= 1.6
            expected = np.asarray(enhance(Image.fromarray(original)).enhance(float(factors[place])), float)
            # Pillow's grey is a whole number, and so is its mean; and it cuts off decimals.
            assert np.abs(image - expected).max() <= 2


def test_jitter_is_torchvisions(images):
    """All changes in their order, in NumPy, with the hue by Python's colorsys."""
    change = data.ColorJitter(0.4, 0.5, 0.6, 0.3)
    floats = images.astype(np.float32) / 255
    in_bytes, in_floats = jax.jit(lambda: (change(KEYS, images), change(KEYS, floats)))()
    grey = np.array([0.2989, 0.587, 0.114])
    for n, (brightness, contrast, saturation, turn) in enumerate(drawn(change, KEYS)[:3].tolist()):
        x = np.clip(brightness * floats[n].astype(float), 0, 1)
        x = np.clip(contrast * x + (1 - contrast) * (x @ grey).mean(), 0, 1)
        x = np.clip(saturation * x + (1 - saturation) * (x @ grey)[..., None], 0, 1)
        hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in x.reshape(-1, 3)]
        x = np.array([colorsys.hsv_to_rgb((h + turn) % 1, s, v) for h, s, v in hsv]).reshape(28, 28, 3)
        np.testing.assert_allclose(in_floats[n], x, atol=1e-5)
        assert np.abs(np.asarray(in_bytes[n]) - 255 * x).max() < 0.51


def test_jitters_factors_are_uniform():
    factors = drawn(data.ColorJitter(0.4, 1.5, 0.2, 0.3), MANY)
    limits = [(0.6, 1.4), (0, 2.5), (0.8, 1.2), (-0.3, 0.3)]  # torchvision has no negative factors
    for values, (low, high) in zip(factors.T, limits, strict=True):
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01


# Cutout, Mixup, CutMix


@pytest.mark.parametrize("size", [6, 5])
def test_cutout_is_a_square(size, images):
    change = data.Cutout(size, value=(0.0, 0.5, 1.0))
    found = jax.jit(change)(KEYS, images)
    for image, original, (y, x) in zip(found, images, drawn(change, KEYS, (28, 28)), strict=True):
        expected = original.copy()
        top, left = y - size // 2, x - size // 2
        expected[max(top, 0) : top + size, max(left, 0) : left + size] = (0, 128, 255)
        np.testing.assert_array_equal(image, expected)


PARTNERS = np.array([1, 0, 3, 2, 5, 4, 5])  # of seven


def test_mixup_mixes_pairs(images):
    labels = np.array([0, 3, 1, 1, 2, 0, 2])
    eye = np.eye(4, dtype=np.float32)
    change, all_targets = data.Mixup(0.7, num_classes=4), (labels, eye[labels], labels / 2)

    def program():
        return [change(MANY[:7], images[:7], targets) for targets in all_targets], jax.vmap(change.draw)(MANY)

    ((found, soft), (_, again), (_, target)), weights = jax.jit(program)()
    assert stats.kstest(weights, stats.beta(0.7, 0.7).cdf).pvalue > 0.01
    weights = np.asarray(weights, float)[:7]
    own = weights[:, None, None, None]
    expected = own * images[:7] + (1 - own) * images[PARTNERS].astype(float)
    assert np.abs(np.asarray(found) - expected).max() < 0.51
    mixed = weights[:, None] * eye[labels] + (1 - weights)[:, None] * eye[labels[PARTNERS]]
    np.testing.assert_allclose(soft, mixed, atol=1e-6)
    # Soft labels, and numbers to predict, are mixed as they are.
    np.testing.assert_allclose(again, soft, atol=1e-6)
    np.testing.assert_allclose(target, weights * labels / 2 + (1 - weights) * labels[PARTNERS] / 2, atol=1e-6)


def test_cutmix_pastes_rectangles(images):
    labels, eye = np.array([0, 3, 1, 1, 2, 0, 2]), np.eye(4)
    change = data.CutMix(1.0, num_classes=4)
    images = images[:7, :, :19]

    def program():
        return change(MANY[:7], images, labels), *(
            jax.vmap(lambda key, size=size: change.draw(key, size))(MANY) for size in ((28, 19), (100, 100))
        )

    (found, soft), (starts, ends), squares = jax.device_get(jax.jit(program)())
    for n, ((top, left), (bottom, right)) in enumerate(zip(starts[:7], ends[:7], strict=True)):
        expected = images[n].copy()
        expected[top:bottom, left:right] = images[PARTNERS[n]][top:bottom, left:right]
        np.testing.assert_array_equal(found[n], expected)
        share = (bottom - top) * (right - left) / (28 * 19)
        np.testing.assert_allclose(soft[n], (1 - share) * eye[labels[n]] + share * eye[labels[PARTNERS[n]]], atol=1e-6)
    # With alpha = 1 the rectangle's share of the area is uniform, but for what is cut off at the borders.
    starts, ends = squares
    whole = np.all((starts > 0) & (ends < 100), 1)
    sides = (ends - starts)[whole]
    np.testing.assert_array_equal(sides[:, 0], sides[:, 1])
    rng = np.random.default_rng(0)
    half = (100 * np.sqrt(1 - rng.uniform(size=100_000))).astype(int) // 2
    centre = rng.integers(0, 100, (100_000, 2))
    inside = np.all((centre - half[:, None] > 0) & (centre + half[:, None] < 100), 1)
    assert stats.ks_2samp(sides[:, 0], 2 * half[inside]).pvalue > 0.01


# Test views, mean image, recipes


def test_views_are_numpys(images):
    one, five, ten = jax.jit(
        lambda: (data.FlipView()(images), data.FiveCrop(20)(images), data.TenCrop((20, 13))(images))
    )()
    np.testing.assert_array_equal(one, np.stack([images, images[:, :, ::-1]], 1))
    for n, image in enumerate(images):
        picture = Image.fromarray(image)
        for view, (x, y) in zip(five[n], [(0, 0), (8, 0), (0, 8), (8, 8), (4, 4)], strict=True):
            np.testing.assert_array_equal(view, np.asarray(picture.crop((x, y, x + 20, y + 20))))
        for k, (x, y) in enumerate([(0, 0), (15, 0), (0, 8), (15, 8), (7, 4)]):
            view = picture.crop((x, y, x + 13, y + 20))
            np.testing.assert_array_equal(ten[n, k], np.asarray(view))
            np.testing.assert_array_equal(ten[n, 5 + k], np.asarray(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    assert data.alexnet_test() == data.TenCrop(224)


def test_mean_image(fashion):
    train_set = fashion[0]
    subtract = data.SubtractMeanImage.of(train_set)
    mean = train_set.images.mean(0, dtype=np.float64)
    np.testing.assert_allclose(subtract.mean, mean, rtol=1e-6)
    batch = train_set.images[:5]
    np.testing.assert_allclose(jax.jit(subtract)(batch), batch - mean, atol=1e-4)
    scaled = data.SubtractMeanImage(mean, divisor=255.0)
    np.testing.assert_allclose(scaled(batch[:, 3:23, 2:21]), (batch[:, 3:23, 2:21] - mean[4:24, 4:23]) / 255, atol=1e-5)
    assert not subtract.mean.flags.writeable


def test_alexnets_recipe(images):
    augment = data.alexnet_train(images, 20)
    found = jax.jit(augment)(KEYS, images)
    keys = [jax.vmap(lambda key, n=n: jax.random.fold_in(key, n))(KEYS) for n in range(3)]
    corners, flips = drawn(augment.changes[0], keys[0], (28, 28)), drawn(augment.changes[1], keys[1], (20, 20))
    colors = drawn(augment.changes[2], keys[2])
    for n, (y, x) in enumerate(corners):
        window = images[n, y : y + 20, x : x + 20]
        expected = (window[:, ::-1] if flips[n] else window) + 255 * colors[n]
        assert np.abs(np.asarray(found[n], float) - bytes_of(expected)).max() <= 1
    assert augment.changes[2] == data.PcaColor.of(images)


# What all of them promise

CHANGES = {
    "crop and flip": data.CROP_AND_FLIP,
    "window": data.RandomCropTo(20),
    "resized": data.RandomResizedCrop(20),
    "geometry": data.Compose((data.Rotate(20), data.Scale(), data.Shear(5), data.Translate(2), data.LensDistortion())),
    "colour": data.Compose(
        (data.ColorJitter(0.4, 0.4, 0.4, 0.1), data.PcaColor((0.1, 0.01, 0.001), np.eye(3).tolist()))
    ),
    "cutout": data.Cutout(8),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_key_and_an_image_give_the_same_pixels_in_any_batch(name, images):
    change = jax.jit(CHANGES[name])
    found = np.asarray(change(KEYS, images))
    np.testing.assert_array_equal(change(KEYS[::-1], images[::-1])[::-1], found)
    members = jax.jit(jax.vmap(CHANGES[name]))(KEYS[:6].reshape(2, 3), images[:6].reshape(2, 3, 28, 28, 3))
    np.testing.assert_array_equal(np.concatenate(members), found[:6])
    assert len({image.tobytes() for image in np.asarray(change(KEYS, images[:1].repeat(8, 0)))}) > 2
    assert found.dtype == np.uint8
    floats = jax.eval_shape(CHANGES[name], KEYS, jnp.ones((8, 28, 28, 3), jnp.float16))
    assert floats.dtype == jnp.float16


def test_compose_mixes_changes_with_and_without_targets(images):
    labels = np.arange(8)
    mixed = data.Compose((data.RandomFlip(), data.Mixup(1.0, 8), data.Compose((data.RandomCrop(2),))))
    inner = data.Compose((data.CutMix(1.0, 8),))
    assert mixed.takes_targets
    assert data.Compose((inner,)).takes_targets
    assert not data.CROP_AND_FLIP.takes_targets

    def by_hand():
        keys = [jax.vmap(lambda key, n=n: jax.random.fold_in(key, n))(KEYS) for n in range(3)]
        found = data.RandomFlip()(keys[0], images)
        found, soft = data.Mixup(1.0, 8)(keys[1], found, labels)
        return data.Compose((data.RandomCrop(2),))(keys[2], found), soft

    found, expected, pair = jax.jit(
        lambda: (mixed(KEYS, images, labels), by_hand(), data.CROP_AND_FLIP(KEYS, images, labels))
    )()
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    np.testing.assert_array_equal(pair[1], labels)


MIXED = data.Compose((data.CROP_AND_FLIP, data.Rotate(5), data.Cutout(2), data.Mixup(0.5, num_classes=3)))


@pytest.fixture(scope="module")
def trained():
    """What fit makes of a model, and what it was called with."""
    train_set = random_dataset(48, (9, 8, 3))
    model, tx = small_resnet(3), optim.momentum(0.02)
    state = train.init_state(model, tx, jax.random.key(0), train_set)
    options = {"steps": 4, "batch_size": 16, "augment": MIXED, "progress": False}
    reached, history = train.fit(jax.tree.map(jnp.copy, state), model, tx, train_set, scan=False, **options)
    assert np.all(np.isfinite(history.loss))
    return model, tx, train_set, options, state, reached, history


def test_in_a_population(trained):
    """One member makes the same updates as fit."""
    model, tx, train_set, options, _, _, history = trained
    together = train.population(model, tx, train_set, keys=jax.random.key(0)[None], via="vmap", **options)
    np.testing.assert_allclose(together.histories[0].loss, history.loss, rtol=1e-3)


@pytest.mark.slow
def test_in_a_loop_of_ones_own(trained):
    model, tx, train_set, _, state, reached, history = trained
    step = train.make_step(model, tx, preprocess=train_set.standardize, augment=MIXED)
    for batch in data.batches(train_set, state.key, batch_size=16, start=0, steps=4):
        state, metrics = step(state, batch)
    np.testing.assert_allclose(metrics.loss, history.loss[-1], rtol=1e-4)
    for found, expected in zip(*(jax.tree.leaves(numbers(s).params) for s in (state, reached)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_crops_may_change_the_models_input():
    """A dense layer for 20 x 20 pixels, trained on windows of 28 x 28, evaluated on images that were cropped before."""
    train_set = random_dataset(48, (28, 28, 1))
    middle = np.asarray(data.CenterCrop(20)(jax.random.split(jax.random.key(0), 48), train_set.images))
    eval_set = dataclasses.replace(train_set, inputs=middle)
    model, tx = models.mlp(3, widths=(8,)), optim.sgd(0.01)
    state = train.init_state(model, tx, jax.random.key(0), (20, 20, 1))
    options = {"steps": 2, "batch_size": 16, "augment": data.RandomCropTo(20), "progress": False}
    options |= {"eval_set": eval_set, "eval_every": 2}
    _, history = train.fit(state, model, tx, train_set, **options)
    members = train.population(model, tx, train_set, keys=jax.random.key(0)[None], **options)
    assert members.state.params["Dense_0"]["kernel"].shape == (1, 400, 8)
    np.testing.assert_allclose(members.histories[0].loss, history.loss, rtol=1e-4)
    np.testing.assert_allclose(members.histories[0].eval_loss, history.eval_loss, rtol=1e-4)
    with pytest.raises(ValueError, match="the state does not belong to this MLP"):
        train.fit(state, model, tx, train_set, **(options | {"eval_set": train_set}))
