"""Splits, statistics, batches, the bundled data and the cache of decoded arrays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_dataset

from jaxdl import data
from jaxdl.data import array_cache, bundled
from jaxdl.data.standardization import channel_statistics


def test_bundled_data(fashion):
    train, test = fashion
    assert (len(train), len(test), train.image_shape, train.num_classes) == (10_000, 2_000, (28, 28, 1), 10)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int32)
    for split in fashion:
        np.testing.assert_array_equal(np.bincount(split.labels), len(split) // 10)
        assert np.bincount(split.labels[:500]).min() > 25  # shuffled: any beginning is balanced
    assert train.standardize == test.standardize
    assert data.load()[0].name == "fashion_mini"


@pytest.mark.slow
def test_bundled_data_are_images_of_fashion_mnist(real_data):
    arrays = bundled.fashion_mini()
    for split in data.load("fashion_mnist", data_dir=real_data):
        rows = arrays[f"{split.split}_rows"]
        assert len(np.unique(rows)) == len(rows)
        np.testing.assert_array_equal(split.images[rows], arrays[f"{split.split}_images"])
        np.testing.assert_array_equal(split.labels[rows], arrays[f"{split.split}_labels"])


def test_splits_do_not_change(fashion):
    train, _ = fashion
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        train.labels[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        train.name = "other"


def test_steps_per_epoch(fashion):
    assert fashion[0].steps_per_epoch(128) == 78
    assert fashion[0].steps_per_epoch(10_000) == 1
    with pytest.raises(ValueError, match="batch_size=10001 is more than the 10000 images"):
        fashion[0].steps_per_epoch(10_001)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got batch_size=0"):
        fashion[0].steps_per_epoch(0)


def test_part_of_a_split(fashion):
    part = fashion[0][8000:]
    assert len(part) == 2000
    np.testing.assert_array_equal(part.images, fashion[0].images[8000:])
    assert part.standardize is fashion[0].standardize
    with pytest.raises(ValueError, match=r"pick examples with a slice, as in train_set\[:8000\], got 3"):
        fashion[0][3]
    with pytest.raises(ValueError, match="leaves none of the 10000 examples"):
        fashion[0][10_000:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inputs": np.zeros((3, 4, 4, 1))},
            r"takes uint8 images, .* float64 \(3, 4, 4, 1\); scale to 0..255 and use \(255 \* images\).round",
        ),
        ({"inputs": np.full((3, 4, 4, 1), 254.0)}, r"inputs are float64 .*; use images.round\(\).astype\(np.uint8\)"),
        (
            {"inputs": np.full((3, 4, 4, 1), -1.5)},
            "numbers must be in 0..255, got -1.5..-1.5; undo the standardisation",
        ),
        ({"inputs": np.full((3, 4, 4, 1), 254)}, r"inputs are int64 .*; use images.astype\(np.uint8\)"),
        ({"inputs": np.full((3, 4, 4, 1), 256)}, r"numbers must be in 0..255, got 256..256"),
        (
            {"inputs": np.zeros((3, 4, 4), np.uint8)},
            r"images must be uint8 \[n, height, width, channels\] .*\[..., None\]",
        ),
        ({"inputs": np.zeros((0, 4, 4, 1), np.uint8)}, "with n >= 1, got .*, which holds no images"),
        (
            {"inputs": np.zeros((3, 3, 8, 8), np.uint8)},
            r"looks like \[n, channels, .*use images.transpose\(0, 2, 3, 1\)",
        ),
        ({"inputs": np.zeros((3, 1, 8, 8), np.uint8)}, r"use images.transpose\(0, 2, 3, 1\)"),
        ({"inputs": [[[[0]]]] * 3}, r"a NumPy array, got list; use np.asarray\(images\)"),
        ({"targets": [0, 1, 0]}, r"a NumPy array, got list; use np.array\(labels, np.int32\)"),
        (
            {"targets": np.zeros(3)},
            r"labels must be int32 \[3\], .*, got float64 \(3,\); class numbers are needed, from 0 to 1",
        ),
        ({"targets": np.zeros(2, np.int32)}, r"labels must be int32 \[3\], .*got int32 \(2,\), for 3 images"),
        (
            {"targets": np.eye(3, 2, dtype=np.int32)},
            r"got int32 \(3, 2\); .*one-hot ones become them by labels.argmax\(1\).astype\(np.int32\)",
        ),
        ({"targets": np.zeros((3, 1), np.int32)}, r"got int32 \(3, 1\); use labels\[:, 0\]"),
        ({"targets": np.array([0, 1, 0])}, r"got int64 \(3,\); use labels.astype\(np.int32\)$"),
        (
            {"targets": np.array([0, 1, 7])},
            r"labels must be in \[0, 2\) as there are 2 class names, got 0..7; classes are",
        ),
        (
            {"class_names": "ab"},
            r"class_names must be a tuple of names, got class_names='ab'; pass \(\"cat\"",
        ),
        ({"class_names": (0, 1)}, r"got class_names=\(0, 1\); .*tuple\(map\(str, range\(10\)\)\)"),
        (
            {"standardize": 255},
            r"standardize must be a function, got standardize=255; pass data.Standardize\(mean, std\)",
        ),
        ({"standardize": data.Standardize}, "got the class .*Standardize.*; pass data.Standardize"),
        (
            {"targets": np.array([0, 1, 5], np.int32)},
            r"labels must be in \[0, 2\) as there are 2 class names, got 0..5",
        ),
        ({"targets": np.array([0, -1, 1], np.int32)}, "got -1..1"),
    ],
)
def test_bad_splits(changes, message):
    fields = {
        "inputs": np.zeros((3, 4, 4, 1), np.uint8),
        "targets": np.zeros(3, np.int32),
        "class_names": ("a", "b"),
        "standardize": data.Standardize((0,), (1,)),
    }
    data.Dataset("mine", "train", **fields)
    with pytest.raises(ValueError, match=rf"^Dataset 'mine' \(train\): .*{message}"):
        data.Dataset("mine", "train", **fields | changes)


@pytest.mark.parametrize("rows", [5, [1, 2], "train", np.array([True]), slice(0.5), slice("a", "b")])
def test_what_is_no_slice_is_told(fashion, rows):
    with pytest.raises(ValueError, match=r"^Dataset: (pick examples with a slice, as in|a slice goes from integer)"):
        fashion[0][rows]


IMAGES = np.zeros((6, 5, 5, 3), np.uint8)
KEYS = jax.random.split(jax.random.key(0), 6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: data.Standardize((125,), (60,)),
            r"mean must be in \[0, 1\], .*got mean=\(125.0,\); divide mean and std by 255",
        ),
        (lambda: data.Standardize((-0.5,), (0.5,)), "mean must be a finite number >= 0, got mean=-0.5"),
        (lambda: data.Standardize((float("nan"),), (0.5,)), "mean must be a finite number >= 0, got mean=nan"),
        (lambda: data.Standardize((0.5,), (0,)), r"std must be above 0, got std=\(0.0,\); leave out a channel"),
        (lambda: data.Standardize((0.5,), (-0.5,)), "std must be a finite number >= 0, got std=-0.5"),
        (lambda: data.Standardize((0.5,), (float("nan"),)), "std must be a finite number >= 0, got std=nan"),
        (lambda: data.Standardize((0.5, 0.5, 0.5), (0.25,)), "one number per channel each, got 3 and 1"),
        (
            lambda: data.Standardize(0.5, 0.25),
            r"mean must be a tuple of one number per channel, got mean=0.5; pass \(0.5,\)",
        ),
        (lambda: data.Standardize((), ()), r"mean must be a tuple of one number per channel, got mean=\(\)"),
        (lambda: data.Standardize((0.5,), ("a",)), "std must be a finite number >= 0, got std='a'"),
        (
            lambda: data.Standardize((0.5,) * 3, (0.5,) * 3)(IMAGES / 255),
            "images must be uint8, .*got float64, which would be scaled twice .*; pass a preprocess of your own",
        ),
        (
            lambda: data.Standardize((0.5,), (0.5,))(IMAGES),
            r"images must have 1 channels in the last axis, .*got \(6, 5, 5, 3\); one made for such images is",
        ),
        (lambda: data.Standardize((0.5,), (0.5,))([[1]]), r"images must be uint8, of 0 to 255, got \[\[1\]\]"),
        (
            lambda: data.RandomCrop(100)(KEYS, IMAGES),
            "padding must be below the sides of the images, got padding=100 for 5 x 5",
        ),
        (lambda: data.RandomCrop(5)(KEYS, IMAGES), "RandomCrop: padding must be below .* got padding=5 for 5 x 5"),
        (lambda: data.RandomCrop(2.0), "RandomCrop: padding must be an integer >= 0, got padding=2.0"),
        (
            lambda: data.RandomCrop(2)(KEYS[0], IMAGES),
            r"RandomCrop: keys must be one for each of the 6 images, got key<fry> \[\]; pass jax.random.split",
        ),
        (
            lambda: data.RandomFlip()(KEYS[:5], IMAGES),
            r"RandomFlip: keys must be one for each of the 6 images, got key<fry> \[5\]",
        ),
        (lambda: data.RandomFlip()(0, IMAGES), "RandomFlip: keys must be one for each of the 6 images, got 0"),
        (
            lambda: data.RandomFlip()(np.zeros(6), IMAGES),
            r"keys must be one for each of the 6 images, got float64 \[6\]",
        ),
        (lambda: data.RandomFlip()(jax.random.PRNGKey(0), IMAGES), r"keys must be one for each .*, got uint32 \[2\]"),
        (
            lambda: data.RandomFlip()(KEYS, IMAGES[0]),
            r"images must be an array \[batch, .*got uint8 \[5, 5, 3\]; .*images\[None\]",
        ),
        (
            lambda: data.CROP_AND_FLIP(IMAGES, KEYS),
            r"Compose: images must be an array \[batch, .*the arguments are \(keys, images\)",
        ),
        (
            lambda: data.Compose([data.RandomFlip()]),
            r"Compose: changes must be a tuple of functions .*got changes=\[RandomFlip",
        ),
        (lambda: data.Compose(data.RandomFlip()), "Compose: changes must be a tuple of functions"),
        (
            lambda: data.Compose((data.RandomCrop(4), data.RandomFlip)),
            r"Compose: RandomFlip is a class; .*RandomFlip\(\)",
        ),
        (
            lambda: data.epoch_order(KEYS[0], 0, examples=10, batch_size=11),
            "batch_size must be at most examples=10, got batch_size=11",
        ),
        (
            lambda: data.epoch_order(KEYS[0], 0, examples=10, batch_size=0),
            "epoch_order: batch_size must be an integer >= 1",
        ),
        (
            lambda: data.epoch_order(KEYS[0], 0, examples=0, batch_size=1),
            "epoch_order: examples must be an integer >= 1",
        ),
        (
            lambda: data.epoch_order(KEYS[0], 0.5, examples=10, batch_size=1),
            "epoch_order: epoch must be an integer >= 0",
        ),
        (lambda: data.epoch_order(KEYS, 0, examples=10, batch_size=1), "epoch_order: key must be one typed PRNG key"),
        (
            lambda: data.epoch_order(jax.random.PRNGKey(0), 0, examples=10, batch_size=1),
            r"got key=.*uint32.*; pass jax.random.key\(seed\)",
        ),
        (lambda: data.epoch_order(0, 0, examples=10, batch_size=1), r"got key=0; pass jax.random.key\(seed\)"),
        (
            lambda: data.take_batch(IMAGES, np.zeros(6), np.array([0.0])),
            "take_batch: rows must be an array of integers",
        ),
        (lambda: data.take_batch(IMAGES, np.zeros(6), [0, 1]), r"rows must be an array of integers, got rows=\[0, 1\]"),
        (lambda: data.take_batch(IMAGES, np.zeros(6), np.ones(6, bool)), "rows must be an array of integers"),
        (lambda: data.take_batch(IMAGES, np.zeros(6), np.array([6])), r"rows must be in 0..5, got 6..6"),
        (lambda: data.take_batch(IMAGES, np.zeros(5), np.array([0])), "must be of one length, got 6 and 5"),
    ],
)
def test_wrong_calls(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_right_calls_pass():
    """What looks like a slip and is none: arrays and lists for tuples, raw keys, whole numbers that are not uint8."""
    found = data.Standardize([0.5, 0.25], np.array([0.25, 0.5]))
    assert found == data.Standardize((0.5, 0.25), (0.25, 0.5))
    assert hash(found) == hash(data.Standardize((0.5, 0.25), (0.25, 0.5)))
    images = random_dataset(6).images
    np.testing.assert_array_equal(found(jnp.asarray(images, jnp.int32)), found(jnp.asarray(images)))
    assert data.CROP_AND_FLIP(jax.random.split(jax.random.PRNGKey(0), 6), jnp.asarray(images)).shape == images.shape
    assert data.Compose(())(KEYS, images).shape == images.shape
    narrow = np.zeros((3, 1, 8, 4), np.uint8)  # one row of eight pixels with four channels
    fields = {"targets": np.zeros(3, np.int32), "class_names": ["a"], "standardize": lambda x: x / 255}
    assert data.Dataset("mine", "train", narrow, **fields).class_names == ("a",)
    vmapped = jax.vmap(lambda key: data.epoch_order(key, jnp.int32(0), examples=10, batch_size=5))(KEYS)
    np.testing.assert_array_equal(vmapped[2], data.epoch_order(KEYS[2], 0, examples=10, batch_size=5))


def test_statistics_equal_numpy():
    images = random_dataset(200).images
    found, scaled = channel_statistics(images), images / 255
    np.testing.assert_allclose(found.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, scaled.std((0, 1, 2)), rtol=1e-12)
    standard = np.asarray(found(jax.numpy.asarray(images)))
    np.testing.assert_allclose(standard.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std((0, 1, 2)), 1, atol=1e-5)
    with pytest.raises(ValueError, match="a channel is constant"):
        channel_statistics(np.zeros((2, 3, 3, 1), np.uint8))


def test_epoch_order():
    """Each example at most once; the same for the same key and epoch, another for others."""
    key = jax.random.key(0)
    order = np.asarray(data.epoch_order(key, 0, examples=103, batch_size=10))
    assert order.shape == (10, 10)
    assert len(np.unique(order)) == 100
    assert order.min() >= 0
    assert order.max() < 103
    again = data.epoch_order(key, 0, examples=103, batch_size=10)
    np.testing.assert_array_equal(order, again)
    for other in (
        data.epoch_order(key, 1, examples=103, batch_size=10),
        data.epoch_order(jax.random.key(1), 0, examples=103, batch_size=10),
    ):
        assert np.mean(np.asarray(other) == order) < 0.1


def test_every_example_gets_its_turn():
    """The remainder that sits out is another one in each epoch."""
    seen = [np.asarray(data.epoch_order(jax.random.key(0), e, examples=11, batch_size=4)).ravel() for e in range(20)]
    assert set(np.concatenate(seen)) == set(range(11))


def test_take_batch(fashion):
    rows = np.array([5, 0, 9_999])
    batch = data.take_batch(fashion[0].images, fashion[0].labels, rows)
    np.testing.assert_array_equal(batch.images, fashion[0].images[rows])
    np.testing.assert_array_equal(batch.labels, fashion[0].labels[rows])


ARRAYS = {"images": np.arange(600, dtype=np.uint8).reshape(10, 60), "labels": np.arange(10, dtype=np.int32)}


def test_cache_round_trip(tmp_path):
    folder = tmp_path / "a" / "b"
    with pytest.raises(FileNotFoundError):
        array_cache.read(folder)
    for extra in ({"names": ["x"]}, {"names": ["y"]}):  # the second write replaces the first
        array_cache.write(folder, ARRAYS, extra)
        arrays, facts = array_cache.read(folder)
        assert facts == extra
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(arrays[name], array)
            assert isinstance(arrays[name], np.memmap)
            assert not arrays[name].flags.writeable
    assert [path.name for path in folder.parent.iterdir()] == ["b"]  # no drafts left


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_a_byte(folder / "images.npy"),
        lambda folder: (folder / "images.npy").write_bytes((folder / "images.npy").read_bytes()[:-9]),
        lambda folder: (folder / "images.npy").write_bytes(b""),
        lambda folder: (folder / "labels.npy").unlink(),
        lambda folder: (folder / "contents.json").unlink(),
        lambda folder: (folder / "contents.json").write_text('{"arrays": {"ima'),
        lambda folder: np.save(folder / "labels.npy", np.arange(10, dtype=np.int64)),
    ],
)
def test_cache_damage_is_seen(tmp_path, damage):
    array_cache.write(tmp_path / "set", ARRAYS, {})
    damage(tmp_path / "set")
    with pytest.raises(array_cache.DamagedCacheError, match="set"):
        array_cache.read(tmp_path / "set")


def test_cache_leaves_nothing_half_written(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        array_cache.write(tmp_path / "set", ARRAYS, {})
    assert list(tmp_path.iterdir()) == []


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXDL_CACHE", str(tmp_path))
    assert array_cache.default_directory() == tmp_path
    monkeypatch.delenv("JAXDL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert array_cache.default_directory() == tmp_path / "jaxdl"
