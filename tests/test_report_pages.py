"""What is made of the committed results: README.md, figures, the page with all curves; and the runner of all."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from experiments import all as runner
from experiments import page, report
from experiments.ablation import (
    Ablation,
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
)
from experiments.ablation.rows import Curve
from experiments.ablation.verdict import RULE
from experiments.published import ablations, command_of, published
from jaxdl import data, models, optim

ROOT = Path(__file__).parents[1]
STALE = "experiments/README.md or docs/experiments/ is not what the results give; run: python -m experiments.report"
SMALL = Settings(data="fashion_mini", seeds=3, steps=4, batch_size=8, train_size=32, test_size=20)
ERRORS = {"narrow | 4": [30.0, 31.0, 32.0], "wide <8>": [20.0, 22.0, 21.0], "wild": [float("nan")] * 3}


def cases(settings, train_set):
    """Three small nets, which are not trained: the measure knows what they give."""
    paper = {"error": Paper(25.0, 0.5, "table 1")}
    return [
        Case(name, models.mlp(widths=(4,)), optim.sgd(0.1), facts={"width": 4 + i}, paper=paper if i == 1 else {})
        for i, name in enumerate(ERRORS)
    ]


def measure(work):
    """Numbers and a curve that are made up; the third case diverges."""
    value = ERRORS[work.case.name][work.seed]
    x = np.arange(1, 6)
    curves = {"loss": (x, 10.0 / x + work.seed), "wave": (x, np.sin(x))}
    if np.isnan(value):
        return Measured({}, {"loss": (x[:2], x[:2] * 1e3)}, "diverged after 2 updates")
    return Measured({"error": value}, curves)


def ablation(name, **changes):
    start = Ablation(
        name,
        "Wider is better.\n\nClaim: it is.\n\nPaper: A. Author, On Width, 2020.\n\nCommand: python -m experiments.it\n",
        {"default": SMALL, "smoke": SMALL, "paper": dataclasses.replace(SMALL, steps=5)},
        cases,
        comparisons=[
            Comparison("wider is better", "error", better="wide <8>", worse="narrow | 4", paper=Paper(9.0, None, "t")),
            Comparison("huge is best", "error", better="huge", worse="wide <8>"),
        ],
        measure=measure,
        table=("error",),
        figures=(Bars("error"), Curves("loss", y_label="loss (nats)", log_y=True)),
    )
    return dataclasses.replace(start, **changes)


@pytest.fixture
def results_folder(tmp_path, monkeypatch):
    """An empty folder in the place of experiments/results/."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(summary, "RESULTS", folder)
    return folder


KNOWN = {"one": ablation("one"), "two": ablation("two", figures=(), comparisons=())}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with results: of one experiment two variants; and a file in an older form."""
    folder, runs = (tmp_path_factory.mktemp(name) for name in ("made", "runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "RESULTS", folder)
        for name, variant, changes in (("two", "default", {}), ("one", "paper", {}), ("one", "default", {"seeds": 2})):
            settings = dataclasses.replace(KNOWN[name].variants[variant], out=runs, **changes)
            summary.publish(KNOWN[name], KNOWN[name].run(settings, variant))
    (folder / "older.json").write_text('{"experiment": "older", "table": {}}')
    return folder


@pytest.fixture
def known(made, results_folder):
    """The experiments that have results; a copy of them is in the place of experiments/results/."""
    shutil.copytree(made, results_folder, dirs_exist_ok=True)
    return KNOWN


def test_committed_readme_and_figures_are_those_of_the_results():
    found = published()
    if not found:
        pytest.skip("no result of the form is committed yet")
    assert report.README.read_text() == report.text(found), STALE
    assert {path.stem for path in report.FIGURES.glob("*.png")} == report.figure_names(found), STALE


def test_report_says_all(known, tmp_path):
    found = published(known=known)
    assert [one.key for one in found] == ["one", "one_paper", "two"]
    text = report.text(found)
    assert text.count(RULE) == 1
    assert re.findall("^##+ .*", text, re.MULTILINE) == [
        "## Verdicts",
        "## one",
        "### one, variant paper",
        "## two",
    ]
    table = [line for line in text.splitlines() if line.startswith("| [Wider is better](#one)")]
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", table[1])]
    assert cells[2:7] == [
        "9",
        "difference of error 10 (7.52 to 12.5)",
        r"wide <8> 21.00 ± 1.00; narrow \| 4 31.00 ± 1.00",
        "3",
        "reproduced",
    ]
    assert cells[-2] == "`python -m experiments.one --variant paper`"
    assert "`python -m experiments.one --seeds 2`" in table[0]
    assert cells[-3] == found[1].content["commits"][0][:7] + (
        "+changes" if "+" in found[1].content["commits"][0] else ""
    )
    assert text.count("*Wider is better.*\n\nClaim: it is.\n\nPaper: A. Author, On Width, 2020.") == 2
    assert "Command:" not in text
    assert "| wide <8> | 21.00 ± 1.41 | 25 ± 0.5 |" in text  # of two seeds
    assert "- " + found[1].verdicts()[0].sentence().replace("wider", "Wider") in text
    assert "- Huge is best: no verdict, as there is no huge." in text
    assert "- Diverged: wild (2 of 2 runs)." in text
    assert "![one_paper](../docs/experiments/one_paper.png)" in text
    assert "[result](results/two.json)" in text
    assert "two.png" not in text
    assert "older" not in text
    for version in ("jax", "numpy"):
        assert f"{version} {found[0].content['environment']['versions'][version]}" in text


def test_figures_are_drawn_and_old_ones_removed(known, tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "gone.png").write_bytes(b"")
    report.draw_figures(published(known=known), folder)
    assert {path.stem for path in folder.iterdir()} == {"one", "one_paper"}
    assert matplotlib.image.imread(folder / "one.png").std() > 0.05


def test_maps_of_two_facts_can_be_drawn_from_files(results_folder, tmp_path):
    def with_pairs(settings, train_set):
        made = cases(settings, train_set)
        return [dataclasses.replace(case, facts={**case.facts, "pair": (1, 2)}) for case in made]

    one = ablation("one", cases=with_pairs, figures=(Heat("error", "width", "pair"),))
    summary.publish(one, one.run(dataclasses.replace(SMALL, out=tmp_path / "runs"), "default"))
    report.draw_figures(published(known={"one": one}), tmp_path / "figures")
    assert (tmp_path / "figures" / "one.png").is_file()


def test_results_of_nothing_are_refused(known):
    with pytest.raises(ValueError, match=r"one.json is of the experiment 'one', which there is not; .* \['two'\]"):
        published(known={"two": known["two"]})
    without = dataclasses.replace(known["one"], variants={"default": SMALL, "smoke": SMALL})
    with pytest.raises(
        ValueError, match=r"is of the variant 'paper', which one does not have; .* \['default', 'smoke'\]"
    ):
        published(known={**known, "one": without})


def test_no_results_make_a_short_readme(results_folder):
    assert published() == []
    assert "## Verdicts" in report.text([])


@dataclasses.dataclass(frozen=True)
class Nested(Settings):
    """Settings with what flags can change."""

    tune: bool = False
    quick: bool = True
    rates: dict = dataclasses.field(default_factory=lambda: {"sgd": 0.1, "adam": 1 / 3})
    widths: tuple = (1, 2)
    weights: Path = Path("here")


def test_command_names_the_settings_that_were_not_the_variants(known):
    theirs = Nested(tune=True, quick=False, rates={"sgd": 0.2, "adam": 1 / 3}, widths=(3, 4), out=Path("x"), pixels=14)
    theirs = dataclasses.replace(theirs, weights=Path("there"), data_dir=Path("elsewhere"))
    one = next(one for one in published(known=known) if one.key == "one")
    nested = dataclasses.replace(one.ablation, variants={"default": Nested(), "smoke": Nested()})
    stored = json.loads(json.dumps(dataclasses.asdict(theirs), default=str))
    stored["rates"]["adam"] = 0.333333  # six digits are kept
    changed = one._replace(ablation=nested, content={**one.content, "settings": stored})
    assert command_of(changed) == "python -m experiments.one --pixels 14 --tune --no-quick --rates.sgd 0.2 --widths 3 4"


def test_all_experiments_of_the_form_are_found():
    found = ablations()
    assert "alexnet_activations" in found
    assert all(name == one.name for name, one in found.items())


def test_mean_curves_are_of_runs_that_finished_at_the_same_points():
    curves = [
        Curve("a", 0, "loss", [2, 4, 6], [2.0, 4.0, 6.0]),
        Curve("a", 1, "loss", [1, 3, 5], [10.0, 30.0, 50.0]),
        Curve("a", 2, "loss", [1], [1e9]),
    ]
    found = Results(("a",), [Row("a", 0, "error", 1.0)], curves, {("a", 2): "diverged"})
    x, y = found.curve("loss", "a")
    np.testing.assert_array_equal(x, [1, 3, 5])
    np.testing.assert_array_equal(y, [[2, 3, 5], [10, 30, 50]])
    assert Results(("a",), [], curves[2:], {("a", 2): "diverged"}).curve("loss", "a")[1] == 1e9


class TestAll:
    def run(self, known, tmp_path, *flags):
        runner.main(["--out", str(tmp_path / "all"), *flags], lambda: known)

    def test_cheapest_first(self, known, results_folder):
        for name, minutes in (("one", 9.0), ("two", 1.0)):
            path = results_folder / f"{name}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "minutes": minutes}))
        new = {"new": ablation("new"), **known}
        assert runner.cheapest_first(new, "default") == ["two", "one", "new"]
        assert runner.cheapest_first(new, "paper") == ["one", "new", "two"]
        assert runner.cheapest_first(new, "rates") == []

    def test_goes_on_after_a_failure_and_resumes(self, results_folder, tmp_path, capsys):
        def failing(work):
            if work.seed == 1:
                raise RuntimeError("out\nof luck")
            return measure(work)

        def absent(settings, train_set):
            raise data.DatasetNotFoundError("no images")

        known = {"a": ablation("a", measure=failing), "b": ablation("b"), "c": ablation("c", cases=absent)}
        with pytest.raises(SystemExit) as ended:
            self.run(known, tmp_path, "--publish")
        assert ended.value.code == 1
        shown = capsys.readouterr()
        assert re.search(
            r"a: 3 of 9 runs finished, 6 left \(about 0 minutes\); failed: RuntimeError: out of luck", shown.out
        )
        assert "b: 9 of 9 runs finished\n" in shown.out
        assert re.search(r"c: failed: \S+DatasetNotFoundError: no images\n", shown.out)
        assert [path.name for path in results_folder.iterdir()] == ["b.json"]
        known = {"a": ablation("a", measure=failing)}
        with pytest.raises(SystemExit):
            self.run(known, tmp_path)
        assert "3 of 9 runs are in" in capsys.readouterr().out

    def test_no_run_starts_after_the_time(self, known, tmp_path, capsys):
        self.run(known, tmp_path, "--minutes", "0", "--only", "two", "one")
        assert capsys.readouterr().out.endswith(
            "  two: 0 of 9 runs finished, 9 left\n  one: 0 of 9 runs finished, 9 left\n"
        )

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--only", "three"], "three is not an experiment of the form; there are "),
            (["--variant", "rates", "--only", "one"], "one has no variant 'rates'; there are none"),
            (["--minutes", "soon"], "invalid float value: 'soon'"),
        ],
    )
    def test_wrong_flags(self, flags, message, known, tmp_path, capsys):
        with pytest.raises(SystemExit) as ended:
            self.run(known, tmp_path, *flags)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


class TestPage:
    def test_needs_plotly(self, known, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
        with pytest.raises(ModuleNotFoundError, match=r'needs plotly; install it with: pip install -e ".\[page\]"'):
            page.page(published(known=known))

    def test_holds_all_curves_and_texts_and_asks_no_network(self, known):
        text = page.page(published(known=known))
        content = json.loads(re.search(r"const EXPERIMENTS = (.*);\n", text)[1])
        assert [one["key"] for one in content] == ["one", "one_paper", "two"]
        runs = {(run["case"], run["seed"], run["curve"]): run for run in content[1]["runs"]}
        assert len(runs) == len(content[1]["runs"]) == 2 * 2 * 3 + 3
        assert runs["narrow | 4", 2, "loss"]["y"] == pytest.approx([12, 7, 5.33333, 4.5, 4])
        assert content[1]["curves"]["loss"] == {"x": "updates", "y": "loss (nats)", "log_x": False, "log_y": True}
        assert 'id="verdict-one_paper"' in text
        assert "<strong>reproduced</strong>" in text
        assert not re.search(r'<(script|link|img)[^>]*(src|href)="', text)
        assert "wide <8>" not in text

    @pytest.mark.slow
    def test_filters_change_what_is_drawn(self, known, tmp_path):
        """In headless Chromium: a script at the page's end changes filters, and notes how many lines there are."""
        browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if browser is None:
            pytest.skip("needs Chromium, to look at the page with: apt-get install chromium")
        script = """<pre id="seen"></pre><script>
        const lines = () => document.querySelectorAll("#plot .js-line").length;
        const bands = () => document.querySelectorAll("#plot .js-fill").length;
        const change = (box, value) => { box.type === "select-one" ? box.value = value : box.checked = value;
          box.dispatchEvent(new Event("change")); };
        const box = (name, number) => document.querySelectorAll(`input[name=${name}]`)[number];
        const note = async (what, then) => { then(); await draw();
          $("seen").textContent += `${what}:${lines()},${bands()} `; };
        (async () => {
          await note("start", () => {});
          await note("single", () => change(box("show", 1), true));
          await note("seed", () => change(box("seed", 1), false));
          await note("case", () => change(box("case", 0), false));
          await note("none", () => $("none").click());
          await note("all", () => $("all").click());
          await note("linear", () => change($("log_y"), false));
          await note("experiment", () => document.querySelector("[data-show=one_paper]").click());
          await note("curve", () => change($("curve"), "wave"));
          await note("mean", () => change(box("show", 0), true));
          $("seen").textContent += $("verdict").getAttribute("href") + " " + $("plot")._fullLayout.yaxis.type;
        })();
        </script></body>"""
        path = tmp_path / "page.html"
        path.write_text(page.page(published(known=known)).replace("</body>", script))
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        flags += "--disable-component-update --disable-sync --virtual-time-budget=20000 --dump-dom"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [browser, *flags.split(), profile, path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)[1].split()
        # "one" has two seeds, three cases with losses, two with waves; "one_paper" three seeds.
        assert seen == [
            "start:3,3",
            "single:6,0",
            "seed:3,0",
            "case:2,0",
            "none:0,0",
            "all:3,0",
            "linear:3,0",
            "experiment:9,0",
            "curve:6,0",
            "mean:2,2",
            "#verdict-one_paper",
            "linear",
        ]
