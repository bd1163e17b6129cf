"""One training step, written once: a pure function from state and batch to state and metrics."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxdl import optim, transfer
from jaxdl.arguments import require
from jaxdl.train.losses import Loss, cross_entropy
from jaxdl.train.state import TrainState, check_model_and_tx, init_optimizer
from jaxdl.typing import Batch

_MODEL = 1  # the stream of random numbers that dropout and its kin draw from; `data.batches` draws from another

Preprocess = Callable[[jax.Array], jax.Array]
"""uint8 images to model inputs, `train_set.standardize` for example."""


class Metrics(NamedTuple):
    """How well a model did on a batch, or on a whole set."""

    loss: Any  # scalar: mean loss
    error: Any  # scalar: share of examples classified wrongly, in [0, 1]


def make_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    loss: Loss = cross_entropy,
    preprocess: Preprocess | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Makes a jitted training step. The state passed to it is donated: use the one that it returns.

    Equal arguments give the same step, so it compiles once.

    Args:
      model: a module called as `model(images, train=bool)`.
      tx: the optimizer.
      loss: logits and labels to one loss per example; their mean is minimised.
      preprocess: pure function from images to model inputs; needed if images are uint8.

    Returns:
      `step(state, batch) -> (state, metrics)`. Metrics are of the parameters before the update, with dropout and
      batch statistics as in training.

    Raises:
      ValueError: `model` or `tx` is not what it should be; or, from the step, uint8 images with no `preprocess`.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, train
      >>> train_set, _ = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(32,)), optim.sgd(0.1)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
      >>> step = train.make_step(model, tx, preprocess=train_set.standardize)
      >>> state, metrics = step(state, (train_set.images[:128], train_set.labels[:128]))
      >>> int(state.step), bool(metrics.loss > 1)
      (1, True)
    """
    check_model_and_tx("make_step", model, tx)
    return _compiled_step(model, tx, loss, preprocess)


@functools.lru_cache(maxsize=64)
def _compiled_step(model, tx, loss, preprocess):
    step = functools.partial(train_step, model=model, tx=tx, loss=loss, preprocess=preprocess)
    return jax.jit(step, donate_argnums=0)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    loss: Loss,
    preprocess: Preprocess | None,
) -> tuple[TrainState, Metrics]:
    """The step itself, not jitted; see `make_step`.

    The optimizer is given what some links ask for: the loss (`value`), the gradient (`grad`), the loss as a function
    of the parameters on this batch (`value_fn`) and, for snapshots, the new batch statistics (`batch_stats`). With
    `scale_by_nesterov_lookahead` in the chain the gradient is taken where that looks; what `transfer.freeze` froze has
    none.
    """
    fresh = jax.eval_shape(functools.partial(init_optimizer, tx), state.params, state.batch_stats)
    kept, needed = jax.tree.structure(state.opt_state), jax.tree.structure(fresh)
    require(
        kept == needed,
        f"the optimizer state does not belong to tx; make the state with init_state and the same tx. "
        f"tx keeps {needed}, the state holds {kept}",
    )
    images, labels = batch
    inputs = model_inputs(images, preprocess)
    dropout_key = jax.random.fold_in(jax.random.fold_in(state.key, _MODEL), state.step)

    frozen = transfer.frozen_params(state.opt_state, state.params)

    def objective(params):
        if frozen is not None:
            params = jax.tree.map(lambda keep, p: jax.lax.stop_gradient(p) if keep else p, frozen, params)
        with transfer.frozen_modules_evaluate(frozen):
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                inputs,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats"],
            )
        batch_stats = transfer.frozen_statistics(frozen, state.batch_stats, updated.get("batch_stats", {}))
        error = jnp.mean(jnp.argmax(logits, -1) != labels)
        return jnp.mean(loss(logits, labels)), (batch_stats, error)

    point = optim.lookahead_params(state.params, state.opt_state)
    (value, (batch_stats, error)), grads = jax.value_and_grad(objective, has_aux=True)(point)
    # Told only where it is asked for: optax's line searches hand on what they do not know.
    statistics = {"batch_stats": batch_stats} if optim.wants_batch_stats(state.opt_state) else {}
    updates, opt_state = optax.with_extra_args_support(tx).update(
        grads,
        state.opt_state,
        state.params,
        value=value,
        grad=grads,
        value_fn=lambda params: objective(params)[0],
        **statistics,
    )
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, batch_stats, opt_state, state.step + 1, state.key), Metrics(value, error)


def model_inputs(images: jax.Array, preprocess: Preprocess | None) -> jax.Array:
    """What the model is shown; raises `ValueError` if that would be integers."""
    inputs = images if preprocess is None else preprocess(images)
    require(
        jnp.issubdtype(inputs.dtype, jnp.floating),
        f"the model would be shown {inputs.dtype} images; pass preprocess=train_set.standardize, or floats",
    )
    return inputs
