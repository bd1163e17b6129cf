"""Schedules against their formulas in NumPy, at and beyond their ends, and torch's recorded numbers."""

import functools
import math
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jaxdl import optim

STEPS = np.arange(0, 130)
RULES = Path(__file__).resolve().parents[1] / "docs" / "rules.md"


def values(schedule, steps=STEPS):
    """The schedule's values under jit, checked to be those on single Python ints."""
    found = np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(steps)), np.float64)
    for i in (0, len(steps) // 2, len(steps) - 1):
        np.testing.assert_allclose(float(schedule(int(steps[i]))), found[i], rtol=1e-6, atol=1e-9)
    return found


def half_cosine(high, low, fraction):
    return low + 0.5 * (high - low) * (1 + np.cos(np.pi * np.clip(fraction, 0, 1)))


def test_step_decay(x64):
    found = values(optim.step_decay(0.1, (30, 60, 61)))
    expected = np.select([STEPS < 30, STEPS < 60, STEPS < 61], [0.1, 0.01, 0.001], 0.0001)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_allclose(values(optim.step_decay(1.0, 25, factor=0.5)), 0.5 ** (STEPS // 25), rtol=1e-14)


def test_exponential_and_inverse_time(x64):
    np.testing.assert_allclose(values(optim.exponential_decay(0.3, 0.05)), 0.3 * np.exp(-0.05 * STEPS), rtol=1e-12)
    found = values(optim.exponential_decay(0.3, 0.05, steps_per_unit=10))
    np.testing.assert_allclose(found, 0.3 * np.exp(-0.005 * STEPS), rtol=1e-12)
    np.testing.assert_allclose(values(optim.inverse_time_decay(0.3, 0.5)), 0.3 / (1 + 0.5 * STEPS), rtol=1e-12)
    found = values(optim.inverse_time_decay(0.3, 0.5, steps_per_unit=4))
    np.testing.assert_allclose(found, 0.3 / (1 + 0.125 * STEPS), rtol=1e-12)


def test_cosine_decay(x64):
    np.testing.assert_allclose(
        values(optim.cosine_decay(0.5, 100, end=0.1)), half_cosine(0.5, 0.1, STEPS / 100), rtol=1e-12
    )
    np.testing.assert_allclose(
        values(optim.cosine_decay(0.5, 100)), values(optax.cosine_decay_schedule(0.5, 100)), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize(("period", "multiplier"), [(10, 1), (7, 2), (5, 1.5), (1, 1), (1, 3)])
def test_cosine_cycles_equal_a_loop(x64, period, multiplier):
    expected, current, length = [], 0, float(period)
    for _ in STEPS:
        expected.append(half_cosine(0.2, 0.01, current / round(length)))
        current += 1
        if current >= round(length):
            current, length = 0, length * multiplier
    found = values(optim.cosine_cycles(0.2, period, end=0.01, period_multiplier=multiplier))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_cosine_cycles_are_those_of_snapshot_ensembles(x64):
    """Huang et al. 2017, eq. 2: t counts from 1, M cycles in T updates."""
    total, cycles, alpha = 100, 6, 0.2
    length = math.ceil(total / cycles)
    t = np.arange(1, total + 1)
    expected = alpha / 2 * (np.cos(np.pi * np.mod(t - 1, length) / length) + 1)
    found = values(optim.cosine_cycles(alpha, period=length), t - 1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-17)


def test_cosine_cycles_late_in_a_long_run():
    """Integer arithmetic: at the 2,000,000,000th step the cycles have not slipped."""
    for multiplier, period in ((1, 1000), (2, 1000)):
        schedule = optim.cosine_cycles(0.2, period, period_multiplier=multiplier)
        start = 2_000_000_000 if multiplier == 1 else 1000 * (2**20 - 1)
        assert float(schedule(start)) == np.float32(0.2)
        assert float(schedule(start - 1)) < 1e-5
    assert float(optim.cosine_cycles(0.2, 1000, period_multiplier=2)(2**31 - 1)) > 0


@pytest.mark.parametrize("kind", ["linear", "exponential", "cosine", "constant"])
def test_warmup(x64, kind):
    base = optim.exponential_decay(0.4, 0.01)
    found = values(optim.warmup(base, 20, kind=kind, start=0.01))
    done = STEPS[:20] / 20
    ramp = {
        "linear": 0.01 + 0.39 * done,
        "exponential": 0.01 * 40**done,
        "cosine": half_cosine(0.01, 0.4, done),
        "constant": np.full(20, 0.01),
    }[kind]
    np.testing.assert_allclose(found[:20], ramp, rtol=1e-12)
    np.testing.assert_allclose(found[20:], 0.4 * np.exp(-0.01 * (STEPS[20:] - 20)), rtol=1e-12)
    assert optim.warmup(base, 0, kind=kind, start=0.01) is base


def test_warmup_cosine(x64):
    found = values(optim.warmup_cosine(0.4, 20, 100, start=0.1, end=0.01))
    expected = np.where(STEPS < 20, 0.1 + 0.3 * STEPS / 20, half_cosine(0.4, 0.01, (STEPS - 20) / 80))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    theirs = optax.warmup_cosine_decay_schedule(0.1, 0.4, 20, 100, 0.01)
    np.testing.assert_allclose(found, values(theirs), rtol=1e-10)


def test_warmup_cosine_of_odd_lengths(x64):
    """No warm-up; one as long as the run; one that is cut off by the end of the run."""
    np.testing.assert_allclose(
        values(optim.warmup_cosine(0.4, 0, 100)), values(optim.cosine_decay(0.4, 100)), rtol=1e-12, atol=1e-17
    )
    np.testing.assert_allclose(values(optim.warmup_cosine(0.4, 100, 100)), 0.4 * np.minimum(STEPS / 100, 1), rtol=1e-12)
    found = values(optim.warmup_cosine(0.4, 200, 100))
    np.testing.assert_allclose(found, 0.4 * STEPS / 200, rtol=1e-12)


def test_swa_schedule(x64):
    """The released train.py: t = epoch / swa_start; factor 1, then 1 - (1 - r)(t - 0.5) / 0.4, then r."""
    ratio = 0.05 / 0.1
    expected = []
    for step in STEPS:
        t = step / 100
        expected.append(0.1 * (1.0 if t <= 0.5 else 1 - (1 - ratio) * (t - 0.5) / 0.4 if t <= 0.9 else ratio))
    np.testing.assert_allclose(values(optim.swa_schedule(0.1, 0.05, 100)), expected, rtol=1e-12)


def test_join(x64):
    joined = optim.join([optim.cosine_decay(1.0, 10), lambda step: 0.1 * step, lambda step: 7.0], [10, 50])
    expected = np.select(
        [STEPS < 10, STEPS < 50], [half_cosine(1.0, 0.0, STEPS / 10), 0.1 * (STEPS - 10)], np.full(len(STEPS), 7.0)
    )
    np.testing.assert_allclose(values(joined), expected, rtol=1e-12, atol=1e-16)


RATE = st.floats(1e-6, 10)


@hypothesis_settings(max_examples=50, deadline=None, derandomize=True)
@given(peak=RATE, low=RATE, steps=st.integers(1, 10**7), warm=st.integers(1, 10**6))
def test_ends_are_exact_in_float32(peak, low, steps, warm):
    """Not nearly: the very float32 that was asked for, at the ends, past them, and below 0."""
    low, peak = sorted((low, peak))
    ends = [
        (optim.cosine_decay(peak, steps, end=low), {0: peak, -3: peak, steps: low, steps + 5: low}),
        (optim.cosine_cycles(peak, steps, end=low), {0: peak, steps: peak, 5 * steps: peak}),
        (optim.warmup_cosine(peak, warm, warm + steps, start=low, end=low), {0: low, warm: peak, warm + steps: low}),
        (optim.swa_schedule(peak, low, steps), {0: peak, -1: peak, steps: low, 2 * steps: low}),
        (optim.step_decay(peak, steps + 1), {0: peak, steps: peak}),
        (optim.exponential_decay(peak, 0.1), {0: peak, -7: peak}),
        (optim.inverse_time_decay(peak, 0.1), {0: peak, -7: peak}),
        (optim.warmup(lambda step: peak, warm, kind="cosine", start=low), {0: low, warm: peak}),
        (optim.warmup(lambda step: peak, warm, kind="exponential", start=low), {0: low, warm: peak}),
    ]
    for schedule, points in ends:
        for step, rate in points.items():
            assert float(schedule(step)) == np.float32(rate), (schedule, step)


# Every number of every schedule, as a function of them; `optax.inject_hyperparams` reads the names.
NUMBERS = {
    "step_decay": (lambda initial, factor: optim.step_decay(initial, (3, 6), factor=factor), (0.1, 0.5)),
    "step_decay, every": (lambda initial, every: optim.step_decay(initial, every), (0.1, 3)),
    "exponential_decay": (
        lambda initial, decay, unit: optim.exponential_decay(initial, decay, steps_per_unit=unit), (0.1, 0.3, 2)
    ),
    "inverse_time_decay": (
        lambda initial, decay, unit: optim.inverse_time_decay(initial, decay, steps_per_unit=unit), (0.1, 0.3, 2)
    ),
    "cosine_decay": (lambda peak, steps, end: optim.cosine_decay(peak, steps, end=end), (0.1, 8, 0.01)),
    "cosine_cycles": (lambda peak, period, end: optim.cosine_cycles(peak, period, end=end), (0.1, 4, 0.01)),
    "cosine_cycles, longer": (
        lambda peak, end: optim.cosine_cycles(peak, 2, end=end, period_multiplier=2), (0.1, 0.01)
    ),
    "warmup": (
        lambda peak, steps, start: optim.warmup(optim.cosine_decay(peak, 7), steps, start=start), (0.1, 3, 0.02)
    ),
    "warmup, cosine": (
        lambda peak, start: optim.warmup(optim.step_decay(peak, 4), 3, kind="cosine", start=start), (0.1, 0.02)
    ),
    "warmup, exponential": (
        lambda peak, start: optim.warmup(optim.step_decay(peak, 4), 3, kind="exponential", start=start), (0.1, 0.02)
    ),
    "warmup, constant": (
        lambda peak, start: optim.warmup(optim.step_decay(peak, 4), 3, kind="constant", start=start), (0.1, 0.02)
    ),
    "warmup_cosine": (
        lambda peak, warm, total, start, end: optim.warmup_cosine(peak, warm, total, start=start, end=end),
        (0.1, 3, 9, 0.01, 0.02),
    ),
    "warmup_cosine, all warm-up": (lambda peak, warm: optim.warmup_cosine(peak, warm, 5), (0.1, 6)),
    "swa_schedule": (optim.swa_schedule, (0.1, 0.02, 8)),
    "one_cycle": (
        lambda peak, steps, start_divisor, end_divisor: optim.one_cycle(
            peak, steps, start_divisor=start_divisor, end_divisor=end_divisor
        ),
        (0.1, 11, 20.0, 5.0),
    ),
    "one_cycle, share": (lambda peak, share: optim.one_cycle(peak, 11, warmup_share=share, end_divisor=5), (0.1, 0.5)),
    "join": (
        lambda peak, edge, rate: optim.join(
            [optim.cosine_decay(peak, 4), optim.exponential_decay(rate, 0.1)], [edge]
        ),
        (0.1, 4, 0.05),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "numbers"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_may_be_injected(make, numbers):
    """A chain whose schedule has traced numbers is the chain with those numbers, and is compiled once."""

    @functools.wraps(make)
    def chain(*args, **kwargs):
        return optim.momentum(make(*args, **kwargs), momentum=0.5, weight_decay=1e-4)

    params = jnp.array([1.0, -2.0])
    tx, traces = optax.inject_hyperparams(chain)(*numbers), []

    @jax.jit
    def update(grads, state):
        traces.append(None)
        return tx.update(grads, state, params)

    def ten(state, update):
        found = []
        for step in range(10):
            updates, state = update(jnp.array([1.0, 0.3 * step - 1]), state)
            found.append(updates)
        return jnp.stack(found)

    state = tx.init(params)
    expected = chain(*numbers)
    here = jax.jit(lambda grads, state: expected.update(grads, state, params))
    chex.assert_trees_all_close(ten(state, update), ten(expected.init(params), here), rtol=1e-6, atol=1e-8)
    first = next(iter(state.hyperparams))  # the peak
    state.hyperparams[first] = jnp.float32(0.3)
    other = chain(0.3, *numbers[1:])
    there = jax.jit(lambda grads, state: other.update(grads, state, params))
    chex.assert_trees_all_close(ten(state, update), ten(other.init(params), there), rtol=1e-6, atol=1e-8)
    assert len(traces) == 1


def test_the_page_of_rules_runs():
    (code,) = (block.split("```")[0] for block in RULES.read_text().split("```python\n")[1:])
    names = {}
    exec(code, names)
    updates, _ = names["tx"].update(jnp.ones(3), names["state"], jnp.zeros(3))
    np.testing.assert_allclose(updates, -0.2)


def test_what_must_be_known_when_compiling_is_told():
    chain = lambda rate, m: optim.momentum(optim.cosine_cycles(rate, 3, period_multiplier=m))  # noqa: E731
    tx = optax.inject_hyperparams(chain)(rate=0.1, m=2)
    with pytest.raises(ValueError, match=r"period_multiplier must be known when compiling.*static_args=\('period_mult"):
        jax.jit(tx.init)(jnp.zeros(2))


def test_epochs_to_steps():
    assert optim.epochs_to_steps(10, examples=50_000, batch_size=128) == 3900
    assert optim.epochs_to_steps(0.5, examples=100, batch_size=10) == 5


def test_a_schedule_drives_a_chain_and_counts_updates_under_multi_steps():
    schedule = optim.step_decay(1.0, (2,))
    tx = optax.MultiSteps(optim.sgd(schedule), every_k_schedule=3)
    params = jnp.zeros(())
    state, moved = tx.init(params), []
    for _ in range(9):
        updates, state = tx.update(jnp.ones(()), state, params)
        moved.append(float(updates))
    np.testing.assert_allclose(moved, [0, 0, -1, 0, 0, -1, 0, 0, -0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.step_decay(-1, 3), "step_decay: initial must be a finite number >= 0"),
        (lambda: optim.step_decay(1, (3, 3)), r"step_decay: boundaries must rise, got \(3, 3\)"),
        (lambda: optim.step_decay(1, 0), "step_decay: boundaries must be an integer >= 1, got boundaries=0"),
        (lambda: optim.step_decay(1, 3, factor=1), "step_decay: factor"),
        (lambda: optim.exponential_decay(1, -1), "exponential_decay: decay"),
        (lambda: optim.inverse_time_decay(1, 1, steps_per_unit=0), "inverse_time_decay: steps_per_unit"),
        (lambda: optim.cosine_decay(1, 0), "cosine_decay: steps must be an integer >= 1, got steps=0"),
        (lambda: optim.cosine_cycles(1, 2.5), "cosine_cycles: period must be an integer"),
        (lambda: optim.cosine_cycles(1, 2, period_multiplier=0.5), "cosine_cycles: period_multiplier"),
        (lambda: optim.warmup(lambda s: 1.0, -1), "warmup: steps must be an integer >= 0, got steps=-1"),
        (lambda: optim.warmup(lambda s: 1.0, 5, kind="quadratic"), "warmup: kind must be one of .*'quadratic'"),
        (
            lambda: optim.warmup(0.1, 5),
            "warmup: schedule must be a schedule, .* got schedule=0.1; pass lambda step: 0.1",
        ),
        (
            lambda: optim.warmup(optim.cosine_decay, 5),
            r"warmup: schedule .* call it first, as in optim.cosine_decay\(0.1",
        ),
        (lambda: optim.warmup(lambda s: 1.0, 0.5), "warmup: steps must be an integer .*optim.epochs_to_steps"),
        (lambda: optim.join([0.1, 0.2], [3]), "join: each of schedules must be a schedule, .*=0.1; pass lambda step"),
        (lambda: optim.join(lambda s: 1.0, [3]), "join: schedules must be a list"),
        (lambda: optim.join([lambda s: 1.0] * 2, 3), "join: boundaries must be a list, got boundaries=3"),
        (lambda: optim.join([lambda s: 1.0] * 2, [2.5]), "join: boundaries must be an integer .*epochs_to_steps"),
        (lambda: optim.step_decay(0.1, 1000.0), "boundaries must be an integer .*boundaries=1000.0; .*epochs_to_steps"),
        (
            lambda: optim.step_decay(0.1, (0.5, 0.75)),
            "boundaries must be an integer .*boundaries=0.5; .*epochs_to_steps",
        ),
        (
            lambda: optim.step_decay(lambda s: 1.0, 3),
            "initial must be .*; initial is a number: optim.warmup and optim.j",
        ),
        (lambda: optim.cosine_decay(optim.step_decay(1, 3), 9), "peak must be a finite number .*; peak is a number"),
        (lambda: optim.cosine_decay("0.1", 9), "cosine_decay: peak must be a finite number >= 0, got peak='0.1'"),
        (lambda: optim.cosine_decay(float("nan"), 9), "cosine_decay: peak must be a finite number >= 0, got peak=nan"),
        (
            lambda: optim.cosine_decay(0.1, 9, end=0.2),
            "end must be at most peak=0.1, got end=0.2; pass end",
        ),
        (lambda: optim.cosine_cycles(0.1, 9, end=0.2), "cosine_cycles: end must be at most peak=0.1"),
        (lambda: optim.warmup_cosine(0.1, 2, 9, end=0.2), "warmup_cosine: end must be at most peak=0.1, got end=0.2"),
        (lambda: optim.warmup_cosine(0.1, 2, 9, start=1), "warmup_cosine: start must be at most peak=0.1, got start=1"),
        (lambda: optim.warmup_cosine(0.1, 2, True), "warmup_cosine: total_steps must be an integer .*=True"),
        (lambda: optim.one_cycle(0.1, 1e3), "one_cycle: steps must be an integer >= 2, got steps=1000.0"),
        (lambda: optim.warmup(lambda s: 1.0, 5, kind="exponential"), "needs start > 0, got start=0.0"),
        (lambda: optim.warmup_cosine(1, 5, 0), "warmup_cosine: total_steps"),
        (lambda: optim.warmup_cosine(-1, 5, 4), "warmup_cosine: peak"),
        (lambda: optim.swa_schedule(1, -1, 5), "swa_schedule: swa_rate"),
        (lambda: optim.one_cycle(1, 1), "one_cycle: steps must be an integer >= 2"),
        (lambda: optim.one_cycle(1, 10, warmup_share=1), "one_cycle: warmup_share"),
        (lambda: optim.join([lambda s: 1.0], [3]), "join: 1 schedules need 0 boundaries, got 1"),
        (lambda: optim.join([lambda s: 1.0] * 3, [3, 2]), r"join: boundaries must rise, got \(3, 2\)"),
        (
            lambda: optim.epochs_to_steps(1, examples=10, batch_size=11),
            "examples must be an integer >= 11",
        ),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
