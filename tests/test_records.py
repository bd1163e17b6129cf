"""`data.stream` on a set of JPEG files of several sizes that tensorflow-datasets prepared, against the files."""

import io

import jax
import numpy as np
import pytest
from helpers import small_resnet
from jpeg_set import NAMES, prepare, write_jpegs
from PIL import Image

from jaxdl import data, optim, train
from jaxdl.data.streams.order import chunks

KEY = jax.random.key(3)
VIEW = data.DecodeCenterCrop(32, 36)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The class folders, and the folder of tensorflow-datasets."""
    root, data_dir = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("tfds")
    prepare(data_dir, write_jpegs(root, train=40, test=12))
    return root, data_dir


def opened(data_dir, **options):
    return data.stream("pictures", data_dir=data_dir, **{"train_view": VIEW, "test_view": VIEW, **options})


def examples(stream):
    """The names of the classes and the pixels, in the order of the rows."""
    ((images, labels), _) = next(chunks(stream, len(stream)))
    return [(stream.class_names[label], image.tobytes()) for image, label in zip(images, labels, strict=True)]


def test_the_files_pixels(made):
    """tensorflow-datasets shuffles the examples, and keeps its own order of the classes."""
    root, data_dir = made
    records, files = opened(data_dir), data.folder(root, train_view=VIEW, test_view=VIEW)
    assert records[0].class_names == tuple(NAMES)
    assert files[0].class_names == tuple(sorted(NAMES))
    for by_records, by_files, count in zip(records, files, (40, 12), strict=True):
        found = examples(by_records)
        assert len(found) == count
        assert sorted(found) == sorted(examples(by_files))
        assert len(set(found)) == count
        assert [name for name, _ in found] == [NAMES[label] for label in by_records.labels]
    encoded = records[0].source.read(7).load()
    assert Image.open(io.BytesIO(encoded)).format == "JPEG"


def test_slices(made):
    _, data_dir = made
    whole, _ = opened(data_dir)
    first, rest = opened(data_dir, train="train[:90%]", test="train[90%:]")
    assert (len(first), len(rest), first.split, rest.split) == (36, 4, "train", "test")
    assert examples(first) + examples(rest) == examples(whole)
    few, both = opened(data_dir, train="train[5:9]", test="train+test")
    assert examples(few) == examples(whole)[5:9]
    assert len(both) == 52
    assert first.source.digest() != whole.source.digest()
    with pytest.raises(ValueError, match=r"stream: test='validation' is no split of pictures"):
        opened(data_dir, test="validation")


def test_it_trains_as_a_set_in_memory(made):
    _, data_dir = made
    streams = opened(data_dir)
    sets = []
    for stream in streams:
        ((images, labels), _) = next(chunks(stream, len(stream)))
        sets.append(data.from_arrays(images, labels, standardize=stream.standardize, classes=NAMES))
    model, tx = small_resnet(3), optim.momentum(0.05)
    found = []
    for train_set, eval_set in (streams, sets):
        state = train.init_state(model, tx, KEY, train_set)
        _, history = train.fit(
            state, model, tx, train_set, steps=5, batch_size=16, eval_set=eval_set, eval_every=5, progress=False
        )
        found.append(history)
    np.testing.assert_allclose(found[0].loss, found[1].loss, rtol=1e-3)
    np.testing.assert_allclose(found[0].eval_loss, found[1].eval_loss, rtol=1e-2)


@pytest.mark.slow
def test_in_a_worker_process(made):
    _, data_dir = made
    batches = []
    for workers in (0, 1):
        stream, _ = opened(data_dir, train_view=data.DecodeRandomResizedCrop(16), workers=workers)
        batches.append(list(data.batches(stream, KEY, 16, steps=5)))
    jax.tree.map(np.testing.assert_array_equal, *batches)
