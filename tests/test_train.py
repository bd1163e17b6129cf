"""State, step, loop and evaluation."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import NoisyNormNet, numbers, random_dataset, without_times

from jaxdl import data, models, optim, train
from jaxdl.tree import find_states

KEY = jax.random.key(0)
SET = random_dataset(50)
MODEL = NoisyNormNet()
TX = optim.momentum(0.05)


def fresh_state(model=MODEL, tx=TX, key=KEY):
    return train.init_state(model, tx, key, SET.image_shape)


def fit(state, steps, model=MODEL, tx=TX, **kwargs):
    return train.fit(state, model, tx, SET, steps=steps, batch_size=16, progress=False, **kwargs)


def test_cross_entropy_equals_numpy(x64):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)) * 10, rng.integers(0, 4, 6)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(6), labels]
    np.testing.assert_allclose(train.cross_entropy(jnp.asarray(logits), labels), expected, rtol=1e-12, atol=1e-12)
    assert train.cross_entropy(jnp.asarray(logits, jnp.bfloat16), labels).dtype == jnp.float32


def test_init_state():
    state = fresh_state()
    assert int(state.step) == 0
    assert set(state.params) == {"Dense_0", "Dense_1", "BatchNorm_0"}
    assert set(state.batch_stats) == {"BatchNorm_0"}
    (momentum,) = find_states(state.opt_state, optim.MomentumState)
    chex.assert_trees_all_equal_shapes(momentum.velocity, state.params)
    chex.assert_trees_all_equal(numbers(fresh_state()), numbers(state))
    other = fresh_state(key=jax.random.key(1))
    assert not np.allclose(other.params["Dense_0"]["kernel"], state.params["Dense_0"]["kernel"])
    assert fresh_state(models.mlp(3)).batch_stats == {}


class ListField(nn.Module):
    widths: list

    def __call__(self, x, *, train):
        return x


class Nothing(nn.Module):
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MODEL, TX, 0, (6, 5, 2)), r"key must be one typed PRNG key, got key=0; pass jax.random.key\(seed\)"),
        ((MODEL, TX, jax.random.PRNGKey(0), (6, 5, 2)), "key must be one typed PRNG key"),
        ((MODEL, TX, jax.random.split(KEY), (6, 5, 2)), "key must be one typed PRNG key"),
        ((MODEL, TX, KEY, "6x5"), "got '6x5'"),
        ((MODEL, TX, KEY, (6, 0, 2)), "image_shape must be an integer >= 1, got image_shape=0"),
        ((NoisyNormNet, TX, KEY, (6, 5, 2)), "model must be a flax.linen module, got"),
        ((ListField([1]), TX, KEY, (6, 5, 2)), "ListField has a field that cannot be hashed, .*; use tuples for lists"),
        ((Nothing(), TX, KEY, (6, 5, 2)), "Nothing has no parameters to train"),
        ((MODEL, 0.1, KEY, (6, 5, 2)), r"tx must be an optax gradient transformation, got 0.1; pass optim.sgd\(0.1\)"),
    ],
)
def test_init_state_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        train.init_state(*arguments)


def test_step_equals_a_hand_written_loop():
    """Plain Flax and optax, written from their documentation, on the batches that `fit` takes."""
    model, tx = models.convnet(3, widths=(4,), hidden=8), optax.sgd(0.05, momentum=0.9)
    state = fresh_state(model, optim.momentum(0.05))
    params, opt_state = state.params, tx.init(state.params)
    losses = []

    @jax.jit
    def by_hand(params, opt_state, x, y):
        def loss(params):
            logits = model.apply({"params": params}, x, train=True)
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(16), y])

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    for step in range(7):
        rows = data.epoch_order(state.key, step // 3, examples=50, batch_size=16)[step % 3]
        x, y = SET.standardize(jnp.asarray(SET.images)[rows]), SET.labels[rows]
        params, opt_state, value = by_hand(params, opt_state, x, y)
        losses.append(value)
    ended, history = fit(state, 7, model, optim.momentum(0.05))
    chex.assert_trees_all_close(ended.params, params, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-4)


def test_make_step():
    """Counts, moves the batch statistics, and compiles once; equal arguments give the same step."""
    step = train.make_step(MODEL, TX, preprocess=SET.standardize)
    assert step is train.make_step(NoisyNormNet(), TX, preprocess=data.Standardize((0.5,) * 2, (0.25,) * 2))
    state, batch = fresh_state(), (SET.images[:16], SET.labels[:16])
    before = numbers(state)
    for n in range(1, 4):
        state, metrics = step(state, batch)
        assert int(state.step) == n
        assert metrics.loss.shape == metrics.error.shape == ()
    assert step._evenly._cache_size() == 1
    after = numbers(state)
    assert not np.allclose(after.batch_stats["BatchNorm_0"]["mean"], before.batch_stats["BatchNorm_0"]["mean"])
    np.testing.assert_array_equal(after.key, before.key)


def test_dropout_differs_between_steps_and_keys():
    """With a rate of 0 nothing moves, so that only the noise tells the steps apart."""
    still = optim.sgd(0.0)
    step = train.make_step(MODEL, still, preprocess=SET.standardize)
    losses = []
    for seed in (0, 1):
        state = fresh_state(tx=still)._replace(key=jax.random.key(seed))
        for _ in range(2):
            state, metrics = step(state, (SET.images[:16], SET.labels[:16]))
            losses.append(float(metrics.loss))
    assert len(set(losses)) == 4


def test_uint8_without_preprocess_is_told():
    step = train.make_step(MODEL, TX)
    with pytest.raises(ValueError, match="would be shown uint8 images; pass preprocess=train_set.standardize"):
        step(fresh_state(), (SET.images[:16], SET.labels[:16]))


@pytest.mark.parametrize("scan", [True, False])
def test_fit_learns_and_keeps_the_state_given(scan):
    state = fresh_state()
    before = numbers(state)
    ended, history = fit(state, 40, scan=scan, eval_set=SET)
    assert int(ended.step) == 40
    assert history.loss[-5:].mean() < 0.5 * history.loss[:5].mean()
    assert history.eval_error[-1] < 0.1
    chex.assert_trees_all_equal(numbers(state), before)


def test_scanned_and_single_steps_agree():
    """Across epoch borders (3 steps each) and evaluations, with statistics and dropout."""
    single, scanned = (fit(fresh_state(), 11, scan=scan, eval_set=SET, eval_every=4) for scan in (False, True))
    chex.assert_trees_all_close(numbers(scanned[0]), numbers(single[0]), rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(without_times(scanned[1]), without_times(single[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scan", [True, False])
def test_a_run_in_parts_is_the_run(scan):
    """Bitwise, wherever it is cut: a state and a step number are the whole truth."""
    whole, history = fit(fresh_state(), 11, scan=scan)
    state, parts = fresh_state(), []
    for stop in (1, 5, 6, 11):
        state, part = fit(state, stop, scan=False)
        parts.append(part)
    if scan:
        chex.assert_trees_all_close(numbers(state), numbers(whole), rtol=1e-5, atol=1e-6)
    else:
        chex.assert_trees_all_equal(numbers(state), numbers(whole))
        np.testing.assert_array_equal(np.concatenate([part.loss for part in parts]), history.loss)
    np.testing.assert_array_equal(np.concatenate([part.step for part in parts]), np.arange(1, 12))


def test_finished_state_is_handed_back():
    state, _ = fit(fresh_state(), 2)
    again, history = fit(state, 2)
    chex.assert_trees_all_equal(numbers(again), numbers(state))
    assert len(history.loss) == 0


@pytest.mark.parametrize("scan", [True, False])
def test_history(scan):
    told = []
    _, history = train.fit(
        fresh_state(), MODEL, TX, SET, steps=40, batch_size=16, eval_set=SET, eval_every=7, scan=scan,
        progress=lambda step, loss: told.append((step, loss)),
    )  # fmt: skip
    np.testing.assert_array_equal(history.step, np.arange(1, 41))
    np.testing.assert_array_equal(history.eval_step, [7, 14, 21, 28, 35, 40])
    assert history.loss.dtype == history.error.dtype == np.float32
    assert np.all((history.error >= 0) & (history.error <= 1))
    assert np.all(np.diff(history.eval_seconds) > 0)
    assert history.eval_seconds[-1] == history.seconds > 0
    steps, losses = zip(*told, strict=True)
    assert steps[-1] == 40
    assert list(steps) == sorted(steps)
    np.testing.assert_array_equal(losses, history.loss[np.array(steps) - 1])


def test_fit_evaluates_once_an_epoch_by_default():
    _, history = fit(fresh_state(), 7, eval_set=SET)
    np.testing.assert_array_equal(history.eval_step, [3, 6, 7])
    assert len(fit(fresh_state(), 4)[1].eval_step) == 0


def test_compilation_is_shared_between_seeds():
    """Three seeds, one trace of the model for each function."""
    traces = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            traces.append(train)
            return nn.Dense(3)(x.reshape(x.shape[0], -1))

    counts = []
    for seed in range(3):
        state = fresh_state(Counted(), key=jax.random.key(seed))
        fit(state, 6, Counted(), eval_set=SET)
        counts.append(len(traces))
    assert counts[0] == counts[2]


@pytest.mark.parametrize("scan", [True, False])
def test_a_loss_that_is_not_finite_stops_training(scan):
    """A rate that makes the parameters overflow; the history keeps what was finite."""
    tx = optim.sgd(lambda step: jnp.where(step == 19, 1e38, 0.01))
    model = models.mlp(3, widths=(8,))
    with pytest.raises(
        train.NonFiniteLossError, match=r"the loss is (nan|inf) at step 21; .*smaller learning rate"
    ) as caught:
        fit(fresh_state(model, tx), 200, model, tx, scan=scan, eval_set=SET)
    error = caught.value
    assert error.step == 21
    np.testing.assert_array_equal(error.history.step, np.arange(1, 21))
    assert np.all(np.isfinite(error.history.loss))
    assert error.last_finite_loss == error.history.loss[-1]
    np.testing.assert_array_equal(error.history.eval_step, [3, 6, 9, 12, 15, 18])
    reference = fit(fresh_state(model, optim.sgd(0.01)), 20, model, optim.sgd(0.01), scan=scan)[1]
    np.testing.assert_allclose(error.history.loss[:20], reference.loss, rtol=1e-5)


def test_an_evaluation_that_is_not_finite_stops_training():
    """The last update overflows: no later training loss would show it."""
    model, tx = models.mlp(3, widths=(8,)), optim.sgd(lambda step: jnp.where(step == 2, 1e38, 0.01))
    with pytest.raises(
        train.NonFiniteLossError, match="the loss on the evaluation set is (nan|inf) at step 3"
    ) as caught:
        fit(fresh_state(model, tx), 3, model, tx, eval_set=SET)
    assert len(caught.value.history.loss) == 3


def test_a_first_loss_that_is_not_finite():
    poisoned = fresh_state(models.mlp(3), tx=TX)
    poisoned = poisoned._replace(params=jax.tree.map(lambda p: p * jnp.nan, poisoned.params))
    with pytest.raises(train.NonFiniteLossError, match="the loss is nan at step 1; there was none before it"):
        fit(poisoned, 5, models.mlp(3))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"steps": 0}, "fit: steps must be an integer >= 1, got steps=0"),
        ({"steps": 5, "batch_size": 51}, "batch_size=51 is more than the 50 images"),
        ({"steps": 5, "batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"steps": 5, "eval_every": 0}, "fit: eval_every must be an integer >= 1, got eval_every=0"),
        (
            {"steps": 5, "eval_set": random_dataset(9, shape=(6, 6, 2))},
            "train_set and eval_set must have inputs of equal",
        ),
        ({"steps": 5, "eval_set": random_dataset(9, classes=2)}, "train_set and eval_set must have inputs of equal"),
    ],
)
def test_fit_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        train.fit(fresh_state(), MODEL, TX, SET, **{"batch_size": 16} | kwargs)


def test_state_of_another_optimizer_is_told():
    for other in (optim.adam(0.1), optim.sgd(0.1)):
        with pytest.raises(ValueError, match="the optimizer state does not belong to tx.*init_state"):
            fit(fresh_state(), 3, tx=other)
        with pytest.raises(ValueError, match="the optimizer state does not belong to tx"):
            train.make_step(MODEL, other, preprocess=SET.standardize)(fresh_state(), (SET.images, SET.labels))


def test_fit_beyond_its_end():
    state, _ = fit(fresh_state(), 3)
    with pytest.raises(ValueError, match="the state has 3 updates behind it, more than steps=2; pass steps >= 3"):
        fit(state, 2)


@pytest.mark.parametrize("batch_size", [7, 16, 50, 500])
def test_evaluate_counts_every_example_once(batch_size):
    """Against NumPy over the whole set; the smaller last batch must weigh what it should."""
    state, _ = fit(fresh_state(), 5)
    logits = MODEL.apply(state.variables, SET.standardize(jnp.asarray(SET.images)), train=False)
    logits = np.asarray(logits, np.float64)
    loss = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(50), SET.labels])
    found = train.evaluate(MODEL, state, SET, batch_size=batch_size)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.error == pytest.approx(np.mean(logits.argmax(1) != SET.labels), abs=1e-9)


def test_evaluate_takes_another_loss_and_preprocess():
    state = fresh_state()
    found = train.evaluate(
        MODEL, state, SET, loss=lambda logits, labels: 2.0 + 0 * labels, preprocess=lambda x: x.astype(jnp.float32)
    )
    assert found.loss == pytest.approx(2)
    with pytest.raises(ValueError, match="evaluate: batch_size must be an integer >= 1, got batch_size=0"):
        train.evaluate(MODEL, state, SET, batch_size=0)


def test_progress_bar_shows_the_end(capsys):
    train.fit(fresh_state(), MODEL, TX, SET, steps=5, batch_size=16)
    shown = capsys.readouterr().err
    assert "training" in shown
    assert "5/5" in shown
    assert "loss" in shown


@pytest.mark.slow
def test_a_convolutional_net_learns_real_images(fashion):
    """One epoch of the bundled data: under 30 % test error, where chance is 90 %."""
    model, tx = models.convnet(), optim.nesterov(0.03)
    state = train.init_state(model, tx, KEY, fashion[0].image_shape)
    _, history = train.fit(state, model, tx, fashion[0], steps=78, eval_set=fashion[1], progress=False)
    assert history.eval_error[-1] < 0.3


def test_scans_of_any_length_share_one_compilation():
    """Odd evaluation intervals must not compile a program for each length, nor compute other bits."""
    from jaxdl.train import alone
    from jaxdl.train.sharding import make_layout
    from jaxdl.train.task import Task
    from jaxdl.train.update import Rule

    tx = optim.momentum(0.01)  # not seen by other tests
    fit(fresh_state(tx=tx), 40, tx=tx, scan=True, eval_set=SET, eval_every=7)
    rule = Rule(Task(MODEL, preprocess=SET.standardize), tx)
    _, many = alone._compiled(rule, make_layout("test", None, "single"))
    assert many._cache_size() == 1


@pytest.mark.slow
def test_lookahead_in_a_chain_is_seen_by_the_step():
    """True Nesterov in training: the points at which gradients are taken are those of the reformulated rule."""
    lookahead = optax.chain(optax.scale_by_learning_rate(0.05), optim.scale_by_nesterov_lookahead(0.9))
    model = models.mlp(3, widths=(8,))
    (ahead, seen), (plain, expected) = (
        fit(fresh_state(model, tx), 12, model, tx) for tx in (lookahead, optim.nesterov(0.05))
    )
    np.testing.assert_allclose(seen.loss, expected.loss, rtol=1e-4)
    points = optim.lookahead_params(ahead.params, ahead.opt_state)
    chex.assert_trees_all_close(points, plain.params, rtol=1e-3, atol=1e-5)
