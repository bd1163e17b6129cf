"""The residual networks of the papers: for ImageNet and CIFAR, plain twins, bottlenecks, pre-activation, wide."""

from collections.abc import Sequence

import flax.linen as nn
from flax.typing import Dtype

from jaxdl.arguments import check_dtype, check_flag, check_integer, check_real, require, shown
from jaxdl.models.checks import check_depth, check_num_classes, check_widths
from jaxdl.models.layers.activations import Activation, check_activation
from jaxdl.models.layers.normalization import BatchNorm, Norm, check_norm
from jaxdl.models.layers.residual import Shortcut, check_shortcut, shortcut_a, shortcut_b
from jaxdl.models.resnets import ResNet, Variant

_IMAGENET = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def resnet(
    depth: int = 50,
    num_classes: int = 1000,
    *,
    shortcut: Shortcut | None = shortcut_b,
    norm: Norm | None = BatchNorm,
    activation: Activation = nn.relu,
    preactivation: bool = False,
    stochastic_depth: float = 1.0,
    zero_gamma: bool = False,
    scan: bool = False,
    remat: bool = False,
    dtype: Dtype | None = None,
) -> ResNet:
    """The ImageNet ResNets; parameter counts are torchvision's (25,557,032 at depth 50).

    Convolutions and head start by He's initialisation. Padding is symmetric, as torch's.

    Args:
      depth: 18, 34 (blocks of two 3x3 convolutions), 50, 101 or 152 (bottlenecks).
      num_classes: logits.
      shortcut: `layers.shortcut_a`, `shortcut_b` (default) or `shortcut_c`; None for none: the plain twin.
      norm: `layers.BatchNorm`, `LayerNorm`, `InstanceNorm` or `GroupNorm`, a class of Flax's with one of these names,
        a `functools.partial` of one, or None (convolutions then have biases).
      activation: a function, or a class of modules such as `layers.PReLU`.
      preactivation: normalisation and activation before each convolution (He 2016) rather than after.
      stochastic_depth: probability that the last branch survives in training. The probabilities of the branches fall
        linearly from 1 at the input. 1 switches it off; 0.5 is the paper's. It draws from the random stream "dropout".
      zero_gamma: whether the scale of the last normalisation of each branch starts at 0, so that the branch starts as 0
        (Goyal et al. 2017). It needs a `norm`, and does not go with `preactivation`.
      scan: runs the equal blocks of a stage as one scanned block. The function is the same, and a deeper net takes
        hardly longer to compile (`benchmarks/compile_time.py`). The arrays of these blocks are stacked; `stack_blocks`
        and `unstack_blocks` convert them. From the same key `init` draws other numbers for stacked blocks.
      remat: rematerialisation (Chen et al. 2016, arXiv 1604.06174): keeps only each block's input for the gradient and
        recomputes the rest. It saves memory, costs one more forward pass, and gives the same numbers. On the CPU it has
        an effect only with `scan`; otherwise XLA merges the two computations and keeps their results.
      dtype: dtype of the computation, bfloat16 for example; parameters, statistics and logits are float32.

    Raises:
      ValueError: a value is out of its range, or two values do not go together.

    References:
      He et al., `Deep Residual Learning for Image Recognition`, 2015 (arXiv 1512.03385);
      He et al., `Identity Mappings in Deep Residual Networks`, 2016 (arXiv 1603.05027);
      Huang et al., `Deep Networks with Stochastic Depth`, 2016 (arXiv 1603.09382);
      Goyal et al., `Accurate, Large Minibatch SGD`, 2017 (arXiv 1706.02677).
    """
    sizes, bottleneck = _IMAGENET[check_depth("resnet", depth, tuple(_IMAGENET))]
    return _checked(
        "resnet",
        num_classes,
        stage_sizes=sizes,
        widths=(64, 128, 256, 512),
        stem_width=64,
        imagenet_stem=True,
        scan=scan,
        remat=remat,
        variant=Variant(
            bottleneck=bottleneck,
            preactivation=preactivation,
            shortcut=shortcut,
            norm=norm,
            activation=activation,
            stochastic_depth=stochastic_depth,
            zero_gamma=zero_gamma,
            dtype=dtype,
        ),
    )


def resnet_cifar(
    depth: int = 20,
    num_classes: int = 10,
    *,
    bottleneck: bool = False,
    preactivation: bool = False,
    shortcut: Shortcut | None = shortcut_a,
    norm: Norm | None = BatchNorm,
    activation: Activation = nn.relu,
    stochastic_depth: float = 1.0,
    zero_gamma: bool = False,
    widths: tuple[int, ...] = (16, 32, 64),
    scan: bool = False,
    remat: bool = False,
    dtype: Dtype | None = None,
) -> ResNet:
    """The CIFAR ResNets: a 3x3 stem and three stages for images of 32 pixels; 269,722 parameters at depth 20.

    Plain twins have `shortcut=None`. Pre-activation and bottlenecks as in He et al. 2016:
    `resnet_cifar(164, bottleneck=True, preactivation=True, shortcut=layers.shortcut_b)`.

    Args:
      depth: 6 n + 2, for n blocks in each stage: 20, 32, 44, 56, 110, 1202, ...; with `bottleneck` 9 n + 2: 164, 1001,
        ...
      num_classes: logits.
      bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions, the last with four times the channels. At the same depth
        there are then fewer blocks.
      shortcut: as for `resnet`; `shortcut_a` (default) is the paper's.
      widths: channels of the three stages.
      preactivation: as for `resnet`.
      norm: as for `resnet`.
      activation: as for `resnet`.
      stochastic_depth: as for `resnet`.
      zero_gamma: as for `resnet`.
      scan: as for `resnet`.
      remat: as for `resnet`.
      dtype: as for `resnet`.

    Raises:
      ValueError: as for `resnet`.

    References: as for `resnet`; He et al. 2015, sec. 4.2.
    """
    variant = Variant(
        bottleneck=bottleneck,
        preactivation=preactivation,
        shortcut=shortcut,
        norm=norm,
        activation=activation,
        stochastic_depth=stochastic_depth,
        zero_gamma=zero_gamma,
        dtype=dtype,
    )
    return _cifar("resnet_cifar", depth, num_classes, widths, scan=scan, remat=remat, variant=variant)


def plain_cifar(
    depth: int = 20,
    num_classes: int = 10,
    *,
    bottleneck: bool = False,
    preactivation: bool = False,
    norm: Norm | None = BatchNorm,
    activation: Activation = nn.relu,
    stochastic_depth: float = 1.0,
    zero_gamma: bool = False,
    widths: tuple[int, ...] = (16, 32, 64),
    scan: bool = False,
    remat: bool = False,
    dtype: Dtype | None = None,
) -> ResNet:
    """The plain twins of the CIFAR ResNets: the same layers without shortcuts.

    Equal to `resnet_cifar(..., shortcut=None)`.

    Args:
      depth: as for `resnet_cifar`.
      num_classes: logits.
      bottleneck: as for `resnet_cifar`.
      preactivation: as for `resnet`.
      norm: as for `resnet`.
      activation: as for `resnet`.
      stochastic_depth: must be 1: without shortcuts a network does not work without one of its blocks.
      zero_gamma: must be False: without shortcuts the outputs would be 0.
      widths: as for `resnet_cifar`.
      scan: as for `resnet`.
      remat: as for `resnet`.
      dtype: as for `resnet`.

    Raises:
      ValueError: as for `resnet`.

    Reference: He et al., `Deep Residual Learning for Image Recognition`, 2015 (arXiv 1512.03385), sec. 4.2.
    """
    variant = Variant(
        bottleneck=bottleneck,
        preactivation=preactivation,
        shortcut=None,
        norm=norm,
        activation=activation,
        stochastic_depth=stochastic_depth,
        zero_gamma=zero_gamma,
        dtype=dtype,
    )
    return _cifar("plain_cifar", depth, num_classes, widths, scan=scan, remat=remat, variant=variant)


def wide_resnet(
    depth: int = 28,
    widen: int = 10,
    num_classes: int = 10,
    *,
    dropout: float = 0.0,
    norm: Norm | None = BatchNorm,
    activation: Activation = nn.relu,
    stochastic_depth: float = 1.0,
    scan: bool = False,
    remat: bool = False,
    dtype: Dtype | None = None,
) -> ResNet:
    """The wide ResNets for CIFAR: pre-activation, 16, 32 and 64 times `widen` channels; WRN-28-10 by default.

    Args:
      depth: 6 n + 4, for n blocks in each stage: 16, 28, 40, ...
      widen: factor of the widths.
      num_classes: logits.
      dropout: rate between the two convolutions of a block (the paper's 0.3).
      norm: as for `resnet`.
      activation: as for `resnet`.
      stochastic_depth: as for `resnet`.
      scan: as for `resnet`.
      remat: as for `resnet`.
      dtype: as for `resnet`.

    Raises:
      ValueError: as for `resnet`.

    Reference: Zagoruyko and Komodakis, `Wide Residual Networks`, 2016 (arXiv 1605.07146).
    """
    widen = check_integer("wide_resnet", "widen", widen, at_least=1)
    return _checked(
        "wide_resnet",
        num_classes,
        stage_sizes=(_blocks("wide_resnet", depth, 6, 4),) * 3,
        widths=(16 * widen, 32 * widen, 64 * widen),
        stem_width=16,
        imagenet_stem=False,
        scan=scan,
        remat=remat,
        variant=Variant(
            preactivation=True,
            norm=norm,
            activation=activation,
            stochastic_depth=stochastic_depth,
            dropout=dropout,
            dtype=dtype,
        ),
    )


def _blocks(function: str, depth: int, layers: int, others: int) -> int:
    """How many blocks a stage has."""
    depth = check_integer(function, "depth", depth, at_least=1)
    blocks, beyond = divmod(depth - others, layers)
    examples = ", ".join(str(layers * n + others) for n in (1, 2, 3))
    require(
        blocks >= 1 and beyond == 0,
        f"{function}: depth must be {layers} n + {others} ({examples}, ...), got depth={depth}",
    )
    return blocks


def _cifar(
    function: str, depth: int, num_classes: int, widths: Sequence[int], *, scan: bool, remat: bool, variant: Variant
) -> ResNet:
    """A network of three stages with the CIFAR stem."""
    check_flag(function, "bottleneck", variant.bottleneck)
    blocks = _blocks(function, depth, 9 if variant.bottleneck else 6, 2)
    widths = check_widths(function, widths, count=3)
    return _checked(
        function,
        num_classes,
        stage_sizes=(blocks,) * 3,
        widths=widths,
        stem_width=widths[0],
        imagenet_stem=False,
        scan=scan,
        remat=remat,
        variant=variant,
    )


def _checked(function: str, num_classes: int, *, variant: Variant, **fields) -> ResNet:
    """The network, after checks of what all of them share."""
    num_classes = check_num_classes(function, num_classes)
    for name, flag in (
        ("preactivation", variant.preactivation),
        ("zero_gamma", variant.zero_gamma),
        ("scan", fields["scan"]),
        ("remat", fields["remat"]),
    ):
        check_flag(function, name, flag)
    check_shortcut(function, variant.shortcut)
    check_norm(function, variant.norm)
    check_activation(function, variant.activation)
    check_dtype(function, "dtype", variant.dtype, optional=True)
    check_real(function, "dropout", variant.dropout, at_least=0, below=1)
    final = variant.stochastic_depth
    check_real(function, "stochastic_depth", final, at_least=0)
    require(
        0 < final <= 1, f"{function}: stochastic_depth must be a probability in (0, 1], got {final}; 1 drops no block"
    )
    require(
        final == 1 or variant.shortcut is not None,
        f"{function}: stochastic_depth must be 1 without shortcuts, got stochastic_depth={final}; a plain network has "
        "no path around a dropped block; leave stochastic_depth out, or use a network with shortcuts",
    )
    require(
        not variant.zero_gamma or (variant.norm is not None and not variant.preactivation),
        f"{function}: zero_gamma must be False without a norm after the last convolution of each branch, got "
        f"zero_gamma=True with norm={shown(variant.norm)} and preactivation={variant.preactivation}; leave zero_gamma "
        "out, or use a norm and preactivation=False",
    )
    require(
        not variant.zero_gamma or variant.shortcut is not None,
        f"{function}: zero_gamma must be False without shortcuts, got zero_gamma=True; every block would give "
        "zeros; leave zero_gamma out, or use a network with shortcuts",
    )
    fixed = getattr(variant.norm, "keywords", {})
    require(
        not variant.zero_gamma or fixed.get("use_scale", True),
        f"{function}: zero_gamma=True needs a norm with a scale, got norm={shown(variant.norm)}; leave use_scale out",
    )
    return ResNet(num_classes, variant=variant, **fields)
