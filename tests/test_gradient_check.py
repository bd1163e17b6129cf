"""gradient_check: right gradients pass, wrong ones are named, kinks and float32 are told apart."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_resnet

from jaxdl import models, practice, train
from jaxdl.models import layers

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1], np.int32)


def wrong_by(factor):
    """Identity, whose gradient is off by a factor."""

    @jax.custom_vjp
    def same(x):
        return x

    same.defvjp(lambda x: (x, None), lambda _, g: (factor * g,))
    return same


class Net(nn.Module):
    """Two dense layers with BatchNorm; the gradient of one parameter is wrong by a factor."""

    wrong: str = ""
    factor: float = 2.0

    @nn.compact
    def __call__(self, x, *, train: bool):
        def kernel(name, shape):
            value = self.param(name, nn.initializers.lecun_normal(), shape)
            return wrong_by(self.factor)(value) if name == self.wrong else value

        x = x.reshape(len(x), -1) @ kernel("first", (128, 6))
        scale = self.param("scale", nn.initializers.ones, (6,))
        scale = wrong_by(self.factor)(scale) if self.wrong == "scale" else scale
        x = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5) * scale
        x = nn.tanh(x)
        x = wrong_by(self.factor)(x) if self.wrong == "activation" else x
        return x @ kernel("second", (6, 3))


def variables_of(model, images=IMAGES):
    return jax.jit(lambda key: model.init(key, jnp.asarray(images), train=False))(jax.random.key(0))


def check(model, images=IMAGES, targets=LABELS, **settings):
    settings = {"entries": 3, "directions": 1, "progress": False} | settings
    return practice.gradient_check(model, variables_of(model, images), (images, targets), **settings)


def test_a_right_gradient_is_good_and_settings_stay():
    found = check(Net())
    assert found.findings == ()
    assert max(found.relative_error.values()) < 1e-7
    assert set(found.relative_error) == {"inputs", "params/first", "params/scale", "params/second"}
    assert jnp.zeros(()).dtype == jnp.float32
    assert not jax.config.jax_enable_x64
    assert found.value == pytest.approx(
        float(jnp.mean(train.cross_entropy(Net().apply(variables_of(Net()), IMAGES, train=True), LABELS))), rel=1e-2
    )


@pytest.mark.parametrize("name", ["first", "scale", "second"])
def test_the_wrong_parameter_is_named_with_its_factor(name):
    found = check(Net(wrong=name))
    (finding,) = found.findings
    assert finding.name == "wrong gradient"
    assert set(finding.numbers) == {f"params/{name}"}
    assert found.ratio[f"params/{name}"] == pytest.approx(2, rel=1e-5)
    assert found.relative_error[f"params/{name}"] == pytest.approx(0.5, rel=1e-4)  # |2 g - g| / |2 g|


def test_a_layer_that_passes_on_a_wrong_gradient_makes_all_before_it_wrong():
    (finding,) = check(Net(wrong="activation", factor=-1.0)).findings
    assert set(finding.numbers) == {"inputs", "params/first", "params/scale"}


def test_small_errors_are_doubtful():
    (finding,) = check(Net(wrong="first", factor=1.003)).findings
    assert finding.name == "doubtful gradient"
    assert not finding.serious


def test_a_function_with_one_wrong_entry_is_found_by_a_direction():
    @jax.custom_vjp
    def cubes(x):
        return jnp.sum(x**3)

    cubes.defvjp(lambda x: (cubes(x), x), lambda x, g: (g * 3 * x**2 * jnp.where(jnp.arange(1000) == 7, 3.0, 1.0),))
    x = np.full(1000, 0.01)
    x[7] = 1
    found = practice.function_gradient_check(lambda at: cubes(at["x"]), {"x": x}, entries=2, progress=False)
    assert [finding.name for finding in found.findings] == ["wrong gradient"]


def test_kinks_are_no_errors():
    at = {"x": np.array([0.0, 1.0, -1.0, 0.0])}
    found = practice.function_gradient_check(lambda at: jnp.sum(jax.nn.relu(at["x"])), at, progress=False)
    assert found.findings == ()
    assert found.kinks["x"] >= 2
    wrong = practice.function_gradient_check(
        lambda at: jnp.sum(wrong_by(2.0)(jax.nn.relu(at["x"]))), at, progress=False
    )
    assert [finding.name for finding in wrong.findings] == ["wrong gradient"]


def test_integers_are_constants_and_a_tree_may_be_one_array():
    found = practice.function_gradient_check(
        lambda x: jnp.sum(x[0] ** 2 * x[1]), (np.ones(3), np.arange(3)), progress=False
    )
    assert set(found.relative_error) == {"0"}
    alone = practice.function_gradient_check(lambda x: jnp.sum(jnp.sin(x)), np.ones(3), progress=False)
    assert set(alone.relative_error) == {"x"}
    assert alone.relative_error["x"] < 1e-7


def test_modules_of_a_fixed_float32_are_said_not_failed():
    class Narrow(nn.Module):
        dtype: str | None = "float32"

        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, dtype=self.dtype, name="head")(x.reshape(len(x), -1))

    settings = {"entries": 3, "progress": False}
    variables = Narrow().init(jax.random.key(0), IMAGES)
    found = practice.gradient_check(Narrow(), variables, (IMAGES, LABELS), **settings)
    assert found.findings == ()
    assert any("head" in place for place in found.narrow)
    assert "float64" in found.verdict
    assert practice.gradient_check(Narrow(None), variables, (IMAGES, LABELS), **settings).narrow == ()


class Layers(nn.Module):
    """Our layers one after the other."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = layers.Conv(4, (3, 3))(x)
        x = layers.BatchNorm()(x, train=train)
        x = layers.max_pool(nn.relu(x))
        x = layers.local_response_norm(x)
        x = layers.DropConnect(5)(x.reshape(len(x), -1), train=train)
        x = layers.Dropout(0.5)(x, train=train)
        return nn.Dense(3)(x)


def test_our_layers_and_dropout_pass():
    found = check(Layers())
    assert found.findings == ()
    assert max(found.relative_error.values()) < 1e-4


def test_a_layer_alone_without_targets():
    class Pool(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.max_pool(x)

    found = practice.gradient_check(Pool(), {}, (IMAGES, None), loss=None, progress=False)
    assert set(found.relative_error) == {"inputs"}
    assert found.findings == ()


def test_black_backgrounds_are_no_errors():
    images = np.zeros((2, 8, 8, 1), np.float32)
    found = check(models.convnet(3, widths=(3,), hidden=4), images, LABELS[:2])
    assert found.findings == ()


def test_a_small_residual_net_passes():
    found = check(small_resnet(3), entries=2)
    assert found.findings == ()
    assert max(found.relative_error.values()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [models.resnet_cifar(8), models.cuda_convnet(10), models.cuda_convnet(10, response_norm=True)],
    ids=["resnet8", "cuda_convnet", "lrn"],
)
def test_real_nets_pass(model):
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    found = check(model, images)
    assert found.findings == ()
    assert max(found.relative_error.values()) < 1e-4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: practice.gradient_check(3, {}, (IMAGES, LABELS)), "gradient_check: model must be a flax.linen module"),
        (lambda: practice.gradient_check(Net(), {}, IMAGES), "batch must be a pair"),
        (lambda: practice.gradient_check(Net(), None, (IMAGES, LABELS)), "pass state.variables"),
        (lambda: practice.gradient_check(Net(), {}, (IMAGES.astype(np.uint8), LABELS)), "preprocess=train_set.stand"),
        (lambda: check(Net(), key=3), "gradient_check: key must be one typed PRNG key"),
        (lambda: check(Net(), entries=0), "entries must be an integer >= 1"),
        (lambda: practice.function_gradient_check(3, {}), "function must be a function"),
        (lambda: practice.function_gradient_check(Net(), {}), "pass it to gradient_check"),
        (lambda: practice.function_gradient_check(lambda x: x, np.ones(2)), "take the mean or the sum"),
        (lambda: practice.function_gradient_check(lambda x: 1.0, np.arange(2)), "no floating-point array"),
    ],
)
def test_wrong_calls(call, words):
    with pytest.raises(ValueError, match=".*") as caught:
        call()
    assert words in str(caught.value)
