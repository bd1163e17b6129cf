"""The rules against NumPy recurrences from the papers' equations, with hyperparameters, shapes and dtypes drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import optim

DECAY = st.floats(0.0, 0.99)
EPS = st.floats(1e-4, 1e-1)
SHAPES = st.sampled_from([(), (3,), (2, 3), (1, 2, 3)])
# Tolerances follow from the dtypes: bfloat16 keeps 8 bits of each update, float32 24.
DTYPES = st.sampled_from([(jnp.bfloat16, 2e-2), (jnp.float32, 2e-5), (jnp.float64, 1e-10)])
STEPS = 6


def momentum(g, memory, t, h):
    v = g if t == 1 else h["decay"] * memory.get("v", 0) + (1 - h["dampening"]) * g
    memory["v"] = v
    return v


def nesterov(g, memory, t, h):
    memory["v"] = h["decay"] * memory.get("v", 0) + g
    return g + h["decay"] * memory["v"]


def root(square, h):
    return np.sqrt(square + h["eps"]) if h["inside"] else np.sqrt(square) + h["eps"]


def adagrad(g, memory, t, h):
    memory["s"] = memory.get("s", h["start"]) + g * g
    return g / root(memory["s"], h)


def rmsprop(g, memory, t, h):
    memory["s"] = h["decay"] * memory.get("s", 0) + (1 - h["decay"]) * g * g
    return g / root(memory["s"] / (1 - h["decay"] ** t if h["corrected"] else 1), h)


def adam(g, memory, t, h):
    memory["m"] = h["b1"] * memory.get("m", 0) + (1 - h["b1"]) * g
    memory["s"] = h["b2"] * memory.get("s", 0) + (1 - h["b2"]) * g * g
    c1, c2 = (1 - h["b1"] ** t, 1 - h["b2"] ** t) if h["corrected"] else (1, 1)
    return memory["m"] / c1 / root(memory["s"] / c2, h)


RULES = st.one_of(
    st.fixed_dictionaries({"rule": st.just(momentum), "decay": DECAY, "dampening": DECAY}),
    st.fixed_dictionaries({"rule": st.just(nesterov), "decay": DECAY}),
    st.fixed_dictionaries(
        {"rule": st.just(adagrad), "start": st.floats(0.0, 1.0), "eps": EPS, "inside": st.booleans()}
    ),
    st.fixed_dictionaries(
        {"rule": st.just(rmsprop), "decay": DECAY, "eps": EPS, "inside": st.booleans(), "corrected": st.booleans()}
    ),
    st.fixed_dictionaries(
        {
            "rule": st.just(adam),
            "b1": DECAY,
            "b2": DECAY,
            "eps": EPS,
            "inside": st.booleans(),
            "corrected": st.booleans(),
        }
    ),
)


def ours(h):
    rule = h["rule"]
    if rule is momentum:
        return optim.scale_by_momentum(h["decay"], dampening=h["dampening"])
    if rule is nesterov:
        return optim.scale_by_momentum(h["decay"], nesterov=True)
    if rule is adagrad:
        return optim.scale_by_adagrad(initial_accumulator=h["start"], eps=h["eps"], eps_in_sqrt=h["inside"])
    if rule is rmsprop:
        return optim.scale_by_rmsprop(h["decay"], eps=h["eps"], eps_in_sqrt=h["inside"], bias_correction=h["corrected"])
    return optim.scale_by_adam(h["b1"], h["b2"], eps=h["eps"], eps_in_sqrt=h["inside"], bias_correction=h["corrected"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(h=RULES, shape=SHAPES, dtype=DTYPES, seed=st.integers(0, 2**16), l1=st.floats(0, 1), l2=st.floats(0, 1))
def test_rules_follow_their_equations(h, shape, dtype, seed, l1, l2):
    """With a penalty before the rule, so that gradients depend on the parameters, which move at a rate of 0.1."""
    dtype, tolerance = dtype
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        tx = optax.chain(optim.add_elastic_net(l1, l2), ours(h))
        params = jnp.asarray(rng.normal(size=shape), dtype)
        state, memory = tx.init(params), {}
        for t in range(1, STEPS + 1):
            # The equations see the rounded gradient that the rule sees: rounding of the inputs is not on trial.
            grads = jnp.asarray(rng.normal(size=shape), dtype)
            theta = np.asarray(params, np.float64)
            g = np.asarray((grads + l1 * jnp.sign(params) + l2 * params).astype(dtype), np.float64)
            penalised = np.asarray(grads, np.float64) + l1 * np.sign(theta) + l2 * theta
            np.testing.assert_allclose(g, penalised, rtol=tolerance, atol=tolerance)
            expected = h["rule"](g, memory, t, h)
            updates, state = tx.update(grads, state, params)
            found = np.asarray(updates, np.float64)
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
            params = params - jnp.asarray(0.1, dtype) * updates
