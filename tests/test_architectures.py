"""AlexNet, cuda-convnet, VGG and the residual networks: counts, shapes, starts, and that variants do what they say."""

import functools
import inspect
import math
import re
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import shapes_filled
from jax.test_util import check_grads

from jaxdl import models
from jaxdl.models import layers

IMAGENET, CIFAR = (224, 224, 3), (32, 32, 3)
summary = functools.cache(models.summary)  # which traces the model; tests of several tables ask for the same ones
preact_164 = functools.partial(
    models.resnet_cifar, 164, bottleneck=True, preactivation=True, shortcut=layers.shortcut_b
)


@pytest.mark.parametrize(
    ("model", "shape", "count"),
    [
        (models.alexnet(), IMAGENET, 60_965_224),
        (models.alexnet_one_tower(), IMAGENET, 62_378_344),
        (models.alexnet_torchvision(), IMAGENET, 61_100_840),
        (models.cuda_convnet(), CIFAR, 145_578),
        (models.cuda_convnet(hidden=None), CIFAR, 89_578),
        (models.cuda_convnet(hidden=None, response_norm=True), CIFAR, 89_578),
        (models.conv_local(), CIFAR, 1_901_386),
        (models.conv_local(), (24, 24, 3), 1_116_490),
        (models.conv_local(local_widths=(64, 32), response_norm=True), CIFAR, 3_672_906),
        (models.conv_local(local_widths=(64, 32), response_norm=True), (24, 24, 3), 2_112_970),
        (models.vgg(), IMAGENET, 138_357_544),
        (models.vgg(norm=layers.BatchNorm), IMAGENET, 138_365_992),
        (models.vgg_cifar(), CIFAR, 14_714_688 + 2 * (512 * 512 + 512) + 5130),
        (models.resnet(18), IMAGENET, 11_689_512),
        (models.resnet(34), IMAGENET, 21_797_672),
        (models.resnet(50), IMAGENET, 25_557_032),
        (models.resnet(101), IMAGENET, 44_549_160),
        (models.resnet(152), IMAGENET, 60_192_808),
        (models.resnet_cifar(20), CIFAR, 269_722),
        (models.resnet_cifar(32), CIFAR, 464_154),
        (models.resnet_cifar(44), CIFAR, 658_586),
        (models.resnet_cifar(56), CIFAR, 853_018),
        (models.resnet_cifar(110), CIFAR, 1_727_962),
        pytest.param(models.resnet_cifar(1202, scan=True), CIFAR, 19_421_274, marks=pytest.mark.slow),
        (models.resnet_cifar(20, shortcut=layers.shortcut_b), CIFAR, 272_474),
        (models.plain_cifar(20), CIFAR, 269_722),
    ],
)
def test_parameter_counts_are_the_published_ones(model, shape, count):
    assert summary(model, shape).parameters == count


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        (preact_164(), 1.7),
        (models.wide_resnet(28, 10), 36.5),
        (models.wide_resnet(16, 8), 11.0),
        (models.wide_resnet(40, 4), 8.9),
    ],
)
def test_parameter_counts_to_the_papers_digits(model, millions):
    assert round(summary(model, CIFAR).parameters / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("model", "shape", "billions"),
    [  # torchvision's documentation; 0.0406 for ResNet-20 is the CIFAR ResNets' usual figure
        (models.alexnet_torchvision(), IMAGENET, 0.714),
        (models.resnet(18), IMAGENET, 1.814),
        (models.resnet(34), IMAGENET, 3.664),
        (models.resnet(50), IMAGENET, 4.089),
        (models.resnet(101), IMAGENET, 7.801),
        (models.resnet(152), IMAGENET, 11.514),
        (models.vgg(16), IMAGENET, 15.470),
        (models.resnet_cifar(20), CIFAR, 0.041),
    ],
)
def test_flops_are_the_published_ones(model, shape, billions):
    assert round(summary(model, shape).flops / 1e9, 3) == billions


DOCS = (Path(__file__).parents[1] / "docs" / "models.md").read_text()


@pytest.mark.parametrize(
    ("call", "count"), re.findall(r"^\| `(\w+\([^`|]*\))` \| ([\d,]+) \| [\d.]+ [MG] \|", DOCS, re.MULTILINE)
)
def test_the_table_in_the_docs(call, count):
    model = eval(f"models.{call}", {"models": models, "layers": layers})
    shape = CIFAR if "cifar" in call or "conv" in call or "wide" in call else IMAGENET
    found = summary(model, shape)
    assert f"{found.parameters:,}" == count
    number, unit = re.search(rf"`{re.escape(call)}` \| [\d,]+ \| ([\d.]+) ([MG])", DOCS).groups()
    assert found.flops == pytest.approx(float(number) * {"M": 1e6, "G": 1e9}[unit], rel=0.01)


def test_the_ablations_in_the_docs():
    block = re.search(r"```python\n(import functools.*?)```", DOCS, re.DOTALL).group(1)
    made = [line for line in block.splitlines() if line.startswith("models.")]
    assert len(made) >= 8
    exec(block, {})


def stages(model, shape) -> dict[str, tuple]:
    """Output shapes of the modules directly under the model."""
    return {layer.name: layer.output_shape for layer in summary(model, shape).layers}


def test_shapes_of_alexnet():
    shapes = stages(models.alexnet(), IMAGENET)
    assert list(shapes.values()) == [
        (55, 55, 96), (27, 27, 256), (13, 13, 384), (13, 13, 384), (13, 13, 256), (4096,), (4096,), (1000,),
    ]  # fmt: skip
    kernels = jax.eval_shape(lambda: models.alexnet().init(jax.random.key(0), jnp.zeros((1, *IMAGENET)), train=False))[
        "params"
    ]
    # The paper's kernel sizes: each tower's conv2, 4 and 5 see its own 48, 192 and 192 maps, conv3 all 256.
    assert [kernels[f"conv{i}"]["kernel"].shape for i in range(1, 6)] == [
        (11, 11, 3, 96), (5, 5, 48, 256), (3, 3, 256, 384), (3, 3, 192, 384), (3, 3, 192, 256),
    ]  # fmt: skip


def test_shapes_of_cuda_convnet():
    assert stages(models.cuda_convnet(), CIFAR) == {
        "conv1": (32, 32, 32), "conv2": (16, 16, 32), "conv3": (8, 8, 64), "dense4": (64,), "head": (10,),
    }  # fmt: skip
    assert stages(models.conv_local(), CIFAR)["local4"] == (8, 8, 32)


def test_shapes_of_resnets():
    shapes = stages(models.resnet(50), IMAGENET)
    assert shapes["stem_conv"] == (112, 112, 64)
    last = {
        stage: [s for n, s in shapes.items() if n.startswith(f"stage{stage}_") and "conv3" in n]
        for stage in range(1, 5)
    }
    assert {stage: (len(found), found[-1]) for stage, found in last.items()} == {
        1: (3, (56, 56, 256)), 2: (4, (28, 28, 512)), 3: (6, (14, 14, 1024)), 4: (3, (7, 7, 2048)),
    }  # fmt: skip
    shapes = stages(models.resnet_cifar(20), CIFAR)
    assert [shapes[f"stage{s}_block3/conv2"] for s in (1, 2, 3)] == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]


@pytest.mark.parametrize(
    ("shortcut", "projections"), [(layers.shortcut_a, 0), (layers.shortcut_b, 3), (layers.shortcut_c, 16), (None, 0)]
)
def test_projections_of_resnet_34(shortcut, projections):
    """Option C has one in every block: 16 in ResNet-34 (13 more than B)."""
    names = [layer.name for layer in summary(models.resnet(34, shortcut=shortcut), IMAGENET).layers]
    assert sum("shortcut_conv" in name for name in names) == projections


def initial(model, shape=CIFAR):
    return jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))()


def test_alexnet_starts_as_in_the_paper():
    params = initial(models.alexnet(10, hidden=512), (96, 96, 3))["params"]
    for name, layer in params.items():
        assert float(layer["kernel"].std()) == pytest.approx(0.01, rel=0.05)
        assert float(jnp.abs(layer["kernel"].mean())) < 5e-4
        ones = name in ("conv2", "conv4", "conv5", "dense6", "dense7")
        assert bool(jnp.all(layer["bias"] == (1 if ones else 0))), name


def test_cuda_convnet_starts_as_in_its_files():
    params = initial(models.cuda_convnet())["params"]
    stds = {name: float(layer["kernel"].std()) for name, layer in params.items()}
    for name, std in {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "dense4": 0.1, "head": 0.1}.items():
        assert stds[name] == pytest.approx(std, rel=0.1), name
    assert float(initial(models.cuda_convnet(hidden=None))["params"]["head"]["kernel"].std()) == pytest.approx(
        0.01, rel=0.1
    )
    assert float(initial(models.conv_local())["params"]["local3"]["kernel"].std()) == pytest.approx(0.04, rel=0.1)


def test_alexnet_ablations():
    """Each field changes what it names: layers that are left out, windows, response normalisation, activation."""
    small = functools.partial(models.alexnet, 5, widths=(8, 8, 8, 8, 8), hidden=16)
    x = jax.random.normal(jax.random.key(1), (2, 96, 96, 3))
    variables = initial(small(), (96, 96, 3))
    base = jax.tree.map(lambda leaf: 30 * leaf if leaf.ndim > 1 else leaf, variables)

    def logits(**fields):
        return jax.jit(lambda variables: small(**fields).apply(variables, x, train=False))(base)

    for fields in ({"response_norm": False}, {"activation": jnp.tanh}):
        assert not np.allclose(logits(**fields), logits(), rtol=1e-2), fields
    np.testing.assert_array_equal(logits(dropout=0.1), logits())  # evaluation does not scale
    names = [set(jax.eval_shape(lambda k=k: initial(small(left_out=k), IMAGENET))["params"]) for k in (2, 3, 4, 5)]
    assert [set(variables["params"]) - n for n in names] == [{"conv2"}, {"conv3"}, {"conv4"}, {"conv5"}]
    assert stages(small(overlapping=False), IMAGENET)["conv3"] == (13, 13, 8)
    assert stages(small(overlapping=False), IMAGENET)["head"] == (5,)


def test_towers_do_not_see_each_other():
    """With two groups the first tower's maps of conv2 do not change with the second tower's kernels of conv1."""
    model = models.alexnet(5, widths=(8, 8, 8, 8, 8), hidden=16, response_norm=False)
    x = jax.random.normal(jax.random.key(1), (1, 96, 96, 3))
    variables = initial(model, (96, 96, 3))

    @jax.jit
    def conv2(variables):
        _, state = model.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])
        return state["intermediates"]["conv2"]["__call__"][0]

    changed = jax.tree.map(lambda leaf: leaf, variables)
    changed["params"]["conv1"]["kernel"] = variables["params"]["conv1"]["kernel"].at[..., 4:].multiply(7.0)
    before, after = conv2(variables), conv2(changed)
    np.testing.assert_array_equal(before[..., :4], after[..., :4])
    assert not np.allclose(before[..., 4:], after[..., 4:])


def test_resnets_start_with_hes_variance():
    params = initial(models.resnet_cifar(8))["params"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == "kernel" and leaf.size > 2000:
            fan_in = math.prod(leaf.shape[:-1])
            assert float(leaf.std()) == pytest.approx(np.sqrt(2 / fan_in), rel=0.06)


VARIANTS = {
    "plain": {"shortcut": None},
    "basic": {},
    "B": {"shortcut": layers.shortcut_b},
    "C": {"shortcut": layers.shortcut_c},
    "pre-activation": {"preactivation": True},
    "bottleneck": {"bottleneck": True, "shortcut": layers.shortcut_b},
    "pre-activation bottleneck": {"bottleneck": True, "preactivation": True, "shortcut": layers.shortcut_b},
    "no norm": {"norm": None},
    "GroupNorm": {"norm": functools.partial(layers.GroupNorm, groups=4)},
    "LayerNorm": {"norm": layers.LayerNorm},
    "InstanceNorm": {"norm": layers.InstanceNorm},
    "PReLU": {"activation": layers.PReLU},
    "zero gamma": {"zero_gamma": True},
}


def residual_net(name, **fields):
    """Two stages, of one block and of three: all there is to a longer network, in a third of the time to compile."""
    depth = 11 if VARIANTS[name].get("bottleneck") else 8
    net = models.resnet_cifar(depth, 4, widths=(4, 8, 16), **(VARIANTS[name] | fields))
    return net.clone(stage_sizes=(1, 3), widths=(4, 8))


def images(dtype=jnp.float32, n=3, side=12):
    return jax.random.normal(jax.random.key(1), (n, side, side, 3), dtype)


def network_by_hand(name, variables, x):
    """The same network in plain functions, reading the parameters by name, in training mode."""
    fields = VARIANTS[name]
    bottleneck, preact = fields.get("bottleneck", False), fields.get("preactivation", False)
    params = variables["params"]

    def conv(p, x, stride=1):
        k = p["kernel"]
        pad = k.shape[0] // 2
        y = jax.lax.conv_general_dilated(
            x, k, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y + p.get("bias", 0.0)

    def norm(p, x):
        if fields.get("norm", ...) is None:
            return x
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / jnp.sqrt(var + 1e-5) * p["scale"] + p["bias"]

    def relu(x):
        return jnp.maximum(x, 0)

    x = conv(params["stem_conv"], x)
    x = x if preact else relu(norm(params.get("stem_norm"), x))
    for stage, size in ((1, 1), (2, 3)):
        for block in range(1, size + 1):
            p = params[f"stage{stage}_block{block}"]
            stride = 2 if stage > 1 and block == 1 else 1
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            y, shortcut = x, x
            for i, s in enumerate(strides, 1):
                if preact:
                    y = relu(norm(p.get(f"norm{i}"), y))
                    if i == 1 and "shortcut_conv" in p:
                        shortcut = conv(p["shortcut_conv"], y, stride)
                    y = conv(p[f"conv{i}"], y, s)
                else:
                    y = norm(p.get(f"norm{i}"), conv(p[f"conv{i}"], y, s))
                    y = y if i == len(strides) else relu(y)
            if "shortcut_conv" in p and not preact:
                shortcut = norm(p.get("shortcut_norm"), conv(p["shortcut_conv"], x, stride))
            if "shortcut_conv" not in p and shortcut.shape != y.shape:
                extra = (y.shape[-1] - x.shape[-1]) // 2
                shortcut = jnp.pad(x[:, ::stride, ::stride], ((0, 0),) * 3 + ((extra, extra),))
            y = y if fields.get("shortcut", ...) is None else y + shortcut
            x = y if preact else relu(y)
    x = relu(norm(params["final_norm"], x)) if preact else x
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


@pytest.mark.parametrize(
    "name", ["plain", "basic", "B", "C", "pre-activation", "bottleneck", "pre-activation bottleneck", "no norm"]
)
def test_networks_by_hand(x64, name):
    """Against the papers' equations written out, in double precision."""
    model, x = residual_net(name), images(jnp.float64)
    variables = shapes_filled(model, x.shape[1:], dtype=jnp.float64)
    logits, _ = jax.jit(lambda v: model.apply(v, x, train=True, mutable=["batch_stats"]))(variables)
    np.testing.assert_allclose(logits, jax.jit(lambda v: network_by_hand(name, v, x))(variables), rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_scanned_is_the_same_network(name):
    """Logits, gradients and statistics in float32, and the way back to single blocks."""
    alone, scanned, x = residual_net(name), residual_net(name, scan=True), images()
    variables = initial(alone, x.shape[1:])
    stacked = models.stack_blocks(variables)
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, initial(scanned, x.shape[1:]))
    jax.tree.map(np.testing.assert_array_equal, models.unstack_blocks(stacked), variables)

    def outcome(model, variables):
        def loss(params):
            logits, updated = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(logits)), (logits, updated.get("batch_stats", {}))

        grads, (logits, statistics) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
        return logits, {"params": grads, **({"batch_stats": statistics} if statistics else {})}

    logits, others = outcome(alone, variables)
    logits_scanned, others_scanned = outcome(scanned, stacked)
    np.testing.assert_allclose(logits_scanned, logits, rtol=1e-5, atol=1e-5)

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(a).max()) + 1e-7)

    jax.tree.map(close, models.stack_blocks(others), others_scanned)


@pytest.mark.parametrize(
    ("name", "scan"), [("basic", False), pytest.param("pre-activation bottleneck", True, marks=pytest.mark.slow)]
)
def test_gradients_against_finite_differences(x64, name, scan):
    model, x = residual_net(name, scan=scan, activation=jnp.tanh), images(jnp.float64, n=2, side=6)
    variables = shapes_filled(model, x.shape[1:], dtype=jnp.float64)

    @jax.jit
    def function(params):
        return jnp.sin(model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])[0])

    check_grads(function, (variables["params"],), order=1, modes=["rev"], rtol=1e-4, eps=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "side"),
    [
        (models.conv_local(response_norm=True, activation=jnp.tanh), 12),
        (models.cuda_convnet(hidden=None, response_norm=True, activation=jnp.tanh), 12),
    ],
)
def test_gradients_of_cuda_convnets(x64, model, side):
    x = images(jnp.float64, n=2, side=side)
    drawn = model.init(jax.random.key(0), x, train=False)
    rescaled = lambda leaf: leaf / leaf.std() / np.sqrt(math.prod(leaf.shape[-4:-1])) if leaf.any() else leaf  # noqa: E731
    variables = jax.tree.map(lambda leaf: rescaled(leaf.astype(jnp.float64)), drawn)
    function = jax.jit(lambda params: jnp.sin(model.apply({"params": params}, x, train=True)))
    check_grads(function, (variables["params"],), order=1, modes=["rev"], rtol=1e-4, eps=1e-6)


@pytest.mark.parametrize("scan", [False, True])
def test_bfloat16_computation(scan):
    """Parameters, statistics and logits stay float32; logits are those of float32 to bfloat16's digits."""
    x = images()
    exact, rough = residual_net("basic", scan=scan), residual_net("basic", scan=scan, dtype=jnp.bfloat16)
    variables = initial(rough, x.shape[1:])
    apply = lambda net: jax.jit(functools.partial(net.apply, train=True, mutable=["batch_stats"]))(variables, x)  # noqa: E731
    logits, updated = apply(rough)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updated))} == {jnp.dtype("float32")}
    expected, _ = apply(exact)
    assert float(jnp.abs(logits - expected).max()) < 0.05 * float(jnp.abs(expected).max())
    assert float(jnp.abs(logits - expected).max()) > 1e-4  # it did compute in bfloat16


def test_zero_gamma_starts_as_the_shortcuts_alone():
    """Blocks within a stage are then the identity: the network of one block per stage gives the same logits."""
    x = images()
    deep = residual_net("zero gamma")
    shallow = deep.clone(stage_sizes=(1, 1))
    variables = initial(deep, x.shape[1:])
    few = {
        k: {n: v for n, v in tree.items() if "block2" not in n and "block3" not in n} for k, tree in variables.items()
    }
    apply = lambda m, v: jax.jit(functools.partial(m.apply, train=True, mutable=["batch_stats"]))(v, x)[0]  # noqa: E731
    logits = [apply(deep, variables), apply(shallow, few)]
    np.testing.assert_allclose(*logits, rtol=1e-6, atol=1e-6)
    scales = [np.asarray(b["norm2"]["scale"]) for n, b in variables["params"].items() if "block" in n]
    assert len(scales) == 4
    assert all(not scale.any() for scale in scales)


@pytest.mark.parametrize("scan", [False, True])
def test_stochastic_depth_in_evaluation_scales_the_branches(x64, scan):
    """p f(x): the network whose last scale and bias of each branch, which ends in them, are multiplied by p."""
    x = images(jnp.float64)
    model, constant = residual_net("basic", stochastic_depth=0.5), residual_net("basic")
    variables = shapes_filled(model, x.shape[1:], dtype=jnp.float64)
    scaled = jax.tree.map(lambda leaf: leaf, variables)
    for name, survival in {"stage1_block1": 7, "stage2_block1": 6, "stage2_block2": 5, "stage2_block3": 4}.items():
        last = scaled["params"][name]["norm2"]
        last["scale"], last["bias"] = (v * survival / 8 for v in (last["scale"], last["bias"]))
    if scan:
        model, variables = model.clone(scan=True), models.stack_blocks(variables)
    logits = jax.jit(functools.partial(model.apply, train=False))(variables, x)
    expected = jax.jit(functools.partial(constant.apply, train=False))(scaled, x)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_weight_decay_spares_the_same_parameters_when_scanned():
    from jaxdl import optim

    masks = {}
    for scan in (False, True):
        variables = jax.eval_shape(lambda scan=scan: initial(residual_net("PReLU", scan=scan)))
        mask = optim.no_bias_no_norm(variables["params"])
        masks[scan] = {(p[-2].key, p[-1].key) for p, decayed in jax.tree_util.tree_leaves_with_path(mask) if decayed}
    assert (
        masks[True]
        == masks[False]
        == {("stem_conv", "kernel"), ("conv1", "kernel"), ("conv2", "kernel"), ("head", "kernel")}
    )


def test_summary_lists_what_is_there():
    found = models.summary(models.resnet_cifar(20), CIFAR)
    assert found.layers[0] == ("stem_conv", "Conv", (32, 32, 16), 432, 432 * 32 * 32)
    assert found == models.summary(models.resnet_cifar(20, scan=True), CIFAR)
    lines = str(found).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].split() == ["total", "269,722", "40,551,040"]


def test_summary_of_flax_layers():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = nn.ConvLocal(2, (3, 3))(nn.Conv(4, (3, 3))(x))
            return nn.BatchNorm(use_running_average=not train)(x)

    rows = models.summary(Net(), (6, 6, 1)).layers
    assert [(r.kind, r.output_shape, r.flops) for r in rows] == [
        ("Conv", (6, 6, 4), 36 * 36), ("ConvLocal", (6, 6, 2), 36 * 36 * 2), ("BatchNorm", (6, 6, 2), 0),
    ]  # fmt: skip


class State(NamedTuple):
    params: dict
    batch_stats: dict


def test_plain_cifar_has_no_shortcut_to_pass():
    mine, whole = (inspect.signature(f).parameters for f in (models.plain_cifar, models.resnet_cifar))
    assert {**mine} == {name: parameter for name, parameter in whole.items() if name != "shortcut"}
    assert models.plain_cifar(20) == models.resnet_cifar(20, shortcut=None)
    with pytest.raises(TypeError, match="shortcut"):
        models.plain_cifar(20, shortcut=layers.shortcut_b)
    with pytest.raises(ValueError, match=r"^plain_cifar: depth must be 6 n \+ 2"):
        models.plain_cifar(21)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.resnet(20), "resnet: depth must be one of 18, 34, 50, 101, 152, got depth=20"),
        (lambda: models.resnet_cifar(21), r"depth must be 6 n \+ 2 \(8, 14, 20, \.\.\.\), got depth=21"),
        (lambda: models.resnet_cifar(56, bottleneck=True, widths=(4, 8)), "widths must be three"),
        (lambda: models.resnet_cifar(21, bottleneck=True), r"depth must be 9 n \+ 2 \(11, 20, 29, "),
        (lambda: models.wide_resnet(27), r"wide_resnet: depth must be 6 n \+ 4"),
        (lambda: models.resnet_cifar(20, widths=(4, 8)), "widths must be three numbers"),
        (lambda: models.resnet_cifar(20, stochastic_depth=0), r"a probability in \(0, 1\]"),
        (
            lambda: models.plain_cifar(20, stochastic_depth=0.5),
            "stochastic_depth=0.5; a plain network has no path around",
        ),
        (
            lambda: models.resnet_cifar(20, preactivation=True, zero_gamma=True),
            "zero_gamma=True with norm=.* and preactivation=True; leave zero_gamma out",
        ),
        (lambda: models.plain_cifar(20, zero_gamma=True), "zero_gamma must be False without shortcuts"),
        (lambda: models.alexnet(widths=(1, 2)), "widths must be five numbers"),
        (lambda: models.alexnet(left_out=1), "left_out must be the number of a middle convolution"),
        (lambda: models.alexnet(dropout=1.0), r"dropout must be a finite number in \[0, 1\)"),
        (lambda: models.vgg(17), "vgg: depth must be one of 11, 13, 16, 19, got depth=17"),
        (lambda: models.cuda_convnet(hidden=0), "pass None for no hidden layer"),
        (lambda: models.stack_blocks({"params": {"head": {}}}), r"no stage1_block1 among \['head'\]"),
        (lambda: models.summary(models.mlp(), (3, 3)), r"image_shape must be \(height, width, channels\)"),
        (lambda: models.summary("resnet", (3, 3, 1)), "model must be a flax.linen module"),
        (lambda: models.summary(models.ResNet, CIFAR), r"got <class .*; call it: ResNet\(\.\.\.\) for example"),
        (lambda: models.summary(models.resnet, CIFAR), r"got <function .*; call it: resnet\(\.\.\.\) for example"),
        (lambda: models.summary(models.mlp(), (1, *CIFAR)), "got image_shape=.*; leave the batch out"),
        (
            lambda: models.summary(models.mlp(), 32),
            r"image_shape must be \(height, width, channels\), got image_shape=32",
        ),
        (lambda: models.summary(models.mlp(), (0, 3, 3)), "image_shape must be an integer >= 1"),
        (lambda: models.summary(models.convnet(), (3, 32, 32)), "looks like .batch, channels, height, width"),
        (lambda: models.alexnet(widths=96), "alexnet: widths must be five numbers of channels, got widths=96"),
        (lambda: models.alexnet(response_norm="no"), "alexnet: response_norm must be True or False, got .*'no'"),
        (lambda: models.alexnet(overlapping=0), "alexnet: overlapping must be True or False, got overlapping=0"),
        (lambda: models.alexnet(activation="tanh"), "alexnet: activation must be .* got activation='tanh'; pass flax"),
        (lambda: models.alexnet(activation=layers.PReLU()), "got an instance, .* pass the class, activation=PReLU"),
        (lambda: models.alexnet(activation=float), "alexnet: activation must be a function or a class of modules"),
        (lambda: models.alexnet(dtype="int8"), "alexnet: dtype must be a floating-point dtype .* got dtype='int8'"),
        (lambda: models.alexnet_torchvision(dropout=1.0), "^alexnet_torchvision: dropout must be"),
        (lambda: models.alexnet(groups=5), "alexnet: groups must divide all widths, got groups=5"),
        (lambda: models.cuda_convnet(response_norm=1), "cuda_convnet: response_norm must be True or False"),
        (lambda: models.conv_local(local_widths=32), "conv_local: local_widths must be two numbers of channels"),
        (lambda: models.conv_local(activation="relu"), "conv_local: activation must be a function"),
        (lambda: models.vgg("16"), "vgg: depth must be an integer .* got depth='16'; it is one of 11, 13, 16, 19"),
        (lambda: models.vgg(norm="batch"), "vgg: norm must be layers.BatchNorm or .* got norm='batch'; pass layers"),
        (lambda: models.vgg(dropout_first="yes"), "vgg: dropout_first must be True or False"),
        (lambda: models.vgg_cifar(14), "vgg_cifar: depth must be one of 11, 13, 16, 19, got depth=14"),
        (lambda: models.resnet("50"), "resnet: depth must be an integer .* got depth='50'"),
        (lambda: models.resnet([50]), r"resnet: depth must be an integer .* got depth=\[50\]"),
        (
            lambda: models.resnet(norm=layers.BatchNorm()),
            "got an instance, .* pass the class, norm=layers.BatchNorm, or",
        ),
        (lambda: models.resnet(norm=nn.BatchNorm()), "got an instance, .* pass the class, norm=BatchNorm, or"),
        (
            lambda: models.resnet(norm=functools.partial(nn.BatchNorm, use_running_average=True)),
            "resnet: norm must leave use_running_average to the model, .* leave it out of the partial",
        ),
        (
            lambda: models.resnet(zero_gamma=True, norm=functools.partial(nn.BatchNorm, use_scale=False)),
            "resnet: zero_gamma=True needs a norm with a scale, got norm=.*; leave use_scale out",
        ),
        (lambda: models.resnet(shortcut="A"), "resnet: shortcut must be .* got shortcut='A'; pass layers.shortcut_a"),
        (lambda: models.resnet_cifar("20"), "resnet_cifar: depth must be an integer >= 1, got depth='20'"),
        *(
            (
                lambda field=field: models.resnet_cifar(20, **{field: "no"}),
                f"resnet_cifar: {field} must be True or False",
            )
            for field in ("bottleneck", "preactivation", "zero_gamma", "scan", "remat")
        ),
        (lambda: models.resnet_cifar(widths=16), "resnet_cifar: widths must be three numbers of channels"),
        (lambda: models.resnet_cifar(dtype=jnp.int32), "resnet_cifar: dtype must be a floating-point dtype"),
        (lambda: models.wide_resnet(28, "10"), "wide_resnet: widen must be an integer >= 1, got widen='10'"),
        (lambda: models.stack_blocks({}), "stack_blocks: variables are empty"),
        (lambda: models.unstack_blocks({}), "unstack_blocks: variables are empty"),
        (lambda: models.unstack_blocks({"params": {"head": {}}}), r"unstack_blocks: there is no stage1_block1"),
        (lambda: models.stack_blocks({"stage1_block1": {}}), r"use stack_blocks\(\{.params.: params\}\)"),
        (lambda: models.stack_blocks(jnp.ones(3)), "stack_blocks: variables must be a dict"),
        (lambda: models.stack_blocks(State({}, {})), "state.params, .* of the State"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()
