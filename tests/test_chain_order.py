"""Averages, snapshots and frozen layers in the wrong place of a chain are found before training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import shapes_filled, small_resnet

from jaxdl import models, optim, train, transfer
from jaxdl.models import layers
from jaxdl.train.order import check_order

SHAPE = (4, 4, 1)
LINKS = {"swa": optim.swa(100, period=10), "ema": optim.ema(0.999), "snapshots": optim.snapshots(50, 2)}
rate = optax.scale_by_learning_rate


class Stem(nn.Module):
    """A first layer that chains freeze by its name, statistics, and a head: what is looked for is in any model."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(3, use_bias=False, name="stem_dense")(x.reshape(len(x), -1))
        x = nn.relu(layers.BatchNorm(name="stem_norm")(x, train=train))
        return nn.Dense(10, name="head")(x)


MODEL = Stem()
VARIABLES = shapes_filled(MODEL, SHAPE)


def check(tx):
    """The check of `init_state`, without drawing parameters."""
    check_order("init_state", tx, VARIABLES["params"], VARIABLES["batch_stats"])


def in_order(link):
    momentum = optim.scale_by_momentum(0.9)
    return {
        "after the rate": optax.chain(momentum, rate(0.1), link),
        "after a schedule that begins at 0": optax.chain(momentum, rate(optim.warmup_cosine(0.1, 5, 100)), link),
        "all three": optax.chain(optim.sgd(0.1), *LINKS.values()),
        "masked": optax.chain(optim.sgd(0.1), optax.masked(link, optim.no_bias_no_norm)),
        "after a look-ahead": optax.chain(rate(0.1), optim.scale_by_nesterov_lookahead(0.9), link),
        "after a plateau": optax.chain(optim.sgd(0.1), optim.reduce_on_plateau(every=None), link),
        "inside MultiSteps": optax.MultiSteps(optax.chain(optim.sgd(0.1), link), 3),
        "inside a loss scale": optim.dynamic_loss_scale(optax.chain(optim.sgd(0.1), link)),
        "after freeze": optax.chain(optim.sgd(0.1), transfer.freeze(lambda path: path.startswith("stem")), link),
        "freeze before what stands still": optax.chain(
            optim.momentum(0.1), link, transfer.freeze(lambda path: path.startswith("stem"))
        ),
        "injected": optax.chain(optax.inject_hyperparams(optim.momentum)(learning_rate=0.1), link),
        "after clipping": optax.chain(optax.clip_by_global_norm(1.0), optim.adam(0.1), link),
    }


def out_of_order(link):
    return {
        "before the rate": optax.chain(optim.scale_by_momentum(0.9), link, rate(0.1)),
        "before a schedule that begins at 0": optax.chain(link, rate(optim.warmup_cosine(0.1, 5, 100))),
        "first": optax.chain(link, optim.momentum(0.1)),
        "before decay": optax.chain(optim.sgd(0.1), link, optim.decoupled_weight_decay(1e-4)),
        "before a plateau": optax.chain(optim.sgd(0.1), link, optim.reduce_on_plateau(every=None)),
        "masked": optax.chain(optax.masked(link, optim.no_bias_no_norm), optim.sgd(0.1)),
        "inside MultiSteps": optax.MultiSteps(optax.chain(link, optim.sgd(0.1)), 16),
        "decay of what is frozen": optax.chain(
            transfer.freeze(lambda path: path.startswith("stem")), optim.sgd(0.1, weight_decay=1e-2), link
        ),
    }


@pytest.mark.parametrize("name", [n if n == "ema" else pytest.param(n, marks=pytest.mark.slow) for n in LINKS])
@pytest.mark.parametrize("place", out_of_order(optim.ema(0.9)))
def test_an_average_that_sees_other_parameters_is_refused(name, place):
    tx = out_of_order(LINKS[name])[place]
    with pytest.raises(ValueError, match=rf"init_state: {name} stands in the chain before a link that changes"):
        check(tx)


@pytest.mark.parametrize("name", [n if n == "ema" else pytest.param(n, marks=pytest.mark.slow) for n in LINKS])
@pytest.mark.parametrize("place", in_order(optim.ema(0.9)))
def test_an_average_at_its_place_is_not(name, place):
    check(in_order(LINKS[name])[place])


def test_init_state_looks_at_the_order():
    train.init_state(MODEL, in_order(LINKS["ema"])["all three"], jax.random.key(0), SHAPE)
    with pytest.raises(ValueError, match="init_state: ema stands in the chain before a link that changes"):
        train.init_state(MODEL, out_of_order(LINKS["ema"])["first"], jax.random.key(0), SHAPE)


def test_what_was_seen_under_jit_is_not_remembered():
    """There nothing can be refused by its numbers; afterwards it is."""
    bad = optax.chain(optim.ema(0.987), optim.sgd(0.1))
    model = models.mlp(3, widths=(4,))
    jax.eval_shape(lambda key: train.init_state(model, optim.sgd(0.1), key, (4, 4, 1)), jax.random.key(0))
    with pytest.raises(ValueError, match="ema stands in the chain before"):
        jax.jit(lambda key: train.init_state(model, bad, key, (4, 4, 1)))(jax.random.key(0))
    with pytest.raises(ValueError, match="ema stands in the chain before"):
        train.init_state(model, bad, jax.random.key(0), (4, 4, 1))


class Half(nn.Module):
    """A model whose parameters are bfloat16."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(10, param_dtype=jnp.bfloat16)(x.reshape(len(x), -1))


@pytest.mark.parametrize(
    "tx",
    [
        optax.chain(optim.momentum(0.1), optim.swa(2), optim.ema(0.9)),
        optax.chain(optim.adam(0.1), optim.ema(0.9, debias=False)),
        optax.chain(optim.sgd(0.1), optim.ema(lambda step: 1.0 - step / 10)),
        optax.flatten(optax.chain(optim.sgd(0.1), optim.swa(0))),
    ],
    ids=["momentum", "adam", "a decay that begins at 1", "flat"],
)
def test_right_chains_are_not_refused_in_bfloat16(tx):
    train.init_state(Half(), tx, jax.random.key(0), (4, 4, 1))


@pytest.mark.parametrize(
    "tx",
    [
        optax.MultiSteps(optax.chain(optim.sgd(0.1), optim.snapshots(1, 2)), 2).gradient_transformation(),
        optax.chain(optax.clip(1.0), optax.MultiSteps(optax.chain(optim.sgd(0.1), optim.reduce_on_plateau()), 2)),
    ],
    ids=["snapshots", "plateau"],
)
def test_links_that_would_not_be_told_what_they_need_are_refused_at_once(tx):
    with pytest.raises(
        ValueError, match="must pass the extra arguments of update on to .*, and the transformation around it does not"
    ):
        train.init_state(MODEL, tx, jax.random.key(0), SHAPE)


@pytest.mark.parametrize("link", [optim.swa(1), optim.ema(0.9), optim.snapshots(2, 2)])
def test_two_of_one_name_are_refused_before_training(link):
    with pytest.raises(ValueError, match='the chain has 2 of .*; give each a name of its own, as in .*name="long"'):
        train.init_state(MODEL, optax.chain(optim.sgd(0.1), link, link), jax.random.key(0), SHAPE)


def test_fit_and_a_step_refuse_it_too(fashion):
    """With a state that was made for another chain of the same structure."""
    train_set = fashion[0][:64]
    bad = optax.chain(optim.scale_by_momentum(0.9), optim.ema(0.9), rate(0.1))
    good = optax.chain(optim.scale_by_momentum(0.9), optim.ema(0.9), optax.identity())
    state = train.init_state(MODEL, good, jax.random.key(0), train_set.image_shape)
    with pytest.raises(ValueError, match="fit: ema stands"):
        train.fit(state, MODEL, bad, train_set, steps=1, batch_size=32)
    with pytest.raises(ValueError, match="make_step: ema stands"):
        train.make_step(MODEL, bad, preprocess=train_set.standardize)(
            state, (train_set.images[:8], train_set.labels[:8])
        )


def test_a_look_ahead_before_the_rate_is_refused():
    ahead = optim.scale_by_nesterov_lookahead(0.9)
    for wrong in (optax.chain(ahead, rate(0.1)), optax.chain(rate(0.1), ahead, optim.decoupled_weight_decay(0.1))):
        with pytest.raises(ValueError, match="scale_by_nesterov_lookahead stands in the chain before"):
            train.init_state(MODEL, wrong, jax.random.key(0), SHAPE)
    right = optax.chain(optim.add_l2(1e-4), rate(optim.warmup_cosine(0.1, 5, 100)), ahead)
    train.init_state(MODEL, right, jax.random.key(0), SHAPE)


@pytest.mark.parametrize(
    "tx",
    [
        optax.chain(transfer.freeze(lambda path: path.startswith("stem")), optim.momentum(0.1, weight_decay=0.1)),
        optax.chain(
            optim.scale_by_momentum(0.9),
            transfer.freeze(lambda path: path.startswith("stem")),
            optim.decoupled_weight_decay(0.1),
            rate(0.1),
        ),
    ],
    ids=["first", "before decay"],
)
def test_freeze_freezes_wherever_it_stands(tx, fashion):
    """With decay after it, that would move what is frozen."""
    train_set, model = fashion[0][:64], small_resnet()
    state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
    ended, _ = train.fit(state, model, tx, train_set, steps=3, batch_size=32, progress=False)
    for path, before in jax.tree_util.tree_leaves_with_path(state.params):
        after = ended.params
        for key in path:
            after = after[key.key]
        same = bool(jnp.all(before == after))
        assert same == (path[0].key.startswith("stem")), path
    np.testing.assert_array_equal(state.batch_stats["stem_norm"]["mean"], ended.batch_stats["stem_norm"]["mean"])
