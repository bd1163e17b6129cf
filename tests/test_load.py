"""`data.load` for data sets that come through tensorflow-datasets."""

import contextlib
import io
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jaxdl import data
from jaxdl.data import prepare, tfds_reader

SHAPES = {"cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "mnist": (28, 28, 1), "svhn_cropped": (32, 32, 3)}


def prepare_tiny(name, data_dir, n=7, version="3.0.0", file_format="array_record"):
    """Prepares a small stand-in with the real builder's name and features; returns what it holds."""
    rng = np.random.default_rng(len(name))
    shape = SHAPES[name]
    contents = {s: (rng.integers(0, 256, (n, *shape), np.uint8), rng.integers(0, 10, n)) for s in ("train", "test")}
    features = {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(num_classes=10)}
    if name == "cifar100":
        features["coarse_label"] = tfds.features.ClassLabel(num_classes=20)

    class TinyBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in contents}

        def _generate_examples(self, split):
            for i, (image, label) in enumerate(zip(*contents[split], strict=True)):
                png = io.BytesIO()
                PIL.Image.fromarray(image[..., 0] if shape[-1] == 1 else image).save(png, "PNG")
                example = {"image": io.BytesIO(png.getvalue()), "label": int(label)}
                yield i, example | ({"coarse_label": 19} if name == "cifar100" else {})

    TinyBuilder.name = name
    TinyBuilder(data_dir=data_dir, file_format=file_format).download_and_prepare()
    return contents


def as_sets(splits):
    """Images with their labels, without their order, which preparing shuffles."""
    return [sorted(zip(map(bytes, images), map(int, labels), strict=True)) for images, labels in splits]


@pytest.mark.parametrize("name", SHAPES)
def test_load_decodes_what_was_prepared(name, tmp_path):
    contents = prepare_tiny(name, tmp_path)
    train, test = data.load(name, data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert as_sets([(train.images, train.labels), (test.images, test.labels)]) == as_sets(contents.values())
    assert (train.image_shape, train.num_classes, train.split, test.split) == (SHAPES[name], 10, "train", "test")
    again, _ = data.load(name, data_dir=tmp_path, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(again.images, train.images)
    assert again.standardize == train.standardize
    assert again.class_names == train.class_names


def test_second_load_only_opens_the_cache(tmp_path, monkeypatch):
    prepare_tiny("mnist", tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data.load("mnist", cache_dir=tmp_path / "cache")
    monkeypatch.setattr(tfds_reader, "decode", None)
    assert isinstance(data.load("mnist", cache_dir=tmp_path / "cache")[0].images.base, np.memmap)


def test_other_contents_have_another_cache(tmp_path):
    """The newest version is taken; a set of the same version that differs is not mistaken for the cached one."""
    for data_dir, n, version in (("a", 7, "3.0.0"), ("b", 9, "3.0.0"), ("a", 8, "3.0.10")):
        prepare_tiny("mnist", tmp_path / data_dir, n, version)
        assert len(data.load("mnist", data_dir=tmp_path / data_dir, cache_dir=tmp_path / "cache")[0]) == n
    assert len(list((tmp_path / "cache/datasets/mnist").iterdir())) == 3


def test_damaged_cache_is_made_anew(tmp_path):
    prepare_tiny("mnist", tmp_path)
    first, _ = data.load("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    images = np.array(first.images)
    (file,) = (tmp_path / "cache").rglob("train_images.npy")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="the cache of mnist is damaged and is made anew"):
        again, _ = data.load("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(again.images, images)
    data.load("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")  # no warning: it is whole again


def test_cache_that_cannot_be_written_is_a_warning(tmp_path):
    prepare_tiny("mnist", tmp_path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="mnist could not be cached in .*cache_dir= or set JAXDL_CACHE"):
        assert len(data.load("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")[0]) == 7


@pytest.mark.parametrize("tensorflow", [True, False])
def test_missing_without_network_is_told(tmp_path, monkeypatch, tensorflow):
    """The name, the folder looked in and the command; whether or not preparing would be possible here."""
    monkeypatch.setattr(tfds_reader.importlib.util, "find_spec", lambda name: object() if tensorflow else None)
    monkeypatch.setitem(tfds_reader._HOSTS, "cifar10", "http://no-such-host.invalid/")
    with pytest.raises(data.DatasetNotFoundError) as caught:
        data.load("cifar10", data_dir=tmp_path)
    for part in (
        "'cifar10'",
        str(tmp_path),
        'pip install "jaxdl[prepare]"',
        "-m jaxdl.data.prepare cifar10 --data-dir",
    ):
        assert part in str(caught.value)
    assert ("cannot be reached" if tensorflow else "needs TensorFlow") in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # no half folders


def test_missing_and_not_to_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.DatasetNotFoundError, match=f"not found in {tmp_path} .*download=False forbids"):
        data.load("mnist", download=False)


def test_what_is_missing_is_prepared_in_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_reader.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds_reader, "_reachable", lambda url: True)
    commands = []

    def run(command, check):
        commands.append(command)
        prepare_tiny("mnist", command[-1])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(tfds_reader.subprocess, "run", run)
    assert len(data.load("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")[0]) == 7
    assert commands == [[sys.executable, "-m", "jaxdl.data.prepare", "mnist", "--data-dir", str(tmp_path)]]


def test_preparing_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_reader.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds_reader, "_reachable", lambda url: True)
    monkeypatch.setattr(tfds_reader.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess([], 1))
    with pytest.raises(data.DatasetNotFoundError, match="preparing it failed"):
        data.load("mnist", data_dir=tmp_path)


def test_a_silent_server_is_not_waited_for(monkeypatch):
    """The question is answered while the server is still silent, which it is until the test ends."""
    silence_ends = threading.Event()
    monkeypatch.setattr(tfds_reader, "_TIMEOUT", 0.2)
    silent = lambda *a, **k: silence_ends.wait() and contextlib.nullcontext()  # noqa: E731
    monkeypatch.setattr(tfds_reader.urllib.request, "urlopen", silent)
    assert not tfds_reader._reachable("http://silent.invalid/")
    silence_ends.set()


def test_prepare_names_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r'TensorFlow is not installed.*pip install "jaxdl\[prepare\]"'):
        prepare.main(["mnist"])
    with pytest.raises(SystemExit, match="2"):
        prepare.main(["imagenet"])
    assert "invalid choice: 'imagenet'" in capsys.readouterr().err


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown data set 'imagenet'; the known ones are fashion_mini, cifar10"):
        data.load("imagenet")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data.load("CIFAR10"), "unknown data set 'CIFAR10'; did you mean 'cifar10'"),
        (lambda: data.load("fashion-mnist"), "did you mean 'fashion_mnist'"),
        (lambda: data.load(data.DATASETS), "load: name must be the name of one data set, got name=.*; the known ones"),
        (lambda: data.load(None), "name must be the name of one data set, got name=None"),
        (lambda: data.load("mnist", download="no"), "load: download must be True or False, got download='no'"),
        (lambda: data.load("mnist", data_dir=5), "load: data_dir must be a folder's path, got data_dir=5"),
        (lambda: data.load("mnist", cache_dir=True), "load: cache_dir must be a folder's path, got cache_dir=True"),
        (lambda: data.load("mnist", data_dir=__file__), "data_dir must be a folder, got the file .*test_load.py"),
    ],
)
def test_wrong_calls(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_folder_that_does_not_exist_is_told(tmp_path):
    with pytest.raises(data.DatasetNotFoundError, match="not found in .*absent, a folder that does not exist "):
        data.load("mnist", data_dir=tmp_path / "absent", download=False)


@pytest.mark.slow
def test_real_cifar10(cifar10):
    train, test = cifar10
    assert (len(train), len(test), train.image_shape) == (50_000, 10_000, (32, 32, 3))
    np.testing.assert_array_equal(np.bincount(train.labels), 5_000)
    np.testing.assert_array_equal(np.bincount(test.labels), 1_000)
    np.testing.assert_allclose(train.standardize.mean, (0.4914, 0.4822, 0.4465), atol=5e-5)
    np.testing.assert_allclose(train.standardize.std, (0.2470, 0.2435, 0.2616), atol=5e-5)
    assert " ".join(train.class_names) == "airplane automobile bird cat deer dog frog horse ship truck"


def test_loading_never_imports_tensorflow(tmp_path):
    prepare_tiny("mnist", tmp_path)
    code = (
        "import sys; from jaxdl import data; "
        f"data.load('mnist', data_dir={str(tmp_path)!r}, cache_dir={str(tmp_path / 'cache')!r}); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
