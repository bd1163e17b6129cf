"""What the experiments measure besides errors, against direct computations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
    alexnet_activations,
    alexnet_ingredients,
    initialization,
    normalization,
    random_search,
    resnet_depth,
    resnet_shortcuts,
    schedules,
    warmup,
    weight_decay,
)
from experiments.ablation import Case, Results, Row, Work
from jaxdl import data, models, train
from jaxdl.models import layers


def sets(settings):
    """The smoke data of an experiment."""
    return dataclasses.replace(settings, data="fashion_mini").sets()


def work_of(module, name):
    """The work of a smoke case, without running it."""
    settings = module.ABLATION.variants["smoke"]
    train_set, test_set = sets(settings)
    case = next(case for case in module.ABLATION.cases(settings, train_set) if case.name == name)
    return Work(case, 0, settings, train_set, test_set, lambda step, loss: None)


def test_idle_units():
    before = np.zeros((2, 3, 3, 4)) - 1
    before[1, 2, 2, 0] = 0.5  # one channel of four is alive
    assert alexnet_activations.idle("ReLU", before) == (75.0, 0.0)
    outputs = np.linspace(-0.999, 0.999, 1001).reshape(1, 7, 11, 13)
    dead, saturated = alexnet_activations.idle("tanh", np.arctanh(outputs))
    assert (dead, saturated) == (0.0, pytest.approx(100 * np.mean(np.abs(outputs) > 0.98)))
    outputs = np.linspace(0.001, 0.999, 1001).reshape(1, 7, 11, 13)
    _, saturated = alexnet_activations.idle("sigmoid", np.log(outputs / (1 - outputs)))
    assert saturated == pytest.approx(100 * np.mean((outputs > 0.98) | (outputs < 0.02)), abs=0.2)


def test_a_run_ends_when_the_error_is_reached():
    watcher = alexnet_activations.Reached(25.0)
    errors = np.concatenate([np.full(30, 0.9), np.full(40, 0.2)])
    ended = []
    for step, error in enumerate(errors, 1):
        event = train.Stepped(step, train.Metrics(np.zeros(1), {"error": np.array([error])}), 0.0)
        if watcher(event):
            ended.append(step)
    means = np.convolve(errors, np.full(20, 1 / 20), "valid")
    assert ended[0] == np.flatnonzero(means <= 0.25 + 1e-12)[0] + 20


def test_responses_are_those_of_each_batch_norm():
    work = work_of(resnet_depth, "residual-14")
    state = work.start()
    metrics, curves = resnet_depth.responses(work, state)
    x, stds = curves["response"]
    assert len(x) == len(stds) == 13  # the stem and two for each of six blocks
    assert metrics["mean_response"] == pytest.approx(stds.mean())
    params = state.params
    stem = layers.Conv(8, (3, 3), padding=1, use_bias=False).apply({"params": params["stem_conv"]}, work.inputs())
    assert stds[0] == pytest.approx(float(jnp.std(stem)) / np.sqrt(1 + 1e-5), rel=1e-4)  # first statistics: 0 and 1


@pytest.mark.parametrize("scale", initialization.SCALES)
def test_drawn_weights_have_the_deviation_of_their_scale(scale):
    work = work_of(initialization, scale)
    start = work.start()
    state = initialization.drawn(start, scale, jax.random.key(1))
    kernel = np.asarray(state.params["stage3_block1"]["conv2"]["kernel"])
    fan = 9 * kernel.shape[2]
    expected = {"small": 0.01, "Xavier": np.sqrt(2 / (2 * fan)), "He": np.sqrt(2 / fan)}[scale]
    assert kernel.std() == pytest.approx(expected, rel=0.05)
    np.testing.assert_array_equal(state.params["head"]["kernel"], start.params["head"]["kernel"])
    activations, gradients = initialization.by_layer(work, state)
    assert len(activations) == len(gradients) == 7
    stem = layers.Conv(16, (3, 3), padding=1).apply({"params": state.params["stem_conv"]}, work.inputs())
    assert activations[0] == pytest.approx(float(jnp.std(stem)), rel=1e-5)


def test_the_grid_is_a_grid_and_random_is_not():
    settings = random_search.SearchSettings()
    for seed in range(3):
        grid = np.log([random_search.point(settings, "grid", trial, seed) for trial in range(9)])
        random = np.log([random_search.point(settings, "random", trial, seed) for trial in range(9)])
        assert len(np.unique(grid[:, 0].round(9))) == len(np.unique(grid[:, 1].round(9))) == 3
        assert len(np.unique(random[:, 0])) == len(np.unique(random[:, 1])) == 9
        for points in (grid, random):
            assert np.all(points >= np.log([0.001, 1e-6]) - 1e-9)
            assert np.all(points <= np.log([1.0, 1e-3]) + 1e-9)
    assert random_search.point(settings, "grid", 0, 0) != random_search.point(settings, "grid", 0, 1)


def test_a_search_is_judged_by_images_that_did_not_choose():
    cases = [Case(f"grid, trial {n}", facts={"search": "grid", "trial": n}) for n in range(2)]
    values = {"choosing_error": (10.0, 12.0), "error": (30.0, 20.0), "rate": (0.1, 0.2), "decay": (1e-4, 1e-5)}
    rows = [Row(case.name, 0, m, v[n]) for n, case in enumerate(cases) for m, v in values.items()]
    found = random_search.searches(cases, Results(tuple(c.name for c in cases), rows))
    assert found.values("error", "grid") == {0: 30.0}
    assert found.values("rate", "grid") == {0: 0.1}
    assert "random" in found.cases


def test_highest_rates():
    cases = [Case(f"none, rate {rate:g}", facts={"norm": "none", "rate": rate}) for rate in (0.1, 0.3, 1.0)]
    errors = {0.1: (50.0, 60.0), 0.3: (65.0, 90.0), 1.0: (90.0, np.nan)}
    rows = [Row(case.name, seed, "train_error", errors[case.facts["rate"]][seed]) for case in cases for seed in (0, 1)]
    found = normalization.highest_rates(cases, Results(tuple(c.name for c in cases), rows))
    assert found.values("highest_rate", "none") == {0: 0.3, 1: 0.1}


def test_best_settings_of_each_rule_and_decay():
    facts = [("SGD", "L2", 0.1, 30.0), ("SGD", "L2", 0.2, 20.0), ("Adam", "L2", 0.1, 25.0)]
    cases = [Case(f"{r} {k} {rate}", facts={"rule": r, "kind": k, "rate": rate}) for r, k, rate, _ in facts]
    rows = [Row(case.name, 0, "test_error", error) for case, (*_, error) in zip(cases, facts, strict=True)]
    found = weight_decay.best_settings(cases, Results(tuple(c.name for c in cases), rows))
    assert found.values("test_error", "SGD, L2, best") == {0: 20.0}
    assert found.values("test_error", "Adam, L2, best") == {0: 25.0}


def test_an_ingredient_taken_away_changes_only_itself():
    settings = alexnet_ingredients.ABLATION.variants["default"]
    settings = dataclasses.replace(settings, data="fashion_mini", pixels=None, train_size=100)
    train_set, _ = settings.sets()
    cases = {case.name: case for case in alexnet_ingredients.cases(settings, train_set)}
    assert len(cases) == 18

    def parts(case):
        changes = [] if case.augment is None else [type(change).__name__ for change in case.augment.changes]
        return {"model": case.model, "augment": changes, "tx": train.description.describe(case.tx.update)[0]}

    whole, differing = parts(cases["all"]), {}
    for name in alexnet_ingredients.INGREDIENTS:
        other = parts(cases[f"without {name}"])
        differing[name] = [part for part in whole if whole[part] != other[part]]
    assert differing == {
        "response normalisation": ["model"],
        "overlapping pooling": ["model"],
        "two towers": ["model"],
        "dropout": ["model"],
        "PCA colour": ["augment"],
        "crops and flips": ["augment"],
        "weight decay": ["tx"],
        "momentum": ["tx"],
    }
    model: models.AlexNet = cases["all"].model
    for name in (
        "response normalisation",
        "overlapping pooling",
        "dropout",
    ):  # as many parameters, and the same first ones
        start = [
            m.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
            for m in (model, cases[f"without {name}"].model)
        ]
        jax.tree.map(np.testing.assert_array_equal, *start)


def test_addition_and_concatenation_have_as_many_parameters():
    sizes = []
    for width, join in resnet_shortcuts.JOINS.values():
        net = resnet_shortcuts.SkipNet(10, width, join)
        shapes = jax.eval_shape(lambda net=net: net.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False))
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)


def test_warm_ups_reach_the_same_peak_and_see_as_many_images():
    settings = warmup.ABLATION.variants["default"]
    train_set, _ = dataclasses.replace(settings, data="fashion_mini", pixels=None).sets()
    for case in warmup.cases(settings, train_set):
        assert case.steps * case.batch_size == settings.steps * 128
        rate = optim_rates(case, case.steps)
        assert rate.max() == pytest.approx(0.1 * case.batch_size / 128, rel=0.05)
        assert rate[0] == pytest.approx(rate.max() / (1 if case.facts["warm_up"] == "none" else 10), rel=0.05)


def optim_rates(case, steps):
    """The rates of a case's updates: how far a parameter moves under a constant gradient, from its first step."""
    from jaxdl.optim import learning_rate

    rates, state = [], case.tx.init({"w": jnp.zeros(())})
    for _ in range(steps):
        rates.append(float(learning_rate(case.tx, state)))
        _, state = case.tx.update({"w": jnp.ones(())}, state, {"w": jnp.zeros(())})
    return np.array(rates)


def test_every_schedule_starts_at_or_below_its_peak_and_falls():
    for name in schedules.RATES:
        if name in ("constant", "plateau"):
            continue
        case = Case(name, models.mlp(), schedules.chain(name, 0.2, 60, 4))
        rates = optim_rates(case, 60)
        assert rates.max() == pytest.approx(0.2, rel=0.01)
        assert rates[-1] < 0.05 * 0.2, name


def test_shrunk_images_of_crops(tmp_path):
    """Crops of an eighth of the side: 2 of 16 pixels."""
    from experiments.ablation import crop_and_flip

    train_set, _ = data.load("fashion_mini")
    assert crop_and_flip(train_set).changes[0].padding == 3
