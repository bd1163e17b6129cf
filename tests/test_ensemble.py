"""Ensembles: predictions and scores against plain NumPy, statistics against torch's and float64's."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import NoisyNormNet, random_dataset, small_resnet
from oracles import torch_averages as oracle

from jaxdl import ensemble, models, optim, train
from jaxdl.models import layers

RECORDED = np.load(Path(__file__).parent / "oracles" / "torch_averages.npz")


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def members_of(model, shape, count=3):
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, *shape)), train=False))
    return [init(jax.random.key(seed)) for seed in range(count)]


@pytest.mark.parametrize("via", ["auto", "vmap", "map"])
@pytest.mark.parametrize("model", [models.mlp(3, widths=(8,)), models.convnet(3, widths=(4,)), small_resnet(3)])
def test_probabilities_are_each_members_own(model, via):
    dataset = random_dataset(n=13, shape=(8, 8, 3))
    members = members_of(model, (8, 8, 3))
    stacked = stack(members) if "batch_stats" in members[0] else stack(members)["params"]
    found = ensemble.probabilities(model, stacked, dataset, batch_size=5, via=via)
    x = dataset.standardize(jnp.asarray(dataset.images))
    apply = jax.jit(lambda m: jax.nn.softmax(model.apply(m, x, train=False)))
    expected = np.stack([apply(m) for m in members])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    together = ensemble.predict(model, stacked, dataset.images, preprocess=dataset.standardize, via=via)
    np.testing.assert_allclose(together, expected.mean(0), rtol=1e-4, atol=1e-6)


def test_evaluation_of_the_last_members():
    dataset, model = random_dataset(n=40), models.mlp(3, widths=(8,))
    members = stack(members_of(model, dataset.image_shape, 4))["params"]
    found = ensemble.evaluate(model, members, dataset)
    each = ensemble.probabilities(model, members, dataset).astype(np.float64)
    for m in range(1, 5):
        last = each[-m:].mean(0)
        assert found.ensemble.error[m - 1] == pytest.approx(np.mean(last.argmax(-1) != dataset.labels))
        assert found.ensemble.nll[m - 1] == pytest.approx(-np.log(last[np.arange(40), dataset.labels]).mean())
        assert found.members.error[m - 1] == np.mean(each[m - 1].argmax(-1) != dataset.labels)
    assert found.ensemble.brier[0] == pytest.approx(found.members.brier[-1])
    lines = str(found).splitlines()
    assert len(lines) == 5
    assert lines[1].split()[:2] == ["1", f"{100 * found.ensemble.error[0]:.2f}"]


def test_scores_against_loops():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5] * 4, 300)
    labels = rng.integers(0, 4, 300)
    found = ensemble.scores(p, labels)
    onehot = np.eye(4)[labels]
    assert found.error == pytest.approx(np.mean(p.argmax(1) != labels))
    assert found.nll == pytest.approx(np.mean([-np.log(row[label]) for row, label in zip(p, labels, strict=True)]))
    assert found.brier == pytest.approx(np.mean(((p - onehot) ** 2).sum(1)))
    ece = 0.0
    for k in range(15):
        inside = (p.max(1) > k / 15) & (p.max(1) <= (k + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs(p.max(1)[inside].mean() - (p.argmax(1) == labels)[inside].mean())
    assert found.ece == pytest.approx(ece)
    sure = ensemble.scores(np.eye(3), np.array([0, 1, 2]))
    assert sure == (0.0, 0.0, 0.0, 0.0)
    assert ensemble.scores(np.eye(3), np.array([1, 1, 2])).nll == np.inf  # what was said to be impossible happened


class TwoNorms(nn.Module):
    """The network of the torch oracle."""

    kind: type = layers.BatchNorm

    @nn.compact
    def __call__(self, x, *, train):
        if self.kind is layers.BatchNorm:
            norm = lambda name: layers.BatchNorm(name=name)  # noqa: E731
            call = {"train": train}
        else:
            norm = lambda name: nn.BatchNorm(momentum=0.7, name=name)  # noqa: E731
            call = {"use_running_average": not train}
        x = layers.Conv(4, (3, 3), padding=1, use_bias=False, name="conv1")(x)
        x = nn.relu(norm("norm1")(x, **call))
        x = layers.Conv(2, (3, 3), padding=1, use_bias=False, name="conv2")(x)
        return norm("norm2")(x, **call)


def two_norms(kind=layers.BatchNorm):
    model = TwoNorms(kind)
    params = model.init(jax.random.key(0), jnp.zeros((1, 5, 5, 3)), train=False)["params"]
    for name, kernel in zip(("conv1", "conv2"), oracle.kernels(), strict=True):
        params[name]["kernel"] = jnp.asarray(kernel, jnp.float32)
    return model, params


def test_cumulative_statistics_are_those_of_torchs_update_bn():
    """Batches of 6, 6 and 3 images count alike there."""
    model, params = two_norms()
    found = ensemble.update_batch_stats(model, params, oracle.images(), mode="cumulative")
    for path in ("norm1/mean", "norm1/var", "norm2/mean", "norm2/var"):
        name, kind = path.split("/")
        np.testing.assert_allclose(found[name][kind], RECORDED[path], rtol=2e-5, atol=2e-5)


def convolve(x, kernel):
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    n = x.shape[1] - 2
    return sum(x[:, i : i + n, j : j + n] @ kernel[i, j] for i in range(3) for j in range(3))


@pytest.mark.parametrize("kind", [layers.BatchNorm, nn.BatchNorm])
def test_pooled_statistics_are_those_of_all_numbers(kind):
    """Float64 NumPy over all that each BatchNorm is given; ours keeps the unbiased variance, Flax's the biased one."""
    given = {"norm1": [], "norm2": []}
    for x in oracle.images():
        first, second = oracle.kernels()
        y = convolve(x, first)
        given["norm1"].append(y.reshape(-1, 4))
        y = np.maximum((y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5), 0)
        given["norm2"].append(convolve(y, second).reshape(-1, 2))
    model, params = two_norms(kind)
    found = ensemble.update_batch_stats(model, params, oracle.images())
    for name, parts in given.items():
        whole = np.concatenate(parts)
        np.testing.assert_allclose(found[name]["mean"], whole.mean(0), rtol=2e-5, atol=2e-5)
        ddof = int(kind is layers.BatchNorm)
        np.testing.assert_allclose(found[name]["var"], whole.var(0, ddof=ddof), rtol=2e-5)


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_statistics_of_a_residual_network(scan):
    """One batch with all images: a training step's own moments, which momentum mixes into the running ones."""
    dataset, model = random_dataset(shape=(8, 8, 3)), small_resnet(3, blocks=2, scan=scan)
    variables = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False))()
    found = ensemble.update_batch_stats(model, variables["params"], dataset, batch_size=50)
    x = dataset.standardize(jnp.asarray(dataset.images))
    trained, updated = jax.jit(lambda v: model.apply(v, x, train=True, mutable=["batch_stats"]))(variables)
    expected = jax.tree.map(lambda new, old: (new - 0.9 * old) / 0.1, updated["batch_stats"], variables["batch_stats"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, expected)
    # The mean and variance of a model in evaluation are then those of its training batch.
    evaluated = jax.jit(lambda v: model.apply(v, x, train=False))({**variables, "batch_stats": found})
    np.testing.assert_allclose(evaluated, trained, rtol=0.05, atol=0.05)


def test_small_last_batches_and_dropout():
    dataset = random_dataset(n=23)
    params = NoisyNormNet().init(jax.random.key(0), jnp.zeros((1, *dataset.image_shape)), train=False)["params"]
    found = [
        ensemble.update_batch_stats(NoisyNormNet(), params, dataset, batch_size=size, key=jax.random.key(seed))
        for size, seed in ((23, 0), (5, 0), (5, 1))
    ]
    # Its BatchNorm comes before anything random and before any other: batches do not matter.
    for other in found[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found[0], other)


@pytest.mark.slow
def test_a_snapshot_ensemble_from_a_users_script():
    """As in the README: train with cycles, evaluate the snapshots, average with statistics estimated again."""
    import optax

    dataset = random_dataset(n=60, shape=(8, 8, 3))
    model = models.resnet_cifar(8, 3)
    tx = optax.chain(
        optim.momentum(optim.cosine_cycles(0.05, period=6)), optim.swa(6, 3), optim.snapshots(period=6, keep=2)
    )
    state = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
    state, _ = train.fit(state, model, tx, dataset, steps=18, batch_size=20, progress=False)
    found = ensemble.evaluate(model, optim.snapshot_variables(state.opt_state), dataset)
    assert len(found.ensemble.error) == 2
    assert found.members.error[-1] == pytest.approx(train.evaluate(model, state, dataset).error)  # it ends a cycle
    params = optim.swa_params(state.opt_state, state.params)
    averaged = state._replace(params=params, batch_stats=ensemble.update_batch_stats(model, params, dataset))
    assert train.evaluate(model, averaged, dataset).loss < 1.5
    with pytest.raises(ValueError, match="members must hold the batch statistics of .*, got none"):
        ensemble.predict(
            model, optim.snapshot_variables(state.opt_state)["params"], dataset.images, preprocess=dataset.standardize
        )


def test_diversity():
    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet([1.0] * 3, (4, 50)), rng.integers(0, 3, 50)
    found, ratio = ensemble.disagreement(p), ensemble.normalized_diversity(p, labels)
    for i, j in np.ndindex(4, 4):
        differ = np.mean([a.argmax() != b.argmax() for a, b in zip(p[i], p[j], strict=True)])
        assert found[i, j] == differ
        assert ratio[i, j] == pytest.approx(differ / np.mean(p[j].argmax(-1) != labels))
    members = {"a": rng.normal(size=(3, 4, 5)), "b": rng.normal(size=(3, 2))}
    cosine = ensemble.weight_cosine(members)
    flat = [np.concatenate([members["a"][i].ravel(), members["b"][i]]) for i in range(3)]
    for i, j in np.ndindex(3, 3):
        assert cosine[i, j] == pytest.approx(flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j]))


class Counter(nn.Module):
    """A module with batch statistics that are no BatchNorm's."""

    @nn.compact
    def __call__(self, x, *, train):
        count = self.variable("batch_stats", "count", jnp.zeros, ())
        if train:
            count.value += 1
        return nn.Dense(2)(x.reshape(len(x), -1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, p, d: ensemble.predict(m, p, d.images, via="loop"), "via must be one of 'auto', 'vmap', 'map', got"),
        (
            lambda m, p, d: ensemble.predict(m, p, d.images / 255.0, devices=[]),
            "devices must be a list of different JAX devices",
        ),
        (lambda m, p, d: ensemble.predict(m, p, d.images), "the model would be shown uint8 images"),
        (
            lambda m, p, d: ensemble.predict(m, {"x": p}, d.images / 255.0),
            "members must be trees like the variables of MLP",
        ),
        (
            lambda m, p, d: ensemble.predict(m, jax.tree.map(lambda x: x[0], p), d.images / 255.0),
            "one leading axis of members",
        ),
        (lambda m, p, d: ensemble.probabilities(m, p, d, batch_size=0), "batch_size must be an integer >= 1"),
        (lambda m, p, d: ensemble.scores(np.ones((2, 3)), np.zeros(2, int)), "rows of probabilities must sum to 1"),
        (lambda m, p, d: ensemble.scores(np.ones((2, 3)), np.zeros(3, int)), "needs probabilities"),
        (lambda m, p, d: ensemble.disagreement(np.ones((2, 3))), r"must be \[members, examples, classes\]"),
        (lambda m, p, d: ensemble.normalized_diversity(np.ones((2, 3, 2)), np.zeros(2, int)), r"labels must be \[3\]"),
        (lambda m, p, d: ensemble.update_batch_stats(m, p, []), "there are no batches"),
        (
            lambda m, p, d: ensemble.update_batch_stats(m, p, d, mode="exact"),
            "mode must be one of 'pooled', 'cumulative'",
        ),
        (
            lambda m, p, d: ensemble.update_batch_stats(
                Counter(), Counter().init(jax.random.key(0), jnp.ones((1, 6, 5, 2)), train=False)["params"], d
            ),
            "or flax.linen.BatchNorm, got .*count of other modules",
        ),
    ],
)
def test_bad_values(call, message):
    dataset, model = random_dataset(), models.mlp(3, widths=(4,))
    members = stack(members_of(model, dataset.image_shape, 2))["params"]
    with pytest.raises(ValueError, match=message):
        call(model, members, dataset)


def test_a_model_without_batch_statistics():
    model = models.mlp(3, widths=(4,))
    params = members_of(model, (6, 5, 2), 1)[0]["params"]
    assert ensemble.update_batch_stats(model, params, random_dataset()) == {}


@pytest.mark.parametrize("via", ["pca", "tsne"])
def test_trajectories_that_part_are_projected_apart(via):
    """Two trajectories that begin alike and end far from each other, nine points each."""
    rng = np.random.default_rng(0)
    ends = rng.dirichlet(np.ones(4), (2, 30))
    start = rng.dirichlet(np.ones(4), 30)
    weights = np.linspace(0, 1, 9)[:, None, None]
    paths = np.concatenate([(1 - weights) * start + weights * end for end in ends])
    places = ensemble.project_predictions(paths, via=via)
    assert places.shape == (18, 2)
    starts = np.linalg.norm(places[0] - places[9])
    assert np.linalg.norm(places[8] - places[17]) > 3 * starts
    np.testing.assert_array_equal(places, ensemble.project_predictions(paths, via=via))
    if via == "pca":  # against NumPy's singular values
        flat = paths.reshape(18, -1)
        u, s, _ = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
        np.testing.assert_allclose(np.abs(places), np.abs(u * s)[:, :2], atol=1e-9)


def test_project_predictions_bad_arguments():
    good = np.ones((4, 5, 3)) / 3
    for arguments, message in (
        ((good[:2],), "must be .members >= 3, examples, classes., got .2, 5, 3."),
        ((good[0],), "must be .members >= 3"),
    ):
        with pytest.raises(ValueError, match=message):
            ensemble.project_predictions(*arguments)
    with pytest.raises(ValueError, match='via must be "tsne" or "pca"'):
        ensemble.project_predictions(good, via="umap")
    with pytest.raises(ValueError, match=r"perplexity must be in \(0, 4\)"):
        ensemble.project_predictions(good, perplexity=4)
