"""Batch, layer, instance and group normalisation, interchangeable in every model.

    y = scale (x - mean) / sqrt(variance + epsilon) + bias

with one scale and bias per channel. They differ in what the mean and variance are taken over; for images
[batch, height, width, channels]:

| | over |
|---|---|
| `BatchNorm` | batch, height, width |
| `LayerNorm` | height, width, channels |
| `InstanceNorm` | height, width |
| `GroupNorm` | height, width, the channels of a group |

A model's field `norm` takes one of these classes, a `functools.partial` of one, or None. It also takes Flax's classes
of the same names; Flax's `LayerNorm` is over channels alone, and its `GroupNorm` has 32 groups. `normalize` calls both
kinds.
"""

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jax import lax

from jaxdl.arguments import check_dtype, check_flag, check_integer, check_real, require, shown
from jaxdl.models.layers.checks import check_floating, check_initializers
from jaxdl.models.layers.initializers import Initializer

Norm: TypeAlias = Callable[..., nn.Module]
"""Makes a module, when called with `scale_init`, `dtype` and `name`.

The module takes `x`, and the keyword `train`, or `use_running_average` (as Flax's BatchNorm), or neither.
"""

_across: contextvars.ContextVar[str | None] = contextvars.ContextVar("_across", default=None)


@contextlib.contextmanager
def synchronized_statistics(axis_name: str | None) -> Iterator[None]:
    """While a model is traced in this context, every `BatchNorm` without an `axis_name` takes this one.

    So one model runs on one device and on many: `train.make_step` sets the axis, and the model does not name it.
    Flax's BatchNorm takes it too if it is given as the field `norm` of a jaxdl model.
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

    where the batch's variance is the unbiased estimate, n / (n - 1) times the biased one. `flax.linen.BatchNorm`
    differs in this, in the default of `momentum` (0.99) and in rounding. Both compute the variance in one pass over the
    input, as E d^2 - (E d)^2. In Flax d is the distance from 0. Here it is the distance from one number of the batch,
    in the middle of its first example, so that a mean that is large against the deviation costs no digits. If that
    number is z deviations off the mean, the relative error of the variance is about 1 + z^2 times float32's 6e-8; if
    the whole first example of n examples is far off, it is at most about n times 6e-8.

    Collections: "params" (scale, bias) and "batch_stats" (mean, var), all float32 [channels]. Torch calls them weight,
    bias, running_mean and running_var.

    Attributes:
      momentum: weight of the old running statistics; torch's `momentum` is 1 minus this.
      epsilon: added to the variance.
      unbiased: whether the running variance averages the unbiased estimates, as in torch, or the biased ones, as in
        Flax.
      axis_name: name of a mapped axis (of pmap or shard_map) over which the batch's statistics are taken too. By
        default it is the axis of `synchronized_statistics`, which `train.make_step` calls; outside of that context each
        device normalises by its own part of the batch.
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
        check_flag("BatchNorm", "unbiased", self.unbiased)
        _check_fields(self)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, ..., channels] to the same shape; with `train` it updates the running statistics."""
        check_floating("BatchNorm", x, at_least=2, layout="[batch, ..., channels]")
        channels = x.shape[-1]
        scale, bias = _scale_and_bias(self, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var = self.variable("batch_stats", "var", jnp.ones, channels)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if train:
            # In exact arithmetic the results do not depend on the origin, so its gradient is 0.
            origin = lax.stop_gradient(_middle_of_first_example(wide))
            distance = wide - origin
            centre, batch_mean, batch_var, count = self._batch_statistics(origin, distance)
            if not self.is_initializing():
                estimate = batch_var * (count / max(count - 1, 1)) if self.unbiased else batch_var
                for running, batch in ((mean, batch_mean), (var, estimate)):
                    old = running.value
                    running.value = (self.momentum * old + (1 - self.momentum) * batch).astype(old.dtype)
            centred = distance - centre
        else:
            centred, batch_var = wide - lax.stop_gradient(mean.value), var.value
        y = centred * (lax.rsqrt(batch_var + self.epsilon) * scale) + bias
        return y.astype(self.dtype or x.dtype)

    def _batch_statistics(self, origin: jax.Array, distance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, int]:
        """Each channel's mean minus `origin`, its mean, its biased variance, and how many numbers it has."""
        axes = tuple(range(distance.ndim - 1))
        count = distance.size // distance.shape[-1]
        mean, square = jnp.mean(distance, axes), jnp.mean(jnp.square(distance), axes)
        variance = jnp.maximum(square - jnp.square(mean), 0)
        axis_name = self.axis_name or _across.get()
        if axis_name is None or self.is_initializing():
            return mean, origin + mean, variance, count
        # Each device has an origin of its own, so means of squares cannot be averaged. Every device gets the moments of
        # all devices in one message, and pools them about the first device's origin. The message is a psum in which
        # each device fills its own place, not an all_gather: so shard_map knows that the results are equal everywhere.
        devices = lax.axis_size(axis_name)
        own = (jnp.arange(devices) == lax.axis_index(axis_name))[:, None]
        moments = jnp.stack([jnp.where(own, moment, 0) for moment in (origin, mean, variance)])
        origins, means, variances = lax.psum(moments, axis_name)
        means = means + (origins - origins[0])
        pooled = jnp.mean(means, 0)
        variance = jnp.mean(variances, 0) + jnp.mean(jnp.square(means - pooled), 0)
        return pooled - (origin - origins[0]), origins[0] + pooled, variance, count * devices


def _middle_of_first_example(x: jax.Array) -> jax.Array:
    """Each channel's number at the middle position of the first example of x [batch, ..., channels].

    The mean over positions would be more exact, but it made a ResNet-20 step on a CPU 13 % slower.
    """
    return x[(0, *(side // 2 for side in x.shape[1:-1]))]


class GroupNorm(nn.Module):
    """Group normalisation: each example by itself, over the channels of a group and all positions.

    The same in training and evaluation, whatever the batch. The variance is the biased one.

    Attributes:
      groups: how many groups of neighbouring channels; must divide the channels. One group is `LayerNorm`; as many
        groups as channels are `InstanceNorm`. By default the greatest divisor of the channels that is at most 32 and
        leaves two or more channels in a group: the paper's 32 for 64, 128, 256, ... channels, 8 for 16; 1 if there is
        none.
      epsilon: added to the variance.
      scale_init, dtype: as for `BatchNorm`.

    Raises:
      ValueError: a value is out of its range, or `groups` does not divide the channels.

    Reference: Wu and He, `Group Normalization`, 2018 (arXiv 1803.08494).
    """

    groups: int | None = None
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones_init()
    dtype: Dtype | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.groups is not None:
            check_integer("GroupNorm", "groups", self.groups, at_least=1)
        _check_fields(self)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, ..., channels] to the same shape."""
        del train
        check_floating("GroupNorm", x, at_least=2, layout="[batch, ..., channels]")
        return _normalize_groups(self, x, _default_groups(x.shape[-1]) if self.groups is None else self.groups)


class LayerNorm(nn.Module):
    """Layer normalisation: each example by itself, over all its channels and positions: `GroupNorm(groups=1)`.

    As in `Group Normalization` (arXiv 1803.08494, sec. 3) the scale and bias are one per channel; torch's LayerNorm
    over (C, H, W) has one per channel and position, and Flax's takes its statistics over the channels of a position.

    Raises:
      ValueError: a value is out of its range.

    Reference: Ba et al., `Layer Normalization`, 2016 (arXiv 1607.06450).
    """

    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones_init()
    dtype: Dtype | None = None

    def __post_init__(self):
        super().__post_init__()
        _check_fields(self)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, ..., channels] to the same shape."""
        del train
        check_floating("LayerNorm", x, at_least=2, layout="[batch, ..., channels]")
        return _normalize_groups(self, x, 1)


class InstanceNorm(nn.Module):
    """Instance normalisation: each channel of each example by itself, over its positions.

    Torch's InstanceNorm2d with `affine=True`.

    Raises:
      ValueError: a value is out of its range, or the input has no positions to take statistics over.

    Reference: Ulyanov et al., `Instance Normalization`, 2016 (arXiv 1607.08022).
    """

    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones_init()
    dtype: Dtype | None = None

    def __post_init__(self):
        super().__post_init__()
        _check_fields(self)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, positions..., channels] to the same shape."""
        del train
        check_floating("InstanceNorm", x, at_least=2, layout="[batch, positions..., channels]")
        require(
            x.ndim > 2 and x.size > x.shape[0] * x.shape[-1],
            f"InstanceNorm: needs [batch, positions..., channels] with more than one position, got shape {x.shape}",
        )
        return _normalize_groups(self, x, x.shape[-1])


def normalize(norm: Norm, x: jax.Array, *, train: bool, **fields: Any) -> jax.Array:
    """Calls a normalisation of jaxdl's, Flax's or a user's, within a compact module.

    Args:
      norm: makes the module.
      x: [batch, ..., channels].
      train: whether it is training. It is passed as `train` or `use_running_average` to modules that take one of them.
      fields: fields of the module, `name` and `dtype` for example.

    Returns:
      An array like x.
    """
    kind = norm.func if isinstance(norm, functools.partial) else norm
    if isinstance(kind, type) and issubclass(kind, nn.BatchNorm):  # Flax's, which knows of no context
        fixed = getattr(norm, "keywords", {})
        fields["axis_name"] = fixed.get("axis_name") or _across.get()
    module = norm(**fields)
    takes = inspect.signature(module).parameters
    if "train" in takes or any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        return module(x, train=train)
    return module(x, use_running_average=not train) if "use_running_average" in takes else module(x)


def check_norm(function: str, norm: Any, name: str = "norm") -> None:
    """Raises `ValueError` unless `norm` is None or a class of modules such as `BatchNorm`, or makes modules."""
    expected = f"{function}: {name} must be layers.BatchNorm or another normalisation's class, or None"
    if isinstance(norm, nn.Module):
        kind = f"{'layers.' if type(norm).__module__ == __name__ else ''}{type(norm).__name__}"
        raise ValueError(
            f"{expected}, got an instance, {name}={shown(norm)}; "
            f"pass the class, {name}={kind}, or functools.partial({kind}, ...)"
        )
    kind = norm.func if isinstance(norm, functools.partial) else norm
    makes = not isinstance(kind, type) or issubclass(kind, nn.Module)
    require(
        norm is None or (callable(kind) and makes),
        f"{expected}, got {name}={shown(norm)}; "
        "pass layers.BatchNorm or functools.partial(layers.GroupNorm, groups=8) for example",
    )
    fixed = norm.keywords if isinstance(norm, functools.partial) else {}
    require(
        "use_running_average" not in fixed,
        f"{function}: {name} must leave use_running_average to the model, which sets it by train, got "
        f"{name}={shown(norm)}; leave it out of the partial",
    )


def _check_fields(module) -> None:
    """Checks the fields that all normalisations have."""
    name = type(module).__name__
    check_real(name, "epsilon", module.epsilon, at_least=0)
    check_initializers(name, scale_init=module.scale_init)
    check_dtype(name, "dtype", module.dtype, optional=True)


def _default_groups(channels: int) -> int:
    """The greatest divisor of at most 32 that leaves two channels or more in a group, or 1."""
    return max((g for g in range(1, 33) if channels % g == 0 and channels // g >= 2), default=1)


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
        "pass functools.partial(layers.GroupNorm, groups=...), or leave groups=None",
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
