"""Schedules against their formulas in NumPy, at and beyond their ends, and torch's recorded numbers."""

import math

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
        values(optim.cosine_decay(0.5, 100, minimum=0.1)), half_cosine(0.5, 0.1, STEPS / 100), rtol=1e-12
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
    found = values(optim.cosine_cycles(0.2, period, minimum=0.01, period_multiplier=multiplier))
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
    ends = [
        (optim.cosine_decay(peak, steps, minimum=low), {0: peak, -3: peak, steps: low, steps + 5: low}),
        (optim.cosine_cycles(peak, steps, minimum=low), {0: peak, steps: peak, 5 * steps: peak}),
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
