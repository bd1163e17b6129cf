"""Normalisations behind one field: batch, layer, instance and group, interchangeable in every model.

    y = scale (x - mean) / sqrt(variance + epsilon) + bias

with one scale and bias per channel. They differ in what the mean and variance are taken over; for images
[batch, height, width, channels]:

| | over |
|---|---|
| `BatchNorm` | batch, height, width |
| `LayerNorm` | height, width, channels |
| `InstanceNorm` | height, width |
| `GroupNorm` | height, width, the channels of a group |

A model's field `norm` takes one of these classes, a `functools.partial` of one, or None.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jax import lax

from jaxdl.arguments import check_integer, check_real, require
from jaxdl.models.layers.initializers import Initializer

Norm: TypeAlias = Callable[..., nn.Module]
"""Makes a module called as `module(x, train=bool)`; takes `scale_init`, `dtype` and `name`."""

_across: contextvars.ContextVar[str | None] = contextvars.ContextVar("_across", default=None)


@contextlib.contextmanager
def synchronized_statistics(axis_name: str | None) -> Iterator[None]:
    """While a model is traced in this context, every `BatchNorm` without an `axis_name` takes this one.

    That is how one model runs on one device and on many: `train.make_step` knows the axis, the model need not.
    """
    before = _across.set(axis_name)
    try:
        yield
    finally:
        _across.reset(before)


class BatchNorm(nn.Module):
    """Batch normalisation, with torch's conventions for the running statistics.

    Training uses the batch's mean and (biased) variance, evaluation the running ones:

        running <- momentum running + (1 - momentum) batch

    where the batch's variance enters as the unbiased estimate, n / (n - 1) times the biased one. Differs from
    `flax.linen.BatchNorm` in that alone, in `momentum`'s default (theirs 0.99) and in rounding: the variance is one
    pass over the input, as theirs, but of its distance from the running mean, so that it loses no digits where the
    mean is large against the deviation.

    Collections: "params" (scale, bias), "batch_stats" (mean, var), all float32 [channels]; what torch calls weight,
    bias, running_mean and running_var.

    Attributes:
      momentum: weight of the old running statistics; torch's `momentum` is 1 minus this.
      epsilon: added to the variance.
      unbiased: whether the running variance is of the unbiased estimate. False is what Flax and the paper's average
        over batches without the factor would give.
      axis_name: name of a mapped axis (of pmap or shard_map) to take the batch's statistics over, too; by default
        what `synchronized_statistics` says (`train.make_step` calls it), and else each device normalises by its own
        part.
      scale_init: initialiser of the scale; zeros for the last one of a residual branch is "zero gamma".
      dtype: dtype of the output; by default the input's. Statistics are float32 or wider.

    Raises:
      ValueError: a value is out of its range.

    Reference: Ioffe and Szegedy, `Batch Normalization`, 2015 (arXiv 1502.03167).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    unbiased: bool = True
    axis_name: str | None = None
    scale_init: Initializer = nn.initializers.ones_init()
    dtype: Dtype | None = None

    def __post_init__(self):
        super().__post_init__()
        check_real("BatchNorm", "momentum", self.momentum, at_least=0, below=1)
        check_real("BatchNorm", "epsilon", self.epsilon, at_least=0)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, ..., channels] to the same shape; with `train` it updates the running statistics."""
        channels = x.shape[-1]
        scale, bias = _scale_and_bias(self, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var = self.variable("batch_stats", "var", jnp.ones, channels)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        # The running mean only moves the origin: the batch's statistics come out the same wherever it is.
        origin = lax.stop_gradient(mean.value)
        distance = wide - origin
        if train:
            batch_mean, batch_var, count = self._batch_statistics(distance)
            if not self.is_initializing():
                estimate = batch_var * (count / max(count - 1, 1)) if self.unbiased else batch_var
                for running, batch in ((mean, origin + batch_mean), (var, estimate)):
                    old = running.value
                    running.value = (self.momentum * old + (1 - self.momentum) * batch).astype(old.dtype)
        else:
            batch_mean, batch_var = jnp.zeros_like(mean.value), var.value
        y = (distance - batch_mean) * (lax.rsqrt(batch_var + self.epsilon) * scale) + bias
        return y.astype(self.dtype or x.dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array, int]:
        """Mean and biased variance of each channel, and of how many numbers."""
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        mean, square = jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)
        axis_name = self.axis_name or _across.get()
        if axis_name is not None and not self.is_initializing():
            mean, square = lax.pmean((mean, square), axis_name)
            count *= lax.axis_size(axis_name)
        return mean, jnp.maximum(square - jnp.square(mean), 0), count


class GroupNorm(nn.Module):
    """Group normalisation: each example by itself, over the channels of a group and all positions.

    The same in training and evaluation, whatever the batch. The variance is the biased one.

    Attributes:
      groups: how many groups of neighbouring channels; must divide the channels. 1 is `LayerNorm`, as many as there are
        channels `InstanceNorm`.
      epsilon: added to the variance.
      scale_init, dtype: as for `BatchNorm`.

    Raises:
      ValueError: a value is out of its range, or `groups` does not divide the channels.

    Reference: Wu and He, `Group Normalization`, 2018 (arXiv 1803.08494).
    """

    groups: int = 32
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones_init()
    dtype: Dtype | None = None

    def __post_init__(self):
        super().__post_init__()
        check_integer("GroupNorm", "groups", self.groups, at_least=1)
        check_real("GroupNorm", "epsilon", self.epsilon, at_least=0)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, ..., channels] to the same shape."""
        del train
        return _normalize_groups(self, x, self.groups)


class LayerNorm(nn.Module):
    """Layer normalisation: each example by itself, over all its channels and positions: `GroupNorm(groups=1)`.

    As in `Group Normalization` (arXiv 1803.08494, sec. 3) the scale and bias are one per channel; torch's LayerNorm
    over (C, H, W) has one per channel and position, and Flax's takes its statistics over the channels of a position.

    Reference: Ba et al., `Layer Normalization`, 2016 (arXiv 1607.06450).
    """

    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones_init()
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, ..., channels] to the same shape."""
        del train
        return _normalize_groups(self, x, 1)


class InstanceNorm(nn.Module):
    """Instance normalisation: each channel of each example by itself, over its positions.

    Torch's InstanceNorm2d with `affine=True`.

    Raises:
      ValueError: the input has no positions to take statistics over.

    Reference: Ulyanov et al., `Instance Normalization`, 2016 (arXiv 1607.08022).
    """

    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones_init()
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, positions..., channels] to the same shape."""
        del train
        require(
            x.ndim > 2 and x.size > x.shape[0] * x.shape[-1],
            f"InstanceNorm: needs [batch, positions..., channels] with more than one position, got shape {x.shape}",
        )
        return _normalize_groups(self, x, x.shape[-1])


def _scale_and_bias(module, channels: int) -> tuple[jax.Array, jax.Array]:
    """Parameters of one number per channel."""
    scale = module.param("scale", module.scale_init, (channels,), jnp.float32)
    return scale, module.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)


def _normalize_groups(module, x: jax.Array, groups: int) -> jax.Array:
    """Normalises [batch, ..., channels] over everything but the batch and `groups` groups of channels."""
    channels = x.shape[-1]
    require(
        channels % groups == 0,
        f"{type(module).__name__}: groups={groups} must divide the {channels} channels; "
        "pass functools.partial(layers.GroupNorm, groups=...)",
    )
    scale, bias = _scale_and_bias(module, channels)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    positions = wide.reshape(x.shape[0], -1, channels)

    def group_mean(per_position: jax.Array) -> jax.Array:
        """[batch, 1, channels]: over positions first, channel by channel, which keeps the inner loops long."""
        per_channel = jnp.mean(per_position, 1).reshape(x.shape[0], groups, -1)
        return jnp.repeat(jnp.mean(per_channel, 2), channels // groups, axis=1)[:, None]

    centred = positions - group_mean(positions)
    factor = lax.rsqrt(group_mean(jnp.square(centred)) + module.epsilon) * scale
    y = (centred * factor + bias).reshape(x.shape)
    return y.astype(module.dtype or x.dtype)
