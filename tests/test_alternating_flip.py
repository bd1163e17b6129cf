"""`data.AlternatingFlip`: two epochs show each image both ways, in every way of training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ConvNormNet, numbers, random_dataset

from jaxdl import data, optim, train

MODEL, TX = ConvNormNet(), optim.momentum(0.02)
SET = random_dataset(52, (9, 8, 3))
BATCH = 16
PER_EPOCH = SET.steps_per_epoch(BATCH)  # 3, and 4 images are left over
STEPS = 8  # of three epochs
FLIP = data.AlternatingFlip(PER_EPOCH, seed=5)
KEYS = jax.random.split(jax.random.key(0), 2000)


def first_bit(image, seed):
    """The hash's first bit in Python's integers, from the image's bytes."""

    def stirred(bits):
        bits = (bits ^ bits >> 16) * 0x85EBCA6B % 2**32
        bits = (bits ^ bits >> 13) * 0xC2B2AE35 % 2**32
        return bits ^ bits >> 16

    words = np.frombuffer(image.tobytes(), f"u{min(image.itemsize, 4)}").tolist()
    start = stirred(seed)
    weighted = sum(word * (stirred((start + place) % 2**32) | 1) for place, word in enumerate(words))
    return stirred((start + weighted) % 2**32) >> 31


@functools.cache
def flipped_first(seed=5):
    """Which images of the set are mirrored in the first epoch."""
    return np.array([bool(first_bit(image, seed)) for image in SET.images])


def by_hand(change, step, images, keys=KEYS):
    return np.asarray(jax.jit(lambda step: change.at_step(step)(keys[: len(images)], images))(np.int32(step)))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_two_epochs_show_both_ways(dtype, x64):
    images = (SET.images / 255).astype(dtype) if dtype != "uint8" else SET.images
    flips = np.array([bool(first_bit(image, 5)) for image in images])
    assert 10 < flips.sum() < 42
    for step in range(4 * PER_EPOCH):
        now = flips ^ (step // PER_EPOCH % 2 == 1)
        expected = np.where(now[:, None, None, None], images[:, :, ::-1], images)
        found = by_hand(FLIP, step, images)
        assert found.dtype == images.dtype
        np.testing.assert_array_equal(found, expected)


def test_it_is_a_fair_coin_for_each_image_and_seed(fashion):
    """Half of the images, and half of those of another seed; one level of one pixel is another image."""
    images = fashion[0].images[:2000]

    def flipped(images, seed=0):
        mirrored = by_hand(data.AlternatingFlip(1, seed), 0, images) == images[:, :, ::-1]
        return mirrored.all((1, 2, 3))

    first, other = flipped(images), flipped(images, seed=1)
    neighbours = np.repeat(images[:1], 784, 0).reshape(784, 784)
    neighbours[np.arange(784), np.arange(784)] ^= 1
    of_neighbours = flipped(neighbours.reshape(784, 28, 28, 1))
    for found in (first, other, first == other, of_neighbours):
        assert abs(found.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(found))  # four standard deviations


def test_neither_keys_nor_places_matter():
    change = data.Compose((FLIP, data.Compose((data.AlternatingFlip(2),))))
    found = by_hand(change, 1, SET.images)
    np.testing.assert_array_equal(by_hand(change, 1, SET.images[::-1], KEYS[100:])[::-1], found)


@functools.cache
def expected():
    """Losses of a loop without augmentation, over images that NumPy mirrored."""
    state, losses = fresh(), []
    step = train.make_step(MODEL, TX, preprocess=SET.standardize)
    for number in range(STEPS):
        now = flipped_first() ^ (number // PER_EPOCH % 2 == 1)
        mirrored = np.where(now[:, None, None, None], SET.images[:, :, ::-1], SET.images)
        seen = data.from_arrays(mirrored, SET.labels, standardize=SET.standardize)
        (batch,) = data.batches(seen, state.key, BATCH, start=number, steps=number + 1)
        state, metrics = step(state, batch)
        losses.append(float(metrics.loss))
    return losses


def fresh():
    return train.init_state(MODEL, TX, jax.random.key(0), SET)


def fit(augment=FLIP, steps=STEPS, **options):
    return train.fit(fresh(), MODEL, TX, SET, steps=steps, batch_size=BATCH, augment=augment, progress=False, **options)


def close(losses):
    np.testing.assert_allclose(losses, expected(), rtol=1e-3)


@pytest.mark.parametrize("scan", [True, False])
def test_in_fit(scan):
    close(fit(data.Compose((FLIP,)), scan=scan)[1].loss)


def test_accumulated():
    """Batch statistics of halves are others, so against itself with the images mirrored beforehand."""
    state, losses = fresh(), []
    step = train.make_step(MODEL, TX, preprocess=SET.standardize, accumulate=2)
    for batch, number in zip(data.batches(SET, state.key, BATCH, steps=STEPS), range(STEPS), strict=True):
        mirrored = by_hand(FLIP, number, batch.inputs)
        state, metrics = step(state, (mirrored, batch.targets))
        losses.append(metrics.loss)
    np.testing.assert_allclose(fit(accumulate=2)[1].loss, losses, rtol=1e-3)


def test_in_a_loop_of_ones_own():
    state, losses = fresh(), []
    step = train.make_step(MODEL, TX, preprocess=SET.standardize, augment=FLIP)
    for batch in data.batches(SET, state.key, BATCH, steps=STEPS):
        state, metrics = step(state, batch)
        losses.append(metrics.loss)
    close(losses)


@pytest.mark.parametrize("via", ["vmap", "map"])
def test_in_a_population(via):
    keys = jnp.stack([jax.random.key(0), jax.random.key(1)])
    found = train.population(
        MODEL, TX, SET, keys=keys, steps=STEPS, batch_size=BATCH, augment=FLIP, via=via, progress=False
    )
    close(found.histories[0].loss)


def test_resumed(tmp_path):
    """With the bits of a run that was not stopped; with another seed it is another run."""
    whole, _ = fit()
    fit(steps=4, checkpoint_dir=tmp_path)
    resumed, history = fit(checkpoint_dir=tmp_path)
    assert len(history.loss) == STEPS
    jax.tree.map(np.testing.assert_array_equal, numbers(resumed), numbers(whole))
    with pytest.raises(ValueError, match=r"augment\.seed"):
        fit(data.AlternatingFlip(PER_EPOCH, seed=6), checkpoint_dir=tmp_path)
