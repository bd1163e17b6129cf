"""Streams on several devices: the batches and the numbers of one device, and evaluation counts every image once."""

import jax
import numpy as np
import pytest
from helpers import small_resnet
from PIL import Image

from jaxdl import data, optim, train

MODEL = small_resnet(3)
TX = optim.momentum(0.05)


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(67):
        path = root / ("train" if number < 40 else "val") / f"{number % 3}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), np.uint8)).save(path)
    return data.folder(root, train_view=data.DecodeRandomCrop(8, 9), test_view=data.DecodeCenterCrop(8, 9))


def trained(streams, parallel, devices):
    state = train.init_state(MODEL, TX, jax.random.key(0), streams[0])
    return train.fit(
        state, MODEL, TX, streams[0], steps=5, batch_size=16, eval_set=streams[1], eval_every=2,
        augment=data.RandomFlip(), parallel=parallel, devices=jax.devices()[:devices], progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(streams):
    return trained(streams, "single", 1)


@pytest.mark.parametrize(
    ("parallel", "devices"),
    [("sharded", 8), pytest.param("pmap", 8, marks=pytest.mark.slow), pytest.param("pmap", 2, marks=pytest.mark.slow)],
)
def test_devices_share_a_stream(streams, alone, parallel, devices):
    state, history = trained(streams, parallel, devices)
    np.testing.assert_allclose(history.loss, alone[1].loss, rtol=1e-4)
    np.testing.assert_allclose(history.eval_loss, alone[1].eval_loss, rtol=1e-4)
    np.testing.assert_array_equal(history.eval_metrics["error"], alone[1].eval_metrics["error"])
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(alone[0].params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
