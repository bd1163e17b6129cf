"""Timing of things side by side."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxdl import report

RESULTS = Path(__file__).parent / "results"


def alternate(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call. The contestants take turns, so that a change of the machine's speed affects all of them.

    The first round is not measured. A contestant that returns a number has measured its time itself.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, call in contestants.items():
            start = time.perf_counter()
            own = call()
            elapsed = own if isinstance(own, float) else time.perf_counter() - start
            if turn:
                seconds[name].append(elapsed)
    return seconds


def summarise(seconds: Mapping[str, list[float]], peer: str) -> dict[str, dict[str, Any]]:
    """For each contestant its median seconds, and the median over rounds of its time divided by the peer's."""
    return {
        name: {
            "median_seconds": statistics.median(times),
            "ratio_to_peer": statistics.median(t / p for t, p in zip(times, seconds[peer], strict=True)),
            "seconds": times,
        }
        for name, times in seconds.items()
    }


def publish(name: str, about: str, peer: str, cases: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """Prints a table for each case and writes `benchmarks/results/<name>.json`."""
    for case, contestants in cases.items():
        rows = [[c, f"{e['median_seconds']:.4f}", f"{e['ratio_to_peer']:.2f}"] for c, e in contestants.items()]
        report.print_table(f"{about}: {case}", ["contestant", "seconds", "ratio to peer"], rows)
    RESULTS.mkdir(exist_ok=True)
    content = {"benchmark": name, "about": about, "peer": peer, "environment": report.environment(), "cases": cases}
    report.write_json(RESULTS / f"{name}.json", content)
    print(f"Written to {RESULTS / name}.json")
