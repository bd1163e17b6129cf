"""Penalties, decay, and masks by path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import models, optim

PARAMS = {"dense": {"kernel": jnp.array([[1.0, -2.0], [0.0, 0.5]]), "bias": jnp.array([3.0, -4.0])}}
GRADS = jax.tree.map(lambda p: 0.1 * p + 1, PARAMS)
LINKS = {
    "add_l2": (optim.add_l2, (0.3,)),
    "decoupled_weight_decay": (optim.decoupled_weight_decay, (0.3,)),
    "add_l1": (optim.add_l1, (0.3,)),
    "add_elastic_net": (optim.add_elastic_net, (0.3, 0.2)),
}


def updates(tx):
    return tx.update(GRADS, tx.init(PARAMS), PARAMS)[0]


@pytest.mark.parametrize(
    ("tx", "penalty"),
    [
        (optim.add_l2(0.3), lambda p: 0.15 * jnp.sum(p**2)),
        (optim.add_l1(0.3), lambda p: 0.3 * jnp.sum(jnp.abs(p))),
        (optim.add_elastic_net(0.3, 0.2), lambda p: 0.3 * jnp.sum(jnp.abs(p)) + 0.1 * jnp.sum(p**2)),
    ],
)
def test_penalties_add_their_gradient(tx, penalty):
    """That of the penalty written out, by autodiff; sign(0) is 0."""
    gradient = jax.grad(lambda tree: sum(penalty(leaf) for leaf in jax.tree.leaves(tree)))(PARAMS)
    expected = jax.tree.map(lambda g, p, x: g + jnp.where(x == 0, 0.0, p), GRADS, gradient, PARAMS)
    for a, b in zip(jax.tree.leaves(updates(tx)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_coupled_and_decoupled_differ_by_their_place():
    """Through Adam a penalty is rescaled; decay beside it is not."""
    coupled = optax.chain(optim.add_l2(0.3), optim.scale_by_adam())
    decoupled = optax.chain(optim.scale_by_adam(), optim.decoupled_weight_decay(0.3))
    alone = updates(optim.scale_by_adam())
    beside = jax.tree.map(lambda u, p: u + 0.3 * p, alone, PARAMS)
    for a, b in zip(jax.tree.leaves(updates(decoupled)), jax.tree.leaves(beside), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    first = jax.tree.leaves(updates(coupled))[0]
    np.testing.assert_allclose(first, np.sign(first), rtol=1e-5)  # Adam's first step is the sign, penalty or not


@pytest.mark.parametrize(("link", "weights"), LINKS.values(), ids=LINKS)
def test_masks(link, weights):
    everywhere = updates(link(*weights))["dense"]
    tree = {"dense": {"kernel": True, "bias": False}}
    for mask in (tree, optim.no_bias_no_norm, optim.mask_by_path(lambda path: path == "dense/kernel")):
        found = updates(link(*weights, mask=mask))["dense"]
        np.testing.assert_array_equal(found["kernel"], everywhere["kernel"])
        np.testing.assert_array_equal(found["bias"], GRADS["dense"]["bias"])


@pytest.mark.parametrize(("link", "weights"), LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("mask", [{"dense": True}, True, {"dense": {"kernel": 1, "bias": 0}}, lambda params: params])
def test_masks_that_do_not_fit_are_told(link, weights, mask):
    with pytest.raises(ValueError, match=f"^{link.__name__}: mask must be a tree of bools like the parameters"):
        link(*weights, mask=mask).init(PARAMS)


@pytest.mark.parametrize(("link", "weights"), LINKS.values(), ids=LINKS)
def test_bad_values(link, weights):
    with pytest.raises(ValueError, match=f"^{link.__name__}: update needs the parameters; call tx.update"):
        link(*weights).update(GRADS, optax.EmptyState())
    for bad in (-0.1, float("nan"), "1"):
        with pytest.raises(ValueError, match=f"^{link.__name__}: .* must be a finite number >= 0, got"):
            link(bad, *weights[1:])


def test_no_bias_no_norm_of_a_model():
    model = models.convnet(widths=(4,), hidden=4)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)["params"]
    kept = jax.tree_util.tree_flatten_with_path(optim.no_bias_no_norm(params))[0]
    assert {path[-1].key: wanted for path, wanted in kept} == {"kernel": True, "bias": False}


def test_mask_by_path_needs_a_function():
    with pytest.raises(
        ValueError, match="mask_by_path: wanted must be a function, got wanted='kernel'; pass lambda path"
    ):
        optim.mask_by_path("kernel")


def test_mask_by_path_that_matches_nothing():
    """Told when the state is made; but under another mask, or of nothing, it may."""
    mask = optim.mask_by_path(lambda path: path.startswith("conv"))
    with pytest.raises(ValueError, match="wanted is True for no parameter; there are dense/bias, dense/kernel$"):
        optim.add_l2(0.1, mask).init(PARAMS)
    with pytest.raises(ValueError, match="wanted is True for no parameter"):
        optax.masked(optim.add_l2(0.1), mask).init(PARAMS)
    optim.add_l2(0.1, mask).init({})
    both = PARAMS | {"conv": {"kernel": jnp.ones(2)}}
    grads = jax.tree.map(jnp.zeros_like, both)
    for inner, kernel in ((mask, 0.0), (optim.mask_by_path(lambda path: path.endswith("kernel")), 0.1)):
        tx = optax.masked(optim.add_l2(0.1, inner), {"dense": True, "conv": False})
        found, _ = tx.update(grads, tx.init(both), both)
        np.testing.assert_allclose(found["dense"]["kernel"], kernel * PARAMS["dense"]["kernel"], rtol=1e-6)
        np.testing.assert_array_equal(found["conv"]["kernel"], 0)
