"""Nothing is lost: killed runs, damaged files, full disks, other machines."""

import gc
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import NoisyNormNet, numbers, random_dataset, started, without_times
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdl import data, models, native, optim, train

KEY = jax.random.key(0)
SET = random_dataset(50)
MODEL = NoisyNormNet()
TX = optax.chain(optim.momentum(0.05), optim.swa(4, period=3), optim.snapshots(5, 2))
CHILD = Path(__file__).parent / "children" / "train_with_checkpoints.py"
STEPS = 500


def fresh(model=MODEL, tx=TX, key=KEY):
    return train.init_state(model, tx, key, SET.image_shape)


def fit(state, steps, model=MODEL, tx=TX, dataset=SET, **kwargs):
    return train.fit(state, model, tx, dataset, steps=steps, **{"batch_size": 16, "progress": False} | kwargs)


def assert_same_run(found, expected):
    """Bitwise: state and history, but for what a clock wrote."""
    chex.assert_trees_all_equal(numbers(found[0]), numbers(expected[0]))
    chex.assert_trees_all_equal(without_times(found[1]), without_times(expected[1]))


def start_child(folder, out):
    command = [sys.executable, str(CHILD), str(folder), str(out), str(STEPS)]
    return started(command)


def run_to_the_end(folder):
    with start_child(folder / "run", folder / "out") as child:
        _, errors = child.communicate()
    assert child.returncode == 0, errors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the child writes if nobody disturbs it, and how many seconds its training takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for name in ("compiles", "measured"):  # the second finds its programs compiled
        with start_child(folder / name, folder / "out") as child:
            assert child.stdout.readline() == "training\n", child.stderr.read()
            start = time.perf_counter()
            _, errors = child.communicate()
            seconds = time.perf_counter() - start
        assert child.returncode == 0, errors
    return arrays(folder / "out.npz"), seconds


def arrays(path):
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.mark.slow  # test_resume.py kills a ResNet once
@pytest.mark.parametrize("kills", [20])
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(kills, undisturbed, tmp_path):
    expected, seconds = undisturbed
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown if the test fails
    moments = random.Random(seed)
    killed = 0
    while killed < kills:
        with start_child(tmp_path / "run", tmp_path / "out") as child:
            if moments.random() < 0.8:  # else while it starts
                assert child.stdout.readline() == "training\n", child.stderr.read()
            time.sleep(moments.uniform(0, 1.2 * seconds / kills))
            assert child.poll() is None, f"ended before it could be killed, after {killed} kills: {child.stderr.read()}"
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        killed += 1
    run_to_the_end(tmp_path)
    for ours, theirs in zip(arrays(tmp_path / "out.npz"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not list((tmp_path / "run").glob("*tmp*"))


@pytest.mark.slow  # test_resume.py sends SIGTERM to a ResNet
def test_sigterm_saves_and_ends_with_a_code_of_its_own(undisturbed, tmp_path):
    expected, seconds = undisturbed
    with start_child(tmp_path / "run", tmp_path / "out") as child:
        assert child.stdout.readline() == "training\n"
        time.sleep(0.4 * seconds)
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate()
    assert child.returncode == train.PREEMPTED == 75, errors
    assert not (tmp_path / "out.npz").exists()
    saved = sorted(int(folder.name) for folder in (tmp_path / "run").iterdir())
    assert 0 < saved[-1] < STEPS
    run_to_the_end(tmp_path)
    for ours, theirs in zip(arrays(tmp_path / "out.npz"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("chain", "scan", "every", "cuts", "eval_every"),
    [("noise", False, 4, [9], None), ("momentum", True, 3, [5, 17], 4)],
)
def test_a_run_resumes_where_it_was_cut(chain, scan, every, cuts, eval_every, tmp_path_factory):
    check_cuts(chain, scan, every, cuts, eval_every, tmp_path_factory)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    chain=st.sampled_from(
        ["momentum", "adam", "injected", "plateau", "lookahead", "multisteps", "loss scale", "noise"]
    ),
    scan=st.booleans(),
    every=st.integers(1, 9),
    cuts=st.lists(st.integers(1, 19), max_size=3),
    eval_every=st.sampled_from([None, 4]),
)
def test_a_run_resumes_wherever_it_was_cut(chain, scan, every, cuts, eval_every, tmp_path_factory):
    check_cuts(chain, scan, every, cuts, eval_every, tmp_path_factory)


def check_cuts(chain, scan, every, cuts, eval_every, tmp_path_factory):
    """A run of 20 steps, ended by an exception after so many, and begun again: the same bits."""
    tx = {
        "momentum": TX,
        "adam": optax.chain(optim.adam(optim.warmup_cosine(0.01, 5, 20)), optim.ema(0.9)),
        "injected": optax.inject_hyperparams(optim.momentum)(learning_rate=0.05, weight_decay=1e-3),
        "plateau": optax.chain(optim.momentum(0.05), optim.reduce_on_plateau(0.5, patience=0, every=None)),
        "lookahead": optax.chain(optax.scale_by_learning_rate(0.05), optim.scale_by_nesterov_lookahead(0.9)),
        "multisteps": optax.MultiSteps(optim.momentum(0.05), 3),
        "noise": optax.chain(optim.momentum(0.05), optax.add_noise(0.01, 0.5, key=jax.random.key(1))),
        "loss scale": optim.dynamic_loss_scale(optim.momentum(0.05), period=4),
    }[chain]
    arguments = {"tx": tx, "scan": scan, "eval_set": SET, "eval_every": eval_every, "checkpoint_every": every}
    folders = [tmp_path_factory.mktemp("run") for _ in range(2)]
    expected = fit(fresh(tx=tx), 20, checkpoint_dir=folders[0], **arguments)

    class PowerCutError(Exception):
        pass

    for cut in cuts:

        def progress(step, loss, cut=cut):
            if step >= cut:
                raise PowerCutError

        with pytest.raises(PowerCutError):
            fit(fresh(tx=tx), 20, checkpoint_dir=folders[1], **arguments | {"progress": progress})
    found = fit(fresh(tx=tx), 20, checkpoint_dir=folders[1], **arguments)
    assert_same_run(found, expected)
    for folder in folders:
        shutil.rmtree(folder)


def test_checkpoints_change_nothing(tmp_path):
    expected = fit(fresh(), 20, scan=False)
    assert_same_run(fit(fresh(), 20, scan=False, checkpoint_dir=tmp_path, checkpoint_every=7), expected)


def test_the_newest_and_the_best_are_kept(tmp_path):
    """With a rate whose sign changes, so that what was learned is unlearned, the best is an early one."""
    tx = optim.sgd(lambda step: jnp.where(step < 9, 0.1, -0.1))
    model = models.mlp(3, widths=(8,))
    _, history = fit(
        fresh(model, tx), 30, model, tx, eval_set=SET, eval_every=3, checkpoint_dir=tmp_path, keep_checkpoints=2
    )
    best = int(history.eval_step[np.argmin(history.eval_error)])
    assert best < 24
    assert np.sum(history.eval_error == history.eval_error.min()) == 1
    assert sorted(int(folder.name) for folder in tmp_path.iterdir()) == [best, 27, 30]
    state, restored = train.restore(tmp_path, fresh(model, tx), which="best")
    assert int(state.step) == best
    assert train.evaluate(model, state, SET).error == pytest.approx(history.eval_error.min())
    np.testing.assert_array_equal(restored.loss, history.loss[:best])
    assert int(train.restore(tmp_path, fresh(model, tx), which=27)[0].step) == 27
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 28 that can be read in .*; there are the steps \["):
        train.restore(tmp_path, fresh(model, tx), which=28)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        train.restore(tmp_path / "nothing", fresh(model, tx))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves coroutines behind
# Orbax leaves a coroutine that nobody awaits where a checkpoint is damaged; Python says so whenever it finds it.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_damaged_checkpoints_are_reported_and_the_one_before_is_used(tmp_path):
    """Every file of the newest, in turn: cut in half, one bit turned, gone. Never a wrong number, never a crash."""
    model = models.mlp(3, widths=(300,))  # arrays large enough for files of their own
    expected = fit(fresh(model), 9, model, checkpoint_dir=tmp_path / "run")
    before = fit(fresh(model), 6, model)
    newest = tmp_path / "run" / "9"
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    assert len(files) > 5
    damaged = 0
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content)
        if flipped:
            flipped[len(flipped) // 2] ^= 0x10
        for wrong in (content[: len(content) // 2], bytes(flipped), None):
            path.unlink() if wrong is None else path.write_bytes(wrong)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                state, _ = train.restore(tmp_path / "run", fresh(model))
            ours = [str(w.message) for w in caught if w.category is train.DamagedCheckpointWarning]
            if int(state.step) == 9:  # the file does not matter
                chex.assert_trees_all_equal(numbers(state), numbers(expected[0]))
                assert not ours
            else:
                chex.assert_trees_all_equal(numbers(state), numbers(before[0]))
                assert "the checkpoint of step 9 in" in ours[0]
                assert "the one before it, of step 6, is used" in ours[0]
                damaged += 1
        path.write_bytes(content)
    assert damaged >= 6
    shutil.rmtree(newest / "state")
    with pytest.warns(train.DamagedCheckpointWarning, match="the one before it, of step 6, is used"):
        found = fit(fresh(model), 9, model, checkpoint_dir=tmp_path / "run")
    assert_same_run(found, expected)
    assert int(train.restore(tmp_path / "run", fresh(model))[0].step) == 9  # written anew
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves coroutines behind
@pytest.mark.parametrize(
    "wrong",
    [b"", pytest.param(b"{", marks=pytest.mark.slow), b'{"error": 0.1'],
    ids=["empty", "a brace", "cut"],
)
def test_a_checkpoint_whose_files_are_all_damaged_is_reported_with_its_folder(wrong, tmp_path):
    """The whole newest one: the one before is used. All of them: an error that names the folder and its steps."""
    model, run = models.mlp(3, widths=(8,)), tmp_path / "run"
    expected = fit(fresh(model), 9, model, eval_set=SET, checkpoint_dir=run)
    before = fit(fresh(model), 6, model)[0]

    def damage(step):
        for path in (run / step).rglob("*"):
            if path.is_file():
                path.write_bytes(wrong)

    damage("9")
    with pytest.warns(
        train.DamagedCheckpointWarning, match=r"step 9 in .* is damaged .*; the one before it, of step 6"
    ):
        state, _ = train.restore(run, fresh(model))
    chex.assert_trees_all_equal(numbers(state), numbers(before))
    with pytest.warns(train.DamagedCheckpointWarning, match=f"step 9 in {run} is damaged"):
        assert_same_run(fit(fresh(model), 9, model, eval_set=SET, checkpoint_dir=run), expected)
    for step in ("3", "6", "9"):
        damage(step)
    message = rf"that can be read in {run}; there are the steps \[3, 6, 9\]"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(FileNotFoundError, match=message):
            train.restore(run, fresh(model))
    ours = [str(w.message) for w in caught if w.category is train.DamagedCheckpointWarning]
    assert len(ours) == 3
    assert "there is no older one" in ours[-1]
    gc.collect()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": models.mlp(3, widths=(5,))}, r"model: there NoisyNormNet, here jaxdl.models.perceptrons.MLP"),
        ({"tx": optim.adam(0.1)}, r"opt_state/0/\d/.*"),
        ({"dataset": random_dataset(50, seed=1)}, r"data: there <random train: 50 images.*CRC-32"),
        ({"dataset": random_dataset(60)}, r"data: there <random train: 50 images .*, here <random train: 60 images"),
        ({"batch_size": 25}, "batch_size: there 16, here 25"),
        ({"key": jax.random.key(7)}, r"key: there \[\d+, \d+\], here \["),
        ({"loss": train.label_smoothing(0.1)}, r"loss: there .*cross_entropy, here jaxdl.train.losses.label_smoothing"),
        ({"augment": data.RandomFlip()}, r"augment: there None, here jaxdl.data.augment.flips.RandomFlip"),
    ],
)
def test_another_run_is_told_what_differs(change, message, tmp_path):
    fit(fresh(), 3, checkpoint_dir=tmp_path)
    model, tx, key = change.pop("model", MODEL), change.pop("tx", TX), change.pop("key", KEY)
    with pytest.raises(ValueError, match="is of another run; use another checkpoint_dir") as caught:
        fit(fresh(model, tx, key), 6, model, tx, checkpoint_dir=tmp_path, **change)
    assert caught.match(message)


def test_another_rate_is_noticed(tmp_path):
    model = models.mlp(3, widths=(8,))
    fit(fresh(model, optim.sgd(0.1)), 3, model, optim.sgd(0.1), checkpoint_dir=tmp_path)
    with pytest.warns(
        train.OptimizerChangedWarning,
        match=r"the optimizer is not the one with which .*What differs: step_size: there -0.1, here -0.2$",
    ):
        fit(fresh(model, optim.sgd(0.2)), 6, model, optim.sgd(0.2), checkpoint_dir=tmp_path)


def test_another_evaluation_set_is_noticed(tmp_path):
    fit(fresh(), 3, eval_set=SET[:20], checkpoint_dir=tmp_path)
    with pytest.warns(train.EvaluationChangedWarning, match=r"there <random train: 20 .*, here <random train: 30 "):
        fit(fresh(), 6, eval_set=SET[:30], checkpoint_dir=tmp_path)


@pytest.mark.parametrize("model", [models.convnet(3, widths=(2, 2)), models.mlp(3, widths=(4,))], ids=["conv", "mlp"])
def test_other_convolutions_are_noticed(model, tmp_path, monkeypatch):
    """Where the model has some."""
    tx, found = optim.sgd(0.01), []
    for steps, computed_by in ((1, "XLA"), (2, "XLA"), (3, "oneDNN 3.2.0")):
        monkeypatch.setattr(native, "convolutions", lambda computed_by=computed_by: computed_by)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", train.NumericsChangedWarning)
            fit(fresh(model, tx), steps, model, tx, checkpoint_dir=tmp_path)
        found.append([str(warning.message) for warning in caught])
    if type(model).__name__ == "MLP":
        assert found == [[], [], []]
    else:
        assert found[:2] == [[], []]
        (message,) = found[2]
        assert "convolutions are computed by oneDNN 3.2.0 here, and" in message
        assert "was written with XLA" in message


def test_versions_and_settings_are_kept(tmp_path):
    fit(fresh(), 3, checkpoint_dir=tmp_path)
    kept = json.loads((tmp_path / "3" / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
    assert kept["versions"]["jax"] == jax.__version__
    assert kept["settings"]["batch_size"] == "16"


def test_a_finished_run_is_handed_back(tmp_path):
    expected = fit(fresh(), 7, checkpoint_dir=tmp_path)
    assert_same_run(fit(fresh(), 7, checkpoint_dir=tmp_path), expected)
    with pytest.raises(ValueError, match="has 7 updates behind it, more than steps=5; pass steps >= 7"):
        fit(fresh(), 5, checkpoint_dir=tmp_path)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/jaxdl"):
        with pytest.raises(train.CheckpointError, match="cannot be written to: .*; name another folder"):
            fit(fresh(), 3, checkpoint_dir=folder)


def test_a_full_disk_loses_nothing(tmp_path):
    """A limit on the size of files stands for the disk: writing fails in the middle, as it does there."""
    model = models.mlp(3, widths=(400,))
    fit(fresh(model), 3, model, checkpoint_dir=tmp_path)
    expected = fit(fresh(model), 9, model)  # compiles all that is needed: JAX's own cache is not meant here
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(train.CheckpointError, match="could not be written to .*Is the disk full") as caught:
            fit(fresh(model), 9, model, checkpoint_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    reached = caught.value.state
    assert 3 < int(reached.step) == len(caught.value.history.loss) <= 9
    assert_same_run((reached, caught.value.history), fit(fresh(model), int(reached.step), model))
    assert_same_run(fit(fresh(model), 9, model, checkpoint_dir=tmp_path), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint_every": 5}, "checkpoint_every goes with checkpoint_dir"),
        ({"checkpoint_dir": "x", "checkpoint_every": 0}, "checkpoint_every must be an integer >= 1"),
        ({"checkpoint_dir": "x", "keep_checkpoints": 0}, "keep_checkpoints must be an integer >= 1"),
        ({"on_nonfinite": "roll_back"}, "needs checkpoints to return to; pass checkpoint_dir"),
        (
            {"on_nonfinite": "ignore"},
            "on_nonfinite must be one of 'stop', 'skip', 'roll_back', got on_nonfinite='ignore'",
        ),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        fit(fresh(), 3, **arguments)
    assert not os.listdir(tmp_path)


class Spiky(train.label_smoothing):
    """A loss that is NaN for batches whose labels start with 2, 2: it depends on the order of the examples."""

    def __call__(self, logits, labels):
        return super().__call__(logits, labels) + jnp.where((labels[0] == 2) & (labels[1] == 2), jnp.nan, 0.0)


@pytest.mark.parametrize("scan", [True, False])
def test_bad_updates_are_skipped_and_counted(scan):
    """Against the same steps made by hand, leaving out those whose loss is NaN."""
    loss = Spiky(0.0)
    state, history = fit(fresh(), 30, loss=loss, on_nonfinite="skip", scan=scan)
    bad = history.step[~np.isfinite(history.loss)]
    assert 0 < len(bad) < 10
    np.testing.assert_array_equal(history.skipped, bad)
    assert int(state.step) == 30
    by_hand = fresh()
    step = train.make_step(MODEL, TX, loss=train.label_smoothing(0.0), preprocess=SET.standardize)
    for n in range(30):
        rows = data.epoch_order(by_hand.key, n // 3, examples=50, batch_size=16)[n % 3]
        if n + 1 in bad:
            by_hand = by_hand._replace(step=by_hand.step + 1)
        else:
            by_hand, _ = step(by_hand, (SET.images[rows], SET.labels[rows]))
    chex.assert_trees_all_close(numbers(state), numbers(by_hand), rtol=1e-4, atol=1e-5)


def test_skipping_gives_up_where_nothing_is_finite():
    state = fresh(models.mlp(3), optim.sgd(0.1))
    state = state._replace(params=jax.tree.map(lambda p: p * jnp.nan, state.params))
    with pytest.raises(train.NonFiniteLossError, match="100 updates in a row were skipped"):
        fit(state, 500, models.mlp(3), optim.sgd(0.1), on_nonfinite="skip")


def test_stop_sees_gradients(tmp_path):
    """A gradient that overflows while the loss is finite: sqrt at 0."""

    def loss(logits, labels):
        return train.cross_entropy(logits, labels) + jnp.sqrt(0.0 * jnp.sum(logits, -1))

    with pytest.raises(train.NonFiniteLossError, match="a gradient is not finite, the loss is [0-9.]+ at step 1"):
        fit(fresh(), 3, loss=loss)


# Orbax leaves a coroutine that nobody awaits where a checkpoint is damaged; Python says so whenever it finds it.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
def test_roll_back_returns_to_a_checkpoint_and_takes_another_way(scan, tmp_path):
    arguments = {"loss": Spiky(0.0), "on_nonfinite": "roll_back", "scan": scan, "checkpoint_every": 1}
    state, history = fit(fresh(), 30, checkpoint_dir=tmp_path / "a", **arguments)
    assert len(history.rolled_back) > 0
    assert int(state.step) == len(history.loss) == 30
    assert np.all(np.isfinite(history.loss))
    assert_same_run(fit(fresh(), 30, checkpoint_dir=tmp_path / "b", **arguments), (state, history))
    first = history.rolled_back[0]
    _, plain_history = fit(fresh(), int(first) - 1, loss=Spiky(0.0), scan=scan)
    np.testing.assert_allclose(history.loss[: first - 1], plain_history.loss, rtol=1e-5)


def test_roll_back_gives_up_where_every_way_is_bad(tmp_path):
    tx = optim.sgd(lambda step: jnp.where(step == 4, 1e38, 0.01))
    model = models.mlp(3, widths=(8,))
    with pytest.raises(
        train.NonFiniteLossError, match="a parameter is not finite at step|the loss is (nan|inf) at step 6"
    ):
        fit(fresh(model, tx), 20, model, tx, on_nonfinite="roll_back", checkpoint_dir=tmp_path)
    state, _ = train.restore(tmp_path, fresh(model, tx))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.params))
