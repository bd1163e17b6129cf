"""The module of residual networks, `ResNet`, and its blocks. The functions of `named_resnets` make the networks."""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from jaxdl.models.checks import check_channels_last
from jaxdl.models.layers.activations import Activation, activate
from jaxdl.models.layers.convolution import Conv
from jaxdl.models.layers.dropout import Dropout, StochasticDepth, linear_decay
from jaxdl.models.layers.initializers import he_normal
from jaxdl.models.layers.normalization import BatchNorm, Norm, normalize
from jaxdl.models.layers.pooling import max_pool
from jaxdl.models.layers.residual import Shortcut, add_skip, shortcut_b


@dataclasses.dataclass(frozen=True)
class Variant:
    """What all blocks of a residual network have in common; the fields are explained in `resnet`."""

    bottleneck: bool = False
    preactivation: bool = False
    shortcut: Shortcut | None = shortcut_b
    norm: Norm | None = BatchNorm
    activation: Activation = nn.relu
    stochastic_depth: float = 1.0
    dropout: float = 0.0
    zero_gamma: bool = False
    dtype: Dtype | None = None

    def convolution(self, width: int, window: int, stride: int, name: str) -> Conv:
        """A convolution with torch's padding; it has a bias only where no normalisation follows."""
        return Conv(
            width,
            (window, window),
            strides=stride,
            padding=window // 2,
            use_bias=self.norm is None,
            kernel_init=he_normal,
            dtype=self.dtype,
            name=name,
        )

    def normalize(self, x: jax.Array, name: str, *, train: bool, zero: bool = False) -> jax.Array:
        """The normalisation, if there is one."""
        if self.norm is None:
            return x
        scale_init = nn.initializers.zeros if zero else nn.initializers.ones
        return normalize(self.norm, x, train=train, scale_init=scale_init, dtype=self.dtype, name=name)


class Block(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1 to four times the width, and a shortcut.

    The first 3x3 convolution has the stride, also in a bottleneck, as in torchvision. (In the paper the 1x1 convolution
    before it has the stride.)

    Attributes:
      width: channels of the 3x3 convolutions.
      stride: the block's stride.
      variant: the network's variant.
    """

    width: int
    stride: int
    variant: Variant

    @nn.compact
    def __call__(self, x: jax.Array, survival: float | jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, height, width, channels] to the next block's input."""
        v, w = self.variant, self.width
        layers = [(1, w, 1), (3, w, self.stride), (1, 4 * w, 1)] if v.bottleneck else [(3, w, self.stride), (3, w, 1)]
        features = layers[-1][1]

        def project(x):
            y = v.convolution(features, 1, self.stride, "shortcut_conv")(x)
            return y if v.preactivation else v.normalize(y, "shortcut_norm", train=train)

        branch, projected = x, x
        for number, (window, width, stride) in enumerate(layers, 1):
            last = number == len(layers)
            if v.preactivation:
                branch = activate(v.activation, v.normalize(branch, f"norm{number}", train=train))
                if number == 1:
                    projected = branch  # a projection is given the normalised input, an identity is not
                if last and v.dropout:
                    branch = Dropout(v.dropout)(branch, train=train)
            branch = v.convolution(width, window, stride, f"conv{number}")(branch)
            if not v.preactivation:
                branch = v.normalize(branch, f"norm{number}", train=train, zero=last and v.zero_gamma)
                branch = branch if last else activate(v.activation, branch)
        if v.shortcut is not None:
            if v.stochastic_depth < 1:
                branch = StochasticDepth()(branch, survival, train=train)
            branch = add_skip(v.shortcut(x, features, self.stride, lambda _: project(projected)), branch)
        return branch if v.preactivation else activate(v.activation, branch)


class ResNet(nn.Module):
    """A stem, stages of blocks, the mean over the image, logits. Make one with `resnet` and its like.

    Modules are called stem_conv, stem_norm, stage1_block1 ... (with conv1, norm1, ..., shortcut_conv, shortcut_norm),
    final_norm (with pre-activation) and head. With `scan` the blocks 2, 3, ... of a stage are one module, stage1_rest,
    whose arrays have a leading axis for the block.
    """

    num_classes: int
    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    stem_width: int
    imagenet_stem: bool
    scan: bool
    remat: bool
    variant: Variant

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels] to logits [batch, num_classes]."""
        check_channels_last("resnet" if self.imagenet_stem else "resnet_cifar", x)
        v = self.variant
        window, stride = (7, 2) if self.imagenet_stem else (3, 1)
        x = v.convolution(self.stem_width, window, stride, "stem_conv")(x)
        if self.imagenet_stem or not v.preactivation:
            x = activate(v.activation, v.normalize(x, "stem_norm", train=train))
        if self.imagenet_stem:
            x = max_pool(x, window=3, stride=2, padding=1)

        survival = iter(linear_decay(v.stochastic_depth, sum(self.stage_sizes)))
        for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True), 1):
            first = Block(width, 1 if stage == 1 else 2, v, name=f"stage{stage}_block1")
            x = _run(first, x, next(survival), train=train, remat=self.remat)
            rest = [next(survival) for _ in range(size - 1)]
            if self.scan and rest:
                x = _scan(Block(width, 1, v, name=f"stage{stage}_rest"), x, rest, train=train, remat=self.remat)
            else:
                for number, probability in enumerate(rest, 2):
                    block = Block(width, 1, v, name=f"stage{stage}_block{number}")
                    x = _run(block, x, probability, train=train, remat=self.remat)

        if v.preactivation:
            x = activate(v.activation, v.normalize(x, "final_norm", train=train))
        x = jnp.mean(x, (1, 2))
        logits = nn.Dense(self.num_classes, kernel_init=he_normal, dtype=v.dtype, name="head")(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _run(block: Block, x: jax.Array, survival: float | jax.Array, *, train: bool, remat: bool) -> jax.Array:
    """Applies a block; with `remat` the gradient recomputes the arrays inside the block, rather than keep them."""

    def call(block, x, survival):
        return block(x, survival, train=train)

    return (nn.remat(call) if remat else call)(block, x, survival)


def _scan(block: Block, x: jax.Array, survival: Sequence[float], *, train: bool, remat: bool) -> jax.Array:
    """Applies equal blocks, each with its own parameters and probability of survival, in one loop."""
    run = nn.scan(
        lambda block, x, probability: (_run(block, x, probability, train=train, remat=remat), None),
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True},
        length=len(survival),
    )
    return run(block, x, jnp.asarray(survival, jnp.float32))[0]
