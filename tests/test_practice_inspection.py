"""Looking inside a network: every number against an independent computation, every finding against a net made ill."""

# ruff: noqa: E501  (a wrong call is easier to read in one line)

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import numbers, random_dataset, shapes_filled, small_resnet

from jaxdl import data, models, optim, practice, train, transfer
from jaxdl.models import layers

IMAGENET = data.Standardize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PNG = b"\x89PNG"


class TwoNonlinearities(nn.Module):
    """Dense, ReLU, dense, tanh, dense."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(6, name="one")(x))
        x = jnp.tanh(nn.Dense(5, name="two")(x))
        return nn.Dense(3, name="head")(x)


class Deep(nn.Module):
    """Eight dense layers with a nonlinearity."""

    activation: str = "relu"

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for _ in range(8):
            x = getattr(nn, self.activation)(nn.Dense(48, kernel_init=nn.initializers.he_normal())(x))
        return nn.Dense(10)(x)


class TwoConvolutions(nn.Module):
    """Convolution, ReLU, overlapping pooling, convolution with a stride, dense."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        del train
        x = nn.relu(layers.Conv(4, (3, 3), name="conv1")(x))
        x = layers.max_pool(x, window=3, stride=2)
        x = layers.Conv(5, (3, 3), strides=2, padding=1, name="conv2")(x)
        return nn.Dense(3, name="head")(nn.relu(x).reshape(len(x), -1))


@pytest.fixture(scope="module")
def small():
    """The net with two nonlinearities, its variables, and a batch."""
    rng = np.random.default_rng(0)
    batch = (rng.normal(size=(7, 4)).astype(np.float32), rng.integers(0, 3, 7).astype(np.int32))
    model = TwoNonlinearities()
    return model, model.init(jax.random.key(0), batch[0]), batch


@pytest.fixture(scope="module")
def pictures():
    """A set of small images, a net with two convolutions, and variables for it."""
    dataset = random_dataset(30, (12, 10, 3), seed=1)
    model = TwoConvolutions()
    variables = jax.jit(lambda: model.init(jax.random.key(1), jnp.zeros((1, 12, 10, 3)), train=False))()
    return dataset, model, variables


def by_hand(variables, x):
    """The outputs of all layers of `TwoNonlinearities`, in NumPy."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    one = x @ p["one"]["kernel"] + p["one"]["bias"]
    relu = np.maximum(one, 0)
    two = relu @ p["two"]["kernel"] + p["two"]["bias"]
    tanh = np.tanh(two)
    return {
        "one": one,
        "relu_0": relu,
        "two": two,
        "tanh_0": tanh,
        "head": tanh @ p["head"]["kernel"] + p["head"]["bias"],
    }


def test_activations_are_those_of_a_forward_pass_by_hand(small):
    model, variables, (x, labels) = small
    found = practice.inspect(model, variables, (x, labels))
    values = by_hand(variables, x)
    assert [layer.name for layer in found.layers] == list(values)
    assert [layer.role for layer in found.layers] == ["layer", "activation", "layer", "activation", "layer"]
    for layer in found.layers:
        value = values[layer.name]
        assert layer.shape == value.shape[1:]
        expected = value.mean(), value.std(), np.mean(value == 0), math.sqrt((value**2).sum() / 7)
        got = layer.activation.mean, layer.activation.std, layer.activation.zeros, layer.activation.norm
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.activation.sample, value.ravel(), rtol=1e-5, atol=1e-6)
    assert found["relu_0"].activation.zeros > 0.2
    assert found["one"].saturated is None
    assert found["one"].dead is None
    np.testing.assert_array_equal(found["relu_0"].dead, (values["relu_0"] == 0).all(0))
    log_softmax = values["head"] - np.log(np.exp(values["head"]).sum(1, keepdims=True))
    np.testing.assert_allclose(found.loss, -log_softmax[np.arange(7), labels].mean(), rtol=1e-5)


def test_gradients_are_those_of_the_rest_of_the_net(small):
    """The loss as an explicit function of each layer's output, differentiated; and of the parameters."""
    model, variables, (x, labels) = small
    found = practice.inspect(model, variables, (x, labels))
    p = variables["params"]

    def dense(name, x, p=p):
        return x @ p[name]["kernel"] + p[name]["bias"]

    def loss(logits):
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(7), labels])

    rest = {
        "head": loss,
        "tanh_0": lambda a: loss(dense("head", a)),
        "two": lambda a: loss(dense("head", jnp.tanh(a))),
        "relu_0": lambda a: loss(dense("head", jnp.tanh(dense("two", a)))),
        "one": lambda a: loss(dense("head", jnp.tanh(dense("two", jnp.maximum(a, 0))))),
    }
    for name, value in by_hand(variables, x).items():
        gradient = np.asarray(jax.grad(rest[name])(jnp.asarray(value, jnp.float32)), np.float64)
        got = found[name].gradient
        expected = gradient.mean(), gradient.std(), np.mean(gradient == 0), math.sqrt((gradient**2).sum() / 7)
        np.testing.assert_allclose((got.mean, got.std, got.zeros, got.norm), expected, rtol=1e-4, atol=1e-7)

    def whole(p):
        return loss(dense("head", jnp.tanh(dense("two", jnp.maximum(dense("one", x, p), 0), p)), p))

    gradients = jax.tree_util.tree_leaves_with_path(jax.grad(whole)(p))
    assert len(found.weights) == len(gradients) == 6
    for weight, (path, gradient) in zip(found.weights, gradients, strict=True):
        assert weight.name == "/".join(key.key for key in path)
        old = np.asarray(p[path[0].key][path[1].key])
        np.testing.assert_allclose(weight.norm, np.linalg.norm(old), rtol=1e-5)
        np.testing.assert_allclose(weight.gradient_norm, np.linalg.norm(gradient), rtol=1e-4)


def test_update_ratios_are_those_of_the_next_step(small):
    """Of plain SGD rate * gradient / weight; frozen weights have none; the state stays as it was."""
    model, variables, batch = small
    tx = optax.chain(optim.sgd(0.5), optim.freeze(lambda path: path.startswith("two")))
    state = train.init_state(model, tx, jax.random.key(0), (4,), variables=variables)
    before = numbers(state)
    found = practice.inspect(model, state, batch, tx=tx)
    jax.tree.map(np.testing.assert_array_equal, before, numbers(state))
    for weight in found.weights:
        if weight.name.startswith("two"):
            assert weight.update_ratio is None
        elif weight.name.endswith("kernel"):
            np.testing.assert_allclose(weight.update_ratio, 0.5 * weight.gradient_norm / weight.norm, rtol=1e-3)


def resnet_batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 8, 8, 3)).astype(np.float32), rng.integers(0, 10, 6).astype(np.int32)


def test_modules_of_a_resnet_are_those_that_flax_captures():
    """In training, against `capture_intermediates`."""
    model, batch = small_resnet(), resnet_batch()
    variables = shapes_filled(model, (8, 8, 3))
    found = practice.inspect(model, variables, batch)

    @jax.jit
    def capture(variables, x):
        mutable = ["batch_stats", "intermediates"]
        _, seen = model.apply(variables, x, train=True, capture_intermediates=True, mutable=mutable)
        return seen["intermediates"]

    seen = capture(variables, batch[0])
    modules = [layer for layer in found.layers if layer.role != "activation"]
    assert len(modules) == 2 + 5 + 1  # stem; two convolutions, two norms and the block; head
    for layer in modules:
        node = seen
        for name in layer.name.split("/"):
            node = node[name]
        (value,) = node["__call__"]
        expected = jnp.mean(value), jnp.std(value)
        np.testing.assert_allclose((layer.activation.mean, layer.activation.std), expected, rtol=1e-4, atol=1e-5)
    assert [layer.name for layer in found.layers if layer.kind == "relu"] == [
        "relu_0",
        "stage1_block1/relu_0",
        "stage1_block1/relu_1",
    ]


@pytest.mark.slow
def test_a_scanned_resnet_is_inspected_block_by_block():
    """The same numbers as of the net that is not scanned, updates too."""
    model, tx, batch = small_resnet(blocks=3), optim.momentum(0.01), resnet_batch()
    state = train.init_state(model, tx, jax.random.key(0), (8, 8, 3))
    found = practice.inspect(model, state, batch, tx=tx)
    scanned, stacked = model.clone(scan=True), models.stack_blocks(state.variables)
    scan_state = train.init_state(scanned, tx, jax.random.key(0), (8, 8, 3), variables=stacked)
    other = practice.inspect(scanned, scan_state, batch, tx=tx)
    assert [layer.name for layer in other.layers] == [layer.name for layer in found.layers]
    for a, b in zip(found.layers, other.layers, strict=True):
        np.testing.assert_allclose(a.gradient.norm, b.gradient.norm, rtol=1e-3)
    for a, b in zip(found.weights, other.weights, strict=True):
        assert a.name == b.name
        np.testing.assert_allclose(a.update_ratio, b.update_ratio, rtol=1e-2, atol=1e-6)


def test_nonlinearities_are_seen_and_gates_are_not_taken_for_them():
    class Many(nn.Module):
        @nn.compact
        def __call__(self, x):
            for f in (nn.relu, nn.sigmoid, nn.tanh, nn.elu, nn.gelu, nn.swish, lambda x: x * jax.nn.sigmoid(x)):
                x = f(x)
            x = nn.Sequential((nn.Dense(3), nn.leaky_relu))(jnp.maximum(x, 0))
            return layers.PReLU()(x)

    x = jnp.linspace(-1, 1, 12).reshape(4, 3)
    found = practice.inspect(Many(), Many().init(jax.random.key(0), x), (x, jnp.zeros(4, jnp.int32)))
    kinds = [layer.kind for layer in found.layers if layer.role == "activation"]
    assert kinds == ["relu", "sigmoid", "tanh", "elu", "silu", "relu", "leaky_relu", "PReLU"]
    assert [layer.saturated is not None for layer in found.layers if layer.role == "activation"][:4] == [
        False,
        True,
        True,
        False,
    ]


def deep(dataset, activation="relu", change=lambda path, leaf: leaf, tx=None):
    """The inspection of a deep net whose parameters were changed."""
    model, tx_ = Deep(activation), tx or optim.sgd(0.01)
    state = train.init_state(model, tx_, jax.random.key(0), dataset)
    params = jax.tree_util.tree_map_with_path(lambda path, leaf: change(path[-1].key, leaf), state.params)
    return practice.inspect(model, state._replace(params=params), dataset, tx=tx)


def names(found):
    return [finding.name for finding in found.findings]


def normal(scale):
    return lambda name, leaf: leaf if name == "bias" else scale * np.random.default_rng(0).normal(size=leaf.shape)


def test_saturated(fashion):
    found = deep(fashion[0], "tanh", normal(1.0))
    assert "saturated" in names(found)
    # Independently: the inputs of the second tanh have a deviation of about sqrt(48), so most lie beyond arctanh(0.98).
    assert 0.6 < found["tanh_1"].saturated < 0.85
    assert "tanh" in found.verdict
    assert names(deep(fashion[0], "tanh", lambda name, leaf: leaf / math.sqrt(2))) == []


def test_activations_and_gradients_vanish_and_explode(fashion):
    small, large = deep(fashion[0], change=normal(0.01)), deep(fashion[0], change=normal(2.0))
    assert {"activations vanish", "gradients vanish"} <= set(names(small))
    assert {"activations explode", "gradients explode"} <= set(names(large))
    # With ReLU each layer of 48 multiplies the deviation by about 0.01 sqrt(48 / 2).
    ratio = small["relu_7"].activation.std / small["relu_0"].activation.std
    assert 0.2 < ratio ** (1 / 7) / (0.01 * math.sqrt(24)) < 2
    assert "He's" in small.verdict


def test_dead_units(fashion):
    def drop(name, leaf):
        return leaf - 100 if name == "bias" and leaf.shape == (48,) else leaf

    found = deep(fashion[0], change=drop)
    assert "dead units" in names(found)
    assert found["relu_3"].dead.all()
    assert found["relu_3"].activation.zeros == 1
    assert found.findings[0].serious
    half = deep(fashion[0], change=lambda name, leaf: leaf.at[:24].add(-100) if leaf.shape == (48,) else leaf)
    assert 0.5 <= half["relu_0"].dead_share < 0.6
    np.testing.assert_array_equal(half["relu_0"].dead[:24], True)


def test_a_rate_that_is_wrong(fashion):
    assert names(deep(fashion[0], tx=optim.sgd(0.01))) == []
    high, low = deep(fashion[0], tx=optim.sgd(1.0)), deep(fashion[0], tx=optim.sgd(1e-5))
    assert names(high) == ["updates too large"]
    assert names(low) == ["updates too small"]
    assert "divide the learning rate" in high.verdict
    assert "multiply the learning rate" in low.verdict


def test_not_finite(fashion):
    found = deep(fashion[0], change=lambda name, leaf: leaf * np.nan if leaf.shape == (48,) else leaf)
    assert names(found) == ["not finite"]
    assert "Dense_0" in found.verdict


def test_a_fresh_resnet_is_healthy(fashion, tmp_path):
    """In training, and drawn; the picture is not empty."""
    train_set = fashion[0]
    model, tx = models.resnet_cifar(8), optim.momentum(0.1)
    state = train.init_state(model, tx, jax.random.key(0), train_set)
    found = practice.inspect(model, state, train_set, tx=tx)
    assert found.findings == ()
    assert found.examples == 128
    assert "Nothing is amiss" in str(found)
    assert "stage2_block1/shortcut_conv" not in str(found)
    found.plot(tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes()[:4] == PNG


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_a_pretrained_resnet_is_healthy(cifar10, real_data, training):
    model, (_, test_set) = models.resnet_cifar(20), cifar10
    variables = transfer.load_torch_weights(model, real_data.parents[1] / "weights" / "resnet20-12fca82f.th")
    found = practice.inspect(model, variables, test_set, preprocess=IMAGENET, train=training)
    assert found.findings == ()


def test_inspector(fashion, tmp_path):
    """At evaluations it sees what `inspect` sees of the same state."""
    train_set, test_set = fashion[0][:256], fashion[1][:64]
    model, tx = models.mlp(widths=(12, 12)), optim.sgd(0.1)
    state = train.init_state(model, tx, jax.random.key(0), train_set)
    inspector = practice.Inspector(model, train_set, every=4, tx=tx)
    inspector.look(state)
    kept = {}

    def keep(event):
        if isinstance(event, train.Evaluated):
            kept[event.step] = jax.tree.map(jnp.copy, event.state)

    options = {"eval_every": 2, "batch_size": 32, "progress": False, "watch": [inspector, keep]}
    train.fit(state, model, tx, train_set, eval_set=test_set, steps=8, **options)
    assert inspector.steps == [0, 4, 8]
    again = practice.inspect(model, kept[8], train_set, tx=tx)
    assert str(inspector.inspections[-1]) == str(again)
    over_time = inspector.over_time(lambda layer: layer.activation.std)
    assert over_time.shape == (3, 2)
    assert over_time[-1, 1] == again["relu_1"].activation.std
    inspector.plot(tmp_path / "time.png")
    assert (tmp_path / "time.png").read_bytes()[:4] == PNG


def test_filters(pictures, tmp_path):
    _, _, variables = pictures
    found = practice.filters(variables)
    assert found.layer == "conv1"
    kernel = np.asarray(variables["params"]["conv1"]["kernel"])
    for number in range(4):
        np.testing.assert_array_equal(found.kernels[number], kernel[..., number])
    for layer in ("conv1", "conv2"):
        practice.filters(variables, layer).plot(tmp_path / "filters.png")
        assert (tmp_path / "filters.png").read_bytes()[:4] == PNG


def captured(model, variables, inputs, layer):
    """The outputs of a module, by Flax's own means."""
    _, seen = model.apply(variables, inputs, train=False, capture_intermediates=True)
    return np.asarray(seen["intermediates"][layer]["__call__"][0])


def test_feature_maps(pictures, tmp_path):
    dataset, model, variables = pictures
    image, shown = dataset.images[3], dataset.standardize(jnp.asarray(dataset.images[3:4]))
    found = practice.feature_maps(model, variables, image, "conv1", preprocess=dataset.standardize)
    expected = captured(model, variables, shown, "conv1")[0]
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-5)
    rectified = practice.feature_maps(model, variables, image, "relu_0", preprocess=dataset.standardize)
    np.testing.assert_allclose(rectified.maps, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
    found.plot(tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes()[:4] == PNG


@pytest.mark.parametrize("layer", ["conv1", "conv2", "head"])
def test_receptive_fields_are_the_pixels_whose_change_changes_a_unit(pictures, layer):
    """Every pixel of some random images is changed by itself; a change can stay without effect, so over many images."""
    _, model, variables = pictures
    field = practice.receptive_field(model, variables, (12, 10, 3), layer)
    rng = np.random.default_rng(0)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False, capture_intermediates=True)[1]["intermediates"])
    changed = None
    for _ in range(6):
        image = rng.normal(size=(12, 10, 3)).astype(np.float32)
        pixels = np.repeat(image[None], 121, 0)
        for number in range(120):
            pixels[number, number // 10, number % 10] += rng.normal(scale=10, size=3)
        values = np.asarray(apply(pixels)[layer]["__call__"][0])
        moved = (values[:120] != values[120]).any(-1).reshape(12, 10, *values.shape[1:-1])
        changed = moved if changed is None else changed | moved
    changed = changed.reshape(12, 10, len(field.rows), len(field.columns))
    for y, (top, bottom) in enumerate(field.rows):
        for x, (left, right) in enumerate(field.columns):
            rows, columns = np.nonzero(changed[:, :, y, x])
            assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (top, bottom, left, right)
    if layer == "conv2":  # by computation: padding 1, stride 2; pooling of 3, stride 2; padding 1
        assert field.rows[1].tolist() == [1, 10]


def test_top_patches_are_those_of_a_search_through_all_images(pictures, tmp_path):
    dataset, model, variables = pictures
    found = practice.top_patches(model, variables, dataset, "conv2", [4, 1], k=3, batch_size=7)
    values = captured(model, variables, dataset.standardize(jnp.asarray(dataset.images)), "conv2")
    field = practice.receptive_field(model, variables, (12, 10, 3), "conv2")
    assert found.units == (4, 1)
    for unit, patches in zip((4, 1), found.patches, strict=True):
        best = []
        for row in range(30):
            for y in range(values.shape[1]):
                for x in range(values.shape[2]):
                    best.append((-values[row, y, x, unit], row, (y, x)))
        best.sort()
        seen, expected = set(), []
        for value, row, position in best:
            if row not in seen:
                seen.add(row)
                expected.append((-value, row, position))
        for patch, (value, row, position) in zip(patches, expected[:3], strict=True):
            np.testing.assert_allclose(patch.value, value, rtol=1e-4)
            assert (patch.row, patch.position) == (row, position)
            top, bottom, left, right = patch.box
            assert (top, bottom) == tuple(field.rows[position[0]])
            np.testing.assert_array_equal(patch.pixels, dataset.images[row, top:bottom, left:right])
    found.plot(tmp_path / "patches.png")
    assert (tmp_path / "patches.png").read_bytes()[:4] == PNG


def test_the_patch_holds_what_moves_the_unit():
    """A unit that looks for one bright pixel at the middle of its 3x3 window finds where it was put."""
    images = np.zeros((6, 9, 9, 1), np.uint8)
    places = [(4, 4), (0, 0), (8, 3), (2, 7), (5, 1), (6, 6)]
    for number, (y, x) in enumerate(places):
        images[number, y, x] = 250 - 10 * number
    dataset = data.from_arrays(images, np.arange(6) % 2, standardize=data.Standardize((0.0,), (1.0,)))
    model = nn.Sequential((nn.Conv(1, (3, 3), name="conv"), lambda x: x.reshape(len(x), -1), nn.Dense(2)))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 9, 9, 1)))
    (conv,) = (
        name
        for name in variables["params"]
        if "kernel" in variables["params"][name] and variables["params"][name]["kernel"].ndim == 4
    )
    variables["params"][conv] = {"kernel": jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0), "bias": jnp.zeros(1)}
    found = practice.top_patches(model, variables, dataset, conv, [0], k=6)
    assert [patch.row for patch in found.patches[0]] == list(range(6))
    assert [patch.position for patch in found.patches[0]] == places
    assert found.patches[0][0].box == (3, 6, 3, 6)
    assert found.patches[0][1].box == (0, 2, 0, 2)
    assert found.patches[0][0].pixels[1, 1, 0] == 250


def test_saliency_is_the_finite_difference_of_the_score(pictures, x64, tmp_path):
    _, model, variables = pictures
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    images = np.random.default_rng(0).normal(size=(2, 12, 10, 3))
    found = practice.saliency(model, variables, images, np.array([2, 0]))
    logits = jax.jit(lambda x: model.apply(variables, x, train=False))
    for number, label in enumerate((2, 0)):
        expected = np.zeros((12, 10))
        for y, x in ((0, 0), (5, 4), (11, 9), (7, 2), (3, 8)):
            slopes = []
            for channel in range(3):
                step = np.zeros((12, 10, 3))
                step[y, x, channel] = 1e-6
                up, down = logits(images[number] + np.stack([step, -step]))[:, label]
                slopes.append(abs(float(up - down)) / 2e-6)
            expected[y, x] = max(slopes)
            np.testing.assert_allclose(found.maps[number, y, x], expected[y, x], rtol=1e-4, atol=1e-7)
        assert expected.max() > 0
    predicted = practice.saliency(model, variables, images)
    np.testing.assert_array_equal(predicted.labels, np.argmax(logits(images), -1))
    found.plot(tmp_path / "saliency.png", ("a", "b", "c"))
    assert (tmp_path / "saliency.png").read_bytes()[:4] == PNG


def test_occlusion_is_that_of_a_loop(pictures, tmp_path):
    dataset, model, variables = pictures
    image, label = dataset.images[0], 1
    found = practice.occlusion(model, variables, image, label, size=3, stride=2, preprocess=dataset.standardize)
    given = np.asarray(dataset.standardize(jnp.asarray(image[None])))
    apply = jax.jit(lambda x: jax.nn.softmax(model.apply(variables, x, train=False)))
    np.testing.assert_allclose(found.whole, apply(given)[0, label], rtol=1e-5)
    assert found.probabilities.shape == (5, 4)
    for row, top in enumerate(range(0, 10, 2)):
        for column, left in enumerate(range(0, 8, 2)):
            covered = given.copy()
            covered[0, top : top + 3, left : left + 3] = 0
            np.testing.assert_allclose(found.probabilities[row, column], apply(covered)[0, label], rtol=1e-4)
    found.plot(tmp_path / "occlusion.png")
    assert (tmp_path / "occlusion.png").read_bytes()[:4] == PNG


def test_mistakes_are_those_of_a_loop(pictures, tmp_path):
    dataset, model, variables = pictures
    found = practice.mistakes(model, variables, dataset, most=5, batch_size=8)
    logits = np.asarray(
        model.apply(variables, dataset.standardize(jnp.asarray(dataset.images)), train=False), np.float64
    )
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    matrix, wrong = np.zeros((3, 3), int), []
    for row, (label, p) in enumerate(zip(dataset.labels, probabilities, strict=True)):
        matrix[label, p.argmax()] += 1
        if p.argmax() != label:
            wrong.append((-p.max(), row))
    np.testing.assert_array_equal(found.matrix, matrix)
    expected = sorted(wrong)[:5]
    assert found.rows.tolist() == [row for _, row in expected]
    np.testing.assert_allclose(found.probabilities, [-p for p, _ in expected], rtol=1e-4)
    np.testing.assert_array_equal(found.images, dataset.images[found.rows])
    np.testing.assert_array_equal(found.labels, dataset.labels[found.rows])
    np.testing.assert_allclose(found.error, len(wrong) / 30)
    assert f"{len(wrong)} of 30" in str(found)
    for draw in (found.plot, found.plot_images):
        draw(tmp_path / "mistakes.png")
        assert (tmp_path / "mistakes.png").read_bytes()[:4] == PNG


def test_a_class_that_is_never_predicted(pictures):
    dataset, model, variables = pictures
    head = variables["params"]["head"]
    ill = {"params": {**variables["params"], "head": {**head, "bias": head["bias"].at[0].add(-1e4)}}}
    found = practice.mistakes(model, ill, dataset)
    assert [finding.name for finding in found.findings] == ["classes never predicted"]
    assert "said to be a," in found.verdict


def test_mistakes_of_a_stream_are_those_of_its_images(tmp_path):
    """A folder of PNGs against the same images in memory."""
    from PIL import Image

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (12, 16, 16, 3)).astype(np.uint8)
    for number, image in enumerate(images):
        for split in ("train", "val"):
            folder = tmp_path / split / "ab"[number // 6]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:02}.png")
    view = data.DecodeCenterCrop(16, 16)
    _, stream = data.folder(tmp_path, train_view=view, test_view=view, workers=0)
    memory = data.from_arrays(images, np.arange(12) // 6, classes=("a", "b"), standardize=stream.standardize)
    model = models.mlp(2, widths=(4,))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    a, b = (practice.mistakes(model, variables, part, most=3) for part in (stream, memory))
    np.testing.assert_array_equal(a.matrix, b.matrix)
    np.testing.assert_array_equal(a.rows, b.rows)
    np.testing.assert_array_equal(a.images, b.images)
    inspected = [practice.inspect(model, variables, part) for part in (stream, memory)]
    assert str(inspected[0]) == str(inspected[1])


WRONG = [
    ("practice.inspect(MODEL, {}, SET)", "inspect: variables must be || got {}"),
    ("practice.inspect(MODEL, VARIABLES, SET.images)", "inspect: batch must be a pair"),
    ("practice.inspect(MODEL, VARIABLES, (SET.images, SET.labels[:3]))", "of one length || [30, 12, 10, 3], [3]"),
    ("practice.inspect(MODEL, VARIABLES, (SET.images, SET.labels))", "inspect: the model would be shown uint8 images"),
    ("practice.inspect(MODEL, VARIABLES, SET, tx=optim.sgd(0.1))", "inspect: the update that tx makes needs the training state"),
    ("practice.inspect(MODEL, VARIABLES, SET, tx=0.1)", "inspect: tx must be an optax gradient transformation"),
    ("practice.inspect(MODEL, VARIABLES, SET, train=1)", "inspect: train must be True or False"),
    ("practice.inspect(MODEL, VARIABLES, SET, key=0)", "inspect: key must be one typed PRNG key"),
    ("practice.inspect(models.mlp(3), VARIABLES, SET)", "does not belong to this MLP"),
    ("practice.inspect(MODEL, VARIABLES, SET)['relu_9']", "there is no layer 'relu_9' || conv1, relu_0"),
    ("practice.Inspector(MODEL, SET, every=0)", "Inspector: every must be an integer >= 1"),
    ("practice.Inspector(MODEL, SET).plot('x.png')", "there is no inspection to draw"),
    ("practice.filters(VARIABLES, 'head')", "filters: layer must be one of conv1, conv2"),
    ("practice.filters({'params': {}})", "filters: the model has no kernels"),
    ("practice.feature_maps(MODEL, VARIABLES, SET.images, 'conv1')", "feature_maps: image must be an array [height, width, channels]"),
    ("practice.feature_maps(MODEL, VARIABLES, IMAGE, 'conv9')", "feature_maps: layer must be the name || 'conv9' || conv1, relu_0"),
    ("practice.feature_maps(MODEL, VARIABLES, IMAGE, 'head')", "head must give maps"),
    ("practice.receptive_field(MODEL, VARIABLES, 12, 'conv1')", "receptive_field: image_shape must be (height, width, channels)"),
    ("practice.top_patches(MODEL, VARIABLES, SET, 'conv1', [4])", "units must be numbers of channels in 0..3 || [4]"),
    ("practice.top_patches(MODEL, VARIABLES, SET, 'conv1', 1)", "units must be numbers of channels"),
    ("practice.top_patches(MODEL, VARIABLES, IMAGE, 'conv1', [1])", "top_patches: dataset must be one data.Dataset"),
    ("practice.top_patches(MODEL, VARIABLES, SET, 'conv1', [1], k=0)", "k must be an integer >= 1"),
    ("practice.saliency(MODEL, VARIABLES, IMAGE)", "saliency: images must be an array [n, height, width, channels]"),
    ("practice.saliency(MODEL, VARIABLES, SET.images)", "saliency: the model would be shown uint8 images"),
    ("practice.saliency(MODEL, VARIABLES, IMAGE[None], [1, 2])", "labels must be class numbers [n]"),
    ("practice.saliency(MODEL, VARIABLES, IMAGE[None], [3])", "label must be the number of a class in 0..2 || label=3"),
    ("practice.occlusion(MODEL, VARIABLES, IMAGE, 3)", "occlusion: label must be the number of a class in 0..2"),
    ("practice.occlusion(MODEL, VARIABLES, IMAGE, 1, size=11)", "occlusion: size must be at most || 12 x 10 || size=11"),
    ("practice.occlusion(MODEL, VARIABLES, IMAGE, 1, stride=0)", "occlusion: stride must be an integer >= 1"),
    ("practice.mistakes(MODEL, VARIABLES, SET.images)", "mistakes: dataset must be one data.Dataset"),
    ("practice.mistakes(MODEL, VARIABLES, SET, most=0)", "mistakes: most must be an integer >= 1"),
    ("practice.mistakes(MODEL, VARIABLES, NUMBERS)", "mistakes: the data set must have classes"),
]  # fmt: skip


@pytest.mark.parametrize("row", WRONG, ids=[row[0] for row in WRONG])
def test_wrong_calls(row, pictures):
    dataset, model, variables = pictures
    scope = {"practice": practice, "models": models, "optim": optim, "MODEL": model, "VARIABLES": variables}
    scope |= {"SET": dataset, "IMAGE": np.ones((12, 10, 3), np.float32)}
    scope["NUMBERS"] = data.from_arrays(dataset.images, np.ones((30, 1), np.float32), standardize=dataset.standardize)
    call, words = row
    with pytest.raises(ValueError, match=r".") as caught:
        eval(call, scope)
    missing = [word for word in words.split(" || ") if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
