"""What a stranger found who tried to break the engine: each is a result that would have been wrong in silence."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import data, ensemble, models, optim, train

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TABLE = data.from_arrays(RNG.normal(size=(50, 6)), RNG.normal(size=(50, 1)))


def fit(model, tx=None, steps=7, dataset=TABLE, **chosen):
    tx = tx or optim.momentum(0.05)
    chosen = {"loss": train.squared_error, "batch_size": 16, "progress": False} | chosen
    return train.fit(train.init_state(model, tx, KEY, dataset), model, tx, dataset, steps=steps, **chosen)


class Weighted:
    """A loss whose weight may be changed."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, outputs, targets):
        return self.weight * train.squared_error(outputs, targets)


@pytest.mark.parametrize("scan", [True, False])
def test_what_was_under_way_when_a_watcher_ended_the_run_is_in_the_history(scan, tmp_path):
    enough = lambda event: isinstance(event, train.Stepped) and event.step >= 1  # noqa: E731
    chosen = {"eval_set": TABLE, "batch_size": 10, "scan": scan}
    tx, model = optax.sgd(0.01), nn.Dense(1)
    state, history = fit(model, tx, 20, watch=[enough], checkpoint_dir=tmp_path, **chosen)
    assert int(state.step) == len(history.loss)
    state, history = fit(model, tx, 20, checkpoint_dir=tmp_path, **chosen)
    whole, expected = fit(model, tx, 20, **chosen)
    np.testing.assert_array_equal(history.loss, expected.loss)
    assert history.eval_step.tolist() == expected.eval_step.tolist() == [5, 10, 15, 20]
    jax.tree.map(np.testing.assert_array_equal, state.params, whole.params)


def test_a_loss_whose_attribute_was_changed_is_another():
    loss, model = Weighted(2.0), nn.Dense(1)
    first = fit(model, steps=1, loss=loss)[1].loss[0]
    loss.weight = 20.0
    assert fit(model, steps=1, loss=loss)[1].loss[0] == pytest.approx(10 * first)
    state, _ = fit(model, steps=1)
    found = train.evaluate(model, state, TABLE, loss=loss).loss
    loss.weight = 2.0
    assert train.evaluate(model, state, TABLE, loss=loss).loss == pytest.approx(found / 10)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_losses_in_half_precision_are_summed_in_single(dtype):
    def loss(outputs, targets):
        return (200 + jnp.abs(outputs[:, 0])).astype(dtype)

    many = data.from_arrays(RNG.normal(size=(5000, 6)), np.zeros((5000, 1)))
    state = train.init_state(nn.Dense(1), optax.sgd(0.1), KEY, many)
    found = train.evaluate(nn.Dense(1), state, many, loss=loss).loss
    each = np.asarray(loss(nn.Dense(1).apply(state.variables, many.inputs), many.targets), np.float64)
    assert found == pytest.approx(each.mean(), rel=1e-5)
    assert train.evaluate(nn.Dense(1), state, many, loss=loss, batch_size=7).loss == pytest.approx(found, rel=1e-6)


class Sower(nn.Module):
    """Sows what it sees, which would grow with every step if it were carried along."""

    @nn.compact
    def __call__(self, x):
        hidden = nn.Dense(4)(x)
        self.sow("stats", "mean", hidden.mean())
        return nn.Dense(1)(hidden)


@pytest.mark.parametrize("scan", [True, False])
def test_what_a_module_sows_for_others_is_left_out(scan, tmp_path):
    for steps in (4, 7):
        state, _ = fit(Sower(), steps=steps, scan=scan, checkpoint_dir=tmp_path)
    assert state.collections == {}


class Own(nn.Module):
    """Keeps a number of its own."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        mean = self.variable("own", "mean", lambda: jnp.zeros(()))
        if train and not self.is_initializing():
            mean.value = x.mean()
        return nn.Dense(1)(x) + mean.value


def test_own_collections_of_snapshots(tmp_path):
    tx = optax.chain(optim.momentum(0.05), optim.snapshots(3, 2))
    state, _ = fit(Own(), tx, checkpoint_dir=tmp_path)
    members = optim.snapshot_variables(state.opt_state)
    with pytest.raises(ValueError, match="members must hold own of Own too, got only batch_stats, params"):
        ensemble.predict(Own(), members, TABLE.inputs, average="outputs")
    loaded = train.load_variables(tmp_path, average="snapshots")
    found = ensemble.outputs(Own(), loaded, TABLE)
    for number in range(2):
        one = jax.tree.map(lambda leaf, n=number: leaf[n], members["params"])
        expected = Own().apply({"params": one, **state.collections}, TABLE.inputs, train=False)
        np.testing.assert_allclose(found[number], expected, atol=1e-5)
    with pytest.raises(ValueError, match="got the collections own of Own"):
        ensemble.update_batch_stats(Own(), state.params, TABLE)


class Spread(nn.Module):
    """Made for several devices: its BatchNorm names their axis."""

    axis_name: str | None

    @nn.compact
    def __call__(self, x, *, train: bool):
        return nn.Dense(1)(nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))


def test_a_module_for_several_devices_runs_on_one():
    found = [fit(Spread(axis), devices=jax.devices()[:1]) for axis in (train.AXIS, None)]
    jax.tree.map(np.testing.assert_array_equal, *(state.variables for state, _ in found))
    chosen = {"keys": KEY[None], "steps": 7, "batch_size": 16, "loss": train.squared_error, "progress": False}
    together = train.population(Spread(train.AXIS), optim.momentum(0.05), TABLE, **chosen)
    np.testing.assert_allclose(together.histories[0].loss, found[0][1].loss, rtol=1e-5)


@pytest.mark.parametrize("answer", [True, np.True_, jnp.array(True), 1])
def test_whatever_is_true_ends_a_run(answer):
    watch = [lambda event: isinstance(event, train.Evaluated) and answer]
    state, _ = fit(nn.Dense(1), steps=20, eval_set=TABLE, eval_every=5, watch=watch)
    assert int(state.step) == 5


def test_an_error_that_is_not_finite_is_told_where_nobody_waits_for_it():
    metrics = {"error": lambda outputs, targets: jnp.full(len(outputs), jnp.nan)}
    _, history = fit(nn.Dense(1), eval_set=TABLE, metrics=metrics)
    assert np.isnan(history.eval_error).all()


def test_norms_of_gradients_that_were_not_asked_for_are_unknown(tmp_path):
    for steps, asked in ((3, False), (5, True), (7, False)):
        _, history = fit(nn.Dense(1), steps=steps, gradient_norm=asked, checkpoint_dir=tmp_path)
    assert np.isfinite(history.gradient_norm).tolist() == [False] * 3 + [True] * 2 + [False] * 2


@pytest.mark.parametrize("name", ["eval_a", "skipped", "loss", "eval_step"])
def test_metrics_cannot_take_the_names_of_columns(name):
    with pytest.raises(ValueError, match=f"the name of a metric must .*, got {name!r}"):
        fit(nn.Dense(1), metrics={name: train.absolute_error})


def test_soft_labels_are_evaluated_on_hard_ones():
    labels = RNG.integers(0, 3, 50)
    soft, hard = (data.from_arrays(TABLE.inputs, targets) for targets in (np.eye(3)[labels], labels))
    _, history = fit(nn.Dense(3), dataset=soft, eval_set=hard, loss=train.cross_entropy)
    _, expected = fit(nn.Dense(3), dataset=soft, eval_set=soft, loss=train.cross_entropy)
    np.testing.assert_allclose(history.eval_loss, expected.eval_loss, rtol=1e-6)


def test_lines_of_an_older_run_are_not_lost(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("my notes\n")
    for steps in (5, 3):
        fit(nn.Dense(1), steps=steps, watch=[train.JsonLines(path)])
    assert len(path.read_text().splitlines()) == 3
    assert len((tmp_path / "run.jsonl.taken_back").read_text().splitlines()) == 1 + 5


@pytest.mark.slow
def test_a_folder_holds_populations_of_one_kind(tmp_path):
    def run(via):
        return train.population(
            models.mlp(1, widths=(4,)), optim.momentum(0.01), TABLE, keys=KEY[None], steps=2, batch_size=16,
            loss=train.squared_error, via=via, checkpoint_dir=tmp_path / "run", progress=False,
        )  # fmt: skip

    run("vmap")
    with pytest.raises(ValueError, match="has checkpoints of members side by side"):
        run("loop")
