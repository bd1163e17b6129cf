"""What a run tells those who watch it: on a small ResNet with a schedule, and across a kill."""

import json
import struct

import jax
import numpy as np
import optax
import pytest
from helpers import numbers, small_resnet, without_times

from jaxdl import data, models, optim, train

KEY = jax.random.key(0)
MODEL = small_resnet()
STEPS = 12


@pytest.fixture(scope="module")
def sets(fashion):
    return [part[:300] for part in fashion]


def chain(warm_up=4):
    schedule = optim.warmup_cosine(0.1, warm_up, STEPS)
    return optax.chain(
        optim.add_l2(1e-4),
        optim.scale_by_momentum(0.9, nesterov=True),
        optax.scale_by_learning_rate(schedule),
        optim.ema(0.9),
        optim.swa(start=6),
    )


def run(sets, steps=STEPS, **chosen):
    tx = chain()
    state = train.init_state(MODEL, tx, KEY, sets[0])
    chosen = {"batch_size": 60, "eval_set": sets[1], "eval_every": 4, "progress": False} | chosen
    return train.fit(state, MODEL, tx, sets[0], steps=steps, **chosen)


@pytest.fixture(scope="module")
def watched(sets, tmp_path_factory):
    """A run with every watcher: (state, history, events, lines)."""
    path, events = tmp_path_factory.mktemp("watched") / "run.jsonl", []
    state, history = run(sets, watch=[events.append, train.JsonLines(path)], gradient_norm=True)
    return state, history, events, [json.loads(line) for line in path.read_text().splitlines()]


def test_events_tell_everything(watched):
    _, history, events, _ = watched
    assert isinstance(events[0], train.Started)
    assert (events[0].step, events[0].steps) == (0, STEPS)
    assert isinstance(events[-1], train.Ended)
    assert events[-1].step == STEPS
    blocks = [event for event in events if isinstance(event, train.Stepped)]
    np.testing.assert_array_equal(np.concatenate([block.metrics.loss for block in blocks]), history.loss)
    np.testing.assert_array_equal(np.concatenate([b.metrics.gradient_norm for b in blocks]), history.gradient_norm)
    assert [block.step for block in blocks] == np.cumsum([len(block.metrics.loss) for block in blocks]).tolist()
    assert sum(block.seconds for block in blocks) == pytest.approx(history.seconds)
    evaluations = [event for event in events if isinstance(event, train.Evaluated)]
    assert [event.step for event in evaluations] == [4, 8, 12]
    assert [event.metrics.error for event in evaluations] == history.eval_error.tolist()
    assert [len(event.history.eval_step) for event in evaluations] == [1, 2, 3]
    assert int(evaluations[-1].state.step) == STEPS  # of the last one nothing is reused


def test_the_history_has_the_rates_and_the_norms(watched, sets):
    """Against the schedule in NumPy, and the gradient of the first batch by hand."""
    _, history, _, _ = watched
    count = np.arange(STEPS)
    expected = np.where(count < 4, 0.1 * count / 4, 0.05 * (1 + np.cos(np.pi * (count - 4) / (STEPS - 4))))
    np.testing.assert_allclose(history.learning_rate, expected, rtol=1e-5, atol=1e-9)

    first = train.init_state(MODEL, chain(), KEY, sets[0])
    batch = next(data.batches(sets[0], first.key, 60))

    def loss(params):
        inputs = sets[0].standardize(batch.images)
        logits, _ = MODEL.apply({**first.variables, "params": params}, inputs, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    grads = jax.jit(jax.grad(loss))(first.params)
    norm = np.sqrt(sum(np.sum(np.square(np.asarray(g, np.float64))) for g in jax.tree.leaves(grads)))
    assert history.gradient_norm[0] == pytest.approx(norm, rel=1e-4)


def test_watching_changes_nothing(watched, sets):
    """Neither functions nor what they are told: the gradient's norm makes it another program, of other rounding."""
    found = [run(sets, watch=watch) for watch in ([], [lambda event: None, train.print_evaluations])]
    jax.tree.map(np.testing.assert_array_equal, *(numbers(state) for state, _ in found))
    assert found[0][1].gradient_norm.shape == (0,)
    np.testing.assert_allclose(found[0][1].loss, watched[1].loss, rtol=1e-3)


def test_json_lines(watched):
    _, history, _, lines = watched
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["step"] for line in steps] == history.step.tolist()
    for name in ("loss", "error", "learning_rate", "gradient_norm"):
        values = history.error if name == "error" else getattr(history, name)
        np.testing.assert_array_equal([line[name] for line in steps], values)
    evaluations = [line for line in lines if line["event"] == "evaluation"]
    assert [line["error"] for line in evaluations] == history.eval_error.tolist()


@pytest.mark.slow
def test_json_lines_of_a_resumed_run_are_those_of_one_undisturbed(watched, sets, tmp_path):
    """The run goes on from an older checkpoint: lines of updates that are made again are taken back."""
    path = tmp_path / "run.jsonl"
    chosen = {"gradient_norm": True, "checkpoint_dir": tmp_path / "run", "checkpoint_every": 5, "keep_checkpoints": 9}

    class Killed(Exception):
        pass

    def die_at_seven(event):
        if isinstance(event, train.Stepped) and event.step >= 7:
            raise Killed

    with pytest.raises(Killed):
        run(sets, watch=[train.JsonLines(path), die_at_seven], **chosen)
    with path.open("a") as file:
        file.write('{"event": "st')  # cut off in the middle
    state, _ = run(sets, watch=[train.JsonLines(path)], **chosen)
    _, _, _, undisturbed = watched
    clocked = ("seconds",)
    lines = map(json.loads, path.read_text().splitlines())
    plain = [{k: v for k, v in line.items() if k not in clocked} for line in lines]
    assert plain == [{k: v for k, v in line.items() if k not in clocked} for line in undisturbed]
    jax.tree.map(np.testing.assert_array_equal, numbers(state), numbers(watched[0]))


def scalars(folder):
    """What lies in TensorBoard's files, by tag and step: the last value written counts, as on its page."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.glob("events.*")):
        raw, at = path.read_bytes(), 0
        while at < len(raw):  # length, its checksum, the record, its checksum
            (length,) = struct.unpack("<Q", raw[at : at + 8])
            event = Event.FromString(raw[at + 12 : at + 12 + length])
            at += 12 + length + 4
            if event.session_log.status == 1:  # START: later steps of before are to be forgotten
                found = {key: value for key, value in found.items() if key[1] < event.step}
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


@pytest.mark.slow
def test_tensorboard(sets, tmp_path, watched, monkeypatch):
    """The files, read back, are the history; also of a run that died and goes on within the same second."""
    _, history, _, _ = watched
    monkeypatch.setattr("time.time", lambda: 1e9)  # tensorboardX names its files by it
    chosen = {"gradient_norm": True, "checkpoint_dir": tmp_path / "run", "checkpoint_every": 5}

    def die_at_seven(event):
        if isinstance(event, train.Stepped) and event.step >= 7:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(sets, watch=[train.TensorBoard(tmp_path / "board"), die_at_seven], **chosen)
    run(sets, watch=[train.TensorBoard(tmp_path / "board")], **chosen)
    found = scalars(tmp_path / "board")
    columns = {"loss": history.loss, "learning_rate": history.learning_rate, "gradient_norm": history.gradient_norm}
    for name, values in {**columns, **history.metrics}.items():
        np.testing.assert_array_equal([found[f"train/{name}", step] for step in history.step], values)
    for name, values in {"loss": history.eval_loss, **history.eval_metrics}.items():
        np.testing.assert_allclose([found[f"eval/{name}", step] for step in history.eval_step], values, rtol=1e-6)
    assert len(found) == STEPS * 4 + 3 * 2


@pytest.mark.slow
@pytest.mark.parametrize("via", ["vmap", "loop"])
def test_tensorboard_of_a_population(via, sets, tmp_path):
    """Each member's folder has all its scalars, also after the population died behind a checkpoint and went on."""

    def train_all(*watchers):
        return train.population(
            MODEL,
            chain(),
            sets[0],
            keys=jax.random.split(KEY, 2),
            steps=STEPS,
            batch_size=60,
            eval_set=sets[1],
            eval_every=4,
            via=via,
            checkpoint_dir=tmp_path / "run",
            checkpoint_every=5,
            watch=[train.TensorBoard(tmp_path / "board"), *watchers],
            progress=False,
        )

    def die_at_seven(event):
        if isinstance(event, train.Stepped) and event.step >= 7:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train_all(die_at_seven)
    histories = train_all().histories
    assert len(histories) == 2
    for member, history in enumerate(histories):
        found = scalars(tmp_path / "board" / f"member_{member:04d}")
        np.testing.assert_array_equal([found["train/loss", step] for step in history.step], history.loss)
        assert {step for tag, step in found if tag == "eval/loss"} == {4, 8, 12}


@pytest.mark.slow
def test_early_stopping(sets, tmp_path):
    """Ends after so many evaluations that are not better; a repeated call knows, and makes no further update."""
    told = []

    def fake(outputs, targets):  # a metric that is best at the second evaluation
        return jax.numpy.abs(outputs[:, 0]) * 0 + 1.0 + 0 * targets

    chosen = {"metrics": {"fake": fake}, "watch": [told.append, train.EarlyStopping("fake", patience=1)]}
    state, history = run(sets, checkpoint_dir=tmp_path, **chosen)
    assert history.eval_step.tolist() == [4, 8]  # the second is not better than the first
    assert int(state.step) == len(history.loss) == 8
    again, same = run(sets, checkpoint_dir=tmp_path, **chosen)
    jax.tree.map(np.testing.assert_array_equal, numbers(state), numbers(again))
    jax.tree.map(np.testing.assert_array_equal, history, same)
    with pytest.raises(ValueError, match="fit: train.EarlyStopping needs evaluations, got eval_set=None"):
        run((sets[0], None), eval_every=None, watch=[train.EarlyStopping()])
    with pytest.raises(ValueError, match="there is no metric 'fame' in the evaluations; there are loss, fake"):
        run(sets, metrics={"fake": fake}, watch=[train.EarlyStopping("fame")])


@pytest.mark.parametrize(
    ("values", "patience", "least", "ends_after"),
    [
        ([5, 4, 3, 2, 1], 1, 0, None),
        ([5, 4, 4, 3], 1, 0, 3),
        ([5, 4, 6, 5, 3], 2, 0, 4),
        ([5, 4.9, 4.8, 4.7], 2, 0.5, 3),
        ([5, float("nan"), 4], 2, 0, None),
    ],
)
def test_early_stopping_counts(values, patience, least, ends_after):
    stopping, history = train.EarlyStopping("loss", patience=patience, least=least), train.History.empty()
    found = None
    for number, value in enumerate(values, 1):
        history = history.add_evaluation(number, train.Metrics(value, {}))
        if stopping(train.Evaluated(number, train.Metrics(value, {}), history, None)):
            found = number
            break
    assert found == ends_after


@pytest.mark.slow
def test_any_watcher_may_end_a_run_at_any_step(sets, tmp_path):
    def enough(event):
        return isinstance(event, train.Stepped) and np.less_equal(3, event.step)  # NumPy's True is one, too

    state, history = run(sets, watch=[enough], checkpoint_dir=tmp_path)
    assert 3 <= int(state.step) == len(history.loss) < STEPS
    on, whole = run(sets, checkpoint_dir=tmp_path)  # nothing is lost: the run goes on from there
    undisturbed, expected = run(sets)
    jax.tree.map(np.testing.assert_array_equal, numbers(on), numbers(undisturbed))
    jax.tree.map(np.testing.assert_array_equal, without_times(whole), without_times(expected))


@pytest.mark.parametrize("via", ["vmap", "map", "loop"])
def test_members_of_a_population_are_watched_and_ended_one_by_one(sets, tmp_path, via):
    model, tx = models.mlp(widths=(8,)), optim.momentum(optim.cosine_decay(0.03, 20))
    seen, path = {0: [], 1: [], 2: []}, tmp_path / "lines.jsonl"

    def note(event):  # the state is good until the next step, which reuses it
        if isinstance(event, train.Evaluated):
            seen[event.member].append(int(event.state.step))

    def second_has_enough(event):
        return isinstance(event, train.Evaluated) and event.member == 1 and event.step == 10

    found = train.population(
        model,
        tx,
        sets[0],
        keys=jax.random.split(KEY, 3),
        steps=20,
        batch_size=60,
        eval_set=sets[1],
        eval_every=5,
        watch=[note, train.JsonLines(path), second_has_enough],
        via=via,
        progress=False,
    )
    assert [len(history.loss) for history in found.histories] == [20, 10, 20]
    assert found.state.step.tolist() == [20, 10, 20]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for member, history in enumerate(found.histories):
        mine = [line for line in lines if line["member"] == member and line["event"] == "step"]
        np.testing.assert_array_equal([line["loss"] for line in mine], history.loss)
        rates = 0.015 * (1 + np.cos(np.pi * np.arange(len(mine)) / 20))
        np.testing.assert_allclose([line["learning_rate"] for line in mine], rates, rtol=1e-5)
        assert seen[member] == history.eval_step.tolist()


def test_print_evaluations(sets, capsys):
    run(sets, steps=4, watch=[train.print_evaluations])
    assert capsys.readouterr().out.startswith("step 4: loss ")
