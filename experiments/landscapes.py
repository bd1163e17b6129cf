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
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.ablation import Ablation, BareSettings, Bars, Case, Comparison, Measured, Results, Row, Work
from experiments.ablation.sweep import Sweep
from jaxdl import optim, report
from jaxdl.arguments import check_integer, check_real

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
class LandscapeSettings(BareSettings):
    """What to run; a seed is a draw of the noise, where there is any."""

    seeds: int = 10
    """Draws of the noise, with the seeds 0, 1, ..."""
    steps: int = 2000
    """Updates at the most."""
    rates: int = 17
    """Rates in the grid, from 1e-4 to 3, evenly spaced on a logarithmic scale."""
    hold: int = 20
    """Points in a row that must be within the tolerance; under noise the mean of 5 times as many."""

    def __post_init__(self):
        """Refuses what cannot be run."""
        super().__post_init__()
        for name in ("rates", "hold"):
            check_integer("landscapes", name, getattr(self, name), at_least=1, remedy=f"pass --{name} 1 or more")
        check_real("landscapes", "hold", self.hold, below=self.steps / 5, remedy="pass --hold below a fifth of --steps")


def cases(settings: LandscapeSettings, _) -> list[Case]:
    """The rules."""
    return [Case(name) for name in RULES]


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


@functools.partial(jax.jit, static_argnames=("problem", "rule", "rates", "steps", "hold"))
def at_all_rates(problem: str, rule: str, rates: int, steps: int, hold: int, seed: int) -> tuple:
    """The rates [rates], the points visited at each [rates, steps + 1, 2], and the steps to the tolerance, or NaN."""
    key = jax.random.fold_in(jax.random.key(0), seed)
    grid, where = jnp.geomspace(1e-4, 3.0, rates), PROBLEMS[problem]
    points = jax.vmap(lambda rate: descend(where, RULES[rule], rate, key, steps))(grid)
    needed = jax.vmap(lambda path: steps_to_solve(where, path, hold))(points)
    return grid, points, jnp.where(needed <= steps, needed, jnp.nan)


def measure(work: Work) -> Measured:
    """Goes through all landscapes at all rates.

    Metrics: for each landscape the number of rates that solve it. Curves: the steps to its tolerance against the rate.
    """
    metrics, curves, settings = {}, {}, work.settings
    for problem in PROBLEMS:
        found = at_all_rates(problem, work.case.name, settings.rates, settings.steps, settings.hold, work.seed)
        rates, _, steps = jax.device_get(found)
        metrics[f"{problem}, rates that solve it"] = int(np.isfinite(steps).sum())
        curves[f"{problem}, steps"] = rates, steps
    return Measured(metrics, curves)


def best_rate(results: Results, problem: str, rule: str) -> int | None:
    """The place of the rate with the least mean steps, of those that reach the tolerance with every draw of noise."""
    found = results.curve(f"{problem}, steps", rule)
    means = np.array([np.inf]) if found is None else np.nan_to_num(found[1].mean(0), nan=np.inf)
    return int(np.argmin(means)) if np.isfinite(means).any() else None


def at_best_rates(cases: Sequence[Case], results: Results) -> Results:
    """Adds for each rule and landscape the steps at the best rate, and the rate."""
    rows = []
    for case, problem in itertools.product(results.cases, PROBLEMS):
        best, found = best_rate(results, problem, case), results.curve(f"{problem}, steps", case)
        if best is not None and found is not None:
            rate = math.nan if case == "L-BFGS" else found[0][best]  # which has none
            for seed, steps in zip(results.seeds(case), found[1], strict=True):
                rows += [Row(case, seed, f"{problem}, steps", steps[best]), Row(case, seed, f"{problem}, rate", rate)]
    return results.with_rows(rows)


def paths(sweep: Sweep, results: Results) -> list[str]:
    """Draws each rule's path at its best rate until it solved the problem, cut to the plane that is shown."""
    landscapes, settings = [], sweep.settings
    for name, problem in PROBLEMS.items():
        shown = {}
        for rule in results.cases:
            best = best_rate(results, name, rule)
            points = jnp.asarray(at_all_rates(name, rule, settings.rates, settings.steps, settings.hold, 0)[1])
            if best is None:  # the lowest end
                heights = jax.vmap(problem.loss)(points[:, -1])
                path = points[jnp.argmin(jnp.nan_to_num(heights, nan=jnp.inf))]
            else:
                steps = np.mean(list(results.values(f"{name}, steps", rule).values()))
                path = points[best, : max(int(steps) + 1, 2)]
            shown[rule] = np.clip(path, *np.array([problem.x_limits, problem.y_limits]).T)
        limits = problem.x_limits, problem.y_limits
        landscapes.append(report.Landscape(name, problem.function, *limits, shown, np.array(problem.minima)))
    title = "Paths at each rule's best rate; black dot: start, star: minimum"
    report.plot_landscapes(sweep.folder / "landscapes.png", title, landscapes)
    return ["landscapes.png"]


ABLATION = Ablation(
    "landscapes",
    __doc__,
    variants={
        "default": LandscapeSettings(),
        "smoke": LandscapeSettings(steps=30, seeds=2, rates=3, hold=4),
    },
    cases=cases,
    measure=measure,
    derive=at_best_rates,
    comparisons=[
        *(
            Comparison(
                f"in the ravine {rule} needs fewer steps than SGD",
                "ravine, steps",
                better=rule,
                worse="SGD",
                ratio=True,
            )
            for rule in ("momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam", "L-BFGS", "Newton")
        ),
        Comparison(
            "Newton's step is attracted by the saddle: fewer of its rates get past it than of SGD's",
            "saddle, rates that solve it",
            better="SGD",
            worse="Newton",
            more=True,
        ),
        Comparison(
            "in the noisy bowl momentum needs more steps than SGD", "noisy bowl, steps", better="SGD", worse="momentum"
        ),
    ],
    table=tuple(f"{name}, {what}" for name in PROBLEMS for what in ("steps", "rate")),
    figures=tuple(Bars(f"{name}, steps", name, "steps to the tolerance", log=True) for name in PROBLEMS),
    note="Steps to the tolerance at the best rate of the grid, and that rate (L-BFGS has none); - where no rate gets "
    "there. Without noise all seeds are the same.",
    picture=paths,
)

if __name__ == "__main__":
    ABLATION.main()
