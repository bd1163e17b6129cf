"""An ablation changes one thing. Every one-field change of every model: which layers' parameters change, and how many
there then are, by formulas that share nothing with the models; and that what keeps its shape keeps its initial numbers.
"""

import functools
import inspect
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import models
from jaxdl.models import layers

BFLOAT16, GROUPS = jnp.bfloat16, functools.partial(layers.GroupNorm, groups=4)


def counts(model, side) -> dict[str, int]:
    """Parameters by layer, from shapes alone."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False))
    found: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes["params"]):
        layer = "/".join(key.key for key in path[:-1])
        found[layer] = found.get(layer, 0) + leaf.size
    return found


def slopes(activation, *channels) -> dict[str, int]:
    """A learned slope per channel after each layer."""
    return {f"PReLU_{i}": c for i, c in enumerate(channels)} if activation is layers.PReLU else {}


def dense(inputs, outputs) -> int:
    return (inputs + 1) * outputs


def alexnet_layers(
    side, num_classes=1000, widths=(96, 256, 384, 384, 256), hidden=4096, groups=2, left_out=None, activation=None, **_
):
    """The paper's table, and pooled sides by hand: a half, rounded down, at each of the three poolings."""
    if side == 227:
        side = (227 - 11) // 4 + 1
    else:
        side = (side + 4 - 11) // 4 + 1
    side = side // 2 // 2 // 2
    found, channels, active = {}, 3, []
    for number, (width, window) in enumerate(zip(widths, (11, 5, 3, 3, 3), strict=True), 1):
        if number != left_out:
            seen = channels // groups if number in (2, 4, 5) else channels
            found[f"conv{number}"] = (window**2 * seen + 1) * width
            channels = width
            active.append(width)
    found["dense6"] = dense(side * side * channels, hidden)
    found["dense7"], found["head"] = dense(hidden, hidden), dense(hidden, num_classes)
    return found | slopes(activation, *active, hidden, hidden)


def torchvision_layers(side, num_classes=1000, **_):
    return alexnet_layers(224, num_classes, widths=(64, 192, 384, 256, 256), groups=1)


def cuda_layers(side, num_classes=10, hidden=64, activation=None, **_):
    found = {"conv1": 76 * 32, "conv2": 801 * 32, "conv3": 801 * 64}
    inputs = 64 * (-(-side // 8)) ** 2
    if hidden is not None:
        found["dense4"] = dense(inputs, hidden)
    found["head"] = dense(inputs if hidden is None else hidden, num_classes)
    return found | slopes(activation, 32, 32, 64, *([] if hidden is None else [hidden]))


def local_layers(side, num_classes=10, local_widths=(32, 32), activation=None, **_):
    places = (-(-side // 4)) ** 2
    first, second = local_widths
    found = {"conv1": 76 * 64, "conv2": 1601 * 64}
    found["local3"], found["local4"] = places * (9 * 64 + 1) * first, places * (9 * first + 1) * second
    found["head"] = dense(places * second, num_classes)
    return found | slopes(activation, 64, 64, first, second)


def convnet_layers(side, num_classes=10, widths=(16, 32), hidden=64):
    found = {f"Conv_{i}": (9 * c + 1) * w for i, (c, w) in enumerate(itertools.pairwise((3, *widths)))}
    found["Dense_0"] = dense((side // 2 ** len(widths)) ** 2 * widths[-1], hidden)
    return found | {"Dense_1": dense(hidden, num_classes)}


def mlp_layers(side, num_classes=10, widths=(256, 256)):
    sizes = (side * side * 3, *widths, num_classes)
    return {f"Dense_{i}": dense(a, b) for i, (a, b) in enumerate(itertools.pairwise(sizes))}


VGG_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg_layers(side, depth=16, num_classes=1000, norm=None, activation=None, hidden=4096, pooled=7, **_):
    del side  # the last maps are pooled to one size
    widths = [w for w, n in zip((64, 128, 256, 512, 512), VGG_STAGES[depth], strict=True) for _ in range(n)]
    found = {f"conv{i}": (9 * c + 1) * w for i, (c, w) in enumerate(itertools.pairwise((3, *widths)), 1)}
    if norm is not None:
        found |= {f"norm{i}": 2 * w for i, w in enumerate(widths, 1)}
    found[f"dense{len(widths) + 1}"] = dense(pooled**2 * 512, hidden)
    found[f"dense{len(widths) + 2}"], found["head"] = dense(hidden, hidden), dense(hidden, num_classes)
    return found | slopes(activation, *widths, hidden, hidden)


def vgg_cifar_layers(side, depth=16, num_classes=10, **fields):
    return vgg_layers(side, depth, num_classes, hidden=512, pooled=1, **fields)


def residual_layers(
    sizes,
    widths,
    stem,
    num_classes,
    *,
    imagenet=False,
    bottleneck=False,
    preactivation=False,
    shortcut,
    norm=layers.BatchNorm,
    activation=None,
    scan=False,
    **_,
):
    def convolution(window, inputs, outputs):
        return window**2 * inputs * outputs + (outputs if norm is None else 0)

    def normalisation(name, channels):
        return {} if norm is None else {name: 2 * channels}

    def block(channels, width, stride):
        plan = [(1, width), (3, width), (1, 4 * width)] if bottleneck else [(3, width), (3, width)]
        features = plan[-1][1]
        found, inputs, active = {}, channels, []
        for number, (window, outputs) in enumerate(plan, 1):
            found[f"conv{number}"] = convolution(window, inputs, outputs)
            found |= normalisation(f"norm{number}", inputs if preactivation else outputs)
            active.append(inputs if preactivation else outputs)
            inputs = outputs
        projected = shortcut is layers.shortcut_c or (
            shortcut is layers.shortcut_b and (stride > 1 or channels != features)
        )
        if projected:
            found["shortcut_conv"] = convolution(1, channels, features)
            found |= {} if preactivation else normalisation("shortcut_norm", features)
        return found | slopes(activation, *active), features

    found = {"stem_conv": convolution(7 if imagenet else 3, 3, stem)}
    with_stem_norm = imagenet or not preactivation
    found |= normalisation("stem_norm", stem) if with_stem_norm else {}
    channels = stem
    for stage, (size, width) in enumerate(zip(sizes, widths, strict=True), 1):
        for number in range(1, size + 1):
            inside, channels = block(channels, width, 2 if stage > 1 and number == 1 else 1)
            name = "rest" if scan and number > 1 else f"block{number}"
            for layer, count in inside.items():
                path = f"stage{stage}_{name}/{layer}"
                found[path] = found.get(path, 0) + count
    found |= normalisation("final_norm", channels) if preactivation else {}
    found["head"] = dense(channels, num_classes)
    return found | slopes(activation, *([stem] if with_stem_norm else []), *([channels] if preactivation else []))


def resnet_layers(side, depth=50, num_classes=1000, shortcut=layers.shortcut_b, **fields):
    sizes = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    return residual_layers(
        sizes, (64, 128, 256, 512), 64, num_classes, imagenet=True, bottleneck=depth > 34, shortcut=shortcut, **fields
    )


def cifar_layers(side, depth=20, num_classes=10, widths=(16, 32, 64), shortcut=layers.shortcut_a, **fields):
    blocks = (depth - 2) // (9 if fields.get("bottleneck") else 6)
    return residual_layers((blocks,) * 3, widths, widths[0], num_classes, shortcut=shortcut, **fields)


def wide_layers(side, depth=28, widen=10, num_classes=10, **fields):
    widths = (16 * widen, 32 * widen, 64 * widen)
    return residual_layers(
        ((depth - 4) // 6,) * 3, widths, 16, num_classes, preactivation=True, shortcut=layers.shortcut_b, **fields
    )


# Which layers change, as expressions that are found somewhere in their names; "" is found in all.
NOTHING, NORMS, CONVOLUTIONS = (), ("norm",), ("conv",)
SLOPES = ("PReLU",)
RESIDUAL = {  # what the residual networks have in common
    "num_classes": [(7, ("head",))],
    "norm": [
        (None, ("norm", "conv")),  # convolutions have biases where no normalisation follows
        *((norm, NOTHING) for norm in (GROUPS, layers.GroupNorm, layers.LayerNorm, layers.InstanceNorm)),
    ],
    "activation": [(nn.tanh, NOTHING), (layers.PReLU, SLOPES)],
    "scan": [(True, ("block[2-9]", "rest"))],
    "remat": [(True, NOTHING)],
    "dtype": [(BFLOAT16, NOTHING)],
}
DEPTH_OF_BLOCKS = {"stochastic_depth": [(0.5, NOTHING)]}
ZERO_GAMMA = {"zero_gamma": [(True, NOTHING)]}
ACTIVATIONS = {"activation": [(nn.tanh, NOTHING), (layers.PReLU, SLOPES)]}
# norm1 is then of a block's input, which has other channels in the first block of a stage.
BASIC_PREACTIVATION = {"preactivation": [(True, ("stem_norm", "final_norm", "stage[23]_block1/norm1"))]}
CIFAR = {
    "depth": [(26, ("block4",))],
    "widths": [((16, 32, 48), ("stage3", "head"))],
    "bottleneck": [(True, ("",))],  # and 9 n + 2 layers, not 6 n + 2: at depth 20 two blocks in each stage, not three
}
MODELS = {  # the function, its layers by formula, the images' side, and for each field some values with what changes
    "alexnet": (models.alexnet, alexnet_layers, 224, ALEXNET := {
        "num_classes": [(10, ("head",))],
        "widths": [((48, 128, 192, 192, 256), ("conv",))],
        "hidden": [(1024, ("dense", "head"))],
        "groups": [(1, ("conv2", "conv4", "conv5"))],
        "response_norm": [(False, NOTHING)],
        "overlapping": [(False, NOTHING)],
        "dropout": [(0.0, NOTHING)],
        # What comes after sees other channels: 96 for conv3, 256 for conv4, 384 for dense6.
        "left_out": [(2, ("conv2", "conv3")), (3, ("conv3", "conv4")), (4, ("conv4",)), (5, ("conv5", "dense6"))],
        "dtype": [(BFLOAT16, NOTHING)],
    } | ACTIVATIONS),
    "alexnet at 227": (models.alexnet, alexnet_layers, 227, ALEXNET),
    "alexnet at 200": (models.alexnet, alexnet_layers, 200, ALEXNET),  # sides of 49, 24, 12 and 6
    "alexnet at 192": (models.alexnet, alexnet_layers, 192, ALEXNET),  # sides of 47, 23, 11 and 5
    "alexnet_torchvision": (models.alexnet_torchvision, torchvision_layers, 224, {
        "num_classes": [(10, ("head",))], "dropout": [(0.0, NOTHING)], "dtype": [(BFLOAT16, NOTHING)],
    }),
    "cuda_convnet": (models.cuda_convnet, cuda_layers, 32, {
        "num_classes": [(100, ("head",))],
        "hidden": [(32, ("dense4", "head")), (None, ("dense4", "head"))],
        "response_norm": [(True, NOTHING)],
    } | ACTIVATIONS),
    "conv_local": (models.conv_local, local_layers, 24, {
        "num_classes": [(100, ("head",))],
        "local_widths": [((64, 32), ("local3", "local4"))],
        "response_norm": [(True, NOTHING)],
    } | ACTIVATIONS),
    "convnet": (models.convnet, convnet_layers, 32, {
        "num_classes": [(100, ("Dense_1",))],
        "widths": [((16, 16), ("Conv_1", "Dense_0")), ((16,), ("Conv_1", "Dense_0"))],
        "hidden": [(32, ("Dense",))],
    }),
    "mlp": (models.mlp, mlp_layers, 8, {
        "num_classes": [(100, ("Dense_2",))],
        "widths": [((256, 64), ("Dense_1", "Dense_2")), ((256,), ("Dense_1", "Dense_2"))],
    }),
    "vgg": (models.vgg, vgg_layers, 224, {
        "depth": [(13, ("conv", "dense"))],
        "num_classes": [(10, ("head",))],
        "norm": [(layers.BatchNorm, NORMS), (layers.GroupNorm, NORMS)],
        "hidden": [(512, ("dense", "head"))],
        "pooled": [(1, ("dense14",))],
        "dropout": [(0.0, NOTHING)],
        "dropout_first": [(True, NOTHING)],
        "dtype": [(BFLOAT16, NOTHING)],
    } | ACTIVATIONS),
    "vgg_cifar": (models.vgg_cifar, vgg_cifar_layers, 32, {
        "depth": [(19, ("conv", "dense"))],
        "num_classes": [(100, ("head",))],
        "norm": [(layers.BatchNorm, NORMS)],
        "dropout": [(0.0, NOTHING)],
        "dtype": [(BFLOAT16, NOTHING)],
    } | ACTIVATIONS),
    "resnet": (models.resnet, resnet_layers, 224, RESIDUAL | DEPTH_OF_BLOCKS | ZERO_GAMMA | {
        "depth": [(34, ("",))],
        "shortcut": [
            (layers.shortcut_c, ("shortcut",)),
            (None, ("shortcut",)),
        ],
        # Normalisations are then of a convolution's input, not of its output.
        "preactivation": [(True, ("norm1", "norm3", "shortcut_norm", "final_norm"))],
    }),
    "resnet_cifar": (models.resnet_cifar, cifar_layers, 32, RESIDUAL | DEPTH_OF_BLOCKS | ZERO_GAMMA | CIFAR
    | BASIC_PREACTIVATION | {
        "shortcut": [
            (layers.shortcut_b, ("stage[23]_block1/shortcut",)),
            (layers.shortcut_c, ("shortcut",)),
            (None, NOTHING),
        ],
    }),
    "plain_cifar": (models.plain_cifar, functools.partial(cifar_layers, shortcut=None), 32,
                    RESIDUAL | CIFAR | BASIC_PREACTIVATION | {"stochastic_depth": [], "zero_gamma": []}),
    "wide_resnet": (models.wide_resnet, wide_layers, 32, RESIDUAL | DEPTH_OF_BLOCKS | {
        "depth": [(34, ("block5",))],
        "widen": [(4, ("stage", "final_norm", "head"))],
        "dropout": [(0.3, NOTHING)],
    }),
}  # fmt: skip
CHANGES = [
    pytest.param(name, field, value, words, id=f"{name}-{field}-{i}")
    for name, (_, _, _, table) in MODELS.items()
    for field, rows in table.items()
    for i, (value, words) in enumerate(rows)
]


@pytest.mark.parametrize("name", MODELS)
def test_the_table_has_every_field(name):
    make, _, _, table = MODELS[name]
    assert set(table) == set(inspect.signature(make).parameters)


@functools.cache
def base(name):
    make, _, side, _ = MODELS[name]
    return counts(make(), side)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_by_layer(name):
    _, formula, side, _ = MODELS[name]
    assert base(name) == formula(side)


@pytest.mark.parametrize(("name", "field", "value", "words"), CHANGES)
def test_what_a_field_changes(name, field, value, words):
    make, formula, side, _ = MODELS[name]
    before, after = base(name), counts(make(**{field: value}), side)
    assert after == formula(side, **{field: value})
    changed = {layer for layer in before | after if before.get(layer) != after.get(layer)}
    assert {layer for layer in changed if not any(re.search(word, layer) for word in words)} == set()
    assert all(any(re.search(word, layer) for layer in changed) for word in words)


SMALL = {
    "alexnet": (functools.partial(models.alexnet, widths=(4, 4, 8, 8, 4), hidden=8), 67),
    "cuda_convnet": (models.cuda_convnet, 16),
    "convnet": (functools.partial(models.convnet, widths=(4, 8), hidden=8), 8),
    "mlp": (models.mlp, 4),
    "resnet_cifar": (functools.partial(models.resnet_cifar, 14, widths=(4, 8, 8)), 8),
    "wide_resnet": (functools.partial(models.wide_resnet, 16, 1), 8),
}


def named(value):
    """A parameter in a test's name, without the address that a function's `repr` holds."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={getattr(field, '__name__', field)}" for name, field in value.items())
    return str(value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields", "others"),
    [  # `others`: layers that start with other numbers
        ("alexnet", {"groups": 1}, NOTHING),
        ("alexnet", {"overlapping": False}, NOTHING),
        ("alexnet", {"left_out": 5}, NOTHING),
        ("alexnet", {"activation": layers.PReLU, "response_norm": False}, NOTHING),
        ("cuda_convnet", {"response_norm": True}, NOTHING),
        ("cuda_convnet", {"hidden": None}, NOTHING),
        ("convnet", {"widths": (4, 4)}, NOTHING),
        ("mlp", {"widths": (256,)}, NOTHING),
        ("resnet_cifar", {"norm": None}, NOTHING),
        ("resnet_cifar", {"norm": layers.GroupNorm}, NOTHING),
        ("resnet_cifar", {"activation": layers.PReLU}, NOTHING),
        ("resnet_cifar", {"shortcut": None}, NOTHING),
        ("resnet_cifar", {"shortcut": layers.shortcut_c}, NOTHING),
        ("resnet_cifar", {"preactivation": True}, NOTHING),
        ("resnet_cifar", {"stochastic_depth": 0.5}, NOTHING),
        ("resnet_cifar", {"remat": True}, NOTHING),
        ("resnet_cifar", {"dtype": BFLOAT16}, NOTHING),
        ("resnet_cifar", {"zero_gamma": True}, ("norm2",)),  # the scales that it names
        ("wide_resnet", {"dropout": 0.3}, NOTHING),
    ],
    ids=named,
)
def test_what_keeps_its_shape_keeps_its_initial_numbers(name, fields, others):
    before, after = drawn(name, ()), drawn(name, tuple(fields.items()))
    same = {path for path in before.keys() & after.keys() if before[path].shape == after[path].shape}
    assert len(same) >= 2
    differ = {path for path in same if not np.array_equal(before[path], after[path])}
    assert {path for path in differ if not any(word in path for word in others)} == set()
    assert bool(differ) == bool(others)


@functools.cache
def drawn(name, fields):
    make, side = SMALL[name]
    model = make(**dict(fields))
    params = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False))()["params"]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def test_overlapping_pooling_gives_maps_of_the_same_size():
    """Half the side, rounded down, at every one of the three poolings: whatever the images."""
    for side in (63, 96, 100, 127, 128, 160, 224, 227, 256):
        tables = [counts(models.alexnet(overlapping=overlapping), side) for overlapping in (True, False)]
        assert tables[0] == tables[1] == alexnet_layers(side), side


def test_the_paper_s_maps_at_224_and_227():
    """55, 27 and 13 pixels, in the net of the paper and in that without overlap."""
    for side, overlapping in itertools.product((224, 227), (True, False)):
        table = models.summary(models.alexnet(overlapping=overlapping), (side, side, 3)).layers
        assert [layer.output_shape[0] for layer in table[:5]] == [55, 27, 13, 13, 13]
    torch = models.summary(models.alexnet_torchvision(), (227, 227, 3)).layers
    assert torch[0].output_shape == (56, 56, 64)
