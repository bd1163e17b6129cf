"""The first steps of the recipe: each finding on runs and sets made to have the illness, none on healthy ones."""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import numbers, random_dataset
from PIL import Image

from jaxdl import data, models, optim, practice, train
from jaxdl.models import layers
from jaxdl.practice.rate_curve import read_curve

MLP = models.mlp(widths=(64,))


def names(found):
    return [finding.name for finding in found.findings]


@pytest.fixture(scope="module")
def small(fashion):
    """2,000 and 500 real images."""
    train_set, test_set = fashion
    return train_set[:2000], test_set[:500]


def changed(dataset, **fields):
    return dataclasses.replace(dataset, **fields)


# check_data


def test_the_bundled_set_is_in_order(fashion):
    found = practice.check_data(*fashion)
    assert found.findings == ()
    assert found.verdict.endswith("Nothing is amiss.")
    np.testing.assert_array_equal(found.class_counts["train"], np.bincount(fashion[0].labels))
    scaled = (fashion[0].images / 255.0 - fashion[0].standardize.mean) / fashion[0].standardize.std
    assert found.input_mean[0] == pytest.approx(scaled.mean(), abs=0.02)
    assert found.input_std[0] == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_real_sets_are_in_order(real_data, name):
    assert practice.check_data(*data.load(name, data_dir=real_data)).findings == ()


def test_shuffled_labels_are_seen_in_either_part(small):
    rng = np.random.default_rng(0)
    shuffled = [changed(part, targets=rng.permutation(part.labels)) for part in small]
    for train_set, test_set in ((shuffled[0], small[1]), (small[0], shuffled[1])):
        found = practice.check_data(train_set, test_set)
        assert set(names(found)) == {"labels shuffled"}
        assert abs(found.relations["test"].deviations) < 4
    assert practice.check_data(*small).relations["test"].deviations > 20


def test_a_constant_answer_to_unbalanced_classes_is_no_relation():
    """The accuracy of the largest class alone is high; permuted labels have it too."""
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.02).astype(np.int32)
    images = rng.integers(0, 256, (2000, 8, 8, 1)).astype(np.uint8)
    found = practice.check_data(data.from_arrays(images, labels, classes=2))
    assert names(found) == ["classes unbalanced", "labels shuffled"]
    assert found.relations["train"].accuracy > 0.9


def test_counts_of_classes(small):
    train_set, test_set = small
    few = train_set.labels.copy()
    keep = (few != 3) & ((few != 5) | (np.arange(len(few)) < 100))
    found = practice.check_data(train_set.take(keep), test_set.take(test_set.labels != 7))
    missing = [finding for finding in found.findings if finding.name == "class missing"]
    assert [(finding.serious, finding.numbers["classes"]) for finding in missing] == [(True, 1), (False, 1)]
    assert "classes unbalanced" in names(found)
    assert found.class_counts["train"][3] == 0


def test_sorted_labels(small):
    order = np.argsort(small[0].labels, kind="stable")
    assert names(practice.check_data(small[0].take(order))) == ["labels sorted"]


def test_equal_examples_are_counted_exactly(small):
    train_set, test_set = small
    images, labels = train_set.images.copy(), train_set.labels.copy()
    images[100:140] = images[:40]
    labels[100:130] = labels[:30]
    labels[130:140] = (labels[30:40] + 1) % 10
    of_test = test_set.images.copy()
    of_test[:25] = images[500:525]
    found = practice.check_data(changed(train_set, inputs=images, targets=labels), changed(test_set, inputs=of_test))
    kept = found.duplicates
    clash = int(np.count_nonzero(test_set.labels[:25] != labels[500:525]))
    assert (kept.within, kept.within_other_target, kept.across, kept.across_other_target) == (40, 10, 25, clash)
    assert names(found) == ["duplicates", "labels contradict", "test examples in training"]


def test_constant_images(small):
    images = small[0].images.copy()
    images[:30] = 7
    images[30:40, :, :, 0] = np.arange(28)
    found = practice.check_data(changed(small[0], inputs=images))
    assert found.constant_images == 30
    assert "constant images" in names(found)


@pytest.mark.parametrize(
    ("preprocess", "name", "serious"),
    [
        (lambda x: x, "inputs not scaled", True),
        (lambda x: x.astype(jnp.float32), "inputs not scaled", True),
        (lambda x: x / 255.0 / 255.0, "inputs not normalised", True),
        (lambda x: x / 255.0 + 5.0, "inputs not normalised", True),
        (lambda x: x.astype(jnp.float32) - 73.0, "inputs not normalised", True),
        (lambda x: 1.0 / x.astype(jnp.float32), "inputs not finite", True),
    ],
)
def test_inputs_that_are_not_normalised(small, preprocess, name, serious):
    found = practice.check_data(small[0][:600], preprocess=preprocess)
    (finding,) = [each for each in found.findings if each.name == name]
    assert finding.serious == serious


def test_a_pixel_that_gives_the_class_away(small):
    images = small[0].images.copy()
    images[:, 3, 4, 0] = 20 * small[0].labels
    found = practice.check_data(changed(small[0], inputs=images))
    assert names(found) == ["label leak"]
    assert "(3, 4, 0)" in found.findings[0].text


def test_numbers_to_predict():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5)).astype(np.float32)
    y = x @ rng.normal(size=(5, 2)) / 3 + 0.1 * rng.normal(size=(600, 2))
    good = practice.check_data(data.from_arrays(x, y.astype(np.float32)))
    assert good.findings == ()
    np.testing.assert_allclose(good.target_std, y.std(0), rtol=1e-4)
    off = np.stack([1000 + 50 * y[:, 0], np.zeros(600)], 1).astype(np.float32)
    assert set(names(practice.check_data(data.from_arrays(x, off)))) == {"targets not normalised", "constant targets"}
    assert "labels shuffled" in names(practice.check_data(data.from_arrays(x, rng.permutation(y).astype(np.float32))))


def test_a_stream_is_sampled_and_its_files_compared(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 8)):
        for label in ("a", "b"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                level = 60 if label == "a" else 160
                Image.fromarray(rng.integers(level, level + 60, (12, 12, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    copy = (tmp_path / "train" / "a" / "0.png").read_bytes()
    (tmp_path / "val" / "a" / "0.png").write_bytes(copy)
    view = data.DecodeCenterCrop(8, 8)
    train_set, test_set = data.folder(tmp_path, train_view=view, test_view=view)
    found = practice.check_data(train_set, test_set)
    assert "60 and 16 decoded" in found.verdict
    assert found.duplicates.across == 1
    assert found.class_counts["train"].tolist() == [30, 30]
    model, tx = models.mlp(2, widths=(8,)), optim.momentum(0.03)
    state = train.init_state(model, tx, jax.random.key(0), train_set)
    first = practice.check_initial_loss(state, model, train_set, batch_size=10)
    assert (first.examples, first.reference) == (60, pytest.approx(np.log(2)))
    few = practice.overfit_batch(state, model, tx, train_set, batch_size=8, progress=False)
    assert few.findings == ()


# check_initial_loss


def initial(dataset, model=MLP, **settings):
    state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), dataset)
    return practice.check_initial_loss(state, model, dataset, **settings)


def test_the_initial_loss_is_the_mean_over_the_first_batches(small):
    state = train.init_state(MLP, optim.sgd(0.1), jax.random.key(0), small[0])
    before = numbers(state)
    found = practice.check_initial_loss(state, MLP, small[0], weight_decay=0.01, batches=3)
    jax.tree.map(np.testing.assert_array_equal, before, numbers(state))
    losses = []
    for images, labels in itertools.islice(data.batches(small[0], state.key, 128), 3):
        logits = np.asarray(
            MLP.apply(state.variables, small[0].standardize(jnp.asarray(images)), train=True), np.float64
        )
        losses.append(np.log(np.exp(logits).sum(1)) - logits[np.arange(128), labels])
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.standard_error == pytest.approx(np.std(losses, ddof=1) / np.sqrt(384), rel=1e-4)
    squares = sum(float(np.sum(np.square(p))) for p in jax.tree.leaves(before.params))
    assert found.total == pytest.approx(found.loss + 0.005 * squares, rel=1e-5)
    assert found.reference == pytest.approx(np.log(10))
    assert found.findings == ()
    assert found.metrics["error"] > 0.7


class Scaled(nn.Module):
    """A net whose logits are multiplied."""

    scale: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        return self.scale * nn.Dense(10)(nn.relu(nn.Dense(64)(x.reshape(len(x), -1))))


def test_large_logits_raw_inputs_and_decay(small):
    assert names(initial(small[0], Scaled(30.0))) == ["initial loss too high"]
    assert names(initial(small[0], preprocess=lambda x: x.astype(jnp.float32))) == ["initial loss too high"]
    assert names(initial(small[0], weight_decay=1.0)) == ["decay dominates"]
    assert names(initial(small[0], preprocess=lambda x: jnp.log(-1.0 - x))) == ["initial loss not finite"]


def test_a_trained_state_is_seen(small):
    tx = optim.momentum(0.03)
    state = train.init_state(MLP, tx, jax.random.key(0), small[0])
    state, _ = train.fit(state, MLP, tx, small[0], steps=30, progress=False)
    found = practice.check_initial_loss(state, MLP, small[0])
    assert names(found) == ["initial loss too low"]
    assert "trained already" in found.verdict


def test_references_of_other_losses_and_targets():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5)).astype(np.float32)
    shares = np.array([0.7, 0.2, 0.1])
    labels = rng.choice(3, 600, p=shares).astype(np.int32)
    counts = np.bincount(labels) / 600
    entropy = -np.sum(counts * np.log(counts))
    net = models.mlp(3, widths=(8,))
    hard = initial(data.from_arrays(x, labels, classes=3), net)
    assert (hard.reference, hard.constant) == (pytest.approx(np.log(3)), pytest.approx(entropy))
    np.testing.assert_allclose(hard.constant_by_class, -np.log(counts))
    soft = initial(data.from_arrays(x, np.eye(3, dtype=np.float32)[labels], classes=3), net)
    assert (soft.reference, soft.constant) == (pytest.approx(np.log(3)), pytest.approx(entropy, rel=1e-5))
    several = data.from_arrays(x, (rng.random((600, 3)) < 0.2).astype(np.float32))
    rates = several.targets.mean(0, dtype=np.float64)
    found = initial(several, net, loss=train.sigmoid_cross_entropy)
    assert found.reference == pytest.approx(np.log(2))
    assert found.constant == pytest.approx(np.mean(-rates * np.log(rates) - (1 - rates) * np.log(1 - rates)))
    y = (rng.normal(size=(600, 3)) + 20).astype(np.float32)
    found = initial(data.from_arrays(x, y), net, loss=train.squared_error)
    assert (found.reference, found.constant) == (pytest.approx(np.mean(y**2)), pytest.approx(y.var(0).mean(), rel=1e-4))
    assert names(found) == ["targets not centred"]
    other = initial(data.from_arrays(x, y), net, loss=train.absolute_error)
    assert other.reference is None
    assert "no reference" in other.verdict


# overfit_batch


def overfit(dataset, tx, model=MLP, **settings):
    state = train.init_state(model, tx, jax.random.key(0), dataset)
    before = numbers(state)
    found = practice.overfit_batch(state, model, tx, dataset, progress=False, **settings)
    jax.tree.map(np.testing.assert_array_equal, before, numbers(state))
    return found


def test_a_healthy_net_reaches_zero(small, tmp_path):
    found = overfit(small[0], optim.momentum(0.03))
    assert found.findings == ()
    assert found.reached == len(found.loss) <= 200
    assert not found.error[-found.batches :].any()
    found.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("rate", "name"),
    [(1e-7, "loss does not fall"), (1e-5, "rate too low"), (10.0, "rate too high"), (1e20, "rate too high")],
)
def test_rates_too_low_and_too_high(small, rate, name):
    assert names(overfit(small[0], optim.momentum(rate))) == [name]


class Dropped(nn.Module):
    """An MLP that drops nine tenths of its units."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(10)(layers.Dropout(0.95)(x, train=train))


def test_dropout_and_augmentation_are_found_by_a_second_run(small):
    found = overfit(small[0], optim.momentum(0.01), Dropped())
    assert names(found) == ["regularisation"]
    assert found.regularisation == ("Dropout 0.95",)
    assert found.reached is None
    assert found.reached_without <= 200

    def noise(keys, images):
        return jax.vmap(lambda key, image: jax.random.randint(key, image.shape, 0, 256).astype(image.dtype))(
            keys, images
        )

    found = overfit(small[0], optim.momentum(0.03), augment=noise, steps=60)
    assert names(found) == ["regularisation"]
    assert found.regularisation == ("augmentation",)


def table():
    """A regression on six columns."""
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(400, 6)).astype(np.float32)
    return data.from_arrays(columns, (columns @ rng.normal(size=(6, 1))).astype(np.float32))


class OneNumber(nn.Module):
    """A small regression, with or without dropout."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):
        return nn.Dense(1)(layers.Dropout(self.dropout)(nn.relu(nn.Dense(32)(x)), train=train))


def test_what_dropout_did_is_said_in_numbers():
    settings = {"loss": train.squared_error, "steps": 100}
    rough = overfit(table(), optim.adam(0.03), OneNumber(0.9), **settings)
    assert names(rough) == ["regularisation"]
    assert "with it the loss is still" in rough.verdict
    assert "nan" not in rough.verdict
    broken = overfit(table(), optim.momentum(0.02), OneNumber(0.95), **settings)
    assert names(broken) == ["regularisation"]
    assert "was not finite at update" in broken.verdict
    assert "lower the learning rate" in broken.verdict


def test_strong_decay_is_named(small):
    found = overfit(small[0], optim.momentum(0.03, weight_decay=3.0), steps=100)
    assert found.regularisation == ("weight decay",)
    assert found.reached is None
    assert names(found)[0] in ("stuck above zero", "loss does not fall")
    assert "weight decay" in found.verdict
    assert overfit(small[0], optax.adamw(0.003, weight_decay=0.0)).regularisation == ()


def test_labels_that_contradict_each_other_are_counted(small):
    few = small[0][:64]
    images, labels = few.images.copy(), few.labels.copy()
    images[32:40], labels[32:40] = images[:8], (labels[:8] + 1) % 10
    found = overfit(changed(few, inputs=images, targets=labels), optim.momentum(0.03))
    assert found.contradictions == 8
    assert names(found) == ["labels contradict"]
    assert found.findings[0].numbers["contradictions"] == 8


def test_numbers_to_predict_are_learned_by_heart_too():
    rng = np.random.default_rng(0)
    table = data.from_arrays(
        rng.normal(size=(100, 5)).astype(np.float32), rng.normal(size=(100, 10)).astype(np.float32)
    )
    found = overfit(table, optim.adam(0.01), loss=train.squared_error, steps=1000)
    assert found.findings == ()
    assert found.error is None
    assert np.mean(found.loss[-2:]) <= 0.05 * np.mean(found.loss[:2])


# find_learning_rate and compare_rates


def test_the_two_rates_are_read_off_a_known_curve():
    """A smooth step down centred at 1e-3, then a rise that passes a quarter of the fall at 0.5."""
    rates = np.geomspace(1e-6, 10, 200)
    step = 2 / (1 + np.exp(4 * (np.log10(rates) + 3)))
    rise = 0.5 * np.where(rates > 0.05, (np.log10(rates / 0.05)), 0) * np.log10(10)
    for noise in (0, 0.05):
        losses = 1 + step + rise + noise * np.random.default_rng(0).normal(size=200)
        curve = read_curve(rates, losses)
        assert curve.steepest == pytest.approx(1e-3, rel=0.6)
        assert curve.divergence == pytest.approx(0.5, rel=0.5)
        assert curve.suggestion == pytest.approx(np.sqrt(curve.steepest * curve.divergence))
    broken = np.where(rates > 0.1, np.nan, 1 + step)
    assert read_curve(rates, broken).divergence == pytest.approx(0.1, rel=0.5)
    flat = read_curve(rates, 1 + 0.05 * np.random.default_rng(0).normal(size=200))
    assert np.isnan(flat.suggestion)


def last_loss(chain, rate, train_set, model, key=5):
    tx = chain(rate)
    state = train.init_state(model, tx, jax.random.key(key), train_set)
    try:
        _, history = train.fit(state, model, tx, train_set, steps=100, progress=False)
    except train.NonFiniteLossError:
        return np.inf
    return history.loss[-10:].mean()


@pytest.mark.parametrize("chain", [optim.momentum, optim.adam])
def test_the_suggestion_beats_rates_far_from_it(small, chain, tmp_path):
    found = practice.find_learning_rate(MLP, chain, small[0], jax.random.key(0), progress=False)
    assert found.steepest < found.suggestion < found.divergence < 10
    assert [finding for finding in found.findings if finding.serious] == []
    chosen, lower, higher = (last_loss(chain, s * found.suggestion, small[0], MLP) for s in (1, 1 / 30, 30))
    assert chosen < lower
    assert chosen < higher
    found.plot(tmp_path / "range.png")
    assert (tmp_path / "range.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("chain", [optim.momentum, optim.adam])
@pytest.mark.parametrize("model", [models.convnet(), models.resnet_cifar(8)], ids=["convnet", "resnet8"])
def test_the_suggestion_beats_rates_far_from_it_for_real_nets(fashion, chain, model):
    found = practice.find_learning_rate(model, chain, fashion[0], jax.random.key(0), progress=False)
    chosen, lower, higher = (last_loss(chain, s * found.suggestion, fashion[0], model) for s in (1, 1 / 30, 30))
    assert chosen < lower
    assert chosen < higher


def test_the_noise_of_batches_is_no_fall():
    """At these rates nothing is learned, but the last batches are easier than the first, by up to a tenth."""
    settings = {"loss": train.squared_error, "batch_size": 64, "steps": 40, "progress": False}
    for seed in range(3):
        key = jax.random.key(seed)
        found = practice.compare_rates(OneNumber(), optim.momentum, table(), key, rates=(1e-8, 1e-9), **settings)
        assert names(found) == ["loss does not fall"]
    found = practice.compare_rates(OneNumber(), optim.momentum, table(), key, rates=(1e-2, 1e-3, 1e-8), **settings)
    assert "loss does not fall" not in names(found)


def test_a_search_of_a_regression_says_that_nothing_is_learned():
    settings = {"loss": train.squared_error, "batch_size": 64, "steps": 20, "trials": 4, "progress": False}

    def searched(low, high):
        space = {"learning_rate": (low, high)}
        return practice.coarse_search(OneNumber(), optim.momentum, table(), jax.random.key(0), space=space, **settings)

    assert names(searched(1e-8, 1e-7)) == ["no trial learns"]  # no word of an edge, whose side would be chance
    assert "no trial learns" not in names(searched(1e-3, 3e-2))


def test_a_chain_may_want_a_schedule():
    """Of such a chain only the rate test can say anything, and it does."""
    settings = {"loss": train.squared_error, "batch_size": 64, "steps": 40, "seeds": 1, "progress": False}

    def chain(schedule):
        return optim.momentum(optim.warmup(schedule, 3))

    found = practice.find_learning_rate(OneNumber(), chain, table(), jax.random.key(0), **settings)
    assert np.isfinite(found.suggestion)


def test_ranges_that_end_too_early(small):
    settings = {"steps": 30, "seeds": 1, "progress": False}
    low = practice.find_learning_rate(MLP, optim.momentum, small[0], jax.random.key(0), high=0.02, low=1e-4, **settings)
    assert "range ends too low" in names(low)
    assert low.divergence == np.inf
    none = practice.find_learning_rate(
        MLP, optim.momentum, small[0], jax.random.key(0), high=1e-8, low=1e-9, **settings
    )
    assert names(none) == ["loss does not fall"]
    assert np.isnan(none.suggestion)


def test_rates_side_by_side(small, tmp_path):
    rates = (1e20, 0.03, 1e-3, 1e-4)
    found = practice.compare_rates(MLP, optim.momentum, small[0], jax.random.key(0), rates=rates, progress=False)
    assert found.best == 0.03
    assert found.findings == ()
    assert [why is not None for why in found.diverged] == [True, False, False, False]
    assert "Diverged: 1e+20" in found.verdict
    assert [len(history.loss) for history in found.histories[1:]] == [100] * 3
    first = [history.loss[0] for history in found.histories[1:]]
    np.testing.assert_allclose(first, first[0], rtol=1e-5)  # the same start and the same first batch
    found.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 10_000
    settings = {"steps": 40, "progress": False}
    edge = practice.compare_rates(MLP, optim.momentum, small[0], jax.random.key(0), rates=(1e-3, 1e-4), **settings)
    assert (edge.best, names(edge)) == (1e-3, ["best rate at the edge"])
    lost = practice.compare_rates(MLP, optim.momentum, small[0], jax.random.key(0), rates=(1e20, 1e25), **settings)
    assert names(lost) == ["every rate diverged"]
    assert np.isnan(lost.best)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s, t: practice.check_data((t, t)), "check_data: train_set must be one data.Dataset"),
        (lambda s, t: practice.check_data(t, sample=1), "sample must be an integer >= 2"),
        (lambda s, t: practice.check_data(t, preprocess=3), "preprocess must be a function"),
        (lambda s, t: practice.check_data(t, random_dataset()), "inputs of equal shapes"),
        (lambda s, t: practice.check_initial_loss(t, MLP, t), "check_initial_loss: "),
        (lambda s, t: practice.check_initial_loss(s, MLP, t, weight_decay=-1), "weight_decay must be a finite number"),
        (lambda s, t: practice.check_initial_loss(s, MLP, t, batches=0), "batches must be an integer >= 1"),
        (lambda s, t: practice.check_initial_loss(s, models.mlp(widths=(3,)), t), "does not belong to this MLP"),
        (lambda s, t: practice.overfit_batch(s, MLP, optim.sgd(0.1), t, steps=3), "steps must be an integer >= 4"),
        (lambda s, t: practice.overfit_batch(s, MLP, optim.sgd(0.1), t, batch_size=10**6), "batch_size=1000000"),
        (lambda s, t: practice.find_learning_rate(MLP, optim.sgd(0.1), t, s.key), "chain must be a function"),
        (lambda s, t: practice.find_learning_rate(MLP, lambda rate: rate, t, s.key), "must give an optimizer"),
        (lambda s, t: practice.find_learning_rate(MLP, optim.sgd, t, s.key, low=1, high=0.1), "0 < low < high"),
        (lambda s, t: practice.find_learning_rate(MLP, optim.sgd, t, s.key, steps=5), "steps must be an integer >= 20"),
        (lambda s, t: practice.find_learning_rate(MLP, optim.sgd, t, 0), "key must be one typed PRNG key"),
        (lambda s, t: practice.compare_rates(MLP, optim.sgd, t, s.key, rates=0.1), "rates must be two or more"),
        (lambda s, t: practice.compare_rates(MLP, optim.sgd, t, s.key, rates=(0.1, 0.1)), "above 0 and differ"),
        (lambda s, t: practice.compare_rates(MLP, optim.sgd(0.1), t, s.key), "chain must be a function"),
    ],
)
def test_wrong_calls(small, call, words):
    state = train.init_state(MLP, optim.sgd(0.1), jax.random.key(0), small[0])
    with pytest.raises(ValueError, match=".*") as caught:
        call(state, small[0])
    assert words in str(caught.value)


@pytest.mark.parametrize("n", [256, 300, 400])
def test_pixels_that_hardly_ever_are_anything_but_0_raise_no_alarm(n):
    """A pixel that is 0 in all fitted images but one is hundreds of deviations away in others."""
    train_set = data.load("fashion_mini")[0][:n]
    report = practice.check_data(train_set)
    assert report.relations["train"].correlation > 0.5
    assert "labels shuffled" not in [finding.name for finding in report.findings]
    shuffled = dataclasses.replace(train_set, targets=np.random.default_rng(0).permutation(train_set.labels))
    assert "labels shuffled" in [finding.name for finding in practice.check_data(shuffled).findings]
