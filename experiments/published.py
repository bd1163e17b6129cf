"""The experiments of the form, and the results in experiments/results/, for those who show them."""

import ast
import dataclasses
import importlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.ablation import Ablation, Case, Paper, Results, Verdict, summary
from jaxdl.arguments import require


class Published(NamedTuple):
    """A committed result.

    Attributes:
      ablation: the experiment.
      variant: of its settings: "default", "paper", ...
      content: of the JSON file, as `summary.content_of` makes it.
      cases: with the facts and the paper's numbers, for figures and tables; they have no models.
      results: rows and curves.
    """

    ablation: Ablation
    variant: str
    content: dict[str, Any]
    cases: list[Case]
    results: Results

    @property
    def key(self) -> str:
        """The name of the file: the experiment's, and the variant's unless it is the default."""
        return summary.key_of(self.ablation.name, self.variant)

    def verdicts(self) -> list[Verdict]:
        """The verdicts, from the rows."""
        return summary.judged(self.ablation, self.results, self.content["variant"])

    def sentences(self) -> list[str]:
        """The verdicts in words, comparisons that have none, and which runs diverged."""
        found = [verdict.sentence() for verdict in self.verdicts()]
        for comparison in self.ablation.comparisons if found else ():  # a variant may be for other things than verdicts
            absent = {comparison.better, comparison.worse} - set(self.results.cases)
            if absent:
                found.append(f"{comparison.claim}: no verdict, as there is no {' or '.join(sorted(absent))}.")
        counts = Counter(case for case, _ in self.results.diverged)
        cases = (f"{case} ({count} of {len(self.results.seeds(case))} runs)" for case, count in counts.items())
        found += [f"diverged: {', '.join(cases)}."] if counts else []
        return [sentence[:1].upper() + sentence[1:] for sentence in found]


def ablations() -> dict[str, Ablation]:
    """All experiments of the form, by name: the modules beside this one that define ABLATION."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
        names = {target.id for node in nodes for target in node.targets if isinstance(target, ast.Name)}
        if "ABLATION" in names:
            found[path.stem] = importlib.import_module(f"experiments.{path.stem}").ABLATION
    return found


def published(folder: Path | None = None, known: Mapping[str, Ablation] | None = None) -> list[Published]:
    """The results in a folder, by experiment; of each experiment the default variant first.

    Args:
      folder: by default experiments/results/. Files in an older form, without "columns", are left out.
      known: the experiments, by default all of the form.

    Raises:
      ValueError: a result is of an experiment or a variant that there is not.
    """
    folder = summary.RESULTS if folder is None else folder
    contents = {path: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    contents = {path: content for path, content in contents.items() if "columns" in content}
    known = ablations() if known is None and contents else known or {}
    found = []
    for path, content in contents.items():
        name, variant = content["experiment"], content["variant"]
        require(name in known, f"{path} is of the experiment {name!r}, which there is not; there are {sorted(known)}")
        variants = known[name].variants
        require(
            variant in variants,
            f"{path} is of the variant {variant!r}, which {name} does not have; it has {sorted(variants)}",
        )
        cases = [_case(**stored) for stored in content["cases"]]
        found.append(Published(known[name], variant, content, cases, summary.results_from(content)))
    return sorted(found, key=lambda one: (one.ablation.name, one.variant != "default", one.variant))


def _case(name: str, facts: dict[str, Any], paper: dict[str, dict[str, Any]]) -> Case:
    facts = {fact: tuple(value) if isinstance(value, list) else value for fact, value in facts.items()}
    return Case(name, facts=facts, paper={metric: Paper(**number) for metric, number in paper.items()})


def command_of(one: Published) -> str:
    """The command that makes such a result: the variant, and the settings that were not its own, but for paths."""
    variant = one.ablation.variants[one.variant]
    elsewhere = {field.name for field in dataclasses.fields(variant) if "Path" in str(field.type)} | {"checkpoints"}
    ours = json.loads(json.dumps(dataclasses.asdict(variant), default=str))
    theirs = {name: value for name, value in one.content["settings"].items() if name not in elsewhere}
    words = ["python", "-m", f"experiments.{one.ablation.name}"]
    if one.variant != "default":
        words += ["--variant", one.variant]
    return shlex.join(words + _changes(ours, theirs))


def _changes(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    words = []
    for name, value in theirs.items():
        if name not in ours:
            continue
        flag = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, dict) and isinstance(ours[name], dict):
            words += _changes(ours[name], value, f"{flag}.")
        elif _rounded(value) != _rounded(ours[name]):
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--{prefix}no-{name.replace('_', '-')}")
            else:
                words += [f"--{flag}", *(str(v) for v in (value if isinstance(value, list) else [value]))]
    return words


def _rounded(value: Any) -> Any:
    """With the six digits that results keep."""
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return f"{value:.6g}" if isinstance(value, int | float) and not isinstance(value, bool) else value
