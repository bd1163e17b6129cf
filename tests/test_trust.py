"""Faults of trust, each on the nets and chains that people use: what was wrong must stay right."""

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import numbers, small_resnet, without_times

from jaxdl import data, ensemble, models, optim, train
from jaxdl.models import layers

ROOT = Path(__file__).parents[1]
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def small(fashion):
    return fashion[0][:160], fashion[1][:50]


def chain(steps=12):
    """Decay, momentum, a schedule, and all that keeps iterates."""
    return optax.chain(
        optim.add_l2(1e-4),
        optim.scale_by_momentum(0.9, nesterov=True),
        optax.scale_by_learning_rate(optim.cosine_cycles(0.02, period=steps // 2)),
        optim.swa(2, period=2),
        optim.ema(0.9),
        optim.snapshots(period=steps // 2, keep=2),
    )


# --- Ctrl-C, and what a resumed run says ------------------------------------------------------------------------------


def interrupt_at(update):
    """A progress function that presses Ctrl-C."""

    def progress(step, loss):
        if step >= update:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.slow
def test_ctrl_c_without_a_folder_hands_state_and_history_over(small):
    model, tx = models.resnet_cifar(8), chain()
    state = train.init_state(model, tx, KEY, small[0].image_shape)
    arguments = {"steps": 12, "batch_size": 32, "eval_set": small[1]}
    expected = train.fit(state, model, tx, small[0], progress=False, **arguments)
    with pytest.raises(KeyboardInterrupt, match="fit: interrupted after .* updates; nothing was saved") as caught:
        train.fit(state, model, tx, small[0], progress=interrupt_at(3), **arguments)
    assert isinstance(caught.value, train.TrainingInterruptedError)
    stopped, history = caught.value.state, caught.value.history
    assert 3 <= int(stopped.step) < 12
    assert len(history.loss) == int(stopped.step)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ended, rest = train.fit(stopped, model, tx, small[0], progress=False, **arguments)
    jax.tree.map(np.testing.assert_array_equal, numbers(ended), numbers(expected[0]))
    np.testing.assert_array_equal(np.concatenate([history.loss, rest.loss]), expected[1].loss)


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_ends_the_program_at_once(small):
    def twice(step, loss):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    model, tx = models.mlp(widths=(8,)), optim.sgd(0.1)
    state = train.init_state(model, tx, KEY, small[0].image_shape)
    with pytest.raises(KeyboardInterrupt) as caught:
        train.fit(state, model, tx, small[0], steps=12, batch_size=32, progress=twice)
    assert not isinstance(caught.value, train.TrainingInterruptedError)


def test_a_signal_that_comes_too_late_is_not_lost():
    from jaxdl.train.preemption import signals_noted

    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("theirs"))
    try:
        with signals_noted(saves=True) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.asked(3) == signal.SIGTERM
        assert not came  # the run was told
        with signals_noted(saves=True):
            os.kill(os.getpid(), signal.SIGTERM)
        assert came == ["theirs"]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with signals_noted(saves=True) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.asked(3) is None  # who started it wants it ignored
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_a_thread_signals_are_left_alone(small):
    model, tx = models.mlp(widths=(8,)), optim.sgd(0.1)
    state = train.init_state(model, tx, KEY, small[0].image_shape)
    ended = []
    fit = functools.partial(train.fit, state, model, tx, small[0], steps=3, batch_size=32, progress=False)
    thread = threading.Thread(target=lambda: ended.append(fit()))
    thread.start()
    thread.join()
    assert int(ended[0][0].step) == 3


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.slow
def test_the_command_line_ends_with_one_line_and_130(tmp_path):
    command = [sys.executable, "-m", "experiments.optimizers", "--steps", "100000", "--out", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as child:
        threading.Timer(15, lambda: child.send_signal(signal.SIGINT)).start()
        try:
            _, errors = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted; the same command goes on where it stopped" in errors.rstrip().splitlines()[-1]


def test_a_resumed_run_says_so_in_one_line(small, tmp_path, caplog, capsys):
    model, tx = models.mlp(widths=(8,)), optim.sgd(0.1)
    state = train.init_state(model, tx, KEY, small[0].image_shape)
    fit = functools.partial(train.fit, state, model, tx, small[0], batch_size=32, checkpoint_dir=tmp_path)
    caplog.set_level(logging.INFO, logger="jaxdl")
    fit(steps=5)
    assert "going on" not in caplog.text + capsys.readouterr().err
    fit(steps=8)
    line = f"going on after update 5 of 8, from the checkpoint in {tmp_path}"
    assert [record.getMessage() for record in caplog.records if record.name.startswith("jaxdl")] == [line]
    assert line in capsys.readouterr().err


# --- Loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scan", [True, False])
def test_blocks_of_any_length_compute_the_same_bits(scan, small, monkeypatch):
    from jaxdl.train import pace

    model, tx = models.convnet(widths=(4, 8), hidden=8), chain()
    state = train.init_state(model, tx, KEY, small[0].image_shape)
    found = []
    for seconds in (1e-9, 60.0):  # blocks of one step; of as many as may be
        monkeypatch.setattr(pace, "_SECONDS", seconds)
        found.append(train.fit(state, model, tx, small[0], steps=23, batch_size=16, scan=scan, progress=False))
    for a, b in zip(*([numbers(s), without_times(h)] for s, h in found), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_evaluation_set_is_sent_once(small, monkeypatch):
    sent, real = [], jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x, *a, **k: sent.append(np.shape(x)) or real(x, *a, **k))
    model, tx = models.mlp(widths=(8,)), optim.momentum(0.01)
    state = train.init_state(model, tx, KEY, small[0].image_shape)
    train.fit(state, model, tx, small[0], steps=6, batch_size=32, eval_set=small[1], eval_every=1, progress=False)
    assert sent.count(small[1].images.shape) == 1


def test_both_returns_to_one_checkpoint_are_in_the_history(small, tmp_path):
    """NaN at the steps 4 and 5 of the first two tries: the third, with other random numbers, goes through."""
    tries = []

    def bad_at_first(logits, labels):
        def factor(labels):
            tries.append(None)
            return np.float32(np.nan if len(tries) in (4, 8) else 1)

        drawn = jax.pure_callback(factor, jax.ShapeDtypeStruct((), jnp.float32), labels)
        return train.cross_entropy(logits, labels) * drawn

    model, tx = models.mlp(widths=(8,)), optim.momentum(0.01)
    state = train.init_state(model, tx, KEY, small[0].image_shape)
    _, history = train.fit(
        state,
        model,
        tx,
        small[0],
        steps=8,
        batch_size=32,
        loss=bad_at_first,
        scan=False,
        on_nonfinite="roll_back",
        checkpoint_dir=tmp_path,
        checkpoint_every=100,
        progress=False,
    )
    assert len(history.rolled_back) == 2
    assert len(history.loss) == 8


# --- Peaks under schedules --------------------------------------------------------------------------------------------


def test_a_population_sweeps_peaks_under_one_schedule(small):
    """Each member is the solo run of that peak, momentum and decay; the scheduled rate itself is refused."""

    def swept(peak, weight_decay):
        return optim.momentum(optim.warmup_cosine(peak, 2, 8), weight_decay=weight_decay)

    model, peaks, decays = models.convnet(widths=(4,), hidden=8), [0.003, 0.01, 0.1], [0.0, 1e-2, 1e-4]
    tx = optax.inject_hyperparams(swept)(peak=0.1, weight_decay=0.0)
    keys = jax.random.split(KEY, 3)
    found = train.population(
        model,
        tx,
        small[0],
        keys=keys,
        steps=6,
        batch_size=32,
        hyperparams={"peak": peaks, "weight_decay": decays},
        progress=False,
    )
    for member, (peak, decay) in enumerate(zip(peaks, decays, strict=True)):
        solo = swept(peak, decay)
        state = train.init_state(model, solo, keys[member], small[0].image_shape)
        state, history = train.fit(state, model, solo, small[0], steps=6, batch_size=32, progress=False)
        np.testing.assert_allclose(found.histories[member].loss, history.loss, rtol=2e-4)


# --- Ensembles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [1.0, 50.0, 100.0, 150.0])
def test_the_nll_of_confident_members_is_right(confidence):
    """Logits [g, 0, ..., 0], 90 % wrong: 0.9 g + log(1 + 9 exp(-g)) nats, for one member and for equal ones."""

    class Sure(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            g = self.param("g", nn.initializers.constant(confidence), ())
            return jnp.zeros((len(x), 10)).at[:, 0].set(g)

    labels = np.arange(50, dtype=np.int32) % 10
    standardize = data.Standardize((0.5,), (0.25,))
    dataset = data.Dataset("x", "test", np.zeros((50, 4, 4, 1), np.uint8), labels, tuple("abcdefghij"), standardize)
    found = ensemble.evaluate(Sure(), {"g": jnp.full(3, confidence)}, dataset)
    expected = 0.9 * confidence + np.log1p(9 * np.exp(-confidence))
    np.testing.assert_allclose(found.members.nll, expected, rtol=1e-6)
    np.testing.assert_allclose(found.ensemble.nll, expected, rtol=1e-6)
    mixed = ensemble.evaluate(Sure(), {"g": jnp.array([confidence, 0.0])}, dataset)
    # The mean of a sure member and one that knows nothing.
    p = np.full((50, 10), 1.0)
    p[:, 0] = np.exp(np.float64(confidence))
    mean = (p / p.sum(1, keepdims=True) + 0.1) / 2
    np.testing.assert_allclose(mixed.ensemble.nll[1], np.mean(-np.log(mean[np.arange(50), labels])), rtol=1e-6)


def test_members_that_diverged_are_named(small):
    model = models.mlp(widths=(4,))
    params = model.init(KEY, jnp.zeros((1, 28, 28, 1)), train=False)["params"]
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, jnp.full_like(leaf, jnp.nan), leaf]), params)
    with pytest.raises(ValueError, match=r"evaluate: the outputs of members .* got NaN from the members \[1\]"):
        ensemble.evaluate(model, members, small[1])


def test_a_rate_that_would_become_a_whole_number_is_refused(small):
    tx = optax.inject_hyperparams(optim.momentum)(learning_rate=1)  # kept as an integer
    state = train.init_state(models.mlp(widths=(4,)), tx, KEY, small[0].image_shape)
    with pytest.raises(ValueError, match="learning_rate is kept as int32, which cannot hold learning_rate=0.1"):
        train.set_hyperparams(state, learning_rate=0.1)


def test_update_batch_stats_traces_a_model_once_for_each_shape(small):
    traces = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            traces.append(x.shape)
            return models.resnet_cifar(8)(x, train=train)

    variables = Counted().init(KEY, jnp.zeros((1, 28, 28, 1)), train=False)
    traces.clear()
    ensemble.update_batch_stats(Counted(), variables["params"], small[0], batch_size=20)  # 8 equal batches
    # For the model's shapes (of one example, in two ways), for what each BatchNorm is given, and for the program.
    assert traces == [(1, 28, 28, 1)] * 2 + [(20, 28, 28, 1)] * 2


def test_weight_cosine_is_of_weights_alone():
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(3, 4))}
    variables = {"params": params, "batch_stats": {"mean": 1e6 * np.ones((3, 9))}}
    np.testing.assert_array_equal(ensemble.weight_cosine(variables), ensemble.weight_cosine(params))


# --- Several devices --------------------------------------------------------------------------------------------------


def test_own_loop_with_donation_and_a_real_net(small):
    """The averages' states may be donated, as a user's own jitted step does."""
    model, tx = small_resnet(), optax.chain(chain(), optim.reduce_on_plateau(every=1))
    variables = model.init(KEY, jnp.zeros((1, 28, 28, 1)), train=False)
    images, labels = small[0].standardize(small[0].images[:16]), small[0].labels[:16]

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, opt_state):
        def loss(params):
            logits, _ = model.apply(
                {"params": params, "batch_stats": variables["batch_stats"]},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            return train.cross_entropy(logits, labels).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state, params, value=value)
        return optax.apply_updates(params, updates), opt_state, value

    params, opt_state = jax.tree.map(jnp.copy, variables["params"]), tx.init(variables["params"])
    values = []
    for _ in range(5):
        params, opt_state, value = step(params, opt_state)
        values.append(float(value))
    assert values[-1] < values[0]


def test_group_norm_fits_a_cifar_resnet_by_default(small):
    model, tx = small_resnet(norm=layers.GroupNorm), optim.momentum(0.01)
    state = train.init_state(model, tx, KEY, small[0].image_shape)
    _, history = train.fit(state, model, tx, small[0], steps=3, batch_size=32, progress=False)
    assert np.isfinite(history.loss).all()
