"""Splits, statistics, batches, the bundled data and the cache of decoded arrays."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import random_dataset

from jaxdl import data
from jaxdl.data import array_cache, bundled
from jaxdl.data.dataset import channel_statistics


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
        ({"images": np.zeros((3, 4, 4, 1))}, r"images must be uint8 .*, got float64 \(3, 4, 4, 1\); scale to 0..255"),
        ({"images": np.zeros((3, 4, 4), np.uint8)}, r"images must be uint8 \[n, height, width, channels\]"),
        ({"images": np.zeros((0, 4, 4, 1), np.uint8)}, "with n >= 1"),
        ({"labels": np.zeros(3)}, r"labels must be int32 \[3\], one per image, got float64"),
        ({"labels": np.zeros(2, np.int32)}, r"labels must be int32 \[3\]"),
        ({"labels": np.array([0, 1, 5], np.int32)}, r"labels must be in \[0, 2\) as there are 2 class names, got 0..5"),
        ({"labels": np.array([0, -1, 1], np.int32)}, "got -1..1"),
    ],
)
def test_bad_splits(changes, message):
    fields = {"images": np.zeros((3, 4, 4, 1), np.uint8), "labels": np.zeros(3, np.int32)} | changes
    with pytest.raises(ValueError, match=message):
        data.Dataset("mine", "train", **fields, class_names=("a", "b"), standardize=data.Standardize((0,), (1,)))


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
