"""The diagnosis of runs: real ones that were made to have an illness or none, and curves of which it is known."""

import json

import jax
import numpy as np
import pytest
from helpers import random_dataset
from recorded.make import FILE, RUNS, read, train_run

from jaxdl import data, models, optim, practice, train
from jaxdl.practice.run_curves import Curves

HISTORIES = read() if FILE.exists() else {}


def names_of(history, **options):
    return [finding.name for finding in practice.diagnose(history, **options).findings]


def check(run, found):
    assert run.expected is None or run.expected in found
    assert not set(found) - {run.expected, *run.also}


def judged(run):
    """A run as a parameter of a test, which has to fail if the run is known to be misjudged."""
    marks = [pytest.mark.xfail(reason=run.misjudged, strict=True, raises=AssertionError)] if run.misjudged else []
    return pytest.param(run, marks=marks, id=run.name)


@pytest.mark.parametrize("run", [judged(run) for run in RUNS])
def test_real_runs(run):
    """The illness is found, and no other is; of a healthy run nothing is said."""
    history, diverged = HISTORIES[run.name]
    check(run, names_of(history, num_classes=10, diverged=diverged))


def test_there_are_enough_runs_of_enough_kinds():
    ill = [run for run in RUNS if run.expected is not None]
    assert len(ill) >= 20
    assert len(RUNS) - len(ill) >= 8
    unseen = [run for run in RUNS if run.unseen]
    assert len(unseen) > 0.4 * len(RUNS)
    every = {run.expected for run in ill}
    assert every == {run.expected for run in unseen if run.expected} | (every & {"large gap"})
    assert FILE.stat().st_size < 300_000
    with np.load(FILE) as file:
        about = json.loads(str(file["about"]))
    assert set(about) == {run.name for run in RUNS}
    assert all("versions" in facts for facts in about.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one_hidden_unit", "rate_of_nearly_0", "adam_steps", "short", "sgd_cosine"])
def test_runs_that_are_trained_anew(name):
    (run,) = (run for run in RUNS if run.name == name)
    history, diverged = train_run(run)
    check(run, names_of(history, num_classes=10, diverged=diverged))


def curve(n=400, start=2.5, end=0.2, noise=0.05, seed=0, rate=None, evaluations=8, time=0.15):
    """The history of a run whose mean loss falls exponentially from `start` to `end`, at a cosine rate."""
    rng = np.random.default_rng(seed)
    mean = end + (start - end) * np.exp(-np.arange(n) / (time * n))
    loss = mean + noise * np.sqrt(mean / start) * rng.normal(size=n)
    steps = np.linspace(n / evaluations, n, evaluations).astype(np.int32) if evaluations else np.zeros(0, np.int32)
    eval_loss = mean[steps - 1] * 1.1
    error = {"error": (loss / start * 0.9).clip(0, 1).astype(np.float32)}
    eval_error = {"error": (eval_loss / start * 0.9).clip(0, 1)} if evaluations else {}
    rates = 0.05 * (1 + np.cos(np.pi * np.arange(n) / n)) if rate is None else rate
    return train.History.empty()._replace(
        step=np.arange(1, n + 1, dtype=np.int32),
        loss=loss.astype(np.float32),
        metrics=error,
        learning_rate=np.broadcast_to(np.asarray(rates, np.float32), n),
        eval_step=steps,
        eval_loss=eval_loss,
        eval_metrics=eval_error,
        eval_seconds=steps * 0.1,
    )


@pytest.mark.parametrize("n", [40, 200, 1000])
@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_healthy_curves_of_any_noise_and_length_raise_no_alarm(n, noise):
    for seed in range(20):
        assert names_of(curve(n, noise=noise, seed=seed), num_classes=10) == []


def test_each_change_of_a_healthy_curve_is_found_alone():
    base = curve()
    x = np.arange(400) / 400
    spiked = base.loss.copy()
    spiked[[150, 260]] += 3
    assert names_of(base._replace(loss=spiked)) == ["spikes"]
    rises = base.eval_loss + np.array([0, 0, 0, 0, 0.1, 0.2, 0.4, 0.6])
    assert names_of(base._replace(eval_loss=rises)) == ["overfitting"]
    assert names_of(base._replace(eval_metrics={"error": np.full(8, 0.4)})) == ["large gap"]
    assert names_of(curve(end=1.6), num_classes=10) == ["underfitting"]
    assert names_of(curve(end=0.8, rate=0.1), num_classes=10) == ["plateau"]
    assert names_of(curve(time=0.5, end=0.1, rate=0.1)) == ["still falling"]
    unsteady = base.loss + 0.5 * np.random.default_rng(0).normal(size=400).astype(np.float32)
    assert names_of(base._replace(loss=unsteady)) == ["noisy batches"]
    line = (2.5 - 0.5 * x + 0.03 * np.random.default_rng(0).normal(size=400)).astype(np.float32)
    assert names_of(base._replace(loss=line, learning_rate=np.full(400, 0.1))) == ["rate too low"]
    rising = base.loss + 4 * np.exp(-(((x - 0.05) / 0.03) ** 2)).astype(np.float32)
    assert names_of(base._replace(loss=rising)) == ["rate too high"]
    lost = base.loss + (2 * (x > 0.8)).astype(np.float32)
    assert names_of(base._replace(loss=lost)) == ["diverging"]
    flat = (2.31 + 0.03 * np.random.default_rng(0).normal(size=400)).astype(np.float32)
    assert names_of(base._replace(loss=flat), num_classes=10) == ["not learning"]


def test_restarts_that_come_back_and_that_do_not():
    schedule = np.array([optim.cosine_cycles(0.1, 100)(step) for step in range(400)])
    base = curve(rate=schedule)
    bumps = np.zeros(400, np.float32)
    for start in (100, 200, 300):
        bumps[start : start + 100] += 0.5 * np.exp(-np.arange(100) / 15)
    assert Curves(base, None, None).restarts == (100, 200, 300)
    assert names_of(base._replace(loss=base.loss + bumps)) == []
    stays = base.loss + 0.6 * (np.arange(400) >= 300)
    assert "unstable restarts" in names_of(base._replace(loss=stays.astype(np.float32)))


def test_a_warm_up_is_no_restart():
    schedule = np.array([optim.warmup_cosine(0.1, 10, 400)(step) for step in range(400)])
    assert Curves(curve(rate=schedule), None, None).restarts == ()


def test_the_numbers_against_numpy():
    history = curve(noise=0.1)
    curves = Curves(history, None, None)
    slope = np.polyfit(np.arange(200), np.asarray(history.loss[200:], np.float64), 1)[0]
    np.testing.assert_allclose(curves.trend(200)[0], slope * 199, rtol=1e-6)
    np.testing.assert_allclose(curves.blocks, history.loss.reshape(20, 20).mean(1), rtol=1e-5)
    rng = np.random.default_rng(0)
    changes = [Curves(history._replace(loss=rng.normal(size=400)), None, None).trend(300) for _ in range(300)]
    ratios = np.array([change / error for change, error in changes])
    assert 0.85 < ratios.std() < 1.15  # the error is that of the change, for independent losses
    noise = Curves(history._replace(loss=3 + 0.2 * rng.normal(size=2000)), None, None).noise
    assert 0.19 < noise < 0.21


def test_units_do_not_matter():
    """A loss in other units (of a regression) has the same findings: every threshold is relative."""
    for run in RUNS[:8]:
        history, diverged = HISTORIES[run.name]
        scaled = history._replace(loss=history.loss * 64, eval_loss=history.eval_loss * 64)
        assert names_of(scaled, diverged=diverged) == names_of(history, diverged=diverged)


def test_no_word_on_what_cannot_be_known():
    history = curve(evaluations=0)._replace(learning_rate=np.full(400, np.nan, np.float32))
    found = practice.diagnose(history)
    text = " ".join(found.not_looked_at)
    assert "Overfitting and the gap were not looked at" in text
    assert "Restarts were not looked at" in text
    assert "pass num_classes" in text
    assert "Overfitting" in found.verdict
    assert not {"overfitting", "large gap"} & set(names_of(history))
    found = practice.diagnose(curve(evaluations=3), num_classes=10)
    assert found.not_looked_at[0].startswith("Overfitting was not looked at: four evaluations are needed")
    assert practice.diagnose(curve(), num_classes=10).not_looked_at == ()
    short = practice.diagnose(curve(30))
    assert not short.findings
    assert "40 updates are needed, and there are 30" in short.verdict


def test_a_run_that_ended_with_nan():
    tx, dataset, model = optim.momentum(1e6), random_dataset(100), models.mlp(3, widths=(8,))
    state = train.init_state(model, tx, jax.random.key(0), dataset.image_shape)
    with pytest.raises(train.NonFiniteLossError) as raised:
        train.fit(state, model, tx, dataset, steps=50, batch_size=10, progress=False)
    error = raised.value
    found = practice.diagnose(error.history, diverged=str(error), num_classes=3)
    assert [finding.name for finding in found.findings] == ["diverging"]
    assert "at step" in found.verdict
    with pytest.raises(ValueError, match=r"write diagnose\(error.history, diverged=str\(error\)\)"):
        practice.diagnose(error)  # type: ignore[arg-type]
    history = curve()
    history.loss[77] = np.nan
    assert "update 78" in practice.diagnose(history).verdict


def test_the_history_is_not_changed_and_the_verdict_has_the_numbers():
    history = curve(end=1.6)
    before = {name: np.copy(values) for name, values in history.columns().items()}
    found = practice.diagnose(history, num_classes=10)
    for name, values in history.columns().items():
        np.testing.assert_array_equal(values, before[name])
    assert "2.3" in found.verdict
    assert f"{found.findings[0].numbers['end']:.3g}" in str(found)
    assert found.findings[0].serious
    assert len(found.smooth) == len(found.loss) == 400
    np.testing.assert_allclose(found.smooth[200], found.loss[190:211].mean())


@pytest.mark.parametrize("name", ["few_images", "restarts_too_high", "sgd_cosine"])
def test_pictures(name, tmp_path):
    history, diverged = HISTORIES[name]
    practice.diagnose(history, num_classes=10, diverged=diverged).plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 20_000
    bare = curve(evaluations=0)._replace(learning_rate=np.full(400, np.nan, np.float32), metrics={})
    practice.diagnose(bare).plot(tmp_path / "bare.png")


def test_wrong_calls():
    history = curve()
    for arguments, options, message in [
        ((None,), {}, "history must be a train.History"),
        (((1, history),), {}, "fit returns two things"),
        ((history,), {"num_classes": 1}, "num_classes must be an integer >= 2"),
        ((history,), {"num_classes": True}, "num_classes must be an integer"),
        ((history,), {"diverged": True}, "diverged must be text"),
        ((train.History.empty(),), {}, "history has no updates"),
    ]:
        with pytest.raises(ValueError, match=message):
            practice.diagnose(*arguments, **options)


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_a_run_that_diverged_at_once_can_be_drawn(tmp_path, updates):
    model, (train_set, _) = models.mlp(widths=(4,)), data.load("fashion_mini")
    tx = optim.sgd(0.01)
    state = train.init_state(model, tx, jax.random.key(0), train_set)
    _, history = train.fit(state, model, tx, train_set, steps=updates, progress=False)
    practice.diagnose(history, diverged="the loss is nan").plot(tmp_path / "x.png")
    assert (tmp_path / "x.png").exists()
