"""Learning-rate schedules: functions from the number of updates made so far to a rate.

All are pure functions and work under jit, on Python ints and on arrays. They compute in float32 (float64 where x64 is
enabled). A schedule from a to b gives (1 - w) a + w b, and w is exactly 0 and 1 at its ends, so that it gives exactly a
and b there. A step below 0 counts as 0. Past its end a schedule keeps its last value; decays without an end and cycles
go on. The first update sees step 0. Under `optax.MultiSteps` a step is an optimizer update, not a micro-batch.

Every number may be a JAX scalar, unless its docstring says otherwise. So the peak of a schedule can be a hyperparameter
that changes without a new compilation: write the chain as a function of it, and let optax inject it.

    def chain(peak, weight_decay):
        return optim.momentum(optim.cosine_decay(peak, 1000), weight_decay=weight_decay)

    tx = optax.inject_hyperparams(chain)(peak=0.1, weight_decay=1e-4)
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdl.arguments import check_choice, check_integer, check_real, require
from jaxdl.optim.checks import check_known, check_not_above, check_number, check_schedule, check_updates
from jaxdl.typing import Scalar, Schedule

_LAST_STEP = 2**31 - 1  # steps are int32
_IN_UPDATES = "it is a number of updates; optim.epochs_to_steps converts epochs to updates"


def step_decay(initial: Scalar, boundaries: int | jax.Array | Sequence[int], *, factor: Scalar = 0.1) -> Schedule:
    r"""Multiplies the rate by `factor` at each boundary.

    .. math:: \eta_t = \eta_0 \, f^{\,|\{b : b \le t\}|}

    Args:
      initial: :math:`\eta_0`.
      boundaries: the steps from which on the rate is lower, in increasing order; or one number n, for a boundary at
        every n-th step.
      factor: :math:`f`, in [0, 1).

    Raises:
      ValueError: a value is out of its range, or the boundaries do not increase.

    Example:
      >>> rate = step_decay(0.1, (32_000, 48_000))
      >>> [f"{rate(step):.3g}" for step in (0, 31_999, 32_000, 48_000)]
      ['0.1', '0.1', '0.01', '0.001']

    Reference: He et al., `Deep residual learning for image recognition`, 2015, sec. 4.2
    """
    check_number("step_decay", "initial", initial)
    check_number("step_decay", "factor", factor, below=1)
    if isinstance(boundaries, Sequence | np.ndarray) and np.ndim(boundaries) == 1:
        edges = _rising("step_decay", boundaries)
    else:
        edges = check_updates("step_decay", "boundaries", boundaries, at_least=1, remedy=_IN_UPDATES)

    def schedule(step: ArrayLike) -> jax.Array:
        step = _count(step)
        passed = sum((step >= e).astype(jnp.int32) for e in edges) if isinstance(edges, list) else step // edges
        # An integer exponent, because a power with a float exponent is off in the last bits.
        return initial * _power(factor, jnp.asarray(passed, jnp.int32))

    return schedule


def exponential_decay(initial: Scalar, decay: Scalar, *, steps_per_unit: int | jax.Array = 1) -> Schedule:
    r"""Falls exponentially: by the same factor in equal times.

    .. math:: \eta_t = \eta_0 \, e^{-k t}

    Args:
      initial: :math:`\eta_0`.
      decay: :math:`k`, at least 0, per unit of time.
      steps_per_unit: updates in a unit of time: 1, or the steps of an epoch.

    Raises:
      ValueError: a value is out of its range.
    """
    time = _time("exponential_decay", initial, decay, steps_per_unit)
    return lambda step: initial * jnp.exp(-decay * time(step))


def inverse_time_decay(initial: Scalar, decay: Scalar, *, steps_per_unit: int | jax.Array = 1) -> Schedule:
    r"""Falls in inverse proportion to 1 + k t.

    .. math:: \eta_t = \frac{\eta_0}{1 + k t}

    Args:
      initial: :math:`\eta_0`.
      decay: :math:`k`, at least 0, per unit of time.
      steps_per_unit: updates in a unit of time: 1, or the steps of an epoch.

    Raises:
      ValueError: a value is out of its range.
    """
    time = _time("inverse_time_decay", initial, decay, steps_per_unit)
    return lambda step: initial / (1 + decay * time(step))


def cosine_decay(peak: Scalar, steps: int | jax.Array, *, end: Scalar = 0.0) -> Schedule:
    r"""Falls along half a cosine, from `peak` at step 0 to `end` at `steps`, and stays there.

    .. math:: \eta_t = \eta_{min} + \tfrac12 (\eta_{max} - \eta_{min}) (1 + \cos(\pi t / T))

    Args:
      peak: :math:`\eta_{max}`.
      steps: :math:`T`.
      end: :math:`\eta_{min}`, at most `peak`.

    Raises:
      ValueError: a value is out of its range.

    Reference: Loshchilov and Hutter, `SGDR`, 2017, eq. 5, without restarts
    """
    check_number("cosine_decay", "peak", peak)
    check_number("cosine_decay", "end", end)
    check_not_above("cosine_decay", "end", end, "peak", peak)
    check_updates("cosine_decay", "steps", steps, at_least=1, remedy=_IN_UPDATES)
    return lambda step: _mix(end, peak, _half_cosine(_fraction(step, steps)))


def cosine_cycles(
    peak: Scalar, period: int | jax.Array, *, end: Scalar = 0.0, period_multiplier: float = 1
) -> Schedule:
    r"""Falls along half a cosine again and again: warm restarts.

    .. math:: \eta_t = \eta_{min} + \tfrac12 (\eta_{max} - \eta_{min}) (1 + \cos(\pi T_{cur} / T_i))

    with :math:`T_{cur}` the updates since the last restart, and :math:`T_i` the length of the current cycle. The first
    update of each cycle has the rate `peak`. Its last update has a rate just above `end`: the update that would have
    the rate `end` is the first of the next cycle. The schedule of snapshot ensembles (Huang et al. 2017, eq. 2, with M
    cycles in T updates) is `cosine_cycles(alpha_0, period=ceil(T / M))`.

    Args:
      peak: :math:`\eta_{max}`.
      period: length of the first cycle in updates.
      end: :math:`\eta_{min}`, at most `peak`.
      period_multiplier: how many times as long each cycle is as the one before, at least 1; lengths are rounded. It
        cannot be a JAX scalar; if it is not 1, neither can `period`.

    Raises:
      ValueError: a value is out of its range.

    Reference: Loshchilov and Hutter, `SGDR: stochastic gradient descent with warm restarts`, 2017, eq. 5
    """
    check_number("cosine_cycles", "peak", peak)
    check_number("cosine_cycles", "end", end)
    check_not_above("cosine_cycles", "end", end, "peak", peak)
    check_updates("cosine_cycles", "period", period, at_least=1, remedy=_IN_UPDATES)
    check_known("cosine_cycles", "period_multiplier", period_multiplier)
    check_number("cosine_cycles", "period_multiplier", period_multiplier, at_least=1)
    if period_multiplier == 1:
        return lambda step: _mix(end, peak, _half_cosine(_fraction(_count(step) % period, period)))

    check_known("cosine_cycles", "period", period)
    lengths, starts = [float(period)], [0]
    while starts[-1] + round(lengths[-1]) <= _LAST_STEP:
        starts.append(starts[-1] + round(lengths[-1]))
        lengths.append(lengths[-1] * period_multiplier)

    def schedule(step: ArrayLike) -> jax.Array:
        step, first = _count(step), jnp.asarray(starts, jnp.int32)
        length = jnp.asarray([min(round(n), _LAST_STEP) for n in lengths], jnp.int32)
        cycle = jnp.searchsorted(first, step, side="right") - 1
        return _mix(end, peak, _half_cosine(_fraction(step - first[cycle], length[cycle])))

    return schedule


def warmup(
    schedule: Schedule,
    steps: int | jax.Array,
    *,
    kind: Literal["linear", "exponential", "cosine", "constant"] = "linear",
    start: Scalar = 0.0,
) -> Schedule:
    """Goes from `start` to a schedule's first rate in `steps` updates, then follows the schedule from its beginning.

    Step 0 has the rate `start`, step `steps` has the rate `schedule(0)`, and step `steps + n` has `schedule(n)`.

    Args:
      schedule: what to follow afterwards.
      steps: length of the warm-up; with 0 there is none, and `start` is not used.
      kind: how the rate changes: "linear", "exponential" (by the same factor in each step), "cosine" (along half a
        cosine), or "constant" (it stays at `start`, and jumps to `schedule(0)` at step `steps`).
      start: the first rate, at least 0, and above 0 for "exponential". If it is above `schedule(0)`, the rate falls.

    Raises:
      ValueError: a value is out of its range, `kind` is unknown, or `schedule` is not a schedule.

    Reference: Goyal et al., `Accurate, large minibatch SGD: training ImageNet in 1 hour`, 2017, sec. 2.2
    """
    check_schedule("warmup", "schedule", schedule)
    check_updates("warmup", "steps", steps, at_least=0, remedy=_IN_UPDATES)
    check_number("warmup", "start", start)
    check_choice("warmup", "kind", kind, ("linear", "exponential", "cosine", "constant"))
    require(
        kind != "exponential" or isinstance(start, jax.Array) or start > 0,
        f"warmup: kind='exponential' needs start > 0, got start={start!r}; pass a thousandth of the peak",
    )
    if not isinstance(steps, jax.Array) and steps == 0:
        return schedule

    def warmed(step: ArrayLike) -> jax.Array:
        step = _count(step)
        done = _fraction(step, jnp.maximum(steps, 1))
        end = jnp.asarray(schedule(0))
        if kind == "linear":
            rate = _mix(start, end, done)
        elif kind == "cosine":
            rate = _mix(start, end, 1 - _half_cosine(done))
        elif kind == "exponential":
            rate = start * (end / start) ** done
        else:
            rate = jnp.full_like(done, start)
        return jnp.where(step < steps, rate, schedule(jnp.maximum(step - steps, 0)))

    return warmed


def warmup_cosine(
    peak: Scalar, warmup_steps: int | jax.Array, total_steps: int | jax.Array, *, start: Scalar = 0.0, end: Scalar = 0.0
) -> Schedule:
    """A linear warm-up from `start` to `peak`, then half a cosine down to `end` at `total_steps`.

    `total_steps` includes the warm-up. If the warm-up is as long as `total_steps` or longer, there is no fall: the rate
    reaches `peak` at step `warmup_steps`, and stays there.

    Args:
      peak: the rate at step `warmup_steps`.
      warmup_steps: length of the warm-up; with 0 the run starts at `peak`.
      total_steps: the step from which on the rate is `end`, if `warmup_steps` is smaller.
      start: the rate at step 0, at most `peak`.
      end: the last rate, at most `peak`.

    Raises:
      ValueError: a value is out of its range.
    """
    check_updates("warmup_cosine", "total_steps", total_steps, at_least=1, remedy=_IN_UPDATES)
    check_updates("warmup_cosine", "warmup_steps", warmup_steps, at_least=0, remedy=_IN_UPDATES)
    check_number("warmup_cosine", "peak", peak)
    for name, value in (("start", start), ("end", end)):
        check_number("warmup_cosine", name, value)
        check_not_above("warmup_cosine", name, value, "peak", peak)
    # The lengths may be traced.
    traced = isinstance(total_steps, jax.Array) or isinstance(warmup_steps, jax.Array)
    length = jnp.maximum(total_steps - warmup_steps, 1) if traced else max(total_steps - warmup_steps, 1)
    falling = cosine_decay(peak, length, end=end)
    return warmup(lambda step: jnp.where(warmup_steps >= total_steps, peak, falling(step)), warmup_steps, start=start)


def swa_schedule(initial: Scalar, swa_rate: Scalar, steps: int | jax.Array) -> Schedule:
    r"""Stochastic weight averaging's schedule: hold, fall along a line, hold.

    Let :math:`t` be the step divided by `steps`. The rate is `initial` for :math:`t \le 0.5`, falls along a line to
    `swa_rate` at :math:`t = 0.9`, and stays there, also past `steps`, where the averages are taken.

    Args:
      initial: the first rate.
      swa_rate: the last rate.
      steps: H, the step at which the averages begin (not the length of the run).

    Raises:
      ValueError: a value is out of its range.

    Reference: Izmailov et al., `Averaging weights leads to wider optima and better generalization`, 2018; the code
    released with it.
    """
    check_number("swa_schedule", "initial", initial)
    check_number("swa_schedule", "swa_rate", swa_rate)
    check_updates("swa_schedule", "steps", steps, at_least=1, remedy=_IN_UPDATES)
    return lambda step: _mix(swa_rate, initial, jnp.clip((0.9 - _fraction(step, steps)) / 0.4, 0.0, 1.0))


def one_cycle(
    peak: Scalar,
    steps: int | jax.Array,
    *,
    warmup_share: Scalar = 0.3,
    start_divisor: Scalar = 25.0,
    end_divisor: Scalar = 1e4,
) -> Schedule:
    """Up and down once, along half cosines: Smith's super-convergence in the form of `torch.optim.lr_scheduler`.

    The rate rises from `peak / start_divisor` at step 0 to `peak` at step `warmup_share * steps - 1`, and falls to
    `peak / start_divisor / end_divisor` at step `steps - 1`, the last update, as in torch. If `warmup_share * steps` is
    at most 1, there is no rise: the first rate is `peak`, or (below 1) a little less.

    Args:
      peak: the highest rate.
      steps: length of the run, at least 2.
      warmup_share: share of the run that goes up, in [0, 1).
      start_divisor: peak over first rate, at least 1.
      end_divisor: first rate over last rate, at least 1.

    Raises:
      ValueError: a value is out of its range.

    Reference: Smith and Topin, `Super-convergence`, 2018
    """
    check_number("one_cycle", "peak", peak)
    check_updates("one_cycle", "steps", steps, at_least=2, remedy=_IN_UPDATES)
    check_number("one_cycle", "warmup_share", warmup_share, below=1)
    check_number("one_cycle", "start_divisor", start_divisor, at_least=1)
    check_number("one_cycle", "end_divisor", end_divisor, at_least=1)
    start = peak / start_divisor
    end, top, last = start / end_divisor, warmup_share * steps - 1, steps - 1

    def schedule(step: ArrayLike) -> jax.Array:
        step = _count(step)
        up = _mix(peak, start, _half_cosine(_fraction(step, jnp.where(top > 0, top, 1))))
        down = _mix(end, peak, _half_cosine(_fraction(step - top, last - top)))
        return jnp.where(step < top, up, down)

    return schedule


def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Follows one schedule after another, each from its own step 0.

    Args:
      schedules: n of them.
      boundaries: the n - 1 steps at which the next one begins, in increasing order.

    Raises:
      ValueError: one is not a schedule, the two lengths do not fit together, or the boundaries do not increase.

    Example:
      >>> rate = join([cosine_decay(0.1, 10), lambda step: 0.5], [4])
      >>> float(rate(4))
      0.5
    """
    for name, value in (("schedules", schedules), ("boundaries", boundaries)):
        require(
            isinstance(value, Sequence | np.ndarray),
            f"join: {name} must be a list, got {name}={value!r}; pass join([first, second], [steps_of_the_first])",
        )
    for schedule in schedules:
        check_schedule("join", "each of schedules", schedule)
    require(
        len(schedules) == len(boundaries) + 1 and len(schedules) > 0,
        f"join: {len(schedules)} schedules need {len(schedules) - 1} boundaries, got {len(boundaries)}",
    )
    edges = _rising("join", boundaries)

    def joined(step: ArrayLike) -> jax.Array:
        step = _count(step)
        rate = jnp.asarray(schedules[0](step))
        for edge, following in zip(edges, schedules[1:], strict=True):
            rate = jnp.where(step < edge, rate, following(jnp.maximum(step - edge, 0)))
        return rate

    return joined


def epochs_to_steps(epochs: float, *, examples: int, batch_size: int) -> int:
    """Optimizer updates in so many epochs of `examples // batch_size` steps each, rounded to the nearest.

    Raises:
      ValueError: a value is out of its range, or a batch is larger than the data set.

    Example:
      >>> epochs_to_steps(1.5, examples=50_000, batch_size=128)
      585
    """
    check_real("epochs_to_steps", "epochs", epochs, at_least=0)
    check_integer("epochs_to_steps", "batch_size", batch_size, at_least=1)
    check_integer("epochs_to_steps", "examples", examples, at_least=batch_size, remedy="pass a smaller batch_size")
    return round(epochs * (examples // batch_size))


def _rising(name: str, boundaries: Sequence[int]) -> list[int]:
    """The boundaries, checked to be integers of at least 1 in increasing order."""
    edges = [check_updates(name, "boundaries", boundary, at_least=1, remedy=_IN_UPDATES) for boundary in boundaries]
    known = [edge for edge in edges if not isinstance(edge, jax.Array)]
    require(all(a < b for a, b in itertools.pairwise(known)), f"{name}: boundaries must rise, got {tuple(edges)}")
    return edges


def _count(step: ArrayLike) -> jax.Array:
    """The step as an array, never below 0."""
    return jnp.maximum(jnp.asarray(step), 0)


def _fraction(step: ArrayLike, steps: ArrayLike) -> jax.Array:
    """Step / steps as a float in [0, 1]; exact at both ends."""
    dtype = jnp.promote_types(jnp.float32, jnp.result_type(float))
    return jnp.clip(jnp.asarray(step, dtype) / steps, 0.0, 1.0)


def _half_cosine(fraction: jax.Array) -> jax.Array:
    """From 1 at 0 to 0 at 1, along half a cosine; exact at both ends."""
    return 0.5 * (1 + jnp.cos(math.pi * fraction))


def _mix(at_zero: ArrayLike, at_one: ArrayLike, weight: jax.Array) -> jax.Array:
    """(1 - weight) at_zero + weight at_one: exactly one of them where the weight is 0 or 1."""
    return (1 - weight) * at_zero + weight * at_one


def _power(base: Scalar, exponent: jax.Array) -> jax.Array:
    """base**exponent for a whole number; 0**0 is 1."""
    return jnp.where(exponent == 0, 1.0, jnp.asarray(base, _fraction(0, 1).dtype) ** exponent)


def _time(name: str, initial: Scalar, decay: Scalar, steps_per_unit: int | jax.Array):
    """Checks the arguments of a decay without end; returns the map from steps to units of time."""
    check_number(name, "initial", initial)
    check_number(name, "decay", decay)
    check_updates(name, "steps_per_unit", steps_per_unit, at_least=1, remedy=_IN_UPDATES)
    return lambda step: jnp.asarray(_count(step), _fraction(0, 1).dtype) / steps_per_unit
