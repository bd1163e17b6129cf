"""Ravines, saddles and noise hold plain SGD up; momentum, scaling and curvature each cure some of them.

Claim: on functions of two variables with one difficulty each, momentum shortens the way along a ravine, adaptive
scaling evens out its axes, and second-order steps do not depend on the conditioning. But Newton's step is attracted by
saddles, and momentum does not help against noise in the gradient.

Paper: the lecture's three problems with SGD (poor conditioning, saddles, noise) after Dauphin et al., Identifying and
attacking the saddle point problem, 2014 (arXiv 1406.2572), and Ruder, An overview of gradient descent optimization
algorithms, 2016 (arXiv 1609.04747). Neither gives numbers for such functions; the table is ours. Every rule has the
rate of a grid with which it reaches the tolerance first. The ravine's condition number is 100. In the noisy bowl the
Hessian and L-BFGS's line search have no noise.

Command: python -m experiments.landscapes
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.cli import run
from jaxdl import optim, report
from jaxdl.arguments import check_integer, check_real
from jaxdl.progress import progress_bar

RULES: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "SGD": optim.sgd,
    "momentum": optim.momentum,
    "Nesterov": optim.nesterov,
    "look-ahead": lambda rate: optax.chain(optax.scale_by_learning_rate(rate), optim.scale_by_nesterov_lookahead(0.9)),
    "AdaGrad": optim.adagrad,
    "RMSProp": optim.rmsprop,
    "Adam": optim.adam,
    "L-BFGS": lambda rate: optim.lbfgs(),
    "Newton": lambda rate: optim.newton(0.0, learning_rate=rate),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function of two variables, with where to start and what counts as solved."""

    function: Callable[[Any, Any], Any]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    tolerance: float  # height above the minimum
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    noise: float = 0.0  # standard deviation of what is added to each component of the gradient

    def loss(self, point: jax.Array) -> jax.Array:
        """Height above the minimum at [2]."""
        return self.function(point[0], point[1]) - self.function(*map(jnp.asarray, self.minima[0]))


PROBLEMS = {
    "ravine": Problem(
        lambda x, y: 0.5 * (x**2 + 100 * y**2), (-4.0, 1.0), ((0.0, 0.0),), 1e-4, (-4.5, 1.5), (-1.3, 1.3)
    ),
    "Rosenbrock": Problem(
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2, (-1.2, 1.0), ((1.0, 1.0),), 1e-4, (-1.7, 1.5), (-0.5, 1.7)
    ),
    "saddle": Problem(
        lambda x, y: 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4,
        (-1.5, 1e-3),
        ((0.0, 1.0), (0.0, -1.0)),
        1e-4,
        (-1.8, 0.8),
        (-0.6, 1.4),
    ),
    "noisy bowl": Problem(
        lambda x, y: 0.5 * (x**2 + 4 * y**2), (-4.0, 1.5), ((0.0, 0.0),), 0.05, (-4.5, 1.5), (-1.8, 1.8), noise=1.0
    ),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run."""

    steps: int = 2000
    """Updates at the most."""
    seeds: int = 10
    """Draws of the noise, where there is any."""
    rates: int = 17
    """Rates in the grid, from 1e-4 to 3, evenly spaced on a logarithmic scale."""
    hold: int = 20
    """Points in a row that must be within the tolerance; under noise the mean of 5 times as many."""
    out: Path = Path("runs")
    """Results go to OUT/landscapes/<time>/."""

    def __post_init__(self):
        """Refuses what cannot be run."""
        for name in ("steps", "seeds", "rates", "hold"):
            check_integer("landscapes", name, getattr(self, name), at_least=1, remedy=f"pass --{name} 1 or more")
        check_real("landscapes", "hold", self.hold, below=self.steps / 5, remedy="pass --hold below a fifth of --steps")


VARIANTS = {"default": Settings(), "smoke": Settings(steps=30, seeds=2, rates=3, hold=4)}


def descend(problem: Problem, rule: Callable, rate: jax.Array, key: jax.Array, steps: int) -> jax.Array:
    """The points visited, [steps + 1, 2]."""
    tx = optax.with_extra_args_support(rule(rate))
    start = jnp.asarray(problem.start)

    def body(carry, step):
        point, state = carry
        value, gradient = jax.value_and_grad(problem.loss)(optim.lookahead_params(point, state))
        gradient += problem.noise * jax.random.normal(jax.random.fold_in(key, step), (2,))
        updates, state = tx.update(gradient, state, point, value=value, grad=gradient, value_fn=problem.loss)
        point = optax.apply_updates(point, updates)
        return (point, state), point

    points = jax.lax.scan(body, (start, tx.init(start)), jnp.arange(steps))[1]
    return jnp.concatenate([start[None], jnp.asarray(points)])


def steps_to_solve(problem: Problem, points: jax.Array, hold: int) -> jax.Array:
    """The first step of the first window of points within the tolerance; the number of points if there is none.

    Without noise a window is `hold` points, all of which must be within the tolerance. With noise it is 5 times as
    long, and the mean height of its points must be within the tolerance.
    """
    heights = jax.vmap(problem.loss)(points)
    window = 5 * hold if problem.noise else hold
    heights = jnp.where(jnp.isfinite(heights), heights, 1e9)  # a rate at which the rule diverged
    counted = heights if problem.noise else (heights > problem.tolerance).astype(heights.dtype)
    means = jnp.convolve(counted, jnp.full(window, 1 / window), mode="valid")
    solved = means <= (problem.tolerance if problem.noise else 0.5 / window)
    return jnp.where(jnp.any(solved), jnp.argmax(solved), len(points))


def solve(problem: Problem, rule: Callable, settings: Settings) -> dict[str, Any]:
    """The best rate of the grid, its mean number of steps over seeds, and its first path."""
    rates = jnp.geomspace(1e-4, 3.0, settings.rates)
    keys = jax.random.split(jax.random.key(0), settings.seeds if problem.noise else 1)

    @jax.jit
    def grid(rates, keys):
        points = jax.vmap(lambda rate: jax.vmap(lambda key: descend(problem, rule, rate, key, settings.steps))(keys))(
            rates
        )
        return points, jax.vmap(jax.vmap(lambda p: steps_to_solve(problem, p, settings.hold)))(points)

    points, steps = jax.device_get(grid(rates, keys))
    heights = jax.vmap(problem.loss)(points[:, 0, -1])  # if no rate solves the problem, the lowest end is the best
    best = int(np.lexsort((np.nan_to_num(heights, nan=np.inf), steps.mean(1)))[0])
    solved = bool(np.all(steps[best] <= settings.steps))
    return {
        "rate": float(rates[best]),
        "steps": float(steps[best].mean()) if solved else None,
        "path": points[best, 0],
    }


def main(settings: Settings) -> None:
    """Solves every problem with every rule; prints and writes table and figure."""
    environment = report.environment()
    folder = report.new_run_directory(settings.out, "landscapes")
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in PROBLEMS}
    with progress_bar("landscapes", len(PROBLEMS) * len(RULES)) as update:
        for p, (name, problem) in enumerate(PROBLEMS.items()):
            for r, (rule_name, rule) in enumerate(RULES.items()):
                found[name][rule_name] = solve(problem, rule, settings)
                update(p * len(RULES) + r + 1, f"{name}, {rule_name}")
    without_rate = {"L-BFGS"}
    rows = []
    for rule_name in RULES:
        cells = [rule_name]
        for name in PROBLEMS:
            entry = found[name][rule_name]
            rate = "" if rule_name in without_rate else f" ({entry['rate']:.1g})"
            cells.append("-" if entry["steps"] is None else f"{entry['steps']:.0f}{rate}")
        rows.append(cells)
    header = ["rule", *PROBLEMS]
    report.write_json(
        folder / "result.json",
        {
            "experiment": "landscapes",
            "settings": settings,
            "environment": environment,
            "results": {
                name: {rule: {key: entry[key] for key in ("rate", "steps")} for rule, entry in row.items()}
                for name, row in found.items()
            },
        },
    )
    report.plot_landscapes(
        folder / "landscapes.png",
        "Paths at each rule's best rate; black dot: start, star: minimum",
        [
            report.Landscape(name, p.function, p.x_limits, p.y_limits, paths(found[name], p), np.array(p.minima))
            for name, p in PROBLEMS.items()
        ],
    )
    title = f"Steps to tolerance (best rate of {settings.rates}), at most {settings.steps}"
    claim, _, rest = (__doc__ or "").partition("\n")
    (folder / "report.md").write_text(
        f"# {claim}\n{rest}\n## {title}\n\n{report.markdown_table(header, rows)}\n\n![Paths](landscapes.png)\n"
    )
    report.print_table(title, header, rows)
    print(f"Written to {folder}: result.json, report.md, landscapes.png")


def paths(results: dict[str, dict[str, Any]], problem: Problem) -> dict[str, np.ndarray]:
    """Each rule's path until it solved the problem, cut to the part of the plane that is shown."""
    shown = {}
    for rule, entry in results.items():
        end = len(entry["path"]) if entry["steps"] is None else int(entry["steps"]) + 1
        points = entry["path"][: max(end, 2)]
        shown[rule] = np.clip(points, *np.array([problem.x_limits, problem.y_limits]).T)
    return shown


if __name__ == "__main__":
    run(main, VARIANTS, __doc__ or "")
