"""Coarse and finer search: the trials are those of `fit`, survivors go on as if never stopped, findings are right."""

import json
import math
import signal
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from helpers import random_dataset, small_resnet, started

from jaxdl import data, models, optim, practice, train
from jaxdl.practice.spaces import narrowed, place, value_at

CHILD = Path(__file__).parent / "children" / "search.py"
SPACE = {"learning_rate": (1e-3, 1.0), "decay": (1e-6, 1e-2)}
MODEL = models.mlp(3, widths=(8,))


def chain(learning_rate, decay):
    return optim.momentum(learning_rate, weight_decay=decay)


def found_with(errors, rates, *, chance=0.9, space=(1e-4, 1.0), diverged=()):
    """A result with these errors and rates, the best first."""
    trials = tuple(
        practice.Trial(
            number,
            {"learning_rate": rate},
            math.nan if number in diverged else error,
            math.nan if number in diverged else 1.0,
            10,
            "the loss is nan" if number in diverged else None,
            train.History.empty(),
        )
        for number, (error, rate) in enumerate(zip(errors, rates, strict=True))
    )
    return practice.SearchResult({"learning_rate": space}, trials, chance, 1000)


@pytest.fixture(scope="module")
def random_set():
    return random_dataset(200)


@pytest.fixture(scope="module")
def coarse(random_set):
    return practice.coarse_search(
        MODEL, chain, random_set, jax.random.key(1), space=SPACE, trials=6, steps=8, batch_size=20, progress=False
    )


def alone(trial, random_set, key, trials, steps, share=0.1):
    """The history of a trial that is trained by `fit` alone, with the splits and keys of the search."""
    split_key, _, members_key = jax.random.split(key, 3)
    train_set, held_out = random_set.split_at_random(1 - share, split_key)
    tx = chain(**{name: np.float32(value) for name, value in trial.hyperparameters.items()})
    state = train.init_state(MODEL, tx, jax.random.split(members_key, trials)[trial.number], train_set.image_shape)
    _, history = train.fit(state, MODEL, tx, train_set, steps=steps, batch_size=20, eval_set=held_out, progress=False)
    return history


def test_a_trial_is_what_fit_alone_does(coarse, random_set):
    assert len(coarse.trials) == 6
    for trial in (coarse.trials[0], coarse.trials[-2]):
        history = alone(trial, random_set, jax.random.key(1), 6, 8)
        np.testing.assert_allclose(trial.history.loss, history.loss, rtol=1e-4)
        np.testing.assert_allclose(
            [trial.error, trial.loss], [history.eval_error[-1], history.eval_loss[-1]], rtol=1e-4
        )
        assert trial.updates == 8


def test_trials_are_drawn_within_the_ranges_and_sorted(coarse):
    for name, (low, high) in SPACE.items():
        values = [trial.hyperparameters[name] for trial in coarse.trials]
        assert len(set(values)) == 6
        assert low * 0.999 < min(values)
        assert max(values) < high * 1.001
    assert [trial.error for trial in coarse.trials] == sorted(trial.error for trial in coarse.trials)
    assert coarse.best == coarse.trials[0].hyperparameters
    assert f"{coarse.trials[0].error:.1%}" in coarse.verdict
    assert str(coarse).count("\n| ") == 7


def test_the_draws_are_even_in_the_logarithm():
    """Against the distribution function: at 4,000 draws its greatest distance from a straight line is below 0.03."""
    from jaxdl.practice.spaces import draw

    space = {"a": (1e-4, 1.0), "b": practice.Uniform(-1.0, 3.0)}
    values = draw(space, jax.random.key(0), 4000)
    line = (np.arange(4000) + 0.5) / 4000
    assert np.abs(np.sort((np.log10(values["a"]) + 4) / 4) - line).max() < 0.03
    assert np.abs(np.sort((values["b"] + 1) / 4) - line).max() < 0.03
    assert abs(np.corrcoef(np.log(values["a"]), values["b"])[0, 1]) < 0.05


def test_survivors_go_on_as_if_they_had_never_been_stopped(coarse, random_set):
    """Rungs of 5, 10 and 20 updates with 4, 2 and 1 trials; the last one ends as 20 updates of `fit` at once."""
    key = jax.random.key(2)
    fine = practice.refine_search(
        MODEL, chain, random_set, key, around=coarse, trials=4, steps=20, batch_size=20, progress=False
    )
    assert [trial.updates for trial in fine.trials] == [20, 10, 5, 5]
    best = fine.trials[0]
    history = alone(best, random_set, key, 4, 20)
    np.testing.assert_allclose(best.history.loss, history.loss, rtol=1e-3)
    np.testing.assert_allclose(best.loss, history.eval_loss[-1], rtol=1e-3)
    np.testing.assert_array_equal(best.history.step, np.arange(1, 21))
    assert len(best.history.eval_step) == len(best.history.eval_loss) == len(best.history.eval_seconds)
    others = [alone(trial, random_set, key, 4, 5).eval_error[-1] for trial in fine.trials]
    assert max(others[:2]) <= min(others[2:])  # the two that went on after the first rung were the better half


def test_no_rungs_is_a_plain_search(coarse, random_set):
    fine = practice.refine_search(
        MODEL, chain, random_set, jax.random.key(0), around=coarse, trials=3, steps=4, rungs=1, batch_size=20,
        progress=False,
    )  # fmt: skip
    assert [trial.updates for trial in fine.trials] == [4, 4, 4]


def test_a_narrowed_range_is_around_the_best_and_moves_beyond_an_edge():
    low, high = narrowed((1e-4, 1.0), [1e-2, 3e-3, 3e-2])
    np.testing.assert_allclose([low, high], [3e-3 / 10**0.4, 3e-2 * 10**0.4])
    low, high = narrowed((1e-4, 1.0), [0.9, 0.5, 0.3])
    np.testing.assert_allclose(low * high, 0.9**2)  # the best is in the middle, and the range goes on beyond 1
    assert high > 1
    kept = narrowed(practice.Uniform(0.5, 1.0), [0.99, 0.9, 0.95])
    assert isinstance(kept, practice.Uniform)
    assert kept.high == 1.0
    assert 0.8 < kept.low < 0.9


@pytest.mark.parametrize("range_", [(1e-3, 10.0), practice.Uniform(-2.0, 5.0)])
def test_places_and_values_are_inverse(range_):
    places = np.linspace(0, 1, 7)
    np.testing.assert_allclose(place(range_, value_at(range_, places)), places, atol=1e-12)


def test_a_best_at_an_edge_is_said():
    found = found_with([0.2, 0.22, 0.25, 0.5], [0.9, 0.7, 0.3, 1e-3])
    (finding,) = found.findings
    assert finding.name == "best at an edge"
    assert "the best learning_rate, 0.9, lies at the upper edge" in finding.text
    assert "move the range up" in finding.text
    found = found_with([0.2, 0.22, 0.25, 0.5], [1.2e-4, 2e-4, 1e-3, 1e-1])
    assert "lies at the lower edge" in found.findings[0].text
    assert not found_with([0.2, 0.22, 0.25, 0.5], [0.01, 0.9, 0.03, 1e-3]).findings
    # of an unimportant hyperparameter the best lies at an edge by chance, and the next ones do not
    assert not found_with([0.2, 0.2, 0.2, 0.2], [0.9, 1e-3, 0.01, 2e-4]).findings


def test_diverged_trials_are_rows_and_findings():
    found = found_with([0.2, 0.3, 0, 0, 0], [0.01, 0.02, 0.3, 0.6, 0.9], diverged=(2, 3, 4))
    (finding,) = found.findings
    assert finding.name == "many diverged"
    assert "0.3" in finding.text
    assert not finding.serious
    assert found.table().count("diverged") == 3
    assert not found_with([0.2, 0.3, 0.3, 0], [0.01, 0.02, 0.3, 0.6], diverged=(3,)).findings
    none = found_with([0, 0], [0.3, 0.6], diverged=(0, 1))
    assert none.findings[0].name == "all diverged"
    assert none.findings[0].serious
    assert "all diverged" in none.verdict
    with pytest.raises(ValueError, match="all 2 trials diverged"):
        _ = none.best


def test_rates_that_diverge_in_training(random_set):
    found = practice.coarse_search(
        MODEL, lambda learning_rate: optim.sgd(learning_rate), random_set, jax.random.key(0),
        space={"learning_rate": (1e5, 1e9)}, trials=3, steps=8, batch_size=20, progress=False,
    )  # fmt: skip
    assert [finding.name for finding in found.findings] == ["all diverged"]
    with pytest.raises(ValueError, match="no trial that did not diverge"):
        practice.refine_search(MODEL, chain, random_set, jax.random.key(0), around=found)


def test_labels_at_random_leave_all_trials_at_chance():
    rng = np.random.default_rng(0)
    dataset = data.from_arrays(rng.normal(size=(600, 5)).astype(np.float32), rng.integers(0, 3, 600), classes=3)
    found = practice.coarse_search(
        MODEL, chain, dataset, jax.random.key(0), space=SPACE, held_out=0.5, trials=3, steps=5, progress=False
    )
    assert "all at chance" in [finding.name for finding in found.findings]


def test_where_there_is_no_error_the_loss_judges():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    dataset = data.from_arrays(x, x @ np.array([[1.0], [2.0], [3.0]], np.float32))
    found = practice.coarse_search(
        nn.Dense(1), optim.sgd, dataset, jax.random.key(0), space={"learning_rate": (1e-3, 0.3)}, trials=4, steps=20,
        loss=train.squared_error, batch_size=30, progress=False,
    )  # fmt: skip
    losses = [trial.loss for trial in found.trials]
    assert losses == sorted(losses)
    assert np.isnan(found.trials[0].error)
    assert found.chance is None
    assert "a loss of" in found.verdict


@pytest.mark.parametrize("number", [1, 2, 3])
def test_pictures_of_one_two_and_three_hyperparameters(number, tmp_path, coarse):
    names = ["learning_rate", "decay", "third"][:number]
    trials = tuple(
        practice.Trial(i, dict.fromkeys(names, 10.0 ** (-i)), 0.1 * i, 1.0, 10 + i, None, train.History.empty())
        for i in range(1, 4)
    )
    lost = practice.Trial(4, dict.fromkeys(names, 1.0), math.nan, math.nan, 2, "nan", train.History.empty())
    found = practice.SearchResult(dict.fromkeys(names, (1e-4, 2.0)), (*trials, lost), 0.9, 100)
    found.plot(tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 10_000


WRONG = [
    ({"space": {}}, "space must be ranges by name"),
    ({"space": {"rate": (1e-3, 1.0)}}, "'rate', which is no argument of chain.*decay.*learning_rate"),
    ({"space": {"decay": (1e-3, 1.0)}}, "chain needs learning_rate, which space lacks"),
    ({"space": {**SPACE, "decay": (0.0, 1.0)}}, r"0 < low < high.*practice.Uniform"),
    ({"space": {**SPACE, "decay": (1.0, 0.1)}}, r"0 < low < high"),
    ({"space": {**SPACE, "decay": 0.1}}, r"must be \(low, high\)"),
    ({"trials": 1}, "trials must be an integer >= 2"),
    ({"steps": 0}, "steps must be an integer >= 1"),
    ({"held_out": 0.0}, "holds out none"),
    ({"held_out": 1.5}, "held_out must be a finite number in"),
    ({"folder": 3}, "folder must be a path"),
    ({"progress": 1}, "progress must be True or False"),
    ({"key": 0}, "key must be one typed PRNG key"),
    ({"train_set": "cifar10"}, "train_set"),
    ({"chain": optim.momentum(0.1)}, "chain must be a function"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[str(change)[:40] for change, _ in WRONG])
def test_wrong_calls(change, message, random_set):
    given = {"chain": chain, "train_set": random_set, "key": jax.random.key(0), "space": SPACE, **change}
    with pytest.raises(ValueError, match=message):
        practice.coarse_search(MODEL, **{"progress": False, "steps": 2, "batch_size": 20, **given})


def test_wrong_calls_of_refining(coarse, random_set):
    for change, message in [
        ({"around": coarse.best}, "around must be what coarse_search returned"),
        ({"rungs": 5}, "leaves nothing; pass fewer rungs"),
        ({"eta": 1}, "eta must be an integer >= 2"),
    ]:
        arguments = {"around": coarse, "trials": 4, "steps": 20, "batch_size": 20, "progress": False, **change}
        with pytest.raises(ValueError, match=message):
            practice.refine_search(MODEL, chain, random_set, jax.random.key(0), **arguments)
    with pytest.raises(ValueError, match="Uniform: low must be below high"):
        practice.Uniform(1.0, 0.5)


def test_a_folder_of_another_search_is_refused(tmp_path, random_set):
    options = {"trials": 2, "steps": 2, "batch_size": 20, "progress": False, "folder": tmp_path}
    first = practice.coarse_search(MODEL, chain, random_set, jax.random.key(0), space=SPACE, **options)
    again = practice.coarse_search(MODEL, chain, random_set, jax.random.key(0), space=SPACE, **options)
    assert [trial.loss for trial in first.trials] == [trial.loss for trial in again.trials]
    with pytest.raises(ValueError, match="there"):
        practice.coarse_search(MODEL, chain, random_set, jax.random.key(1), space=SPACE, **options)


def test_the_chain_may_hold_a_schedule_and_batch_norm_goes_along(random_set):
    """A net with batch statistics on images, a peak that is injected into a schedule, and an even range."""
    found = practice.coarse_search(
        small_resnet(3), lambda peak, momentum: optim.sgd(optim.cosine_decay(peak, 4), momentum=momentum), random_set,
        jax.random.key(0), space={"peak": (1e-3, 0.1), "momentum": practice.Uniform(0.8, 0.95)}, trials=2, steps=4,
        batch_size=16, progress=False,
    )  # fmt: skip
    assert all(0.8 <= trial.hyperparameters["momentum"] <= 0.95 for trial in found.trials)
    rates = found.trials[0].history.learning_rate
    if np.all(np.isfinite(rates)):
        assert rates[0] > rates[-1]


def searched(folder, kill_at=None):
    """Runs the child; with `kill_at` it is killed at once when that line appears for the n-th time."""
    folder.mkdir(exist_ok=True)
    with started([sys.executable, str(CHILD), str(folder / "kept"), str(folder / "out.json")]) as child:
        if kill_at is not None:
            word, number = kill_at
            for line in child.stdout:
                number -= line.strip() == word
                if number == 0:
                    child.send_signal(signal.SIGKILL)
                    break
        _, errors = child.communicate()
    assert child.returncode == (-signal.SIGKILL if kill_at else 0), errors


@pytest.mark.slow
def test_a_killed_search_of_a_resnet_goes_on_to_the_same_result(tmp_path):
    """Killed in the second search, between its rungs, then in the last rung, and then left to end."""
    searched(tmp_path / "undisturbed")
    searched(tmp_path / "disturbed", kill_at=("fit", 2))
    searched(tmp_path / "disturbed", kill_at=("fit", 3))
    kept = sorted(path.name for path in (tmp_path / "disturbed" / "kept" / "fine").iterdir())
    assert kept[:2] == ["rung_0", "rung_1"]
    searched(tmp_path / "disturbed")
    expected, found = (json.loads((tmp_path / name / "out.json").read_text()) for name in ("undisturbed", "disturbed"))
    assert found == expected
