"""Streams: images that are read while they are used. They train, evaluate and resume as sets in memory do."""

import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import small_resnet, started
from PIL import Image

from jaxdl import data, ensemble, models, optim, train
from jaxdl.data.streams import reading
from jaxdl.data.streams.order import chunks

KEY = jax.random.key(3)
SIDE = 32
MODEL = small_resnet()
TX = optim.momentum(0.05)
NAMES = [f"class {number}" for number in range(10)]


@pytest.fixture(scope="module")
def images():
    """120 real images, enlarged to colour pictures of 32 x 32 pixels, and their classes."""
    train_set, _ = data.load("fashion_mini")
    pictures = [
        np.asarray(Image.fromarray(image[..., 0]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for image in train_set.images[:120]
    ]
    return np.stack(pictures), train_set.labels[:120]


@pytest.fixture(scope="module")
def root(images, tmp_path_factory):
    """The same in class folders, as PNG files of the same pixels: 80 to train on, 40 to evaluate on."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, (image, label) in enumerate(zip(*images, strict=True)):
        path = folder / ("train" if number < 80 else "val") / f"class {label}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    for split in ("train", "val"):  # every class in both
        for label in range(10):
            assert (folder / split / f"class {label}").is_dir()
    return folder


def opened(root, **options):
    view = data.DecodeCenterCrop(SIDE, SIDE)
    return data.folder(root, **{"train_view": view, "test_view": view, **options})


@pytest.fixture(scope="module")
def streams(root):
    return opened(root)


@pytest.fixture(scope="module")
def sets(streams, images):
    """The same images in memory, in the order of the streams."""
    pictures, labels = images
    found = []
    for stream, first, last in ((streams[0], 0, 80), (streams[1], 80, 120)):
        order = np.argsort(labels[first:last], kind="stable") + first
        np.testing.assert_array_equal(labels[order], stream.labels)
        found.append(data.from_arrays(pictures[order], labels[order], standardize=stream.standardize, classes=NAMES))
    return found


def fresh(train_set, tx=TX):
    return train.init_state(MODEL, tx, KEY, train_set)


def assert_equal(a, b):
    def equal(x, y):
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)

    jax.tree.map(equal, a, b)


@pytest.fixture(scope="module")
def trained(streams):
    """A run on a stream whose epoch of three batches ends twice."""
    return train.fit(
        fresh(streams[0]), MODEL, TX, streams[0], steps=7, batch_size=24, eval_set=streams[1], eval_every=3,
        augment=data.CROP_AND_FLIP, progress=False,
    )  # fmt: skip


def test_it_trains_as_a_loop_over_batches(trained, sets):
    """With the bits of `make_step` on the same images, in memory."""
    state, losses = fresh(sets[0]), []
    step = train.make_step(MODEL, TX, preprocess=sets[0].standardize, augment=data.CROP_AND_FLIP)
    for batch in data.batches(sets[0], state.key, 24, steps=7):
        state, metrics = step(state, batch)
        losses.append(metrics.loss)
    assert_equal(trained[0], state)
    np.testing.assert_array_equal(trained[1].loss, losses)


def test_it_trains_and_evaluates_as_a_set_in_memory(trained, sets):
    """To rounding: it is another program."""
    _, history = train.fit(
        fresh(sets[0]), MODEL, TX, sets[0], steps=7, batch_size=24, eval_set=sets[1], eval_every=3,
        augment=data.CROP_AND_FLIP, scan=False, progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(trained[1].loss, history.loss, rtol=1e-3)
    np.testing.assert_allclose(trained[1].eval_loss, history.eval_loss, rtol=1e-2)
    np.testing.assert_array_equal(trained[1].eval_step, history.eval_step)


@pytest.mark.parametrize("keys", [pytest.param("of their own", marks=pytest.mark.slow), "shared"])
def test_members_of_a_population_train_as_alone(streams, trained, keys, monkeypatch):
    """Each on the batches of its key. Members with one key read once."""
    readers = []
    monkeypatch.setattr(
        "jaxdl.data.streams.order.Reader", lambda *args, **how: readers.append(args) or reading.Reader(*args, **how)
    )
    both = jax.numpy.stack([KEY, KEY if keys == "shared" else jax.random.key(9)])
    found = train.population(
        MODEL, TX, streams[0], keys=both, steps=7, batch_size=24, augment=data.CROP_AND_FLIP, via="map", progress=False
    )
    assert len(readers) == (1 if keys == "shared" else 2)
    np.testing.assert_allclose(found.histories[0].loss, trained[1].loss, rtol=1e-3)
    assert np.array_equal(found.histories[0].loss, found.histories[1].loss) == (keys == "shared")


def test_evaluation_counts_every_image_once(streams, sets):
    state = fresh(streams[0])
    for batch_size in (7, 40, 500):
        found, expected = (train.evaluate(MODEL, state, s[1], batch_size=batch_size) for s in (streams, sets))
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
        assert found.error == expected.error


@pytest.mark.parametrize("size", [3, 7, 40])
def test_each_process_reads_its_parts(streams, sets, size, monkeypatch):
    """Together they read every image once, in the order of the rows."""
    read = []
    monkeypatch.setattr(
        "jaxdl.data.streams.order.Reader", lambda *args, **how: read.append(args[1]) or reading.Reader(*args, **how)
    )
    pictures, labels = np.zeros_like(sets[1].images), np.full(40, -1)
    shares = [(0, 2), (3, 1)]  # the parts of two processes with two devices each
    for mine in shares:
        for number, (batch, real) in enumerate(chunks(streams[1], size, parts=4, mine=mine)):
            assert batch.inputs.shape == (2 * size, SIDE, SIDE, 3)
            for place, (part, count) in enumerate(zip(mine, real, strict=True)):
                rows = (number * 4 + part) * size + np.arange(count)
                found = slice(place * size, place * size + count)
                pictures[rows], labels[rows] = batch.inputs[found], batch.targets[found]
    np.testing.assert_array_equal(pictures, sets[1].images)
    np.testing.assert_array_equal(labels, sets[1].labels)
    np.testing.assert_array_equal(np.sort(np.concatenate(read)), np.arange(40))


def test_statistics(streams, sets, monkeypatch, capsys):
    """Those of the same images in memory, to the last bit; a long pass shows its progress."""
    assert data.PcaColor.of(streams[0]) == data.PcaColor.of(sets[0].images)
    assert "PcaColor" not in capsys.readouterr().err
    monkeypatch.setattr("jaxdl.data.image_sums._LONG", 80)
    found = data.SubtractMeanImage.of(streams[0]).mean
    np.testing.assert_allclose(found, sets[0].images.mean(0, dtype=np.float64), rtol=1e-6)
    assert "80/80" in capsys.readouterr().err
    part = np.arange(0, 80, 3)
    assert data.PcaColor.of(streams[0].take(part)) == data.PcaColor.of(sets[0].images[part])


def test_in_memory(streams, sets):
    for stream, expected in zip(streams, sets, strict=True):
        found = data.in_memory(stream.take(np.arange(len(stream))[::-1]))
        np.testing.assert_array_equal(found.images, expected.images[::-1])
        np.testing.assert_array_equal(found.labels, expected.labels[::-1])
        assert (found.class_names, found.standardize) == (stream.class_names, stream.standardize)
    with pytest.raises(ValueError, match="stream must be a stream, got <arrays train"):
        data.in_memory(sets[0])


def test_ensembles(streams, sets):
    members = jax.tree.map(lambda *x: np.stack(x), *(fresh(streams[0]).variables for _ in range(2)))
    found, expected = (ensemble.evaluate(MODEL, members, s[1], batch_size=16) for s in (streams, sets))
    np.testing.assert_allclose(found.ensemble.nll, expected.ensemble.nll, rtol=1e-6)
    np.testing.assert_array_equal(found.members.error, expected.members.error)


def test_batches_are_those_of_a_set_in_memory(streams, sets):
    for start in (0, 3, 11):
        found, expected = (list(data.batches(s[0], KEY, 24, start=start, steps=start + 5)) for s in (streams, sets))
        assert_equal(found, expected)


def test_epochs_planned_in_blocks(streams, sets, monkeypatch):
    monkeypatch.setattr("jaxdl.data.streams.order._PLANNED", 170)  # two epochs of 80 images
    found, expected = (list(data.batches(s[0], KEY, 24, start=2, steps=17)) for s in (streams, sets))
    assert_equal(found, expected)


def test_random_views_depend_on_key_and_step_alone(root):
    stream, _ = opened(root, train_view=data.DecodeRandomResizedCrop(24))
    whole = list(data.batches(stream, KEY, 16, steps=8))
    assert_equal(list(data.batches(stream, KEY, 16, start=5, steps=8)), whole[5:])
    other = next(iter(data.batches(stream, jax.random.key(4), 16, steps=1)))
    assert not np.array_equal(other.inputs, whole[0].inputs)
    # The same image in another epoch is another part of it.
    first, again = (jax.tree.map(lambda *x: np.concatenate(x), *whole[i : i + 4]) for i in (0, 4))
    assert not np.array_equal(np.sort(first.inputs.mean((1, 2, 3))), np.sort(again.inputs.mean((1, 2, 3))))


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(root):
    """And end with the iterator."""
    view = data.DecodeRandomCrop(24, (24, 30))
    found = []
    for workers in (0, 2):
        stream, _ = opened(root, train_view=view, workers=workers)
        batches = data.batches(stream, KEY, 16, steps=9)
        found.append([next(batches) for _ in range(6)])
        batches.close()
    assert_equal(*found)
    assert all(type(array) is np.ndarray for batch in found[1] for array in batch)  # not in grain's shared memory
    assert children() == []


def children():
    """Process numbers of this process's children, without the resource tracker of multiprocessing."""
    done = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if "ps -o" not in line and "resource_tracker" not in line]
    return [int(line.split()[0]) for line in lines if "forkserver" not in line]


KEPT = """
import sys
import jax
from jaxdl import data

if __name__ == "__main__":
    stream, _ = data.folder(sys.argv[1], train_view=data.DecodeCenterCrop(32), workers=2)
    kept = list(data.batches(stream, jax.random.key(0), 16, steps=12))
    on_device = [jax.device_put(batch.inputs) for batch in kept]
    unfinished = data.batches(stream, jax.random.key(0), 16)  # without an end
    for _ in range(3):
        next(unfinished)
"""


@pytest.mark.slow
def test_nothing_is_left_in_shared_memory(root, tmp_path):
    """Where batches are kept until Python ends, and one reader still reads: multiprocessing would warn."""
    script = tmp_path / "script.py"
    script.write_text(KEPT)
    done = subprocess.run(
        [sys.executable, str(script), str(root)], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_worker_that_dies_is_reported(root):
    stream, _ = opened(root, workers=1)
    batches = data.batches(stream, KEY, 16)  # without an end
    next(batches)
    (worker,) = children()
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(data.StreamError, match="reading <pictures.* failed: "):
        list(batches)
    assert children() == []


def test_an_end_that_fails_is_the_end_all_the_same(root, monkeypatch):
    """Whatever closing grain's iterator raises, the reader must not wait for ever."""

    class Broken:
        def __iter__(self):
            return self

        def __next__(self):
            raise OSError("the disk is gone")

        def close(self):
            raise AssertionError("can only join a started process")

    fill = reading.Reader._fill
    monkeypatch.setattr(reading.Reader, "_fill", lambda reader, batches: fill(reader, Broken()))
    monkeypatch.setattr(reading, "_PATIENCE", 0.2)
    reader = reading.Reader(opened(root)[0], np.arange(4), np.arange(4), 2)
    reader._thread.join(10)
    assert not reader._queue.empty()
    with pytest.raises(data.StreamError, match="the disk is gone"):
        next(reader)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(root, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(KEPT.replace('__name__ == "__main__"', "True"))
    command = [sys.executable, str(script), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "StreamError: reading <pictures" in last
    assert 'under `if __name__ == "__main__":`, or pass workers=0' in last


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_end_with_a_killed_parent(root, tmp_path, workers):
    """Also those that wait for room for their batches."""
    script = tmp_path / "script.py"
    kill = "    os.kill(os.getpid(), signal.SIGKILL)\n"
    script.write_text("import os, signal" + KEPT.replace("workers=2", f"workers={workers}") + kill)
    with started([sys.executable, str(script), str(root)], start_new_session=True) as child:
        child.wait(timeout=120)
        assert child.returncode == -signal.SIGKILL
        assert not any_left(child.pid)


@dataclasses.dataclass(frozen=True)
class SlowView:
    """A disk that hangs."""

    size: int = SIDE

    def __call__(self, encoded, generator):
        time.sleep(0.5)
        return np.zeros((self.size, self.size, 3), np.uint8)


def test_waiting_is_reported(root, monkeypatch, caplog):
    monkeypatch.setattr(reading, "_PATIENCE", 0.2)
    stream, _ = opened(root, train_view=SlowView())
    next(data.batches(stream, KEY, 2, steps=1))
    assert "no batch of <pictures" in caplog.text


@dataclasses.dataclass(frozen=True)
class WrongView:
    """A view with a mistake."""

    size: int = SIDE

    def __call__(self, encoded, generator):
        raise KeyError("exif")


def test_a_view_that_always_fails_does_not_train(root):
    stream, _ = opened(root, train_view=WrongView())
    with pytest.raises(data.StreamError, match=r"no image of a batch of <pict.*\.png cannot be read: KeyError: 'exif'"):
        train.fit(fresh(stream), MODEL, TX, stream, steps=2, batch_size=24, progress=False)


@dataclasses.dataclass(frozen=True)
class AnyView:
    """A view that returns what it is made with."""

    shape: tuple
    dtype: str = "uint8"
    size: int = SIDE

    def __call__(self, encoded, generator):
        return np.zeros(self.shape, self.dtype)


@pytest.mark.parametrize(
    ("view", "got"),
    [
        (AnyView((16, SIDE, 3)), r"got uint8 \[16, 32, 3\] from AnyView"),
        (AnyView((SIDE, SIDE, 3), "int32"), r"got int32 \[32, 32, 3\]"),
        (AnyView(()), r"got uint8 \[\]"),
    ],
)
def test_a_view_that_returns_something_else_does_not_train(root, view, got):
    stream, _ = opened(root, train_view=view)
    with pytest.raises(data.StreamError, match=rf"the view must return uint8 \[32, 32, 3\], .* size=32 says, {got}"):
        next(data.batches(stream, KEY, 8, steps=1))


def test_sizes_may_be_numpys(root):
    stream, _ = opened(root, train_view=data.DecodeCenterCrop(np.int64(8), np.int64(9)))
    assert next(data.batches(stream, KEY, 8, steps=1)).inputs.shape == (8, 8, 8, 3)
    assert type(stream.image_shape[0]) is int


def files_of_every_kind(folder):
    """Real pictures in unusual forms, and files that are none; the names of the latter."""
    folder.mkdir(parents=True)
    picture = Image.open(io.BytesIO(png(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))))
    picture.convert("L").save(folder / "grey.jpg")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("1").save(folder / "bits.png")
    Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50) * 30).save(folder / "sixteen bits.png")
    picture.resize((1, 1)).save(folder / "one pixel.png")
    picture.resize((1, 300)).save(folder / "thin.png")
    picture.save(folder / "really png.jpg", format="PNG")
    picture.save(folder / "CAPITALS.JPEG")
    (folder / "empty.jpg").touch()
    picture.save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    return {"empty.jpg", "cut.jpg", "text.png", "gone.png"}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "view", [data.DecodeCenterCrop(20, 24), data.DecodeRandomCrop(20, (20, 30)), data.DecodeRandomResizedCrop(20)]
)
def test_files_of_every_kind(view, tmp_path):
    damaged = files_of_every_kind(tmp_path / "train" / "a")
    (tmp_path / "val").symlink_to(tmp_path / "train")
    stream, _ = data.folder(tmp_path, train_view=view, test_view=view)
    assert len(stream) == 14
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = list(data.batches(stream, KEY, 7, steps=2))
    messages = [str(w.message) for w in caught if issubclass(w.category, data.DamagedImageWarning)]
    assert not any(" at 0x" in message for message in messages)
    assert sum(map(len, (batch.inputs for batch in batches))) == 14
    black = sum(int(not image.any()) for batch in batches for image in batch.inputs)
    assert black == len(damaged)
    assert "4 images of <" in messages[-1]
    assert all(any(name in message for name in damaged) for message in messages[:-1])
    assert len(messages) == 4
    strict, _ = data.folder(tmp_path, train_view=view, test_view=view, strict=True)
    with pytest.raises(data.StreamError, match=r"(empty|cut|text|gone)\.\w+ cannot be read"):
        list(data.batches(strict, KEY, 7, steps=2))


def test_sixteen_bits_keep_the_upper_eight():
    pixels = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    found = data.DecodeCenterCrop(32, 32)(png(pixels), np.random.default_rng(0))
    np.testing.assert_array_equal(found, np.repeat((pixels // 256)[..., None], 3, 2))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_without_a_brightness_are_damage(kind):
    file = io.BytesIO()
    Image.fromarray(np.full((32, 32), 200, kind)).save(file, "TIFF")
    with pytest.raises(ValueError, match="32 bits, which tell no brightness"):
        data.DecodeCenterCrop(32, 32)(file.getvalue(), np.random.default_rng(0))


def jpeg(height, width, seed=0):
    """A real photo-like JPEG: smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (256, 256), (333, 500), (224, 224), (90, 61)])
def test_the_center_crop_is_pillows(height, width):
    """Pillow resizes the whole image, to whole pixels, and crops it: torchvision's two steps."""
    encoded = jpeg(height, width)
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    scale = 256 / min(height, width)
    rows, columns = (256, int(256 * width / height)) if height <= width else (int(256 * height / width), 256)
    top, left = round((rows - 224) / 2), round((columns - 224) / 2)
    expected = image.resize((columns, rows), Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224))
    found = data.DecodeCenterCrop(224, 256)(encoded, np.random.default_rng(0))
    difference = np.abs(np.asarray(expected, int) - found)
    assert difference.max() <= (1 if scale < 2 else 2)


def test_large_images_are_decoded_at_a_part_of_their_size():
    """The decoder averages blocks of pixels; what is left is smooth, so the numbers stay close."""
    encoded = jpeg(2400, 3200)
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    expected = image.resize((298, 224), Image.Resampling.BILINEAR).crop((37, 0, 261, 224))
    found = data.DecodeCenterCrop(224, 224)(encoded, np.random.default_rng(0))
    assert np.abs(np.asarray(expected, int) - found).mean() < 1


def test_random_resized_crops_have_torchvisions_distribution():
    """Areas uniform, logarithms of the ratio uniform, where they fit."""
    view, generator = data.DecodeRandomResizedCrop(8, area=(0.2, 0.5)), np.random.default_rng(0)
    parts = np.array([view._part(600, 600, generator) for _ in range(4000)])
    top, left, height, width = parts.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 600).all()
    assert (left + width <= 600).all()
    area, ratio = height * width / 600**2, np.log(width / height)
    for values, low, high in ((area, 0.2, 0.5), (ratio, np.log(3 / 4), np.log(4 / 3))):
        shares = np.histogram(values, 6, (low - 1e-3, high + 1e-3))[0] / len(values)
        np.testing.assert_allclose(shares, 1 / 6, atol=0.025)
    places = top / (600 - height)
    np.testing.assert_allclose(np.histogram(places, 5, (0, 1))[0] / len(places), 0.2, atol=0.025)


def test_a_part_that_cannot_fit_is_the_middle():
    top, left, height, width = data.DecodeRandomResizedCrop(8, (0.9, 1.0))._part(10, 1000, np.random.default_rng(0))
    assert (height, width) == (10, 13)
    assert (top, left) == (0, 493)


CIFAR = Path(__file__).parents[2] / "shared" / "data" / "tfds"


@pytest.mark.skipif(not (CIFAR / "cifar10").is_dir(), reason="needs ../shared/data with CIFAR-10")
def test_records_are_those_of_tensorflow_datasets():
    view = data.DecodeCenterCrop(32, 32)
    stream, held_out = data.stream("cifar10", data_dir=CIFAR, train_view=view, test_view=view, test="test[:1%]")
    assert (len(stream), len(held_out), stream.num_classes) == (50_000, 100, 10)
    assert stream.class_names[3] == "cat"
    import tensorflow_datasets as tfds

    records = tfds.data_source("cifar10", split="test[:1%]", data_dir=CIFAR)
    pixels = np.stack([batch.inputs for batch in data.batches(held_out, KEY, 50, steps=2)])
    rows = np.asarray(data.epoch_order(KEY, 0, examples=100, batch_size=50))
    np.testing.assert_array_equal(pixels, np.stack([records[row]["image"] for row in range(100)])[rows])
    np.testing.assert_array_equal(held_out.targets, [records[row]["label"] for row in range(100)])


@pytest.mark.skipif(not (CIFAR / "mnist").is_dir(), reason="needs ../shared/data with MNIST")
def test_records_whose_classes_have_no_names():
    view = data.DecodeCenterCrop(28, 28)
    stream, _ = data.stream("mnist", data_dir=CIFAR, train_view=view, test_view=view)
    assert stream.class_names == tuple("0123456789")
    assert 0 < next(data.batches(stream, KEY, 8, steps=1)).inputs.mean() < 100


def test_resuming_with_another_view_is_refused_and_says_what_differs(root, tmp_path):
    def run(view):
        stream, _ = opened(root, train_view=view)
        how = {"steps": 1, "batch_size": 16, "progress": False, "checkpoint_dir": tmp_path}
        train.fit(fresh(stream), MODEL, TX, stream, **how)

    run(data.DecodeCenterCrop(16, 16))
    with pytest.raises(ValueError, match=r"data: there \.\.\..*'short_side': '16'}, here \.\.\..*'short_side': '20'}"):
        run(data.DecodeCenterCrop(16, 20))


SCRIPT = """
import sys
import jax, optax
from jaxdl import data, models, optim, train

def main(root, folder, kill_at):
    train_set, test_set = data.folder(
        root, train_view=data.DecodeRandomResizedCrop(32), test_view=data.DecodeCenterCrop(32, 36), workers=1
    )
    model = models.resnet_cifar(8)
    tx = optax.chain(optim.momentum(optim.cosine_cycles(0.05, period=6)), optim.ema(0.9), optim.snapshots(6, keep=2))
    state = train.init_state(model, tx, jax.random.key(0), train_set)

    def die(event):
        if kill_at and isinstance(event, train.Saved) and event.step >= kill_at:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)

    state, history = train.fit(
        state, model, tx, train_set, steps=12, batch_size=24, eval_set=test_set, augment=data.RandomFlip(),
        checkpoint_dir=folder, checkpoint_every=4, watch=[die], progress=False,
    )
    leaves = jax.tree.leaves((state.params, state.batch_stats, state.opt_state))
    print(sum(float(abs(leaf.astype("float32")).sum()) for leaf in leaves), history.loss.tolist(), history.eval_loss)

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


@pytest.mark.slow
def test_killed_and_resumed(root, tmp_path):
    """SIGKILL in the middle of an epoch; the same call goes on with the very next batch, and no worker is left."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    groups = []

    def run(folder, kill_at):
        command = [sys.executable, str(script), str(root), str(tmp_path / folder), str(kill_at)]
        with started(command, start_new_session=True) as child:
            groups.append(child.pid)
            output, errors = child.communicate(timeout=300)
        return subprocess.CompletedProcess(command, child.returncode, output, errors)

    whole = run("whole", 0)
    assert whole.returncode == 0, whole.stderr[-3000:]
    killed = run("killed", 8)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    resumed = run("killed", 0)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert resumed.stdout == whole.stdout
    assert not any(map(any_left, groups)), "a worker outlived its parent"


def any_left(group):
    """Whether a process of a group is still there after half a minute; workers do not have the script's name."""
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True)
        found = [line.split() for line in done.stdout.splitlines()]
        if not any(number == str(group) and not state.startswith("Z") for number, state in found):
            return False
        if time.monotonic() > deadline:
            return True
        time.sleep(0.5)


@pytest.mark.slow
def test_ctrl_c_ends_the_workers(root, tmp_path):
    """A terminal sends it to all processes of the program; the run is saved."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("steps=12", "steps=10**6"))
    command = [sys.executable, str(script), str(root), str(tmp_path / "run"), "0"]
    with started(command, start_new_session=True) as child:
        while not list((tmp_path / "run").glob("[1-9]*")):
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.2)
        os.killpg(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "TrainingInterruptedError: fit: interrupted after" in errors
    assert "StreamError" not in errors
    assert "Process grain" not in errors, "a worker was interrupted, too"
    assert "leaked" not in errors
    assert not any_left(child.pid)


def test_wrong_calls(root, streams, sets, tmp_path):
    train_set, _ = streams
    state = fresh(train_set)
    with pytest.raises(ValueError, match="update_batch_stats: batches must be a data.Dataset, in memory"):
        ensemble.update_batch_stats(MODEL, state.params, train_set)
    with pytest.raises(ValueError, match="fit: scan=True needs a set in memory"):
        train.fit(state, MODEL, TX, train_set, steps=2, batch_size=24, scan=True)
    five = models.resnet_cifar(8, num_classes=5)
    of_five = train.init_state(five, TX, KEY, train_set)
    with pytest.raises(ValueError, match="num_classes=10"):
        train.fit(of_five, five, TX, train_set, steps=2, batch_size=24)
    with pytest.raises(ValueError, match="batch_size=81 is more than the 80 images"):
        train.fit(state, MODEL, TX, train_set, steps=2, batch_size=81)
    with pytest.raises(ValueError, match="pair"):
        train.fit(state, MODEL, TX, streams, steps=2)
    with pytest.raises(ValueError, match=r"pair \(train, test\) that data\.folder returns; .* = data\.folder"):
        train.fit(state, MODEL, TX, streams, steps=2)
    with pytest.raises(ValueError, match=r"PcaColor: .* got the pair \(train, test\); pass the first"):
        data.PcaColor.of(streams)
    with pytest.raises(ValueError, match=r"PcaColor: .* got pairs; pass \(images for images, _ in batches\)"):
        data.PcaColor.of(data.batches(train_set, KEY, 16, steps=2))
    with pytest.raises(ValueError, match="must have a folder val, test or valid"):
        data.folder(tmp_path)
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="must hold class folders with images"):
        data.folder(tmp_path)
    (tmp_path / "train" / "cat").mkdir()
    with pytest.warns(UserWarning, match="holds no image"), pytest.raises(ValueError, match="must hold class folders"):
        data.folder(tmp_path)
    for split, name in (("train", "cat"), ("val", "dog")):
        (tmp_path / split / name).mkdir(exist_ok=True)
        (tmp_path / split / name / "1.png").write_bytes(png(np.zeros((2, 2, 3), np.uint8)))
    (tmp_path / "train" / "cat" / "notes.txt").touch()
    with pytest.warns(UserWarning, match="1 files in"), pytest.raises(ValueError, match="the same classes, got cat in"):
        data.folder(tmp_path)


def tree(root, *names):
    """Image files of two pixels."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(np.zeros((2, 2, 3), np.uint8)))
    return root


def test_links_and_hidden_folders(tmp_path):
    """A loop is not followed, nor a link to all classes, and what Jupyter leaves is no image."""
    tree(tmp_path, "train/cat/1.png", "train/cat/more/2.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png")
    tree(tmp_path, "train/cat/.ipynb_checkpoints/1-checkpoint.png")
    for name, target in (("loop", "."), ("all", ".."), ("twice", "more")):
        (tmp_path / "train" / "cat" / name).symlink_to(target)
    (tmp_path / "train" / "me").symlink_to(".")
    with pytest.warns(UserWarning, match="me holds no image"):
        stream, _ = data.folder(tmp_path)
    np.testing.assert_array_equal(stream.labels, [0, 0, 1])


def test_images_outside_of_class_folders_are_warned_of(tmp_path):
    tree(tmp_path, "train/cat/1.png", "train/lost.png", "val/cat/1.png")
    with pytest.warns(UserWarning, match=r"1 images in .*train, outside of its class folders, are .* lost\.png"):
        data.folder(tmp_path)


def test_names_that_are_no_utf_8(tmp_path):
    tree(tmp_path, "val/a/1.png", os.fsdecode(b"train/a/b\xe4r.png"))
    (batch,) = data.batches(opened(tmp_path, strict=True)[0], KEY, 1, steps=1)
    assert batch.inputs.shape == (1, SIDE, SIDE, 3)


def test_splits_and_classes_that_do_not_fit(tmp_path):
    tree(tmp_path, "train/cat/1.png", "train/K\u00e4tze/1.png", "val/Ka\u0308tze/1.png", "val/cat/1.png")
    with pytest.raises(ValueError, match=r"train' only and Ka.* in 'val' only; .* two forms of Unicode, .*K\\xe4tze"):
        data.folder(tmp_path)
    with pytest.raises(ValueError, match=r"got \['K.*', 'cat'\]; the class folders .* pass '.*[^n]'$"):
        data.folder(tmp_path / "train")


def test_parts_of_a_stream(streams, sets):
    rows = np.array([5, 3, 70])
    part = streams[0].take(rows)
    (batch,) = data.batches(part, KEY, 3, steps=1)
    order = np.asarray(data.epoch_order(KEY, 0, examples=3, batch_size=3))[0]
    np.testing.assert_array_equal(batch.inputs, sets[0].images[rows[order]])
    digests = {streams[0].take(rows.astype(kind)).source.digest() for kind in ("int64", "int32", "uint8", ">i4")}
    assert len(digests) == 1  # a run is resumed with any of them
    first, second = streams[0].split_at_random(0.75, KEY)
    assert (len(first), len(second)) == (60, 20)
    np.testing.assert_array_equal(np.sort(np.concatenate([first.source.rows, second.source.rows])), np.arange(80))
