"""Per-parameter step sizes from the history of squared gradients: AdaGrad, RMSProp, Adam.

Papers and libraries differ in where epsilon stands and in what the accumulator starts from, so both are arguments here.
All accumulators are float32 or wider, whatever the dtype of the parameters: in bfloat16 0.999 s rounds back to s, so
that an average could never fall. Updates keep the dtype of the gradients.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from jaxdl.arguments import check_flag, check_real
from jaxdl.typing import Params, Scalar


class AdagradState(NamedTuple):
    """State of `scale_by_adagrad`."""

    sum_of_squares: Params  # like the parameters, float32 or wider


class RMSPropState(NamedTuple):
    """State of `scale_by_rmsprop`."""

    count: jax.Array  # int32 scalar: updates made so far
    second_moment: Params  # like the parameters, float32 or wider
    first_moment: Params  # the same if centered, else None


class AdamState(NamedTuple):
    """State of `scale_by_adam`."""

    count: jax.Array  # int32 scalar: updates made so far
    first_moment: Params  # like the parameters, float32 or wider
    second_moment: Params  # like the parameters, float32 or wider


def scale_by_adagrad(
    *, initial_accumulator: Scalar = 0.0, eps: Scalar = 1e-10, eps_in_sqrt: bool = False
) -> optax.GradientTransformation:
    r"""Divides the gradient by the root of the sum of all squared gradients so far.

    .. math:: G_t = G_{t-1} + g_t^2, \qquad u_t = \frac{g_t}{\sqrt{G_t} + \epsilon}

    Args:
      initial_accumulator: :math:`G_0`, at least 0. The default equals torch's; optax and Keras start from 0.1.
      eps: :math:`\epsilon`, at least 0.
      eps_in_sqrt: divide by :math:`\sqrt{G_t + \epsilon}` instead (optax's form, with eps 1e-7).

    Returns:
      A gradient transformation with state `AdagradState`.

    Raises:
      ValueError: a value is negative or not finite, or `eps_in_sqrt` is no bool.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = scale_by_adagrad()
      >>> update, state = tx.update(jnp.array([-3.0]), tx.init(jnp.zeros(1)))
      >>> print(update, state.sum_of_squares)
      [-1.] [9.]

    References:
      Duchi et al., `Adaptive subgradient methods for online learning and stochastic optimization`, 2011
    """
    check_real("scale_by_adagrad", "initial_accumulator", initial_accumulator, at_least=0)
    check_real("scale_by_adagrad", "eps", eps, at_least=0)
    check_flag("scale_by_adagrad", "eps_in_sqrt", eps_in_sqrt)

    def init(params: Params) -> AdagradState:
        def full(param):
            # A copy: for a scalar parameter full_like returns an injected number itself, and the state may be donated.
            return jnp.array(jnp.full_like(_second_accumulator(param), initial_accumulator))

        return AdagradState(jax.tree.map(full, params))

    def update(updates, state, params=None):
        del params
        total = jax.tree.map(lambda g, s: s + _squared(g, s.dtype), updates, state.sum_of_squares)
        updates = jax.tree.map(lambda g, s: _divide(g, g, s, eps, eps_in_sqrt), updates, total)
        return updates, AdagradState(total)

    return optax.GradientTransformation(init, update)


def scale_by_rmsprop(
    decay: Scalar = 0.99,
    *,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = False,
    centered: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    r"""Divides the gradient by the root of a decaying average of its square.

    .. math::

        s_t = \rho s_{t-1} + (1 - \rho) g_t^2, \qquad u_t = \frac{g_t}{\sqrt{s_t} + \epsilon}

    With `centered`, the variance :math:`s_t - m_t^2` (never less than 0) takes the place of :math:`s_t`, where
    :math:`m_t` is the same average of the gradient.

    Args:
      decay: :math:`\rho`, in [0, 1). The default equals torch's; the lecture and optax use 0.9.
      eps: :math:`\epsilon`, at least 0.
      eps_in_sqrt: divide by :math:`\sqrt{s_t + \epsilon}` instead (optax's default form).
      centered: divide by the standard deviation of the gradient instead of its root mean square.
      bias_correction: divide the averages by :math:`1 - \rho^t`, which undoes their start from 0. Without it the
        first update is :math:`1/\sqrt{1 - \rho}` times as long. With `centered` too, the first variance is 0, so the
        first update is :math:`g_1 / \epsilon`: choose `eps` accordingly.

    Returns:
      A gradient transformation with state `RMSPropState`.

    Raises:
      ValueError: a value is out of its range, or a flag is no bool.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = scale_by_rmsprop(0.75)
      >>> update, state = tx.update(jnp.array([-3.0]), tx.init(jnp.zeros(1)))
      >>> print(update, state.second_moment)
      [-2.] [2.25]

    References:
      Tieleman and Hinton, `Lecture 6.5 of Neural Networks for Machine Learning`, 2012;
      Graves, `Generating sequences with recurrent neural networks`, 2013, eq. 38-45 (centered)
    """
    check_real("scale_by_rmsprop", "decay", decay, at_least=0, below=1)
    check_real("scale_by_rmsprop", "eps", eps, at_least=0)
    for name, flag in (("eps_in_sqrt", eps_in_sqrt), ("centered", centered), ("bias_correction", bias_correction)):
        check_flag("scale_by_rmsprop", name, flag)

    def init(params: Params) -> RMSPropState:
        second = jax.tree.map(_second_accumulator, params)
        first = jax.tree.map(_first_accumulator, params) if centered else None
        return RMSPropState(jnp.zeros([], jnp.int32), second, first)

    def update(updates, state, params=None):
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        remaining = _bias_correction(decay, count) if bias_correction else 1.0
        second = jax.tree.map(lambda g, s: _average(decay, s, _squared(g, s.dtype)), updates, state[1])
        first = None
        spread = jax.tree.map(lambda s: (s / remaining).astype(s.dtype), second)
        if centered:
            first = jax.tree.map(lambda g, m: _average(decay, m, g.astype(m.dtype)), updates, state.first_moment)
            spread = jax.tree.map(lambda s, m: jnp.maximum(s - _squared(m / remaining, s.dtype), 0.0), spread, first)
        updates = jax.tree.map(lambda g, s: _divide(g, g, s, eps, eps_in_sqrt), updates, spread)
        return updates, RMSPropState(count, second, first)

    return optax.GradientTransformation(init, update)


def scale_by_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    *,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = False,
    bias_correction: bool = True,
) -> optax.GradientTransformation:
    r"""Divides a decaying average of the gradient by the root of a decaying average of its square.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad s_t = \beta_2 s_{t-1} + (1 - \beta_2) g_t^2 \\
        u_t &= \frac{m_t / (1 - \beta_1^t)}{\sqrt{s_t / (1 - \beta_2^t)} + \epsilon}

    Args:
      b1: :math:`\beta_1`, in [0, 1).
      b2: :math:`\beta_2`, in [0, 1).
      eps: :math:`\epsilon`, at least 0.
      eps_in_sqrt: divide by :math:`\sqrt{s_t / (1 - \beta_2^t) + \epsilon}` instead.
      bias_correction: without it the two divisions by :math:`1 - \beta^t` are left out, and the first update is
        :math:`(1 - \beta_1) / \sqrt{1 - \beta_2}` (3.2 by default) times as long as with it.

    Returns:
      A gradient transformation with state `AdamState`.

    Raises:
      ValueError: a value is out of its range, or a flag is no bool.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = scale_by_adam()
      >>> update, _ = tx.update(jnp.array([-3.0]), tx.init(jnp.zeros(1)))
      >>> print(update.round(5))
      [-1.]

    References:
      Kingma and Ba, `Adam: a method for stochastic optimization`, 2015, Algorithm 1
    """
    check_real("scale_by_adam", "b1", b1, at_least=0, below=1)
    check_real("scale_by_adam", "b2", b2, at_least=0, below=1)
    check_real("scale_by_adam", "eps", eps, at_least=0)
    check_flag("scale_by_adam", "eps_in_sqrt", eps_in_sqrt)
    check_flag("scale_by_adam", "bias_correction", bias_correction)

    def init(params: Params) -> AdamState:
        first, second = (jax.tree.map(zeros, params) for zeros in (_first_accumulator, _second_accumulator))
        return AdamState(jnp.zeros([], jnp.int32), first, second)

    def update(updates, state, params=None):
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        first = jax.tree.map(lambda g, m: _average(b1, m, g.astype(m.dtype)), updates, state.first_moment)
        second = jax.tree.map(lambda g, s: _average(b2, s, _squared(g, s.dtype)), updates, state.second_moment)
        c1 = _bias_correction(b1, count) if bias_correction else 1.0
        c2 = _bias_correction(b2, count) if bias_correction else 1.0
        updates = jax.tree.map(lambda g, m, s: _divide(g, m / c1, s / c2, eps, eps_in_sqrt), updates, first, second)
        return updates, AdamState(count, first, second)

    return optax.GradientTransformation(init, update)


def _first_accumulator(param: jax.Array) -> jax.Array:
    """Zeros like `param`, in float32 or wider (complex for complex parameters)."""
    return jnp.zeros_like(param, dtype=jnp.promote_types(param.dtype, jnp.float32))


def _second_accumulator(param: jax.Array) -> jax.Array:
    """Zeros like `param`, in float32 or wider, and real."""
    return jnp.zeros_like(param, dtype=jnp.promote_types(jnp.finfo(param.dtype).dtype, jnp.float32))


def _squared(value: jax.Array, dtype: DTypeLike) -> jax.Array:
    """|value|^2."""
    if jnp.iscomplexobj(value):
        return (jnp.square(value.real) + jnp.square(value.imag)).astype(dtype)
    return jnp.square(value.astype(dtype))


def _average(decay: Scalar, average: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.asarray(decay * average + (1 - decay) * value, average.dtype)


def _bias_correction(decay: Scalar, count: jax.Array) -> jax.Array:
    """1 - decay**count, to the last bit or two: in float32 the power itself loses 3e-5 of 1 - 0.999."""
    if isinstance(decay, jax.Array):
        log_decay = jnp.log1p(decay - 1)
    else:
        log_decay = math.log(decay) if decay > 0 else -math.inf
    return -jnp.expm1(count * log_decay)


def _divide(gradient, numerator, square, eps, eps_in_sqrt):
    """Numerator / (sqrt(square) + eps), or with eps inside the root, in the gradient's dtype."""
    numerator = numerator.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    denominator = jnp.sqrt(square + eps) if eps_in_sqrt else jnp.sqrt(square) + eps
    return (numerator / denominator).astype(gradient.dtype)
