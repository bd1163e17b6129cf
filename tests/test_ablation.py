"""The form of the experiments: runs are made once, in any number of processes, and judged by one rule."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import optax
import pytest
from scipy import stats

from experiments.ablation import (
    Ablation,
    BareSettings,
    Bars,
    Case,
    Comparison,
    Curves,
    Heat,
    Measured,
    Paper,
    Results,
    Row,
    Settings,
    summary,
    train_and_test,
)
from experiments.ablation.rows import best_of
from experiments.ablation.settings import shrunk
from experiments.ablation.store import Store, results_of, slug
from experiments.ablation.sweep import Sweep
from experiments.ablation.verdict import interval, judge
from experiments.paper import number
from jaxdl import data, models, optim

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
CHILD = Path(__file__).parent / "children" / "ablate.py"


def results(**values: dict[str, list[float]]) -> Results:
    """Results with the metric "error" of the cases, for the seeds 0, 1, ..."""
    rows = [Row(case, seed, "error", v) for case, found in values.items() for seed, v in enumerate(found)]
    return Results(tuple(values), rows)


def verdict_on(a, b, **changes):
    """Whether `a` has less error than `b`."""
    return judge(Comparison("a is better", "error", better="a", worse="b", **changes), results(a=a, b=b))


class TestVerdict:
    def test_interval_is_that_of_a_paired_t_test(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(10, 1, 6), rng.normal(11, 1, 6)
        found = verdict_on(a, b)
        expected = stats.ttest_rel(b, a).confidence_interval(0.95)
        np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-12)
        assert found.mean == pytest.approx(np.mean(b - a))
        assert interval([3.0])[0] == 3.0
        assert np.isnan(interval([3.0])[1:]).all()

    @pytest.mark.parametrize(
        ("a", "b", "word"),
        [
            ([10, 10.1, 9.9], [12, 12.2, 11.9], "direction only"),
            ([12, 12.2, 11.9], [10, 10.1, 9.9], "contradicted"),
            ([10, 12, 11], [11, 10.5, 11.5], "not decided"),
            ([10], [20], "not decided"),
            ([], [], "not decided"),
            ([10, 10], [10, 10], "not decided"),
        ],
    )
    def test_words(self, a, b, word):
        assert verdict_on(a, b).word == word
        if word == "contradicted":  # with more of it being better it is the other way round
            assert verdict_on(a, b, more=True).word == "direction only"

    def test_reproduced_only_if_the_papers_size_is_in_the_interval(self):
        a, b = [10, 10.1, 9.9, 10], [12, 12.2, 11.9, 12.1]
        assert verdict_on(a, b, paper=Paper(2.05, None, "table")).word == "reproduced"
        assert verdict_on(a, b, paper=Paper(5.0, None, "table")).word == "direction only"
        assert verdict_on(b, a, paper=Paper(-2.05, None, "table")).word == "contradicted"

    def test_only_the_papers_variant_reproduces(self):
        found = judge(
            Comparison("a is better", "error", better="a", worse="b", paper=Paper(2.05, None, "table")),
            results(a=[10, 10.1, 9.9, 10], b=[12, 12.2, 11.9, 12.1]),
            "default",
        )
        assert found.word == "direction only"

    def test_runs_without_noise_have_no_interval(self):
        found = verdict_on([10, 10, 10], [26.3, 26.3, 26.3], ratio=True)
        assert found.is_exact
        assert "the same from every seed" in found.sentence()

    def test_ratio(self):
        found = verdict_on([10, 20, 30], [20, 38, 63], ratio=True, paper=Paper(2.0, None, "figure"))
        logs = np.log([2, 1.9, 2.1])
        half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / np.sqrt(3)
        assert found.mean == pytest.approx(np.exp(logs.mean()))
        assert found.low == pytest.approx(np.exp(logs.mean() - half))
        assert found.word == "reproduced"
        assert "ratio of error 2 times" in found.sentence()

    def test_only_seeds_that_both_finished_are_compared(self):
        found = verdict_on([10, np.nan, 10.2, 9.9], [12, 50, 12.1, 11.8])
        assert found.pairs == 3
        assert found.mean == pytest.approx(np.mean([2, 1.9, 1.9]))
        assert "3 of 4 seeds" in found.sentence()

    def test_sentence_says_the_numbers(self):
        paper = Paper(1.4, None, "AlexNet")
        text = verdict_on([10, 10.1, 9.9], [12, 12.2, 11.9], paper=paper).sentence()
        assert "*direction only*" in text
        assert "difference of error 2.03" in text
        assert "the paper: 1.4" in text


def test_papers_numbers_are_the_shared_ones():
    ours = json.loads((Path(summary.__file__).parents[1] / "paper_targets.json").read_text())
    path = SHARED / "reference" / "paper_targets.json"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    assert ours == json.loads(path.read_text())


def test_number_finds_one_entry_or_says_why_not():
    assert number(paper="AlexNet, 2012", table="Fig. 1").value == 6.0
    assert number(paper="Deep Residual", model="ResNet-20", metric="test_error_pct", dataset="CIFAR-10").value == 8.75
    with pytest.raises(ValueError, match=r"one entry of paper_targets.json must fit .* got 0"):
        number(paper="no such paper")
    with pytest.raises(ValueError, match=r"got \d+: "):
        number(paper="AlexNet, 2012")


def test_best_of_leaves_out_cases_with_unfinished_runs():
    found = results(slow=[30.0, 40.0], fast=[20.0, 20.0], lucky=[1.0, np.nan])
    assert best_of(found, {"g": ["slow", "fast", "lucky"], "none": ["lucky"]}, "error") == {"g": "fast"}


def test_shrunk_images_are_means_of_squares():
    train_set, _ = data.load("fashion_mini")
    small = shrunk(train_set[:5], 14)
    blocks = train_set.images[:5].astype(float)
    means = (blocks[:, ::2, ::2] + blocks[:, 1::2, ::2] + blocks[:, ::2, 1::2] + blocks[:, 1::2, 1::2]) / 4
    np.testing.assert_array_equal(small.images, np.floor(means + 0.5))
    assert small.image_shape == (14, 14, 1)
    with pytest.raises(ValueError, match="--pixels must divide the images' side, 28 pixels, got pixels=15"):
        shrunk(train_set, 15)


def test_cases_have_different_files():
    names = ["ReLU, rate 0.1", "ReLU rate 0.1", "relu, rate 0.1", "x" * 200, "x" * 201]
    assert len({slug(name) for name in names}) == len(names)
    assert max(map(len, map(slug, names))) < 80


def settings(tmp_path, **changes):
    start = Settings(data="fashion_mini", seeds=2, steps=6, batch_size=16, train_size=64, test_size=50, out=tmp_path)
    return dataclasses.replace(start, **changes)


def cases(settings, train_set):
    """Two small nets."""
    return [
        Case(f"width {width}", models.mlp(widths=(width,)), optim.momentum(0.03), facts={"width": width, "rate": 0.03})
        for width in (4, 8)
    ]


def ablation(**changes):
    start = Ablation(
        "small",
        "Wider is better.\n\nClaim: wider is better.\n",
        {"default": Settings(), "smoke": Settings()},
        cases,
        comparisons=[Comparison("wider is better", "test_error", better="width 8", worse="width 4")],
        table=("test_error", "train_loss"),
        figures=(Bars("test_error"), Curves("train_loss"), Heat("test_error", "width", "rate")),
    )
    return dataclasses.replace(start, **changes)


def test_a_sweep_leaves_rows_report_and_picture(tmp_path, capsys):
    sweep = ablation().run(settings(tmp_path), "default")
    content = json.loads((sweep.folder / "result.json").read_text(), parse_constant=pytest.fail)
    assert content["columns"] == ["case", "seed", "metric", "value"]
    assert {(case, seed) for case, seed, *_ in content["rows"]} == {(f"width {w}", s) for w in (4, 8) for s in (0, 1)}
    assert content["planned"] == content["finished"] == 4
    errors = {(c, s): v for c, s, metric, v in content["rows"] if metric == "test_error"}
    assert all(float(50 * v / 100).is_integer() for v in errors.values())  # of 50 images
    report_ = (sweep.folder / "report.md").read_text()
    mean = np.mean([errors["width 4", 0], errors["width 4", 1]])
    assert f"| width 4 | {mean:.2f} ± " in report_
    (verdict,) = content["verdicts"]
    differences = [errors["width 4", s] - errors["width 8", s] for s in (0, 1)]
    assert verdict["mean"] == pytest.approx(np.mean(differences), abs=1e-4)
    assert verdict["sentence"] in report_
    assert matplotlib.image.imread(sweep.folder / "figures.png").std() > 0.05
    curve = next(c for c in content["curves"] if c["name"] == "test_error")
    assert curve["y"][-1] == pytest.approx(errors[curve["case"], curve["seed"]])
    again = summary.results_from(content)
    assert summary.table(("test_error",), sweep.cases, again) == summary.table(
        ("test_error",), sweep.cases, ablation().results(sweep)
    )
    shown = capsys.readouterr()
    assert "width 8, seed 1: test error" in shown.out
    assert "24/24" in shown.err


def test_finished_runs_are_not_made_again_unless_something_has_changed(tmp_path):
    log = str(tmp_path / "log")

    def counted(work):
        with open(log, "a") as file:
            file.write(f"{work.case.name}:{work.seed} ")
        return Measured({"test_error": float(work.seed)})

    def made():  # since the last call
        text = Path(log).read_text()
        Path(log).write_text("")
        return text.strip().replace("width ", "")

    counting = ablation(measure=counted, figures=())
    counting.run(settings(tmp_path), "default")
    assert made() == "4:0 8:0 4:1 8:1"
    counting.run(settings(tmp_path, seeds=3), "default")  # one more seed
    assert made() == "4:2 8:2"

    def other_rate(settings, train_set):
        first, second = cases(settings, train_set)
        return [first, dataclasses.replace(second, tx=optim.momentum(0.1))]

    dataclasses.replace(counting, cases=other_rate).run(settings(tmp_path, seeds=3), "default")
    assert made() == "8:0 8:1 8:2"
    counting.run(settings(tmp_path, steps=7), "default")  # another folder
    assert made() == "4:0 8:0 4:1 8:1"


def test_diverged_runs_do_not_count(tmp_path, capsys):
    def wild(settings, train_set):
        return [*cases(settings, train_set), Case("wild", models.mlp(widths=(4,)), optim.sgd(1e30))]

    sweep = ablation(cases=wild).run(settings(tmp_path), "default")
    content = json.loads((sweep.folder / "result.json").read_text())
    assert [(entry["case"], entry["seed"]) for entry in content["diverged"]] == [("wild", 0), ("wild", 1)]
    assert "wild, seed 0: diverged after" in capsys.readouterr().out
    assert "| wild | diverged | - |" in (sweep.folder / "report.md").read_text()


def test_a_damaged_file_is_made_again(tmp_path):
    store = Store(tmp_path)
    assert store.load("a", 0, "f") is None
    path = tmp_path / "done" / f"{slug('a')}-0.json"
    for text in ("", "{", "[]", '{"case": "a"}'):
        path.write_text(text)
        assert store.load("a", 0, "f") is None


def test_hyperparams_are_set_and_share_a_program(tmp_path):
    tx = optax.inject_hyperparams(optim.momentum)(learning_rate=0.03)
    model = models.mlp(widths=(4,))

    def rates(settings, train_set):
        return [Case(f"rate {r:g}", model, tx, hyperparams={"learning_rate": r}) for r in (0.01, 0.1)]

    def alone(settings, train_set):
        return [Case(f"rate {r:g}", model, optim.momentum(r)) for r in (0.01, 0.1)]

    found = []
    for number_, make in enumerate((rates, alone)):
        sweep = ablation(cases=make, figures=()).run(settings(tmp_path / str(number_)), "default")
        found.append([run.metrics["train_loss"] for run in sweep.finished()])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert len(set(found[0])) == 4


def test_fingerprints_see_the_measure_but_not_the_form(tmp_path, monkeypatch):
    """A changed measure is another run; a changed method of the form's settings is not."""

    def first(work):
        return train_and_test(work).add({"one": 1.0})

    def second(work):
        return train_and_test(work).add({"one": 2.0})

    class Mine(Settings):
        pass

    def typed(work):
        assert isinstance(work.settings, Mine)
        return train_and_test(work)

    def prints(measure):
        return Sweep(ablation(measure=measure), settings(tmp_path), "default")._fingerprints

    before = {measure: prints(measure) for measure in (first, second, train_and_test, typed)}
    assert len({tuple(found.values()) for found in before.values()}) == 4

    def title(self):
        return "another"

    title.__module__, title.__qualname__ = Settings.title.__module__, Settings.title.__qualname__
    monkeypatch.setattr(Settings, "title", title)
    assert {measure: prints(measure) for measure in before} == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "0"], "seeds must be an integer >= 1"),
        (["--data", "imagenet"], "--data must be one of"),
        (["--held-out", "1.5"], "held_out must be"),
        (["--variant", "huge"], "invalid choice: 'huge'"),
        (["--speed", "9"], "--speed"),
    ],
)
def test_wrong_flags(flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        ablation().main(flags)
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_wrong_cases(tmp_path):
    def twice(settings, train_set):
        return 2 * cases(settings, train_set)

    with pytest.raises(ValueError, match="cases must have different names, got width 4, width 8 twice"):
        ablation(cases=twice).run(settings(tmp_path), "default")
    with pytest.raises(ValueError, match="model and tx belong together"):
        Case("half", model=models.mlp())
    with pytest.raises(ValueError, match="variants must have 'smoke'"):
        ablation(variants={"default": Settings()})


def test_only_complete_results_are_published(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    sweep = Sweep(ablation(), settings(tmp_path), "default")
    sweep.run(until=time.monotonic() + 0.001)
    assert len(sweep.finished()) < 4
    if sweep.finished():
        with pytest.raises(ValueError, match="only complete results are published"):
            summary.publish(ablation(), sweep)
    sweep.run()
    assert summary.publish(ablation(), sweep) == tmp_path / "results" / "small.json"


def test_held_out_images_are_not_trained_on(tmp_path):
    train_set, test_set = settings(tmp_path, held_out=0.25).sets()
    whole, _ = settings(tmp_path).sets()
    np.testing.assert_array_equal(np.concatenate([train_set.images, test_set.images]), whole.images)
    assert len(test_set) == 16


def child(out, *more):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(out), *more], stdout=subprocess.PIPE, text=True, env=environment
    )


def done_in(out):
    return sorted(out.glob("small/default-*/done/*.json"))


@pytest.mark.slow
def test_killed_and_started_again_by_two_processes_it_ends_as_if_undisturbed(tmp_path):
    whole = child(tmp_path / "whole")
    whole.communicate(timeout=300)
    assert whole.returncode == 0
    first = child(tmp_path / "killed")
    while len(done_in(tmp_path / "killed")) < 2:
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {path.name: path.stat().st_mtime_ns for path in done_in(tmp_path / "killed")}
    assert 2 <= len(before) < 8
    pair = [child(tmp_path / "killed") for _ in range(2)]
    texts = [process.communicate(timeout=300)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    made = [line for text in texts for line in text.splitlines() if ", seed " in line and " s)" in line]
    assert len(made) == len({line.split(":")[0] for line in made}) == 8 - len(before)  # each by one process
    after = {path.name: path.stat().st_mtime_ns for path in done_in(tmp_path / "killed")}
    assert {name: after[name] for name in before} == before
    for ours, theirs in zip(done_in(tmp_path / "killed"), done_in(tmp_path / "whole"), strict=True):
        a, b = (json.loads(path.read_text()) for path in (ours, theirs))
        assert a["fingerprint"] == b["fingerprint"]
        for metric in ("test_error", "test_loss", "train_loss"):
            assert a["metrics"][metric] == b["metrics"][metric]
    # Whichever of the two ended last wrote the complete result.
    (result,) = (tmp_path / "killed").glob("small/default-*/result.json")
    assert json.loads(result.read_text())["finished"] == 8


@pytest.mark.slow
def test_a_run_that_was_killed_continues_in_its_middle(tmp_path):
    """With checkpoints: the second process starts after the first one's updates, and ends with the same numbers."""
    whole = child(tmp_path / "whole", "checkpoints")
    whole.communicate(timeout=300)
    cut = child(tmp_path / "cut", "checkpoints")
    while (
        not list((tmp_path / "cut").glob("small/default-*/checkpoints/*/*/commit_success.txt")) and cut.poll() is None
    ):
        time.sleep(0.005)
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    assert cut.returncode == -signal.SIGKILL
    again = child(tmp_path / "cut", "checkpoints")
    again.communicate(timeout=300)
    assert again.returncode == 0
    for ours, theirs in zip(done_in(tmp_path / "cut"), done_in(tmp_path / "whole"), strict=True):
        a, b = (json.loads(path.read_text()) for path in (ours, theirs))
        assert a["metrics"]["test_loss"] == b["metrics"]["test_loss"]
    assert not list((tmp_path / "cut").glob("small/default-*/checkpoints/*"))


def test_table_of_results_from_rows():
    runs_case = Results(
        ("a", "b", "c"),
        [Row("a", 0, "error", 1.0), Row("a", 1, "error", 3.0), *(Row(case, 0, "error", np.nan) for case in "bc")],
        diverged={("b", 0): "diverged after 3 updates"},
    )
    header, rows = summary.table(("error",), [Case("a", paper={"error": Paper(2.5, 0.1, "t")})], runs_case)
    assert header == ["case", "error", "paper's error"]
    assert rows == [["a", "2.00 ± 1.41", "2.5 ± 0.1"], ["b", "diverged", "-"], ["c", "-", "-"]]


def test_results_are_in_the_order_of_cases_and_seeds():
    from experiments.ablation.store import Finished

    def run(case, seed):
        return Finished(case, seed, "f", {"error": 1.0}, {"loss": [[1, 2], [3.0, None]]}, None, 1.0, {})

    found = results_of(["a", "b"], [run("b", 1), run("a", 1), run("b", 0), run("a", 0)])
    assert [(row.case, row.seed) for row in found.rows] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    x, y = found.curve("loss", "a")
    np.testing.assert_array_equal(x, [1, 2])
    np.testing.assert_array_equal(y, [[3, np.nan]] * 2)


def test_without_data_and_with_a_picture_of_its_own(tmp_path):
    def picture(sweep, results):
        (sweep.folder / "own.png").write_bytes(b"")
        return ["own.png"]

    one = ablation(
        cases=lambda settings, nothing: [Case("only")],
        measure=lambda work: Measured({"test_error": 2.0 + 0 * work.settings.steps}),
        comparisons=(),
        figures=(),
        picture=picture,
    )
    sweep = one.run(BareSettings(seeds=2, steps=3, out=tmp_path), "default")
    text = (sweep.folder / "report.md").read_text()
    assert "![own](own.png)" in text
    assert "## at most 3 steps, 2 seeds" in text
    assert "| only | 2.00 |" in text


def test_measure_takes_down_what_the_history_says(tmp_path):
    seen = []

    def measure(work):
        seen.append(train_and_test(work))
        return seen[-1]

    ablation(measure=measure, figures=()).run(settings(tmp_path, seeds=1, steps=20), "default")
    for found in seen:
        history = found.history
        assert found.metrics["test_error"] == 100 * history.eval_error[-1]
        assert found.metrics["train_loss"] == pytest.approx(history.loss[-2:].mean())
        x, y = found.curves["train_loss"]
        np.testing.assert_allclose(y, history.loss)
        np.testing.assert_array_equal(x, np.arange(1, 21))


def test_a_batch_norm_net_can_be_measured(tmp_path):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = models.layers.BatchNorm()(nn.Dense(4)(jnp.reshape(x, (len(x), -1))), train=train)
            return nn.Dense(10)(nn.relu(x))

    def one(settings, train_set):
        return [Case("net", Net(), optim.sgd(0.1))]

    sweep = ablation(cases=one, comparisons=()).run(settings(tmp_path, seeds=1), "default")
    assert len(sweep.finished()) == 1


def test_the_documents_example(tmp_path):
    """docs/ablations.md: at most 40 lines, and the file in it runs as it says."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "ablations.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 40
    script = tmp_path / "lrn_against_bn.py"
    script.write_text(code)
    command = [sys.executable, str(script), "--variant", "smoke", "--seeds", "2", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("lrn_against_bn/smoke-*/result.json")
    content = json.loads(result.read_text())
    assert content["finished"] == 6
    assert [verdict["better"] for verdict in content["verdicts"]] == ["BN", "BN"]
    help_ = subprocess.run([*command, "--help"], capture_output=True, text=True, env=environment, timeout=300)
    assert "usage: python lrn_against_bn.py" in help_.stdout
