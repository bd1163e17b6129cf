"""What is said of a training step's convolutions, against what was written: layouts, groups, dilations by hand."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxdl import models, optim, train
from jaxdl.data import Standardize
from jaxdl.loops import convolutions_in_loops
from jaxdl.models import layers

IMAGES = jnp.ones((4, 8, 8, 4))
KERNEL = jnp.ones((3, 3, 4, 4))


class Net(nn.Module):
    """A layer between two dense ones."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = self.layer(nn.Dense(4)(x))
        return nn.Dense(3)(nn.relu(x).reshape(len(x), -1))


class Einsum(nn.Module):
    """A parameter of four axes that is no convolution."""

    @nn.compact
    def __call__(self, x):
        return jnp.einsum("bhwc,hwcd->bhwd", x, self.param("kernel", nn.initializers.ones, (8, 8, 4, 4)))


def training_step(model, **fields):
    """The step that `fit` makes, and structs of what it is given."""
    tx = optax.chain(optim.momentum(0.1), optim.swa(0))
    standardize = Standardize((0.5,) * 4, (0.25,) * 4)
    state = train.init_state(model, tx, jax.random.key(0), (8, 8, 4))
    step = train.make_step(model, tx, devices=jax.devices()[:1], preprocess=standardize, **fields)
    batch = np.zeros((4, 8, 8, 4), np.uint8), np.zeros(4, np.int32)
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, batch))
    return step._evenly, structs


CPU = {"canonical_gradients": True}  # what layers.Conv takes on the CPU by itself

STEPS = {
    "layers.Conv": (lambda: layers.Conv(4, (3, 3), **CPU), "fast"),
    "layers.Conv, strided": (lambda: layers.Conv(4, (3, 3), strides=2, **CPU), "fast"),
    "layers.Conv, dilated": (lambda: layers.Conv(4, (3, 3), dilation=2, **CPU), "fast"),
    "layers.Conv, autodiff's gradients": (lambda: layers.Conv(4, (3, 3), canonical_gradients=False), "slow"),
    "layers.Conv, in groups": (lambda: layers.Conv(4, (3, 3), feature_group_count=2, native=False), "slow"),
    "flax.linen.Conv": (lambda: nn.Conv(4, (3, 3)), "slow"),
    "flax.linen.Conv, remat": (lambda: nn.remat(nn.Conv)(4, (3, 3)), "slow"),
    "one slow among fast ones": (
        lambda: nn.Sequential((layers.Conv(4, (3, 3), **CPU), nn.Conv(4, (3, 3)), layers.Conv(4, (3, 3), **CPU))),
        "slow",
    ),
    "locally connected": (lambda: layers.LocalConv(4, 3), "none"),
    "einsum": (lambda: Einsum(), "none"),
    "dense": (lambda: nn.Dense(4), "none"),
}


@pytest.mark.parametrize("name", STEPS)
def test_of_a_training_step(name):
    layer, expected = STEPS[name]
    step, (state, batch) = training_step(Net(layer()))
    if name in ("locally connected", "einsum"):
        assert any(leaf.ndim >= 4 for leaf in jax.tree.leaves(state.params))
    assert convolutions_in_loops(step, state, batch) == expected


@pytest.mark.parametrize(("layer", "expected"), [(layers.Conv, "fast"), (nn.Conv, "slow")])
def test_of_a_step_in_parts(layer, expected):
    extra = CPU if layer is layers.Conv else {}
    step, structs = training_step(Net(layer(4, (3, 3), **extra)), accumulate=2)
    assert convolutions_in_loops(step, *structs) == expected


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere autodiff's gradients are fast, and taken")
@pytest.mark.parametrize(
    ("model", "expected"),
    [(lambda: models.mlp(widths=(8,), num_classes=3), "none"), (lambda: models.resnet_cifar(8, num_classes=3), "fast")],
)
def test_of_our_models(model, expected):
    step, structs = training_step(model())
    assert convolutions_in_loops(step, *structs) == expected


def canonical(x, kernel, **options):
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")} | options
    return lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), **options)


FORMS = {
    "canonical": ({}, (4, 8, 8, 4), (3, 3, 4, 4), "fast"),
    "dilated window": ({"rhs_dilation": (2, 2)}, (4, 8, 8, 4), (3, 3, 4, 4), "fast"),
    "dilated images": ({"lhs_dilation": (2, 1)}, (4, 8, 8, 4), (3, 3, 4, 4), "fast"),
    "groups": ({"feature_group_count": 2}, (4, 8, 8, 4), (3, 3, 2, 4), "slow"),
    "batch groups": ({"batch_group_count": 2}, (4, 8, 8, 4), (3, 3, 4, 4), "slow"),
    "channels first": ({"dimension_numbers": ("NCHW", "HWIO", "NHWC")}, (4, 4, 8, 8), (3, 3, 4, 4), "slow"),
    "kernels OIHW": ({"dimension_numbers": ("NHWC", "OIHW", "NHWC")}, (4, 8, 8, 4), (4, 4, 3, 3), "slow"),
    "results HWNC": ({"dimension_numbers": ("NHWC", "HWIO", "HWNC")}, (4, 8, 8, 4), (3, 3, 4, 4), "slow"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    options, images, kernel, expected = FORMS[form]
    structs = jax.ShapeDtypeStruct(images, jnp.float32), jax.ShapeDtypeStruct(kernel, jnp.float32)
    assert convolutions_in_loops(functools.partial(canonical, **options), *structs) == expected


def reversed_axes(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWOI", "NHWC"))


@jax.custom_vjp
def own(x, kernel):
    return reversed_axes(x, kernel)


own.defvjp(lambda x, kernel: (own(x, kernel), None), lambda _, cotangent: (cotangent, KERNEL))


@jax.custom_jvp
def own_forward(x, kernel):
    return reversed_axes(x, kernel)


own_forward.defjvp(lambda primals, tangents: (own_forward(*primals), tangents[0]))


def in_shard_map(x, kernel):
    mesh = Mesh(np.array(jax.devices()[:1]), ("d",))
    spec = PartitionSpec()
    return jax.shard_map(reversed_axes, mesh=mesh, in_specs=(spec, spec), out_specs=spec)(x, kernel)


INSIDE = {
    "jit": jax.jit(reversed_axes),
    "scan": lambda x, k: lax.scan(lambda c, _: (reversed_axes(c, k), None), x, length=2)[0],
    "map": lambda x, k: lax.map(lambda row: reversed_axes(row[None], k)[0], x),
    "while, body": lambda x, k: lax.while_loop(lambda c: c.sum() < 0, lambda c: reversed_axes(c, k), x),
    "while, condition": lambda x, k: lax.while_loop(lambda c: reversed_axes(c, k).sum() < 0, lambda c: c + 1, x),
    "cond, first": lambda x, k: lax.cond(x.sum() > 0, lambda: reversed_axes(x, k), lambda: x),
    "cond, second": lambda x, k: lax.cond(x.sum() > 0, lambda: x, lambda: reversed_axes(x, k)),
    "remat": jax.checkpoint(reversed_axes),
    "custom_vjp": own,
    "custom_jvp": own_forward,
    "custom_vmap": jax.custom_batching.sequential_vmap(reversed_axes),
    "shard_map": in_shard_map,
    "vmap": lambda x, k: jax.vmap(reversed_axes)(x[None], k[None]),
    "all of them": lambda x, k: lax.map(jax.jit(jax.checkpoint(lambda row: own(row[None], k)[0])), x),
}


@pytest.mark.parametrize("name", INSIDE)
def test_inside(name):
    assert convolutions_in_loops(INSIDE[name], IMAGES, KERNEL) == "slow"


def test_it_sees_through_a_loop_to_a_fast_one():
    mapped = lambda x, k: lax.map(jax.jit(jax.checkpoint(lambda row: canonical(row[None], k)[0])), x)  # noqa: E731
    assert convolutions_in_loops(mapped, IMAGES, KERNEL) == "fast"
