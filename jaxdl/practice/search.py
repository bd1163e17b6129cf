"""Steps 4 and 5 of the recipe: a coarse random search, and a finer one around its best trials."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import optax

from jaxdl.arguments import check_integer, require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.practice.search_result import SearchResult, few_of
from jaxdl.practice.spaces import check_space, narrowed
from jaxdl.practice.trials import Work
from jaxdl.train import cross_entropy
from jaxdl.train.losses import Loss, Metric
from jaxdl.train.task import Augment, Preprocess

ChainOf: TypeAlias = Callable[..., optax.GradientTransformation]
"""A function from hyperparameters by name to an optimizer; `chains.Chain` is one from a learning rate alone."""


def coarse_search(
    model: nn.Module,
    chain: ChainOf,
    train_set: Dataset | Stream,
    key: jax.Array,
    *,
    space: Mapping[str, Any],
    held_out: Dataset | Stream | float = 0.1,
    trials: int = 16,
    epochs: float = 1,
    steps: int | None = None,
    batch_size: int = 128,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
) -> SearchResult:
    """Tries hyperparameters drawn at random, each for a short time: step 4 of the recipe.

    All trials run as one `train.population`, and share one compiled program: the hyperparameters are injected into
    the optimizer. Each trial has a start and an order of the examples of its own.

    Args:
      model: as for `train.fit`.
      chain: a function from the hyperparameters to an optimizer, called with the names of `space`:
        `lambda learning_rate, decay: optim.momentum(learning_rate, weight_decay=decay)`. A schedule is made inside:
        `lambda peak: optim.momentum(optim.cosine_decay(peak, 780))`.
      train_set: the set to train on.
      key: `jax.random.key(seed)`.
      space: the ranges by name: (low, high), both above 0, from which the logarithm is drawn evenly, or
        `practice.Uniform(low, high)`.
      held_out: the set that judges the trials, or the share of `train_set` that is taken from it at random to do so.
        Never the test set: the best of many trials on a set looks better there than it is.
      trials: how many.
      epochs: how long each is trained, in epochs.
      steps: how long each is trained, in updates; by default by `epochs`.
      batch_size: as for `train.fit`.
      loss: as for `train.fit`; it judges the trials if there is no metric "error".
      metrics: as for `train.fit`; "error" judges the trials if there is such a metric.
      preprocess: as for `train.fit`.
      augment: as for `train.fit`.
      folder: where the finished part is kept, so that the same call goes on after the program was killed.
      progress: whether to show a progress bar.

    Returns:
      The trials, the best first, what is amiss with the ranges, a table and a picture.

    Raises:
      ValueError: an argument is wrong; `space` names something that `chain` does not take; or `folder` is of another
        search.

    References:
      Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13, 2012.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, practice
      >>> train_set, _ = data.load("fashion_mini")
      >>> found = practice.coarse_search(models.mlp(widths=(32,)), optim.momentum, train_set, jax.random.key(0),
      ...                                space={"learning_rate": (1e-5, 1.0)}, trials=6, steps=60, progress=False)
      >>> len(found.trials), 1e-3 < found.best["learning_rate"] < 1
      (6, True)
    """
    name = "coarse_search"
    work = Work(name, model, chain, train_set, key, held_out, batch_size, folder, progress)
    ranges = check_space(name, space, chain)
    check_integer(name, "trials", trials, at_least=2)
    budget = work.updates(epochs, steps)
    arguments = {"loss": loss, "metrics": metrics, "preprocess": preprocess, "augment": augment}
    return work.search(ranges, trials, [budget], 1, arguments)


def refine_search(
    model: nn.Module,
    chain: ChainOf,
    train_set: Dataset | Stream,
    key: jax.Array,
    *,
    around: SearchResult,
    held_out: Dataset | Stream | float = 0.1,
    trials: int = 16,
    epochs: float = 5,
    steps: int | None = None,
    rungs: int = 3,
    eta: int = 2,
    batch_size: int = 128,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
) -> SearchResult:
    """Tries hyperparameters around the best of another search, longer, and stops the worse ones early: step 5.

    The ranges are those of the best quarter of the trials of `around` (three or more), and a tenth of the old range
    more at both ends; if the best trial lay at an edge, a logarithmic range is moved beyond it.

    Successive halving: all trials make `steps / eta ** (rungs - 1)` updates; the best `1 / eta` of them go on to `eta`
    times as many, and so on, until the last rung makes `steps`. A trial that goes on is not trained anew: it continues
    with its state and its order of examples as if it had never been stopped. With 16 trials and three rungs this costs
    as much as 8 whole trials. If `chain` has a schedule that ends low, the early rungs are judged before its end.

    Args:
      model: as for `coarse_search`.
      chain: as for `coarse_search`.
      train_set: as for `coarse_search`.
      key: as for `coarse_search`. A share as `held_out` is drawn with it, so the same key takes the same examples.
      around: what `coarse_search` or `refine_search` found.
      held_out: as for `coarse_search`.
      trials: how many start.
      epochs: how long those are trained that are never stopped, in epochs.
      steps: the same in updates; by default by `epochs`.
      rungs: into how many stages the budget is divided; with 1 no trial is stopped.
      eta: how many times fewer trials, and more updates, the next rung has.
      batch_size: as for `coarse_search`.
      loss: as for `coarse_search`.
      metrics: as for `coarse_search`.
      preprocess: as for `coarse_search`.
      augment: as for `coarse_search`.
      folder: as for `coarse_search`; another one than there.
      progress: as for `coarse_search`.

    Returns:
      As `coarse_search`; trials that were stopped early come after those that were not.

    Raises:
      ValueError: as for `coarse_search`; or all trials of `around` diverged; or the rungs leave no trial or no update.

    References:
      Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016,
      arXiv 1502.07943, fig. 1.
    """
    name = "refine_search"
    require(
        isinstance(around, SearchResult),
        f"{name}: around must be what coarse_search returned, got around={shown(around)}",
    )
    require(
        around.trials[0].diverged is None,
        f"{name}: around has no trial that did not diverge; search lower rates with coarse_search first",
    )
    work = Work(name, model, chain, train_set, key, held_out, batch_size, folder, progress)
    few = [trial for trial in around.trials if trial.diverged is None][: few_of(len(around.trials))]
    ranges = {
        parameter: narrowed(range_, [trial.hyperparameters[parameter] for trial in few])
        for parameter, range_ in around.space.items()
    }
    ranges = check_space(name, ranges, chain)
    check_integer(name, "trials", trials, at_least=2)
    check_integer(name, "rungs", rungs, at_least=1)
    check_integer(name, "eta", eta, at_least=2)
    budget, least = work.updates(epochs, steps), eta ** (rungs - 1)
    require(
        least <= min(budget, trials),
        f"{name}: rungs={rungs} with eta={eta} divide {trials} trials and {budget} updates by {least}, which leaves "
        "nothing; pass fewer rungs",
    )
    budgets = [max(1, round(budget / eta ** (rungs - 1 - rung))) for rung in range(rungs)]
    arguments = {"loss": loss, "metrics": metrics, "preprocess": preprocess, "augment": augment}
    return work.search(ranges, trials, budgets, eta, arguments)
