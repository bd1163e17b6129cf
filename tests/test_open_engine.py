"""The engine takes any inputs and targets, losses, metrics and models: on real data, against independent numbers."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import numbers, small_resnet, without_times
from sklearn.datasets import load_diabetes

from jaxdl import data, ensemble, models, optim, train

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def diabetes():
    """A real table: 442 patients, ten measurements and the progress of the disease, all standardised."""
    table, progress = load_diabetes(return_X_y=True)
    table, progress = table / table.std(0), (progress - progress.mean()) / progress.std()
    return data.from_arrays(table, progress[:, None], name="diabetes")


@pytest.fixture(scope="module")
def garments(fashion):
    """Fashion-MNIST with several labels at once: footwear, has sleeves, is worn above the waist."""
    of_class = np.zeros((10, 3), np.float32)
    of_class[[5, 7, 9], 0] = 1
    of_class[[0, 2, 3, 4, 6], 1] = 1
    of_class[[0, 2, 3, 4, 6], 2] = 1
    of_class[3, 1] = 0  # call a dress one without sleeves
    return [
        data.from_arrays(
            part.images[:2000],
            of_class[part.labels[:2000]],
            name="garments",
            split=part.split,
            classes=("footwear", "sleeves", "above"),
            standardize=fashion[0].standardize,
        )
        for part in fashion
    ]


class Table(nn.Module):
    """A net for a table that has no mode: it is called without `train`."""

    widths: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x):
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(1)(x)


def start(model, tx, dataset, key=KEY):
    return train.init_state(model, tx, key, dataset)


def test_linear_regression_reaches_least_squares(diabetes):
    tx = optim.momentum(0.05)
    chosen = {"loss": train.squared_error, "metrics": {"absolute": train.absolute_error}, "batch_size": len(diabetes)}
    state, history = train.fit(
        start(Table(), tx, diabetes), Table(), tx, diabetes, steps=1500, eval_set=diabetes, progress=False, **chosen
    )
    x, y = np.c_[diabetes.inputs, np.ones(len(diabetes))].astype(np.float64), diabetes.targets.astype(np.float64)
    residual = x @ np.linalg.lstsq(x, y, rcond=None)[0] - y
    found = train.evaluate(Table(), state, diabetes, loss=train.squared_error, metrics=chosen["metrics"])
    assert found.loss == pytest.approx(np.mean(residual**2), rel=2e-3)
    assert found.metrics["absolute"] == pytest.approx(np.mean(np.abs(residual)), rel=2e-3)
    assert found.metrics["absolute"] == history.eval_metrics["absolute"][-1]
    assert history.metrics["absolute"].shape == (1500,)
    with pytest.raises(AttributeError, match=r"no metric 'error'; there are \['absolute'\]"):
        _ = history.error


def test_regression_in_a_population_and_an_ensemble(diabetes):
    """Members end as alone, and together they predict the mean of their outputs."""
    train_set, test_set = diabetes.split_at_random(0.8, KEY)
    model, tx = Table((16,)), optim.adam(0.01)
    keys = jax.random.split(KEY, 3)
    chosen = {"loss": train.squared_error, "metrics": {"absolute": train.absolute_error}, "progress": False}
    found = train.population(model, tx, train_set, keys=keys, steps=60, batch_size=32, eval_set=test_set, **chosen)
    alone, history = train.fit(
        start(model, tx, train_set, keys[1]), model, tx, train_set, steps=60, batch_size=32, eval_set=test_set, **chosen
    )
    np.testing.assert_allclose(found.histories[1].metrics["absolute"], history.metrics["absolute"], rtol=1e-4)
    np.testing.assert_allclose(found.histories[1].eval_loss, history.eval_loss, rtol=1e-4)

    members = found.state.variables
    judged = ensemble.evaluate(
        model, members, test_set, average="outputs", metrics={"squared": train.squared_error}, batch_size=50
    )
    each = np.stack(
        [np.asarray(model.apply(jax.tree.map(lambda leaf, m=m: leaf[m], members), test_set.inputs)) for m in range(3)]
    )
    mean = each.astype(np.float64).mean(0)
    assert judged.ensemble_metrics["squared"][-1] == pytest.approx(np.mean((mean - test_set.targets) ** 2), rel=1e-5)
    alone = np.mean((each - test_set.targets) ** 2, (1, 2))
    np.testing.assert_allclose(judged.member_metrics["squared"], alone, rtol=1e-5)
    assert judged.ensemble is None
    assert "squared" in str(judged)
    assert judged.ensemble_metrics["squared"][-1] < np.mean(alone)  # Jensen's inequality
    predicted = ensemble.predict(model, members, test_set.inputs, average="outputs")
    np.testing.assert_allclose(predicted, mean, atol=1e-5)


def test_several_labels_at_once(garments):
    """Trains, evaluates and ensembles; the numbers are NumPy's on the members' logits."""
    train_set, test_set = garments
    model = models.mlp(3, widths=(64,))
    tx = optax.chain(optim.adam(0.003), optim.snapshots(period=30, keep=2))
    chosen = {"loss": train.sigmoid_cross_entropy, "metrics": {"hamming": train.hamming_loss}}
    state, history = train.fit(
        start(model, tx, train_set), model, tx, train_set, steps=60, eval_set=test_set, progress=False, **chosen
    )
    assert history.eval_metrics["hamming"][-1] < 0.1
    members = optim.snapshot_variables(state.opt_state)
    judged = ensemble.evaluate(model, members, test_set, average="sigmoid", **{"metrics": chosen["metrics"]})
    logits = ensemble.outputs(model, members, test_set, batch_size=123).astype(np.float64)
    probability = (1 / (1 + np.exp(-logits))).mean(0)
    expected = np.mean((probability > 0.5) != (test_set.targets > 0.5))
    assert judged.ensemble_metrics["hamming"][-1] == pytest.approx(expected)
    with pytest.raises(ValueError, match='pass average="outputs"'):
        ensemble.evaluate(model, members, test_set)


def mixup(keys, images, labels):
    """Mixup (Zhang et al. 2018): each image with the next one of its batch, in a share of its own."""
    share = jax.vmap(lambda key: jax.random.beta(key, 0.4, 0.4))(keys)

    def mixed(x):
        mine = share.reshape(-1, *[1] * (x.ndim - 1))
        return mine * x + (1 - mine) * jnp.roll(x, 1, 0)

    return mixed(images.astype(jnp.float32) / 255), mixed(labels)


@pytest.mark.slow
def test_soft_labels_and_mixup_on_a_resnet(fashion):
    train_set, test_set = (part[:300] for part in fashion)
    soft = [
        data.from_arrays(part.images, np.eye(10, dtype=np.float32)[part.labels], classes=part.class_names)
        for part in (train_set, test_set)
    ]
    model, tx = models.resnet_cifar(8), optim.momentum(0.03)
    chosen = {"preprocess": lambda x: x.astype(jnp.float32) * jnp.where(x.dtype == jnp.uint8, 1 / 255, 1.0)}
    state, history = train.fit(
        start(model, tx, soft[0]),
        model,
        tx,
        soft[0],
        steps=20,
        batch_size=32,
        eval_set=soft[1],
        augment=mixup,
        progress=False,
        **chosen,
    )
    assert history.loss[-3:].mean() < history.loss[:3].mean()
    # Soft labels that are one-hot are class numbers.
    hard = train.evaluate(model, state, test_set, **chosen)
    for name in ("loss", "error"):
        assert getattr(hard, name) == pytest.approx(
            getattr(train.evaluate(model, state, soft[1], **chosen), name), rel=1e-5
        )
    members = jax.tree.map(lambda leaf: leaf[None], state.variables)
    of_soft, of_hard = (ensemble.evaluate(model, members, part, **chosen).ensemble for part in (soft[1], test_set))
    np.testing.assert_allclose(of_soft, of_hard, rtol=1e-5)


def test_metrics_are_numpys(fashion):
    """Top-5 error and a metric of one's own, in history, evaluation, population and ensemble."""
    train_set, test_set = fashion[0][:1000], fashion[1][:333]
    model, tx = models.convnet(widths=(4, 8), hidden=16), optim.momentum(0.03)

    def margin(logits, labels):
        best = jax.lax.top_k(logits, 2)[0]
        return best[:, 0] - best[:, 1] + 0 * labels

    metrics = {"error": train.error, "top3_error": train.top_k_error(3), "margin": margin}
    state, history = train.fit(
        start(model, tx, train_set), model, tx, train_set, steps=8, eval_set=test_set, metrics=metrics, progress=False
    )
    logits = np.asarray(model.apply(state.variables, test_set.standardize(test_set.images), train=False))
    order = np.argsort(-logits, 1)
    expected = {
        "error": np.mean(order[:, 0] != test_set.labels),
        "top3_error": np.mean([label not in row[:3] for label, row in zip(test_set.labels, order, strict=True)]),
        "margin": np.mean(np.sort(logits, 1)[:, -1] - np.sort(logits, 1)[:, -2]),
    }
    for name, value in expected.items():
        assert history.eval_metrics[name][-1] == pytest.approx(value, rel=1e-4)
        assert history.metrics[name].shape == (8,)
    members = jax.tree.map(lambda leaf: leaf[None], state.variables)
    judged = ensemble.evaluate(model, members, test_set, metrics={"top3_error": train.top_k_error(3)})
    assert judged.member_metrics["top3_error"][0] == pytest.approx(expected["top3_error"])
    keys = KEY[None]
    together = train.population(
        model, tx, train_set, keys=keys, steps=8, eval_set=test_set, metrics=metrics, via="map", progress=False
    )
    np.testing.assert_allclose(together.histories[0].metrics["margin"], history.metrics["margin"], rtol=1e-3)
    np.testing.assert_allclose(together.histories[0].eval_metrics["top3_error"], history.eval_metrics["top3_error"])


class Two(nn.Module):
    """Takes a picture and a number, gives a class and a number."""

    @nn.compact
    def __call__(self, inputs, *, train: bool):
        x = jnp.concatenate([inputs["picture"].reshape(len(inputs["picture"]), -1), inputs["brightness"]], 1)
        x = nn.relu(nn.Dense(32)(x))
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return {"class": nn.Dense(10)(x), "edges": nn.Dense(1)(x)}


def test_several_inputs_and_targets(fashion):
    """Dicts all the way: training, evaluation, batches, own loop; equal to a loop written by hand."""
    images = fashion[0].images[:640].astype(np.float32) / 255
    edges = np.abs(np.diff(images, axis=1)).mean((1, 2))
    dataset = data.from_arrays(
        {"picture": images, "brightness": images.mean((1, 2))}, {"class": fashion[0].labels[:640], "edges": edges}
    )

    def loss(outputs, targets):
        return train.cross_entropy(outputs["class"], targets["class"]) + train.squared_error(
            outputs["edges"], targets["edges"]
        )

    metrics = {"class_error": lambda outputs, targets: train.error(outputs["class"], targets["class"])}
    model, tx = Two(), optim.adam(0.003)
    first = start(model, tx, dataset)
    chosen = {"loss": loss, "metrics": metrics}
    fitted, history = train.fit(
        first, model, tx, dataset, steps=15, batch_size=64, eval_set=dataset, scan=False, progress=False, **chosen
    )
    step, state = train.make_step(model, tx, **chosen), jax.tree.map(jnp.copy, first)
    for batch in data.batches(dataset, state.key, 64, steps=15):
        state, metrics_of_step = step(state, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), numbers(state), numbers(fitted))
    assert history.metrics["class_error"][-1] == metrics_of_step.metrics["class_error"]

    outputs = model.apply(fitted.variables, dataset.inputs, train=False)
    by_hand = np.mean(np.asarray(outputs["class"]).argmax(1) != dataset.targets["class"])
    assert history.eval_metrics["class_error"][-1] == pytest.approx(by_hand)
    members = jax.tree.map(lambda leaf: leaf[None], fitted.variables)
    found = ensemble.outputs(model, members, dataset, batch_size=100)
    np.testing.assert_allclose(found["edges"][0], outputs["edges"], atol=1e-5)


class Keeper(nn.Module):
    """Keeps a counter and a running mean of its own, draws noise, and adds a loss."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = x.reshape(len(x), -1)
        x = nn.Dense(8)(x)
        calls = self.variable("counters", "calls", lambda: jnp.zeros([], jnp.int32))
        mean = self.variable("running", "mean", lambda: jnp.zeros(8))
        if train and not self.is_initializing():
            calls.value = calls.value + 1
            mean.value = 0.5 * mean.value + 0.5 * x.mean(0)
            x = x + 0.1 * jax.random.normal(self.make_rng("noise"), x.shape)
        self.sow("losses", "pull", 0.01 * jnp.sum(jnp.square(x)) / len(x))
        return nn.Dense(10)(nn.relu(x - jax.lax.stop_gradient(mean.value)))


def test_every_collection_and_stream_of_a_module(fashion):
    """Against a step written by hand in plain Flax and optax."""
    dataset, model = fashion[0][:256], Keeper()
    tx = optax.sgd(0.05)
    first = start(model, tx, dataset)
    assert set(first.collections) == {"counters", "running"}
    step = train.make_step(model, tx, preprocess=dataset.standardize)
    state = jax.tree.map(jnp.copy, first)
    params, kept, opt_state = first.params, dict(first.collections), first.opt_state
    noises = []

    @jax.jit
    def by_hand(params, kept, opt_state, images, labels, key):
        def objective(params):
            logits, updated = model.apply(
                {"params": params, **kept},
                dataset.standardize(images),
                train=True,
                rngs={"noise": jax.random.fold_in(key, 1)},
                mutable=["counters", "running", "losses"],
            )
            (pull,) = updated.pop("losses")["pull"]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean() + pull, updated

        (value, after), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), after, opt_state, value

    for number, batch in enumerate(data.batches(dataset, first.key, 64, steps=4)):
        # The noise that the library draws is its own affair; that it is new at each step is not.
        key = jax.random.fold_in(jax.random.fold_in(first.key, 1), number)
        params, kept, opt_state, value = by_hand(params, kept, opt_state, batch.images, batch.labels, key)
        state, metrics = step(state, batch)
        noises.append(float(metrics.loss) - float(value))
    # The stream has another name by hand ("params" stands in for it), so the draws differ, and the sums hardly.
    np.testing.assert_allclose(noises, 0, atol=0.15)
    assert int(state.collections["counters"]["calls"]) == 4
    np.testing.assert_allclose(state.collections["running"]["mean"], kept["running"]["mean"], atol=0.05)
    assert train.evaluate(model, state, dataset).loss < train.evaluate(model, first, dataset).loss


def test_collections_are_resumed_and_stacked(fashion, tmp_path):
    """`fit` stopped and resumed has the same bits; members of a population keep their own."""
    dataset, model, tx = fashion[0][:256], Keeper(), optim.momentum(0.02)
    first = start(model, tx, dataset)
    whole, history = train.fit(first, model, tx, dataset, steps=6, batch_size=64, progress=False)
    for steps in (4, 6):
        parts, joined = train.fit(
            first, model, tx, dataset, steps=steps, batch_size=64, progress=False, checkpoint_dir=tmp_path
        )
    jax.tree.map(np.testing.assert_array_equal, numbers(whole), numbers(parts))
    jax.tree.map(np.testing.assert_array_equal, without_times(history), without_times(joined))
    variables = train.load_variables(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, variables["counters"], whole.collections["counters"])
    found = train.population(
        model, tx, dataset, keys=jax.random.split(KEY, 2), steps=6, batch_size=64, via="vmap", progress=False
    )
    assert found.state.collections["counters"]["calls"].tolist() == [6, 6]


def test_modules_without_train_and_sequential(fashion):
    dataset = fashion[0][:256]
    model = nn.Sequential((lambda x: x.reshape(len(x), -1), nn.Dense(16), nn.relu, nn.Dense(10)))
    tx = optim.momentum(0.03)
    state, history = train.fit(start(model, tx, dataset), model, tx, dataset, steps=10, batch_size=64, progress=False)
    assert history.loss[-1] < history.loss[0]
    assert train.evaluate(model, state, dataset).error < 0.9
    with pytest.raises(ValueError, match="layers must be a tuple, as in nn.Sequential"):
        start(nn.Sequential([nn.Dense(10)]), tx, dataset)
    always_on = nn.Sequential((lambda x: x.reshape(len(x), -1), nn.Dense(10), nn.Dropout(0.5, deterministic=False)))
    with pytest.raises(ValueError, match="fails in evaluation.*draw none"):
        train.evaluate(always_on, state, dataset)
    batch_always = nn.Sequential((lambda x: x.reshape(len(x), -1), nn.Dense(10), nn.BatchNorm(False)))
    with pytest.raises(ValueError, match="in evaluation nothing may change"):
        train.evaluate(batch_always, state, dataset)


def test_sharpness_aware_minimisation_is_the_papers(fashion):
    """`optax.contrib.sam` in its opaque form, against Foret et al. 2021, alg. 1, by hand."""
    dataset, rho = fashion[0][:64], 0.05
    model = models.convnet(widths=(4, 8), hidden=16)
    tx = optax.contrib.sam(
        optax.sgd(0.1), optax.chain(optax.contrib.normalize(), optax.sgd(rho)), opaque_mode=True, reset_state=True
    )
    state = start(model, tx, dataset)
    images, labels = jnp.asarray(dataset.standardize(dataset.images)), dataset.labels

    def loss(params):
        logits = model.apply({"params": params}, images, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def by_hand(params):
        grads = jax.grad(loss)(params)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        ahead = jax.tree.map(lambda p, g: p + rho * g / norm, params, grads)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(ahead))

    expected = by_hand(by_hand(state.params))
    step = train.make_step(model, tx, preprocess=dataset.standardize)
    for _ in range(2):
        state, _ = step(state, (dataset.images, dataset.labels))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, expected)


def test_lookahead_of_optax_is_refused(fashion):
    tx = optax.lookahead(optax.sgd(0.1), 5, 0.5)
    with pytest.raises(ValueError, match="optax.lookahead keeps two sets of parameters.*optim.ema or optim.swa"):
        start(models.mlp(widths=(8,)), tx, fashion[0])


def test_own_loop_is_fit(fashion):
    """The README's ten lines: `data.batches` and `make_step` compute what `fit` does, also from the middle on.

    To rounding, as the programs differ: `fit` takes its batches on the device.
    """
    dataset, model = fashion[0][:200], small_resnet()
    tx = optax.chain(optim.momentum(optim.cosine_decay(0.01, 12)), optim.swa(start=6))
    first = start(model, tx, dataset)
    fitted, history = train.fit(
        first, model, tx, dataset, steps=10, batch_size=40, augment=data.CROP_AND_FLIP, scan=False, progress=False
    )
    step = train.make_step(model, tx, preprocess=dataset.standardize, augment=data.CROP_AND_FLIP)
    state, told = jax.tree.map(jnp.copy, first), []
    for batch in itertools.islice(data.batches(dataset, state.key, 40), 7):
        state, metrics = step(state, batch)
        told.append(jax.device_get(metrics))
    for batch in data.batches(dataset, state.key, 40, start=int(state.step), steps=10):
        state, metrics = step(state, batch)
        told.append(jax.device_get(metrics))
    np.testing.assert_allclose([metrics.loss for metrics in told], history.loss, rtol=1e-3)
    np.testing.assert_array_equal([metrics.learning_rate for metrics in told], history.learning_rate)
    assert int(state.step) == int(fitted.step)
    assert int(state.opt_state[1].averaged) == int(fitted.opt_state[1].averaged) == 4
