"""Every experiment runs in its smoke variant, leaves what it promises, and refuses what it cannot run."""

import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from experiments import deep_ensembles, landscapes, optimizers, snapshot_ensembles, transfer, weight_averaging
from experiments.__main__ import claims
from experiments.ablation import Results, Row, summary
from experiments.ablation.case import Case
from jaxdl import train
from jaxdl.report import running_mean

RESULTS = Path(__file__).parents[1] / "experiments" / "results"


def run(module, *flags, out):
    module.ABLATION.main(["--out", str(out), *flags])


def only_folder(out: Path, name: str) -> Path:
    (folder,) = (out / name).iterdir()
    return folder


def content_of(out: Path, name: str) -> dict:
    return json.loads((only_folder(out, name) / "result.json").read_text(), parse_constant=pytest.fail)


def values_of(content: dict) -> dict:
    return {(case, seed, metric): value for case, seed, metric, value in content["rows"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", claims())
def test_smoke_variant(name, tmp_path):
    module = importlib.import_module(f"experiments.{name}")
    smoke = module.ABLATION.variants["smoke"]
    needed = getattr(smoke, "weights", None)
    if needed and not needed.is_file():
        pytest.skip(f"needs the pretrained weights {needed}")
    run(module, "--variant", "smoke", out=tmp_path)
    result = content_of(tmp_path, name)
    assert (result["experiment"], result["variant"]) == (name, "smoke")
    assert result["finished"] == result["planned"] > 0
    assert result["environment"]["versions"]["jax"]
    assert {**result["settings"], "out": "runs"} == json.loads(json.dumps(dataclasses.asdict(smoke), default=str))
    text = (only_folder(tmp_path, name) / "report.md").read_text()
    for picture in only_folder(tmp_path, name).glob("*.png"):
        assert f"({picture.name})" in text
        assert matplotlib.image.imread(picture).std() > 0.05
    assert all(f"| {case} |" in text for case in result["listed"])


@pytest.mark.parametrize("name", claims())
def test_docstring_has_claim_paper_and_command(name):
    doc = importlib.import_module(f"experiments.{name}").__doc__
    for part in ("Claim: ", "Paper", f"Command: python -m experiments.{name}\n"):
        assert part in doc


def test_list_of_experiments():
    done = subprocess.run([sys.executable, "-m", "experiments"], capture_output=True, text=True, check=True)
    for name, claim in claims().items():
        assert f"experiments.{name}" in done.stdout
        assert claim.split()[0] in done.stdout
    assert set(claims()) >= {"optimizers"}


@pytest.mark.slow
def test_optimizers_report(tmp_path, capsys):
    options = {"variant": "smoke", "steps": 30, "eval-every": 15, "target-loss": 1.9, "seeds": 2}
    run(optimizers, *(word for name, value in options.items() for word in (f"--{name}", str(value))), out=tmp_path)
    result, folder = content_of(tmp_path, "optimizers"), only_folder(tmp_path, "optimizers")
    assert result["listed"] == list(optimizers.OPTIMIZERS)
    rows = values_of(result)
    curves = {(curve["case"], curve["seed"], curve["name"]): curve["y"] for curve in result["curves"]}
    for name in optimizers.OPTIMIZERS:  # the numbers, once more from the curves
        for seed in (0, 1):
            assert rows[name, seed, "test_error"] == pytest.approx(curves[name, seed, "test_error"][-1])
            loss = curves[name, seed, "train_loss"]
            assert len(loss) == 30
            means = [np.mean(loss[n - 20 : n]) for n in range(20, 31)]
            reached = rows[name, seed, "steps_to_target"]
            assert reached == next((n for n, mean in enumerate(means, 20) if mean <= 1.9), None)
            np.testing.assert_allclose(curves[name, seed, "smooth_loss"], running_mean(np.array(loss), 20), rtol=1e-4)
            assert rows[name, seed, "seconds"] > 0
    for best, kind in (
        ("best adaptive", optimizers.ADAPTIVE),
        ("best without adaptation", ("SGD", "momentum", "Nesterov")),
    ):
        means = [np.mean([rows[name, seed, "test_error"] for seed in (0, 1)]) for name in kind]
        assert np.mean([rows[best, seed, "test_error"] for seed in (0, 1)]) == pytest.approx(min(means))
    shown = capsys.readouterr()
    text = (folder / "report.md").read_text()
    for name in optimizers.OPTIMIZERS:
        assert f"| {name} |" in text
    assert "7.65 ± 0.14" in text
    assert str(folder) in shown.out.replace("\n", "")
    assert "360/360" in shown.err  # the progress bar, over all steps of all runs
    assert matplotlib.image.imread(folder / "figures.png").std() > 0.05


@pytest.mark.slow
def test_divergence_is_reported_and_the_rest_goes_on(tmp_path, capsys):
    run(optimizers, "--variant", "smoke", "--seeds", "1", "--rates.SGD", "1e30", out=tmp_path)
    result = content_of(tmp_path, "optimizers")
    assert [(entry["case"], entry["seed"]) for entry in result["diverged"]] == [("SGD", 0)]
    assert {case for case, _, metric, _ in result["rows"] if metric == "test_error"} >= set(optimizers.ADAPTIVE)
    assert ("SGD", 0, "test_error") not in values_of(result)
    assert "SGD, seed 0: diverged after" in capsys.readouterr().out
    assert "| SGD | diverged | - |" in (only_folder(tmp_path, "optimizers") / "report.md").read_text()


@pytest.mark.slow
def test_interruption_keeps_the_results_so_far(tmp_path, monkeypatch):
    real, calls = train.fit, []

    def fit(*args, **kwargs):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(train, "fit", fit)
    with pytest.raises(SystemExit) as ended:
        run(optimizers, "--variant", "smoke", out=tmp_path)
    assert ended.value.code == 130
    result = content_of(tmp_path, "optimizers")
    assert (result["finished"], result["planned"]) == (2, 12)
    assert {case for case, *_ in result["rows"]} >= {"SGD", "momentum"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "0"], "seeds must be an integer >= 1, got seeds=0; pass --seeds 1 or more"),
        (["--steps", "-5"], "steps must be an integer >= 1, got steps=-5"),
        (["--steps", "many"], "--steps"),
        (["--data", "imagenet"], "--data must be one of fashion_mini, cifar10,"),
        (["--rates.Adam", "-1"], "rates.Adam must be a finite number >= 0, got rates.Adam=-1.0"),
        (["--rates.Adam", "nan"], "rates.Adam must be a finite number >= 0"),
        (["--train-size", "0"], "train_size must be an integer >= 1"),
        (["--variant", "huge"], "invalid choice: 'huge' (choose from"),
        (["--speed", "9"], "--speed"),
    ],
)
def test_wrong_flags(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run(optimizers, *flags, out=tmp_path)
    assert caught.value.code == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in shown
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(SystemExit, match="error: load: 'cifar10' was not found in"):
        run(optimizers, "--data", "cifar10", "--data-dir", str(tmp_path / "none"), out=tmp_path)


@pytest.mark.slow
def test_rates_of_snapshot_ensembles_come_from_held_out_images(tmp_path):
    flags = ("--variant", "smoke", "--held-out", "0.2", "--rate-grid", "0.01", "1e-9")
    run(snapshot_ensembles, *flags, out=tmp_path)
    result = content_of(tmp_path, "snapshot_ensembles")
    rows = values_of(result)
    for kind, score in snapshot_ensembles.SCORES.items():
        for seed in (0, 1):
            errors = {rate: rows[f"{kind}, rate {rate:g}", seed, score] for rate in (0.01, 1e-9)}
            wrong = errors[0.01] / 100 * 26
            assert wrong == pytest.approx(round(wrong), abs=1e-4)  # of 26 images, not of 2,000
            assert rows[kind, seed, score] == errors[0.01]


@pytest.mark.slow
def test_rates_of_optimizers_are_the_best_of_their_grids(tmp_path, monkeypatch):
    monkeypatch.setattr(optimizers, "GRIDS", dict.fromkeys(optimizers.OPTIMIZERS, (1e-09, 0.01)))
    monkeypatch.setattr(optimizers, "OPTIMIZERS", {name: optimizers.OPTIMIZERS[name] for name in ("SGD", "Adam")})
    run(optimizers, "--variant", "rates", "--steps", "20", "--train-size", "250", "--seeds", "1", out=tmp_path)
    rows = values_of(content_of(tmp_path, "optimizers"))
    for name in ("SGD", "Adam"):
        assert rows[name, 0, "rate"] == 0.01
        assert rows[name, 0, "test_error"] == rows[f"{name}, rate 0.01", 0, "test_error"]
        wrong = rows[name, 0, "test_error"] / 100 * 50
        assert wrong == pytest.approx(round(wrong), abs=1e-4)  # of the 50 held-out images


def test_averages_are_compared_as_the_paper_does():
    """SGD with the statistics of its run, averages with those estimated again."""
    own, again = weight_averaging.OWN, weight_averaging.AGAIN
    rows = [
        Row("SGD, 1 budget", 0, f"SGD, 1 budget: {own}", 5.0),
        Row("SGD, 1 budget", 0, f"SGD, 1 budget: {again}", 6.0),
        Row("SWA, 1.5 budgets", 0, f"SWA, 1.25 budgets: {own}", 70.0),
        Row("SWA, 1.5 budgets", 0, f"SWA, 1.25 budgets: {again}", 4.0),
    ]
    found = weight_averaging.by_weights([], Results(("SGD, 1 budget", "SWA, 1.5 budgets"), rows))
    other = weight_averaging.OTHER
    expected = {
        "SGD, 1 budget": 5.0,
        f"SGD, 1 budget, {other}": 6.0,
        "SWA, 1.25 budgets": 4.0,
        f"SWA, 1.25 budgets, {other}": 70.0,
    }
    assert {case: found.values("test_error", case) for case in found.cases} == {c: {0: v} for c, v in expected.items()}
    assert found.listed == ("SGD, 1 budget", "SWA, 1.25 budgets")
    assert found.values(again, "SWA, 1.25 budgets") == {0: 4.0}


def test_transfer_compares_with_the_same_seeds_run_from_scratch():
    facts = {"data": "mnist", "size": 100}
    cases = [Case(f"mnist, 100 images, {m}", facts={**facts, "method": m}) for m in ("from scratch", "head only")]
    errors = {"from scratch": (40.0, 20.0), "head only": (10.0, 30.0)}
    rows = [Row(f"mnist, 100 images, {m}", s, "test_error", e) for m, of in errors.items() for s, e in enumerate(of)]
    found = transfer.by_method(cases, Results(tuple(case.name for case in cases), rows))
    assert found.values("share_of_scratch", "mnist, 100 images, head only") == {0: 0.25, 1: 1.5}
    assert found.values("head_only", "mnist, 100 images") == {0: 10.0, 1: 30.0}
    assert found.listed == ("mnist, 100 images",)


def test_landscapes_take_the_rate_that_solves_them_with_every_draw():
    from experiments.ablation import Curve

    steps = {0: [9.0, 5.0, np.nan], 1: [7.0, np.nan, 1.0], 2: [8.0, 5.0, 1.0]}
    curves = [Curve("SGD", seed, "ravine, steps", [0.1, 0.2, 0.3], y) for seed, y in steps.items()]
    rows = [Row("SGD", seed, "ravine, rates that solve it", 2) for seed in steps]
    found = landscapes.at_best_rates([], Results(("SGD",), rows, curves))
    assert found.values("ravine, steps", "SGD") == {0: 9.0, 1: 7.0, 2: 8.0}
    assert set(found.values("ravine, rate", "SGD").values()) == {0.1}
    assert not found.values("saddle, steps", "SGD")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_results_fit_the_experiments(path):
    """Variants and comparisons there are, and the verdicts are those of the rows."""
    content = json.loads(path.read_text())
    ablation = importlib.import_module(f"experiments.{content['experiment']}").ABLATION
    assert content["variant"] in ablation.variants
    found = summary.judged(ablation, summary.results_from(content), content["variant"])
    assert [entry["word"] for entry in content["verdicts"]] == [verdict.word for verdict in found]
    assert {entry["claim"] for entry in content["verdicts"]} == {verdict.claim for verdict in found}


@pytest.mark.slow
def test_optimizers_on_real_cifar10(tmp_path, real_data, cifar10):
    flags = ("--variant", "smoke", "--data", "cifar10", "--data-dir", str(real_data), "--seeds", "1")
    run(optimizers, *flags, out=tmp_path)
    assert content_of(tmp_path, "optimizers")["settings"]["data"] == "cifar10"


def test_medium_cnn_is_the_papers():
    """971,146 parameters on CIFAR-10 (its authors' notebook)."""
    model = deep_ensembles.SimpleCNN(deep_ensembles.ABLATION.variants["paper"].widths)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 971_146
