"""Crops, flips and geometric changes, against NumPy, Pillow and SciPy on real images, and their statistics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from jaxdl import data

KEYS = jax.random.split(jax.random.key(0), 12)
SHAPED = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3)).astype(np.uint8)  # odd sides
MODES = {"zero": "grid-constant", "reflect": "mirror", "edge": "nearest"}  # SciPy's names


@pytest.fixture(scope="module")
def images():
    """Twelve real images of 28 x 28 pixels, in three different channels."""
    found = data.load("fashion_mini")[0].images[:12]
    return np.concatenate([found, np.roll(found, 1, 0), 255 - found], -1)


def drawn(change, keys, size):
    return jax.device_get(jax.jit(jax.vmap(lambda key: change.draw(key, size)))(keys))


def close(found, expected):
    """Bytes that are equal but for the rounding of a float near one half."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found - expected.astype(np.float64)).max() < 0.501


def resampled(image, rows, columns, fill):
    """SciPy's bilinear interpolation of [height, width, channels] at [height', width'] coordinates."""
    channels = [
        ndimage.map_coordinates(image[..., c].astype(float), [rows, columns], order=1, mode=MODES[fill])
        for c in range(image.shape[-1])
    ]
    return np.stack(channels, -1)


def test_random_crop_is_numpys_padding():
    modes = {"zero": "constant", "reflect": "reflect", "edge": "edge"}
    found = jax.jit(lambda: [data.RandomCrop(3, fill)(KEYS, SHAPED) for fill in modes])()
    corners = drawn(data.RandomCrop(3), KEYS, (9, 7))
    for images, mode in zip(found, modes.values(), strict=True):
        padded = np.pad(SHAPED, ((0, 0), (3, 3), (3, 3), (0, 0)), mode=mode)
        for image, source, (y, x) in zip(images, padded, corners, strict=True):
            np.testing.assert_array_equal(image, source[y : y + 9, x : x + 7])


def test_windows_are_pillows(images):
    random, centre = data.RandomCropTo((20, 13)), data.CenterCrop((20, 13))
    found, middle = jax.jit(lambda: (random(KEYS, images), centre(KEYS, images)))()
    for n, (y, x) in enumerate(drawn(random, KEYS, (28, 28))):
        picture = Image.fromarray(images[n])
        np.testing.assert_array_equal(found[n], np.asarray(picture.crop((x, y, x + 13, y + 20))))
        np.testing.assert_array_equal(middle[n], np.asarray(picture.crop((7, 4, 20, 24))))


@pytest.mark.parametrize(
    ("crop", "size", "places"),
    [
        (data.RandomCrop(2), (9, 9), (5, 5)),
        (data.RandomCropTo((6, 8)), (9, 9), (4, 2)),
        (data.Cutout(2), (3, 4), (3, 4)),
    ],
    ids=["RandomCrop", "RandomCropTo", "Cutout"],
)
def test_places_are_uniform(crop, size, places):
    corners = drawn(crop, jax.random.split(jax.random.key(5), 4000), size)
    counts = np.histogram2d(*corners.T, bins=places, range=[(-0.5, n - 0.5) for n in places])[0]
    assert counts.sum() == 4000
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


def test_resized_windows_are_pillows(images):
    """Windows no larger than the result, where Pillow does not average either."""
    crop = data.RandomResizedCrop(28)
    found = np.asarray(jax.jit(crop)(KEYS, images))
    for n, (y, x, height, width) in enumerate(drawn(crop, KEYS, (28, 28)).tolist()):
        window = Image.fromarray(images[n]).crop((x, y, x + width, y + height))
        expected = window.resize((28, 28), Image.Resampling.BILINEAR)
        # Pillow rounds twice, to 8 bits after each of the two directions.
        assert np.abs(found[n] - np.asarray(expected, float)).max() <= 1


def test_resized_windows_are_drawn_as_torchvisions():
    """A loop written after torchvision's documentation gives windows of the same distribution."""
    crop = data.RandomResizedCrop(8, scale=(0.2, 1.0), ratio=(0.5, 2.0))
    found = drawn(crop, jax.random.split(jax.random.key(1), 3000), (40, 30))
    rng, expected = np.random.default_rng(0), []
    for _ in range(3000):
        for _ in range(10):
            area, ratio = 1200 * rng.uniform(0.2, 1), np.exp(rng.uniform(np.log(0.5), np.log(2)))
            width, height = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if width <= 30 and height <= 40:
                expected.append((rng.integers(0, 41 - height), rng.integers(0, 31 - width), height, width))
                break
    for axis in range(4):
        assert stats.ks_2samp(found[:, axis], np.array(expected)[:, axis]).pvalue > 0.01
    assert np.all(found[:, :2] >= 0)
    assert np.all(found[:, :2] + found[:, 2:] <= (40, 30))
    # No window of this shape fits: the largest in the middle is taken.
    narrow = data.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_array_equal(drawn(narrow, KEYS[:1], (40, 30)), [[5, 0, 30, 30]])


def lens(k, rows, columns, size):
    y, x = rows - (size[0] - 1) / 2, columns - (size[1] - 1) / 2
    radius = np.hypot(y, x) / np.hypot((size[0] - 1) / 2, (size[1] - 1) / 2)
    return y * (1 + k * radius**2) + (size[0] - 1) / 2, x * (1 + k * radius**2) + (size[1] - 1) / 2


def about_centre(matrix):
    """Where pixels come from if the picture is moved by a matrix that acts on (down, right)."""

    def sources(rows, columns, size):
        middle = (np.array(size) - 1) / 2
        points = np.stack([rows - middle[0], columns - middle[1]])
        found = np.tensordot(np.linalg.inv(matrix), points, 1)
        return found[0] + middle[0], found[1] + middle[1]

    return sources


def turned(angle):
    return [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]


GEOMETRY = {
    "Translate": (data.Translate(5), lambda d: lambda r, c, size: (r - d[0], c - d[1])),
    # Counter-clockwise, where rows count downwards.
    "Rotate": (
        data.Rotate(60),
        lambda d: about_centre(turned(np.radians(d))),
    ),
    "Scale": (data.Scale((0.5, 2.0)), lambda d: about_centre(np.diag([d[0], d[0]]))),
    "Stretch": (data.Stretch((0.5, 2.0)), lambda d: about_centre(np.diag(d))),
    "Shear": (data.Shear(30), lambda d: about_centre([[1, 0], [-np.tan(np.radians(d)), 1]])),
    "Shear down": (data.Shear(30, "vertical"), lambda d: about_centre([[1, -np.tan(np.radians(d))], [0, 1]])),
    "LensDistortion": (data.LensDistortion(0.3), lambda d: lambda r, c, size: lens(d, r, c, size)),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_is_scipys_interpolation(name, images):
    """Every change with every fill, at the numbers that it drew."""
    change, sources = GEOMETRY[name]
    changes = [dataclasses.replace(change, fill=fill) for fill in MODES]
    numbers = drawn(change, KEYS, (28, 28))
    for found, fill in zip(jax.jit(lambda: [c(KEYS, images) for c in changes])(), MODES, strict=True):
        for n in range(0, 12, 3):
            rows, columns = sources(numbers[n])(*np.mgrid[:28, :28].astype(float), (28, 28))
            assert np.abs(np.asarray(found[n]) - resampled(images[n], rows, columns, fill)).max() < 0.52


def test_rotation_is_pillows(images):
    """Inside of the circle that stays in the picture."""
    rotate = data.Rotate(180)
    found = np.asarray(jax.jit(rotate)(KEYS, images))
    rows, columns = np.mgrid[:28, :28] - 13.5
    inside = np.hypot(rows, columns) < 12.5
    for n, angle in enumerate(drawn(rotate, KEYS, (28, 28))):
        expected = Image.fromarray(images[n]).rotate(float(angle), Image.Resampling.BILINEAR)
        assert np.abs(found[n] - np.asarray(expected, float))[inside].max() <= 1.01  # Pillow cuts off decimals


def test_draws_are_uniform_in_their_intervals():
    keys = jax.random.split(jax.random.key(2), 3000)
    for change, low, high, log in [
        (data.Translate(3), -3, 3, False),
        (data.Rotate(20), -20, 20, False),
        (data.Shear(10), -10, 10, False),
        (data.LensDistortion(0.2), -0.2, 0.2, False),
        (data.Stretch((0.5, 3.0)), 0.5, 3.0, True),
        (data.Scale((0.5, 3.0)), 0.5, 3.0, True),
    ]:
        found = drawn(change, keys, (9, 9)).reshape(3000, -1)
        if log:
            found, low, high = np.log(found), np.log(low), np.log(high)
        for values in found.T:
            assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01, change
    assert np.abs(np.corrcoef(drawn(data.Stretch(), keys, (9, 9)).T)[0, 1]) < 0.06
    np.testing.assert_array_equal(*drawn(data.Scale(), keys, (9, 9)).T)


def test_neighbouring_changes_are_one_resampling(images):
    """Against SciPy at composed coordinates: pixels that left the picture at an earlier step are gone."""
    changes = (data.RandomCrop(4), data.Rotate(30, fill="edge"), data.RandomFlip(), data.CenterCrop(20))
    keys = jax.jit(lambda: [jax.vmap(lambda key: jax.random.fold_in(key, n))(KEYS) for n in range(4)])()  # noqa: B023
    found = jax.jit(data.Compose(changes))(KEYS, images)
    corners, angles, flips = (drawn(c, k, (28, 28)) for c, k in zip(changes[:3], keys[:3], strict=True))
    for n in range(12):
        rows, columns = np.mgrid[4:24, 4:24].astype(float)
        columns = 27 - columns if flips[n] else columns
        rows, columns = GEOMETRY["Rotate"][1](angles[n])(rows, columns, (28, 28))
        rows, columns = np.clip(rows, 0, 27), np.clip(columns, 0, 27)
        rows, columns = rows + corners[n][0] - 4, columns + corners[n][1] - 4
        expected = resampled(images[n], rows, columns, "zero")
        assert np.abs(np.asarray(found[n]) - expected).max() < 0.52


def test_fused_exact_changes_are_those_one_by_one():
    changes = (data.RandomCrop(2, "reflect"), data.RandomFlip(), data.CenterCrop((7, 6)), data.RandomCrop(3))
    keys = jax.jit(lambda: [jax.vmap(lambda key: jax.random.fold_in(key, n))(KEYS) for n in range(4)])()  # noqa: B023

    def one_by_one(images):
        for change, own in zip(changes, keys, strict=True):
            images = change(own, images)
        return images

    kinds = (SHAPED, SHAPED > 99)
    pairs = jax.jit(lambda kinds: [(data.Compose(changes)(KEYS, x), one_by_one(x)) for x in kinds])(kinds)
    for (fused, alone), images in zip(pairs, kinds, strict=True):
        np.testing.assert_array_equal(fused, alone)
        assert fused.dtype == images.dtype
    # Changes inside a Compose are fused with those outside.
    nested = data.Compose((data.Compose((data.Rotate(20),)), data.Scale()))
    assert len(list(nested._steps(KEYS))) == 2


def test_a_change_of_nothing_changes_nothing():
    """Angles, shifts and coefficients of 0, factors of 1."""
    nothing = (data.Rotate(0), data.Translate(0), data.Scale((1.0, 1.0)), data.Shear(0), data.LensDistortion(0))
    for images in (SHAPED, SHAPED.astype(np.float32)):
        np.testing.assert_array_equal(jax.jit(data.Compose(nothing))(KEYS, images), images)


def test_floats_stay_floats(images):
    """Nothing is rounded or cut off."""
    rotate = data.Compose((data.Rotate(30), data.RandomFlip()))
    half = jnp.asarray(images, jnp.bfloat16)
    kinds = (100 * images.astype(np.float32), images, half)
    whole, bytes_, half = jax.jit(lambda: [rotate(KEYS, x) for x in kinds])()
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole / 100, bytes_, atol=0.501)
    assert np.abs(whole / 100 - np.round(whole / 100)).max() > 0.4
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), whole / 100, atol=1)


def test_one_pixel_and_one_channel():
    one = np.full((12, 1, 1, 1), 200, np.uint8)
    changes = [data.RandomFlip()]
    for fill in ("reflect", "edge"):
        changes += [data.Translate(3, fill), data.Rotate(40, fill), data.LensDistortion(0.2, fill)]
    *found, resized = jax.jit(lambda: [c(KEYS, one) for c in [*changes, data.RandomResizedCrop(3)]])()
    assert all(np.array_equal(image, one) for image in found)
    assert resized.shape == (12, 3, 3, 1)
    assert np.all(np.asarray(resized) == 200)
