import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import shapes_filled

from jaxdl import models


def parameters(model, shape):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_convnet_counts():
    """By hand: 3*3*1*16+16, 3*3*16*32+32, 7*7*32*64+64, 64*10+10."""
    assert parameters(models.convnet(), (28, 28, 1)) == 160 + 4640 + 100416 + 650
    assert parameters(models.convnet(100, widths=(8,), hidden=4), (6, 6, 3)) == 224 + 3 * 3 * 8 * 4 + 4 + 4 * 100 + 100


def test_mlp_counts():
    assert parameters(models.mlp(widths=(32,)), (28, 28, 1)) == 785 * 32 + 33 * 10
    assert parameters(models.mlp(3, widths=()), (4, 4, 1)) == 17 * 3


@pytest.mark.parametrize("model", [models.convnet(7), models.mlp(7)])
def test_logits(model):
    x = jax.random.normal(jax.random.key(1), (5, 12, 11, 3))
    variables = shapes_filled(model, x.shape[1:])
    apply = jax.jit(model.apply, static_argnames="train")
    logits = apply(variables, x, train=True)
    assert logits.shape == (5, 7)
    assert bool(jnp.all(logits == apply(variables, x, train=False)))  # nothing in them depends on it
    alone = apply(variables, x[2:3], train=False)  # no example sees another
    assert jnp.allclose(alone, logits[2:3], rtol=1e-5, atol=1e-5)


def test_equal_settings_are_equal_models():
    """Compiled functions are found again by the model."""
    assert models.convnet(widths=[8, 8]) == models.convnet(widths=(8, 8))
    assert hash(models.mlp(widths=[4])) == hash(models.mlp(widths=(4,)))


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [
        (models.convnet, {"num_classes": 0}, "convnet: num_classes must be an integer >= 1, got num_classes=0"),
        (models.convnet, {"widths": (8, -1)}, "convnet: width must be an integer >= 1, got width=-1"),
        (models.convnet, {"hidden": 1.5}, "convnet: hidden must be"),
        (models.mlp, {"widths": (0,)}, "mlp: width must be"),
        (models.mlp, {"num_classes": "10"}, "mlp: num_classes must be"),
        (models.mlp, {"widths": 32}, r"mlp: widths must be a sequence .* got widths=32; use widths=\(32,\)"),
        (models.convnet, {"widths": 32}, r"convnet: widths must be a sequence .* got widths=32; use widths=\(32,\)"),
        (models.convnet, {"widths": "32"}, "convnet: widths must be a sequence"),
        (models.convnet, {"widths": ()}, r"convnet: widths must be .*, at least one, got widths=\(\)"),
    ],
)
def test_bad_values(make, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_a_data_set_for_the_number_of_classes(fashion):
    with pytest.raises(ValueError, match="got num_classes=<fashion_mini train.*; pass the Dataset's num_classes"):
        models.convnet(fashion[0])


INPUTS = {
    "channels first": (
        (2, 3, 32, 32),
        r"looks like \[batch, channels, height, width\]; use images.transpose\(0, 2, 3, 1\)",
    ),
    "one channel first": ((2, 1, 28, 28), r"shape \(2, 1, 28, 28\) looks like \[batch, channels"),
    "one image": (
        (32, 32, 3),
        r"images must be \[batch, height, width, channels\], got .*; add the batch's axis: x\[None\]",
    ),
    "none": ((), r"images must be \[batch, height, width, channels\], got shape \(\)"),
    "a clip": ((2, 5, 32, 32, 3), "images must be"),
}
CALLED = {
    "alexnet": models.alexnet(),
    "cuda_convnet": models.cuda_convnet(),
    "conv_local": models.conv_local(),
    "convnet": models.convnet(),
    "vgg": models.vgg(),
    "resnet": models.resnet(18),
    "resnet_cifar": models.resnet_cifar(8),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", CALLED)
def test_images_of_another_layout(name, kind):
    shape, message = INPUTS[kind]
    with pytest.raises(ValueError, match=f"{name}: .*{message}" if shape else message):
        CALLED[name].init(jax.random.key(0), jnp.zeros(shape), train=False)


@pytest.mark.parametrize("model", [*CALLED.values(), models.mlp()])
def test_integers_for_images(model):
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(
        ValueError, match=r"images must be floating point, got dtype uint8 .*astype\(jax.numpy.float32\) / 255"
    ):
        model.init(jax.random.key(0), images, train=False)


@pytest.mark.slow
def test_channels_last_where_it_may_be_either():
    """Four channels, or a side of 3: what has a fair reading is let through."""
    for shape in ((1, 3, 4, 4), (1, 3, 8, 1), (1, 3, 5, 7)):
        models.convnet(widths=(4,)).init(jax.random.key(0), jnp.zeros(shape), train=False)


def test_too_many_stages_for_the_image():
    with pytest.raises(ValueError, match="use fewer pooling layers or larger images"):
        parameters(models.convnet(widths=(4,) * 5), (16, 16, 1))
