"""Weights for torch: files of `save_torch_weights`, which torch has loaded (tests/oracles/torch_saved.py)."""

import json
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from oracles import torch_saved as oracle

from jaxdl import models, transfer
from jaxdl.models import layers
from jaxdl.transfer.torch_names import from_torch, to_torch
from jaxdl.tree import path_name

ORACLES = Path(__file__).parent / "oracles"
RECORDED = json.loads((ORACLES / "torch_saved.json").read_text())
NAMES = json.loads((ORACLES / "torch_models.json").read_text())
MODELS = oracle.jaxdl_models()
LARGE = ("alexnet", "vgg13_bn", "resnet50")


def same_bits(one, other) -> bool:
    equal = jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), one, other)
    return all(jax.tree.leaves(equal))


def drawn(model, shape=(1, 32, 32, 3)):
    """Variables of a model, drawn by path."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: oracle.drawn(path_name(path), leaf.shape), shapes)


def test_every_recorded_model_is_compared():
    assert set(MODELS) == set(RECORDED) - {"torch_version"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in MODELS])
def test_torch_loads_our_file_and_gives_our_logits(name, tmp_path):
    """The file written now holds what torch's network held when its logits were recorded; and loading undoes saving."""
    if name == "resnet20_real" and not oracle.REAL.exists():
        pytest.skip(f"needs the published weights in {oracle.REAL}")
    model, variables, path = MODELS[name], oracle.variables(name), tmp_path / "w.safetensors"
    transfer.save_torch_weights(path, model, variables)
    assert oracle.checksum(safetensors.numpy.load_file(path)) == RECORDED[name]["state_dict"]

    images = oracle.images(name)
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    theirs = np.asarray(RECORDED[name]["logits"])
    assert np.abs(theirs[0] - theirs[1]).max() > 0.05  # they depend on the image
    np.testing.assert_allclose(logits, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())

    again = transfer.load_torch_weights(model, path, image_shape=images.shape[1:])
    assert same_bits(again, {"batch_stats": {}} | variables)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("alexnet", models.alexnet_torchvision()),
        ("vgg16", models.vgg(16)),
        ("vgg16_bn", models.vgg(16, norm=layers.BatchNorm)),
        *((f"resnet{depth}", models.resnet(depth)) for depth in (18, 34, 50, 101, 152)),
    ],
)
def test_names_and_shapes_are_those_of_torchs_state_dict(name, model):
    """Of the whole architectures, without their numbers."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False))
    arrays = {
        path_name(path): np.broadcast_to(np.float32(0), leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }
    tensors = to_torch(model, arrays)
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == NAMES[name]
    found, _ = from_torch({name: tensor for name, tensor in tensors.items() if tensor.ndim})
    assert {path: array.shape for path, array in found.items()} == {path: array.shape for path, array in arrays.items()}


@pytest.mark.parametrize(
    "model",
    [
        models.resnet_cifar(14, preactivation=True, scan=True),
        models.resnet_cifar(11, bottleneck=True, shortcut=layers.shortcut_c),
        models.resnet_cifar(8, norm=None, widths=(4, 8, 16)),
        models.plain_cifar(8, norm=layers.GroupNorm, dtype=jnp.bfloat16),
        models.wide_resnet(10, 1, 7),
        models.vgg_cifar(11, norm=layers.InstanceNorm),
    ],
    ids=["preactivation", "bottleneck", "no norm", "group norm", "wide", "vgg_cifar"],
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_loading_undoes_saving(model, suffix, tmp_path):
    """Of what no torch library has by name, too; images of one channel."""
    variables, path = drawn(model, (1, 32, 32, 1)), tmp_path / f"w{suffix}"
    transfer.save_torch_weights(path, model, variables)
    assert same_bits(transfer.load_torch_weights(model, path, image_shape=(32, 32, 1)), {"batch_stats": {}} | variables)


NET = models.resnet_cifar(8)


@pytest.fixture(scope="module")
def variables():
    return drawn(NET, (1, 32, 32, 1))


def changed(variables, path, change):
    """A copy with one array changed, or left out."""
    copy = jax.tree.map(lambda leaf: leaf, variables)
    *folders, name = path.split("/")
    node = copy
    for folder in folders:
        node = node[folder]
    node[name] = change(node[name])
    return copy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda v: (NET, "w.safetensors", v), "path must be the name of a file, got path=ResNet.* the order is save_"),
        (lambda v: (".", NET, v), r"\. is a folder; pass a file in it"),
        (lambda v: ("w.pth", NET, v), "w.pth must end in .safetensors or .npz; torch reads .*load_file"),
        (lambda v: ("w.npz", models.ResNet, v), "model must be a flax.linen module, .* pass an instance"),
        (
            lambda v: ("w.npz", models.mlp(), v),
            "torch has no names for the arrays of this MLP; .* models.resnet, .* alexnet_torch",
        ),
        (
            lambda v: ("w.npz", models.alexnet(), v),
            "torch has no names for the arrays of this AlexNet; .* alexnet_torchvision",
        ),
        (lambda v: ("w.npz", NET, v["params"]), r"variables must be {\"params\": .* pass state.variables"),
        (lambda v: ("w.npz", NET, [v]), "variables must be .* pass state.variables"),
        (
            lambda v: ("w.npz", NET, jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), v)),
            r"one model, got 3 stacked members; pass one of them, jax.tree.map\(lambda leaf: leaf\[0\], variables\)",
        ),
        (
            lambda v: ("w.npz", models.resnet_cifar(14), v),
            r"do not fit this ResNet\n  30 missing:\n    .*stage1_block2",
        ),
        (lambda v: ("w.npz", models.resnet_cifar(8, 5), v), r"head/kernel is \(64, 10\), needed is \(64, 5\)"),
        (lambda v: ("w.npz", NET, {"params": v["params"]}), "missing:\n    batch_stats/stage1_block1/norm1/mean"),
        (lambda v: ("w.npz", NET, {**v, "cache": {"x": jnp.ones(3)}}), r"1 unexpected:\n    cache/x \(3,\)"),
        (
            lambda v: ("w.npz", NET, changed(v, "params/head/bias", lambda leaf: jnp.asarray(leaf).at[2].set(jnp.nan))),
            "not all finite: NaN or infinite numbers in params/head/bias$",
        ),
        (
            lambda v: ("w.npz", NET, changed(v, "batch_stats/stem_norm/var", lambda leaf: np.full(16, 1e300))),
            "NaN or infinite numbers in batch_stats/stem_norm/var$",
        ),
    ],
)
def test_wrong_calls(variables, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"save_torch_weights: (?s:.)*{words}"):
        transfer.save_torch_weights(*arguments(variables))
    assert not list(tmp_path.iterdir())


def test_what_torch_has_no_name_for_is_listed(tmp_path):
    model = models.resnet_cifar(8, activation=layers.PReLU)
    with pytest.raises(ValueError, match="torch's ResNet has nothing like params/.*/slope, .*; it has convolutions"):
        transfer.save_torch_weights(tmp_path / "w.npz", model, drawn(model))


def test_no_folder(variables, tmp_path):
    with pytest.raises(FileNotFoundError, match="save_torch_weights: there is no folder .*nowhere"):
        transfer.save_torch_weights(tmp_path / "nowhere" / "w.npz", NET, variables)


@pytest.mark.parametrize(("suffix", "writer"), [(".npz", "numpy.savez"), (".safetensors", "safetensors.numpy.save")])
def test_a_file_is_replaced_when_the_new_one_is_whole(variables, suffix, writer, tmp_path, monkeypatch):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"old")

    def full_disk(file, *_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(writer, full_disk)
        with pytest.raises(OSError, match="no space left"):
            transfer.save_torch_weights(path, NET, variables)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"old")]
    transfer.save_torch_weights(str(path), NET, flax.core.freeze(variables))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert same_bits(transfer.load_torch_weights(NET, path, image_shape=(32, 32, 1)), variables)
    (tmp_path / "another").touch()
    assert path.stat().st_mode == (tmp_path / "another").stat().st_mode  # whoever may read others may read this
