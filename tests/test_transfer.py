"""Weights from torch's files, and fine-tuning."""

import json
import pickle
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import NoisyNormNet, random_dataset, small_resnet
from oracles.random_weights import random_images, random_weight
from safetensors.numpy import save_file

from jaxdl import data, models, optim, train, transfer
from jaxdl.models import layers
from jaxdl.optim.freezing import frozen_params
from jaxdl.transfer.torch_files import read_torch_file

ORACLES = Path(__file__).parent / "oracles"
NAMES = json.loads((ORACLES / "torch_models.json").read_text())
LOGITS = np.load(ORACLES / "torch_models.npz")
IMAGENET = data.Standardize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def torch_state(name: str) -> dict[str, np.ndarray]:
    return {key: random_weight(key, tuple(shape)) for key, shape in NAMES[name].items()}


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.npz"
    np.savez(path, **torch_state("resnet18"))
    return path


@pytest.mark.parametrize(
    ("name", "model", "side"),
    [
        ("resnet18", models.resnet(18), 64),
        pytest.param("resnet50", models.resnet(50, scan=True), 64, marks=pytest.mark.slow),
        pytest.param("resnet34", models.resnet(34), 64, marks=pytest.mark.slow),
        pytest.param("resnet101", models.resnet(101, scan=True), 64, marks=pytest.mark.slow),
        pytest.param("resnet152", models.resnet(152), 64, marks=pytest.mark.slow),
        pytest.param("alexnet", models.alexnet_torchvision(), 224, marks=pytest.mark.slow),
        pytest.param("vgg16", models.vgg(16), 64, marks=pytest.mark.slow),
        pytest.param("vgg16_bn", models.vgg(16, norm=layers.BatchNorm), 64, marks=pytest.mark.slow),
    ],
)
def test_logits_are_torchs(name, model, side, tmp_path):
    """torchvision's architectures with random weights: logits recorded from torch, of about 1."""
    np.savez(tmp_path / "weights.npz", **torch_state(name))
    variables = transfer.load_torch_weights(model, tmp_path / "weights.npz")
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, random_images((2, side, side, 3)))
    theirs = LOGITS[f"logits/{name}"]
    assert 0.1 < np.abs(theirs).max() < 30
    np.testing.assert_allclose(logits, theirs, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".th", ".npz"])
@pytest.mark.parametrize(
    ("name", "depth", "published"), [("resnet20-12fca82f", 20, 8.27), ("resnet56-4bfd9763", 56, 6.61)]
)
def test_pretrained_cifar_resnets_have_their_published_error(cifar10, real_data, name, depth, published, suffix):
    """On the whole test set, to one image of 10,000; of the other file on 500, and that it holds the same numbers."""
    model, (_, test_set) = models.resnet_cifar(depth), cifar10
    variables = transfer.load_torch_weights(model, real_data.parents[1] / "weights" / f"{name}{suffix}")
    state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), test_set.image_shape, variables=variables)
    if suffix == ".npz":  # the same numbers: no need to count all images again
        test_set = test_set[:500]
        other = transfer.load_torch_weights(model, real_data.parents[1] / "weights" / f"{name}.th")
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, variables, other)))
    error = 100 * train.evaluate(model, state, test_set, preprocess=IMAGENET).error
    assert abs(error - published) <= (0.0101 if suffix == ".th" else 4)


@pytest.mark.parametrize("name", ["torch_zip.pth", "torch_legacy.th"])
def test_torch_files(name):
    """Both formats, written by torch: views, a shared storage, every dtype, and objects that are no tensors."""
    content = read_torch_file(ORACLES / name)
    assert content["epoch"] == 3
    assert content["best_prec1"] == 91.5
    with np.load(ORACLES / "torch_file.npz") as numbers:
        assert set(numbers) == set(content["state_dict"])
        for key in numbers:
            found = content["state_dict"][key]
            if key == "bfloat16":
                assert found.dtype == jnp.bfloat16
                found = found.astype(np.float32)
            assert found.dtype == numbers[key].dtype, key
            np.testing.assert_array_equal(found, numbers[key])


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickled_code_does_not_run(tmp_path):
    """A file that would write another one when unpickled the usual way."""
    trap, file = tmp_path / "trap", tmp_path / "evil.pth"
    with file.open("wb") as out:
        for part in (0x1950A86A20F9469CFC6C, 1001, {}, {"state_dict": {"conv1.weight": Attack(trap)}}, []):
            pickle.dump(part, out, protocol=2)
    pickle.loads(pickle.dumps(Attack(trap)))
    assert trap.exists()  # it is a real attack
    trap.unlink()
    with pytest.raises(ValueError, match=r"unexpected:\n    conv1.weight not an array"):
        transfer.load_torch_weights(models.resnet_cifar(8), file)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.th", b"", r"w.th is empty"),
        ("w.npz", b"", r"w.npz is empty"),
        ("w.npz", b"PK\x03\x04" + b"\0" * 40, r"w.npz must be a .npz file of arrays, .* may be damaged"),
        ("w.npz", b"hello", r"w.npz must be a .npz file of arrays, .* may be damaged"),
        ("w.safetensors", b"\0" * 40, r"w.safetensors must be a .safetensors file of arrays, .* may be damaged"),
        ("w.safetensors", b"x", r"w.safetensors must be a .safetensors file of arrays, .* may be damaged"),
        ("w.pth", b"PK\x05\x06" + b"\0" * 18, "it has no data.pkl"),
        ("w.pt", pickle.dumps(5), "is not a file that torch.save wrote"),
        ("w.h5", b"x", "must end in .npz, .safetensors or .pth"),
    ],
)
def test_files_that_are_not_torchs(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        transfer.load_torch_weights(models.resnet_cifar(8), tmp_path / name)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    """A good file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("torch_zip.pth", "torch_legacy.th"):
        (folder / name).write_bytes((ORACLES / name).read_bytes())
    entries = {"conv1.weight": np.ones((16, 3, 3, 3), np.float32), "bn1.weight": np.ones(16, np.float32)}
    np.savez(folder / "w.npz", **entries)
    np.savez_compressed(folder / "small.npz", **entries)
    save_file(entries, folder / "w.safetensors")
    return folder


@pytest.mark.parametrize("name", ["torch_zip.pth", "torch_legacy.th", "w.npz", "small.npz", "w.safetensors"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_cut_files(whole_files, tmp_path, name, share):
    content = (whole_files / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name}.*(damaged|not a file that torch.save wrote)"):
        transfer.load_torch_weights(models.resnet_cifar(8), tmp_path / name)


@pytest.mark.parametrize("name", ["torch_zip.pth", "torch_legacy.th", "w.npz", "small.npz", "w.safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6, 0.9])
def test_altered_files_raise_nothing_but_value_errors(whole_files, tmp_path, name, share):
    """Eight bytes turned round; the file does not fit the model in any case, so that there always is an error."""
    content = bytearray((whole_files / name).read_bytes())
    start = int(share * len(content))
    for place in range(start, min(start + 8, len(content))):
        content[place] ^= 0xFF
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        transfer.load_torch_weights(models.resnet_cifar(8), tmp_path / name)


def test_numbers_that_are_not_finite_are_listed(resnet18_file, tmp_path):
    """By torch's names; and by ours where a state is made from variables."""
    model, tx, shape = models.resnet_cifar(8), optim.sgd(0.1), (32, 32, 3)
    variables = train.init_state(model, tx, jax.random.key(0), shape).variables
    bad = jax.tree.map(lambda leaf: leaf, variables)
    bad["params"]["head"]["bias"] = bad["params"]["head"]["bias"].at[3].set(jnp.nan)
    bad["batch_stats"]["stem_norm"]["var"] = bad["batch_stats"]["stem_norm"]["var"] * jnp.inf
    with pytest.raises(
        ValueError, match="init_state: .*NaN or infinite numbers in batch_stats/stem_norm/var, params/head/bias$"
    ):
        train.init_state(model, tx, jax.random.key(0), shape, variables=bad)
    train.init_state(
        model,
        tx,
        jax.random.key(0),
        shape,
        variables={
            "params": bad["params"],
            "batch_stats": {**bad["batch_stats"], "stem_norm": {"mean": jnp.zeros(16), "var": jnp.ones(16)}},
        },
        new=("head",),
    )

    entries = dict(np.load(resnet18_file))
    entries["fc.bias"][7] = np.inf
    np.savez(tmp_path / "bad.npz", **entries)
    with pytest.raises(ValueError, match=r"bad.npz .*NaN or infinite numbers in fc.bias$"):
        transfer.load_torch_weights(models.resnet(18), tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": models.ResNet}, "model must be a flax.linen module, got model=.*ResNet.*; pass an instance"),
        ({"model": "resnet18"}, "got model='resnet18'"),
        ({"path": 5}, "path must be the name of a file, got path=5"),
        ({"path": "."}, r"load_torch_weights: \. is a folder; pass a file in it"),
        ({"image_shape": 224}, r"image_shape must be \(height, width, channels\), got image_shape=224"),
        ({"image_shape": (224, 224)}, r"got image_shape=\(224, 224\)"),
        ({"image_shape": (224, 224, 0)}, "image_shape must be an integer >= 1"),
    ],
)
def test_wrong_calls_of_load_torch_weights(resnet18_file, arguments, words):
    with pytest.raises(ValueError, match=words):
        transfer.load_torch_weights(**{"model": models.resnet(18), "path": resnet18_file, **arguments})


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        transfer.load_torch_weights(models.resnet_cifar(8), tmp_path / "none.pth")


def test_entries_that_do_not_fit_are_listed(resnet18_file, tmp_path):
    entries = dict(np.load(resnet18_file))
    entries["layer9.0.conv1.weight"] = entries.pop("layer1.0.conv1.weight")
    entries["fc.bias"] = np.zeros(7, np.float32)
    entries["strange"] = np.zeros(3)
    np.savez(tmp_path / "wrong.npz", **entries)
    with pytest.raises(ValueError, match="does not fit this ResNet") as caught:
        transfer.load_torch_weights(models.resnet(18), tmp_path / "wrong.npz")
    assert str(caught.value).partition("ResNet\n")[2].splitlines() == [
        "  1 missing:",
        "    params/stage1_block1/conv1/kernel (3, 3, 64, 64)",
        "  2 unexpected:",
        "    params/stage9_block1/conv1/kernel (layer9.0.conv1.weight) (3, 3, 64, 64)",
        "    strange (3,)",
        "  1 mis-shaped:",
        "    params/head/bias (fc.bias) is (7,), needed is (1000,)",
    ]


def test_prefixes_wrappers_and_safetensors(resnet18_file, tmp_path):
    model = models.resnet(18)
    plain = transfer.load_torch_weights(model, resnet18_file)
    entries = dict(np.load(resnet18_file))
    save_file(
        {f"module.{key}": np.ascontiguousarray(value) for key, value in entries.items()}, tmp_path / "w.safetensors"
    )
    found = transfer.load_torch_weights(model, tmp_path / "w.safetensors")
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, plain, found)))


@pytest.mark.slow
def test_a_new_head(resnet18_file):
    """Weights for 1000 classes start a model for 3; the head alone is drawn."""
    pretrained = transfer.load_torch_weights(models.resnet(18), resnet18_file)
    model, tx, shape = models.resnet(18, 3), optim.momentum(0.1), (32, 32, 3)
    drawn = train.init_state(model, tx, jax.random.key(1), shape)
    state = train.init_state(model, tx, jax.random.key(1), shape, variables=pretrained, new=("head",))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        source = drawn.params if path[0].key == "head" else pretrained["params"]
        for key in path:
            source = source[key.key]
        np.testing.assert_array_equal(leaf, source)
    train.make_step(model, tx)(state, (jnp.ones((2, *shape)), jnp.zeros(2, int)))
    assert float(pretrained["params"]["stem_conv"]["kernel"].sum())  # the step donated its state, not these
    with pytest.raises(ValueError, match=r"2 mis-shaped:\n    params/head/bias is \(1000,\), needed is \(3,\)"):
        train.init_state(model, tx, jax.random.key(1), shape, variables=pretrained)
    with pytest.raises(ValueError, match="new='top' names no module of the model; there are .*head"):
        train.init_state(model, tx, jax.random.key(1), shape, variables=pretrained, new=("top",))
    with pytest.raises(ValueError, match="goes with variables"):
        train.init_state(model, tx, jax.random.key(1), shape, new=("head",))


def only_head(path):
    return not path.startswith("head")


def step_of(model, tx, dataset, batch=16):
    state = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
    return (
        state,
        train.make_step(model, tx, preprocess=dataset.standardize),
        (dataset.images[:batch], dataset.labels[:batch]),
    )


@pytest.mark.parametrize(
    ("scan", "norm"),
    [
        pytest.param(False, layers.BatchNorm, marks=pytest.mark.slow),
        (True, layers.BatchNorm),
        pytest.param(True, nn.BatchNorm, marks=pytest.mark.slow),
    ],
)
def test_frozen_parts_stay_and_run_as_in_evaluation(scan, norm):
    """The head's update is the one that logistic regression on the frozen features, in evaluation mode, would make."""
    dataset = random_dataset(shape=(8, 8, 3))
    model, tx = (
        small_resnet(3, blocks=3, scan=scan, norm=norm),
        optax.chain(optim.add_l2(0.1), optim.sgd(0.1), transfer.freeze(only_head)),
    )
    state, step, batch = step_of(model, tx, dataset)
    before = jax.tree.map(jnp.copy, state)
    after, metrics = step(state, batch)
    frozen = {k: v for k, v in after.params.items() if k != "head"}
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, frozen, {k: before.params[k] for k in frozen})))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, after.batch_stats, before.batch_stats)))

    def loss(head):
        variables = {**before.variables, "params": {**before.params, "head": head}}
        logits = model.apply(variables, dataset.standardize(batch[0]), train=False)
        return train.cross_entropy(logits, batch[1]).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(before.params["head"])
    assert metrics.loss == pytest.approx(float(value), rel=1e-6)
    expected = jax.tree.map(lambda p, g: p - 0.1 * (g + 0.1 * p), before.params["head"], grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.params["head"], expected)


def test_frozen_gradients_are_not_computed():
    """A step of the whole net has three convolutions for each forward one; of the head alone, only the forward ones."""
    dataset, model = random_dataset(shape=(8, 8, 3)), models.resnet_cifar(8, 3)
    counts = {}
    forward = 7
    for name, tx in {
        "all": optim.sgd(0.1),
        "head": optax.chain(optim.sgd(0.1), transfer.freeze(only_head)),
        "stage3 and head": optax.chain(
            optim.sgd(0.1), transfer.freeze(lambda p: p.startswith(("stem", "stage1", "stage2")))
        ),
    }.items():
        state, step, batch = step_of(model, tx, dataset)
        hlo = step.lower(state, batch).compile().as_text()
        counts[name] = sum(hlo.count(word) for word in (" convolution(", "__onednn$conv", '="jaxdl_native.'))
    assert counts["head"] == forward
    assert counts["stage3 and head"] == forward + 2 + 1  # two weight gradients; the first one's input needs none
    assert counts["all"] == 3 * forward - 1


def test_flax_batch_norm_statistics_stay_too():
    """A module of the user's own, whose BatchNorm is Flax's."""
    dataset = random_dataset()
    state, step, batch = step_of(
        NoisyNormNet(), optax.chain(optim.sgd(0.1), transfer.freeze(lambda p: not p.startswith("Dense_1"))), dataset
    )
    before = jax.tree.map(jnp.copy, state)
    after, _ = step(state, batch)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, after.batch_stats, before.batch_stats)))
    assert not np.array_equal(after.params["Dense_1"]["kernel"], before.params["Dense_1"]["kernel"])


TREE = {"conv": {"kernel": jnp.ones(2), "bias": jnp.ones(1)}, "head": {"kernel": jnp.ones(2)}}
MANY = {f"block{i}": {"kernel": jnp.ones(1), "bias": jnp.ones(1)} for i in range(20)}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: transfer.freeze("head"), r"freeze: predicate must be a function, got .*'head'; pass lambda path: "),
        (lambda: transfer.refreeze((), "head", TREE), "refreeze: predicate must be a function, got predicate='head'"),
        (lambda: transfer.freeze(lambda path: True).init(TREE), "got True for all, conv/bias, conv/k"),
        (lambda: transfer.freeze(lambda path: "fc" in path).init(TREE), "got False for all, conv/bias"),
        (
            lambda: transfer.freeze(lambda path: "fc" in path).init(MANY),
            r"for all, block0, block1, .* and 8 more \(paths are as in block0/bias\)",
        ),
        (
            lambda: transfer.freeze(transfer.gradual_unfreezing(("conv", "fc", "head"))[0]).init(TREE),
            "gradual_unfreezing: no parameter belongs to 'fc'; there are conv/bias",
        ),
        (
            lambda: transfer.gradual_unfreezing("stem"),
            "groups must be a tuple of at least one group, got groups='stem'",
        ),
        (lambda: transfer.gradual_unfreezing(("stem", 3)), "a group must be a name or a tuple of names, got 3"),
        (lambda: transfer.gradual_unfreezing(()), "at least one group"),
        (
            lambda: transfer.scale_by_depth("head"),
            r"got groups='head'; pass a tuple of beginnings of paths, \(\"stem\"",
        ),
        (lambda: transfer.scale_by_depth(groups=()), "at least one group"),
        (lambda: transfer.scale_by_depth(("a", "")), "a group must be a name or a tuple of names, got ''"),
        (lambda: transfer.scale_by_depth(("a",), 0), "factor must be positive, got factor=0"),
        (lambda: transfer.scale_by_depth(("a",), float("nan")), "factor must be a finite number"),
        (lambda: transfer.scale_by_depth(("a",), -1.0), "factor must be a finite number >= 0"),
        (
            lambda: transfer.scale_by_depth(("conv", "fc", "head")).init(TREE),
            "scale_by_depth: no parameter belongs to 'fc'; there are conv/bias, conv/kernel, head/kernel",
        ),
    ],
)
def test_wrong_calls_of_fine_tuning(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_part_of_the_parameters_may_match_nothing():
    """Under a mask a name may rightly be absent, and all that is there be frozen; and where there is nothing at all."""
    mask = {"conv": True, "head": False}
    for predicate in (lambda path: path.startswith("conv"), lambda path: path.startswith("head")):
        tx = optax.masked(optax.chain(optax.sgd(1.0), transfer.freeze(predicate)), mask)
        updates, _ = tx.update(TREE, tx.init(TREE), TREE)
        frozen = predicate("conv/kernel")
        assert float(updates["conv"]["kernel"][0]) == (0.0 if frozen else -1.0)
        transfer.freeze(predicate).init({})
    depth = optax.masked(transfer.scale_by_depth(("conv", "head"), 4.0), mask)
    assert float(depth.update(TREE, depth.init(TREE))[0]["conv"]["kernel"][0]) == 0.25
    parts = optax.partition(
        {"a": transfer.scale_by_depth(("conv", "head")), "b": optax.sgd(1.0)}, {"conv": "a", "head": "b"}
    )
    parts.update(TREE, parts.init(TREE))


def test_stages_are_values():
    """Equal stages are equal, and the last freezes nothing by design."""
    first, last = transfer.gradual_unfreezing(["conv", ["head"]])
    assert first == transfer.gradual_unfreezing(("conv", ("head",)))[0]
    assert len({first, last, *transfer.gradual_unfreezing(("conv", ("head",)))}) == 2
    assert not any(jax.tree.leaves(frozen_params(transfer.freeze(last).init(TREE), TREE)))
    assert frozen_params(transfer.freeze(first).init(TREE), TREE)["conv"]["bias"]


def test_gradual_unfreezing_trains_one_group_more_at_each_stage():
    dataset, model = random_dataset(shape=(8, 8, 3)), models.resnet_cifar(8, 3)
    groups = ("stem", ("stage1", "stage2"), "stage3", "head")
    state, moved = None, []
    for frozen in transfer.gradual_unfreezing(groups):
        tx = optax.chain(optim.momentum(0.1), transfer.freeze(frozen))
        if state is None:
            state = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
        else:
            state = state._replace(opt_state=transfer.refreeze(state.opt_state, frozen, state.params))
        before = jax.tree.map(jnp.copy, state)
        state, _ = train.fit(state, model, tx, dataset, steps=int(state.step) + 2, batch_size=16, progress=False)
        changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.params, state.params)
        kernels = {
            p: v["conv1"]["kernel"] if "stage" in p else v["kernel"] for p, v in changed.items() if "norm" not in p
        }
        moved.append([name for name, yes in kernels.items() if yes])
    assert [sorted(m) for m in moved] == [
        ["head"],
        ["head", "stage3_block1"],
        ["head", "stage1_block1", "stage2_block1", "stage3_block1"],
        ["head", "stage1_block1", "stage2_block1", "stage3_block1", "stem_conv"],
    ]


def test_momentum_goes_on_through_unfreezing():
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    everything = transfer.gradual_unfreezing(("a", "b"))[-1]  # is trained
    chain = lambda predicate: optax.chain(optim.momentum(0.1, momentum=0.5), transfer.freeze(predicate))  # noqa: E731
    first, second = chain(lambda p: p == "a"), chain(everything)
    grads = {"a": jnp.zeros(1), "b": jnp.ones(1)}
    _, opt_state = first.update(grads, first.init(params), params)
    opt_state = transfer.refreeze(opt_state, everything, params)
    assert jax.tree.structure(opt_state) == jax.tree.structure(second.init(params))
    updates, _ = second.update(grads, opt_state, params)
    assert float(updates["b"][0]) == pytest.approx(-0.1 * 1.5)
    with pytest.raises(ValueError, match="must hold one optim.freeze"):
        transfer.refreeze(optim.sgd(0.1).init(params), everything, params)


def test_scale_by_depth():
    params = {name: jnp.ones(2) for name in ("stem_conv", "stem_norm", "stage1_block1", "stage2_block1", "head")}
    tx = transfer.scale_by_depth(("stem", ("stage1", "stage2"), "head"), factor=4.0)
    updates, _ = tx.update(params, tx.init(params))
    assert {k: float(v[0]) for k, v in updates.items()} == {
        "stem_conv": 1 / 16, "stem_norm": 1 / 16, "stage1_block1": 1 / 4, "stage2_block1": 1 / 4, "head": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="the parameter head belongs to no group"):
        transfer.scale_by_depth(("stem", "stage")).init(params)
