"""A finding: one thing that is amiss, in words, with its numbers."""

import dataclasses
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a check found amiss.

    Attributes:
      name: in a few words, fixed for each kind of finding: "rate too high".
      text: what was seen, with the numbers, and what to do, in one to three sentences.
      numbers: the numbers that decided, by name.
      serious: whether training is likely to fail because of it; otherwise it is worth a look.
    """

    name: str
    text: str
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    serious: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def with_findings(words: str, findings: Iterable[Finding]) -> str:
    """The words, and below them a line for each finding: the form of all verdicts."""
    return words + "".join(f"\n- {finding}" for finding in findings)
