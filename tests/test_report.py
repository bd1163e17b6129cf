import dataclasses
import json
import math
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from jaxdl import report


def test_running_mean_equals_a_loop():
    values = np.random.default_rng(0).normal(size=50)
    expected = [values[max(0, i - 6) : i + 1].mean() for i in range(50)]
    np.testing.assert_allclose(report.running_mean(values, 7), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="window must be an integer >= 1, got window=0"):
        report.running_mean(values, 0)


def test_steps_to_reach():
    losses = np.array([5.0, 1.0, 5.0, 1.0, 1.0, 1.0])
    assert report.steps_to_reach(losses, 1.0, window=1) == 2
    assert report.steps_to_reach(losses, 1.0, window=3) == 6
    assert report.steps_to_reach(losses, 0.5, window=1) is None
    assert report.steps_to_reach(losses[:2], 9.0, window=3) is None  # too few for one mean


def test_mean_and_std():
    assert report.mean_and_std([1.0, 2.0, 6.0]) == pytest.approx((3, math.sqrt(7)))
    assert math.isnan(report.mean_and_std([1.0])[1])
    assert math.isnan(report.mean_and_std([])[0])


class Pair(NamedTuple):
    a: object
    b: object


@dataclasses.dataclass
class Thing:
    path: Path
    pair: Pair


def test_write_json(tmp_path):
    file = tmp_path / "result.json"
    array = np.array([[1, 2], [3, 4]])
    report.write_json(file, {"thing": Thing(Path("x/y"), Pair(array, jnp.float32(0.1))), 3: (math.nan, math.inf, None)})
    found = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert found == {"thing": {"path": "x/y", "pair": {"a": [[1, 2], [3, 4]], "b": 0.1}}, "3": [None, None, None]}
    with pytest.raises(ValueError, match="only what JSON can store"):
        report.write_json(file, {"no": object()})
    assert json.loads(file.read_text()) == found  # the failed write left the file as it was
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_new_run_directory_never_meets_another(tmp_path):
    folders = [report.new_run_directory(tmp_path / "runs", "x") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() and folder.parent == tmp_path / "runs/x" for folder in folders)


def test_environment_says_what_a_result_needs():
    found = report.environment()
    assert set(found["versions"]) >= {"jax", "jaxlib", "flax", "optax", "jaxdl"}
    for name in ("date", "command", "python", "processor", "cores", "device"):
        assert found[name], name


def test_print_table(capsys):
    report.print_table("title", ["rule", "error"], [["sgd", "1.0"], ["adam", "2.0"]])
    shown = capsys.readouterr().out
    for part in ("title", "rule", "sgd", "2.0"):
        assert part in shown


@pytest.mark.parametrize("log_y", [False, True])
def test_plot_curves(tmp_path, log_y):
    """Something is drawn, in as many colours as there are curves."""
    x = np.arange(1, 50)
    curves = {name: (x, np.stack([n / x, n / x + 0.1])) for n, name in enumerate(("a", "b", "c"), 1)}
    panel = report.Panel("loss", "updates", "nats", curves, ("b",), log_y, (None, 2.0))
    report.plot_curves(tmp_path / "curves.png", "title", [panel, panel])
    picture = matplotlib.image.imread(tmp_path / "curves.png")[..., :3]
    assert picture.shape[1] > 1000
    for colour in ("#1f77b4", "#ff7f0e", "#2ca02c"):
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert np.any(np.all(np.abs(picture - rgb) < 0.02, -1)), colour
