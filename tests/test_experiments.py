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

from experiments import cli, deep_ensembles, optimizers, snapshot_ensembles
from experiments.__main__ import claims
from jaxdl import train


def run(module, *flags, out):
    cli.run(module.main, module.VARIANTS, module.__doc__, ["--out", str(out), *flags])


def only_folder(out: Path, name: str) -> Path:
    (folder,) = (out / name).iterdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", claims())
def test_smoke_variant(name, tmp_path):
    module = importlib.import_module(f"experiments.{name}")
    needed = getattr(module.VARIANTS["smoke"], "weights", None)
    if needed and not needed.is_file():
        pytest.skip(f"needs the pretrained weights {needed}")
    run(module, "--variant", "smoke", out=tmp_path)
    result = json.loads((only_folder(tmp_path, name) / "result.json").read_text(), parse_constant=pytest.fail)
    assert result["experiment"] == name
    assert result["environment"]["versions"]["jax"]
    settings = json.loads(json.dumps(dataclasses.asdict(module.VARIANTS["smoke"]), default=str))
    assert {**result["settings"], "out": "runs"} == settings


@pytest.mark.parametrize("name", claims())
def test_docstring_has_claim_paper_and_command(name):
    doc = importlib.import_module(f"experiments.{name}").__doc__
    for part in ("Claim: ", "arXiv", f"Command: python -m experiments.{name}\n"):
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
    folder = only_folder(tmp_path, "optimizers")
    result = json.loads((folder / "result.json").read_text())
    assert [entry["optimizer"] for entry in result["summary"]] == list(optimizers.OPTIMIZERS)
    assert [(r["optimizer"], r["seed"]) for r in result["runs"]] == [
        (n, s) for n in optimizers.OPTIMIZERS for s in (0, 1)
    ]
    for entry in result["summary"]:  # the table's numbers, once more from the curves
        curves = [r["history"] for r in result["runs"] if r["optimizer"] == entry["optimizer"]]
        errors = [100 * c["eval_error"][-1] for c in curves]
        assert entry["test_error_percent"] == pytest.approx(np.mean(errors), rel=1e-5)
        assert entry["test_error_std"] == pytest.approx(np.std(errors, ddof=1), rel=1e-4, abs=1e-6)
        means = [[np.mean(c["loss"][n - 20 : n]) for n in range(20, 31)] for c in curves]
        assert entry["reached_target"] == sum(min(of_seed) <= 1.9 for of_seed in means)
        assert entry["seconds"] > 0
    shown = capsys.readouterr()
    text = (folder / "report.md").read_text()
    for name in optimizers.OPTIMIZERS:
        assert name in shown.out
        assert f"| {name} |" in text
    assert str(folder) in shown.out.replace("\n", "")
    assert "360/360" in shown.err  # the progress bar, over all steps of all runs
    assert matplotlib.image.imread(folder / "curves.png").std() > 0.05


@pytest.mark.slow
def test_divergence_is_reported_and_the_rest_goes_on(tmp_path, capsys):
    run(optimizers, "--variant", "smoke", "--seeds", "1", "--rates.SGD", "1e30", out=tmp_path)
    result = json.loads((only_folder(tmp_path, "optimizers") / "result.json").read_text())
    diverged = {r["optimizer"]: r["diverged"] for r in result["runs"]}
    assert "the loss is" in diverged.pop("SGD")
    assert set(diverged.values()) == {None}
    assert [(e["diverged"], e["test_error_percent"] is None) for e in result["summary"]] == [
        (1, True),
        *[(0, False)] * 5,
    ]
    assert "SGD, seed 0: fit: the loss is" in capsys.readouterr().out


@pytest.mark.slow
def test_interruption_keeps_the_results_so_far(tmp_path, monkeypatch):
    real, calls = train.population, []

    def population(*args, **kwargs):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(train, "population", population)
    with pytest.raises(SystemExit) as ended:
        run(optimizers, "--variant", "smoke", out=tmp_path)
    assert ended.value.code == 130
    result = json.loads((only_folder(tmp_path, "optimizers") / "result.json").read_text())
    assert [(r["optimizer"], r["seed"]) for r in result["runs"]] == [("SGD", 0), ("SGD", 1)]


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
    run(snapshot_ensembles, "--variant", "smoke", "--rate-grid", "0.01", "1e-9", out=tmp_path)
    result = json.loads((only_folder(tmp_path, "snapshot_ensembles") / "result.json").read_text())
    assert [(r["kind"], r["rate"], r["seed"]) for r in result["runs"]] == [
        (kind, rate, seed) for kind in snapshot_ensembles.KINDS for rate in (0.01, 1e-9) for seed in (0, 1)
    ]
    for run_ in result["runs"]:
        errors = np.array(run_["evaluation"]["ensemble"]["error"]) * (128 // 5)
        np.testing.assert_allclose(errors, np.round(errors), atol=1e-9)  # shares of 25 images, not of 2,000
    assert [row[-1] for row in result["table"]["rows"]] == ["0.01", "0.01"]


@pytest.mark.slow
def test_optimizers_on_real_cifar10(tmp_path, real_data, cifar10):
    run(
        optimizers,
        "--variant",
        "smoke",
        "--data",
        "cifar10",
        "--data-dir",
        str(real_data),
        "--seeds",
        "1",
        out=tmp_path,
    )
    assert (
        json.loads((only_folder(tmp_path, "optimizers") / "result.json").read_text())["settings"]["data"] == "cifar10"
    )


def test_medium_cnn_is_the_papers():
    """971,146 parameters on CIFAR-10 (its authors' notebook)."""
    model = deep_ensembles.SimpleCNN(deep_ensembles.VARIANTS["paper"].widths)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 971_146
