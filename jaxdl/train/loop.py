"""The training loop."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import optim
from jaxdl.arguments import check_integer, require
from jaxdl.data import Dataset, epoch_order, take_batch
from jaxdl.progress import progress_bar
from jaxdl.train.evaluation import evaluate
from jaxdl.train.history import History
from jaxdl.train.losses import Loss, cross_entropy
from jaxdl.train.state import TrainState, check_model_and_tx
from jaxdl.train.step import Metrics, Preprocess, train_step

_BLOCK = 16  # steps whose metrics are fetched together, while the next block runs: the device never waits

Progress = Callable[[int, float], None]
"""Called with (updates made so far, loss of the newest one known)."""

Record = Callable[[Metrics, float], None]
"""Called with the metrics [k] of the next k steps, on the host, and the seconds they took."""


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite.

    Attributes:
      step: number of the update whose loss was not finite, counted from 1.
      last_finite_loss: the loss before it (NaN if there was none).
      history: all that happened before it.
    """

    def __init__(self, where: str, value: float, step: int, history: History):
        self.step, self.history = step, history
        self.last_finite_loss = float(history.loss[-1]) if len(history.loss) else float("nan")
        before = f"the last finite loss was {history.loss[-1]:.4g}" if len(history.loss) else "there was none before it"
        super().__init__(
            f"fit: the {where} is {value} at step {step}; {before}. "
            "Try a smaller learning rate, a warm-up, or optax.clip_by_global_norm(1.0) before the optimizer; "
            "check the inputs for NaN. What was recorded until then is in this exception's .history"
        )


def fit(
    state: TrainState,
    model: nn.Module,
    tx: optax.GradientTransformation,
    train_set: Dataset,
    *,
    steps: int,
    batch_size: int = 128,
    eval_set: Dataset | None = None,
    eval_every: int | None = None,
    loss: Loss = cross_entropy,
    preprocess: Preprocess | None = None,
    scan: bool | None = None,
    progress: bool | Progress = True,
) -> tuple[TrainState, History]:
    """Trains until `steps` updates have been made in all, counting those that `state` has behind it.

    The data set is put on the device once and shuffled there, from the state's key and the epoch's number alone: a
    state that stopped anywhere goes on with the batches it would have seen. Nothing waits for the device but every
    16th step, for the steps 16 before.

    Args:
      state: where to start; it stays usable (training works on a copy).
      model: the module that the state belongs to.
      tx: the optimizer that the state belongs to.
      train_set: what to train on. An epoch has `train_set.steps_per_epoch(batch_size)` steps.
      steps: number of updates to reach.
      batch_size: examples in a batch.
      eval_set: what to evaluate on, after every `eval_every` updates and after the last. The errors at multiples
        of `eval_every` are told to `optim.reduce_on_plateau(every=None)`.
      eval_every: by default an epoch.
      loss: logits and labels to one loss per example; their mean is minimised.
      preprocess: images to model inputs; by default `train_set.standardize`, for both sets.
      scan: whether to compile an epoch as one loop on the device. By default where that is faster: everywhere but for
        convolutions on the CPU (`benchmarks/epoch.py`).
      progress: True for a progress bar, False for none, or a function that is told (step, loss) now and then.

    Returns:
      The state after `steps` updates, and the history of the updates made here.

    Raises:
      ValueError: an argument is not what it should be; `state.step` is past `steps`.
      NonFiniteLossError: the loss, or the loss on `eval_set`, became NaN or infinite. Training stops within 32 steps
        (an epoch when scanned); the error holds the history until then.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, train
      >>> train_set, test_set = data.load("fashion_mini")
      >>> model, tx = models.mlp(widths=(32,)), optim.momentum(0.03)
      >>> state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
      >>> state, history = train.fit(state, model, tx, train_set, steps=78, eval_set=test_set, progress=False)
      >>> int(state.step), history.loss.shape, bool(history.eval_error[-1] < 0.3)
      (78, (78,), True)
    """
    check_model_and_tx("fit", model, tx)
    check_integer("fit", "steps", steps, at_least=1)
    steps_per_epoch = train_set.steps_per_epoch(batch_size)
    eval_every = steps_per_epoch if eval_every is None else eval_every
    check_integer("fit", "eval_every", eval_every, at_least=1, remedy="leave it out for once an epoch")
    _check_same_kind(train_set, eval_set)
    step = int(state.step)
    require(
        step <= steps, f"fit: the state has {step} updates behind it, more than steps={steps}; pass steps >= {step}"
    )
    preprocess = preprocess or train_set.standardize

    state = jax.tree.map(jnp.copy, state)
    images, labels = jnp.asarray(train_set.images), jnp.asarray(train_set.labels)
    run = _scanned if (_scan_is_faster(state) if scan is None else scan) else _single_steps
    compiled = _compiled(model, tx, loss, preprocess)
    history, epoch, order = History.empty(), -1, None

    with _progress_function(progress, step, steps) as report:

        def record(metrics: Metrics, seconds: float) -> None:
            nonlocal history, step
            history = _recorded(history, metrics, seconds, step)
            step += len(metrics.loss)
            report(step, float(metrics.loss[-1]))

        while step < steps:
            if epoch != step // steps_per_epoch:
                epoch = step // steps_per_epoch
                order = epoch_order(state.key, epoch, examples=len(labels), batch_size=batch_size)
            next_evaluation = (step // eval_every + 1) * eval_every if eval_set else steps
            stop = min(steps, (epoch + 1) * steps_per_epoch, next_evaluation)
            state = run(compiled, state, (images, labels, order), stop - step, record)
            if eval_set and step in (next_evaluation, steps):
                found = evaluate(state, model, eval_set, loss=loss, preprocess=preprocess)
                if not np.isfinite(found.loss):
                    raise NonFiniteLossError("loss on the evaluation set", float(found.loss), step, history)
                history = history.add_evaluation(step, float(found.loss), float(found.error))
                if step == next_evaluation:  # not where a part of the run happens to end: parts make the same run
                    state = state._replace(opt_state=optim.observe(state.opt_state, found.error))
    return state, history


@functools.lru_cache(maxsize=64)
def _compiled(model, tx, loss, preprocess):
    """Two jitted functions: one step on the batch that its order gives for it, and many such steps."""
    step = functools.partial(train_step, model=model, tx=tx, loss=loss, preprocess=preprocess)

    def one(state, data):
        images, labels, order = data
        return step(state, take_batch(images, labels, order[state.step % len(order)]))

    def many(state, data, count, *, whole_epoch):
        """One compilation for whole epochs, whose length XLA then knows, and one for all other counts of steps."""
        length = len(data[2])

        def body(i, carry):
            state, metrics = carry
            state, newest = one(state, data)
            return state, jax.tree.map(lambda all_steps, value: all_steps.at[i].set(value), metrics, newest)

        empty = jax.tree.map(lambda m: jnp.zeros(length, m.dtype), jax.eval_shape(one, state, data)[1])
        return jax.lax.fori_loop(0, length if whole_epoch else count, body, (state, empty))

    return jax.jit(one, donate_argnums=0), jax.jit(many, donate_argnums=0, static_argnames="whole_epoch")


def _single_steps(compiled, state: TrainState, data, count: int, record: Record) -> TrainState:
    """One step at a time; records the metrics of a block of steps once the next block is on its way."""
    one, _ = compiled
    one.lower(state, data).compile()  # so that the clock does not see it; the calls below find it done
    start, pending = time.perf_counter(), []
    for done in range(1, count + 1):
        state, metrics = one(state, data)
        pending.append(metrics)
        if len(pending) == 2 * _BLOCK or done == count:
            ready = _BLOCK if done < count else len(pending)
            fetched = jax.device_get(pending[:ready])
            pending = pending[ready:]
            record(Metrics(*map(np.array, zip(*fetched, strict=True))), time.perf_counter() - start)
            start = time.perf_counter()
    return state


def _scanned(compiled, state: TrainState, data, count: int, record: Record) -> TrainState:
    """All steps in one call."""
    _, many = compiled
    whole_epoch = count == len(data[2])
    many.lower(state, data, count, whole_epoch=whole_epoch).compile()
    start = time.perf_counter()
    state, metrics = many(state, data, count, whole_epoch=whole_epoch)
    record(Metrics(*(values[:count] for values in jax.device_get(metrics))), time.perf_counter() - start)
    return state


def _scan_is_faster(state: TrainState) -> bool:
    """On the CPU a convolution (a kernel of four axes) gains nothing from a scan and may lose much."""
    return jax.default_backend() != "cpu" or all(leaf.ndim < 4 for leaf in jax.tree.leaves(state.params))


def _recorded(history: History, metrics: Metrics, seconds: float, after: int) -> History:
    """The history with a block of steps added, or an error that holds it until the first loss that is not finite."""
    loss, error = np.asarray(metrics.loss), np.asarray(metrics.error)
    bad = np.flatnonzero(~np.isfinite(loss))
    good = int(bad[0]) if len(bad) else len(loss)
    history = history.add_steps(loss[:good], error[:good], seconds, after)
    if len(bad):
        raise NonFiniteLossError("loss", float(loss[good]), after + good + 1, history)
    return history


def _check_same_kind(train_set: Dataset, eval_set: Dataset | None) -> None:
    if eval_set is not None:
        train_kind, eval_kind = ((s.image_shape, s.num_classes) for s in (train_set, eval_set))
        require(
            train_kind == eval_kind,
            f"fit: train_set and eval_set differ: {train_set!r} and {eval_set!r}; pass two splits of one data set",
        )


@contextlib.contextmanager
def _progress_function(progress: bool | Progress, step: int, steps: int) -> Iterator[Progress]:
    """A function to tell of progress, drawing a bar if `progress` is True."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda step, loss: None
    else:
        with progress_bar("training", steps, done=step) as update:
            yield lambda step, loss: update(step, f"loss {loss:.3f}")
