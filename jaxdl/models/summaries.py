"""A table of a model's layers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, require, shown
from jaxdl.models.layers.locally_connected import LocalConv


class Layer(NamedTuple):
    """A module that has parameters of its own."""

    name: str  # its path, as in "stage1_block1/conv1"
    kind: str  # its class, as in "Conv"
    output_shape: tuple[int, ...]  # without the batch
    parameters: int
    flops: int  # multiply-adds of its kernel for one image; 0 where there is no kernel


class Summary(NamedTuple):
    """The layers of a model in the order of their calls; prints as a table."""

    layers: tuple[Layer, ...]
    parameters: int  # of all layers
    flops: int  # of all layers

    def __str__(self) -> str:
        rows = [("layer", "kind", "output", "parameters", "FLOPs")]
        rows += [
            (
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.output_shape)),
                f"{layer.parameters:,}",
                f"{layer.flops:,}",
            )
            for layer in self.layers
        ]
        rows.append(("total", "", "", f"{self.parameters:,}", f"{self.flops:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(w) if i > 1 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def summary(model: nn.Module, image_shape: Sequence[int]) -> Summary:
    """Layers, output shapes, parameters and FLOPs of a model, from shapes alone: the model is not run.

    FLOPs are the multiply-adds of convolutions and dense layers for one image, as the ResNet paper counts them;
    normalisations, activations and pooling are not counted. A scanned ResNet is listed block by block.

    Args:
      model: a module called as `model(images, train=bool)`.
      image_shape: (height, width, channels).

    Returns:
      A `Summary`; print it.

    Raises:
      ValueError: `model` is not a Flax module, or `image_shape` is not three numbers of at least 1.

    Example:
      >>> from jaxdl import models
      >>> print(models.summary(models.mlp(widths=(32,)), (28, 28, 1)))
      layer    kind   output  parameters   FLOPs
      ------------------------------------------
      Dense_0  Dense      32      25,120  25,088
      Dense_1  Dense      10         330     320
      ------------------------------------------
      total                       25,450  25,408
    """
    made = f"call it: {getattr(model, '__name__', 'convnet')}(...)" if callable(model) else "pass models.convnet()"
    require(
        isinstance(model, nn.Module),
        f"summary: model must be a flax.linen module, got {shown(model)}; {made} for example",
    )
    sides = tuple(image_shape) if isinstance(image_shape, Sequence | np.ndarray) else ()
    require(
        len(sides) == 3 and not isinstance(image_shape, str),
        f"summary: image_shape must be (height, width, channels), got image_shape={shown(image_shape)}"
        + ("; leave the batch out" if len(sides) == 4 else ""),
    )
    shape = tuple(check_integer("summary", "image_shape", side, at_least=1) for side in sides)
    if getattr(model, "scan", False):
        model = model.clone(scan=False)
    layers: list[Layer] = []

    def record(call, arguments, keywords, context):
        output = call(*arguments, **keywords)
        own = {k: v for k, v in context.module.variables.get("params", {}).items() if isinstance(v, jax.Array)}
        if own and context.method_name == "__call__":
            layers.append(_layer(context.module, own, output.shape[1:]))
        return output

    def initialize():
        with nn.intercept_methods(record):
            return model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)

    jax.eval_shape(initialize)
    return Summary(tuple(layers), sum(layer.parameters for layer in layers), sum(layer.flops for layer in layers))


def _layer(module: nn.Module, own: dict[str, jax.Array], output_shape: tuple[int, ...]) -> Layer:
    flops = 0
    if "kernel" in own:
        # A kernel is used once at every place of the output; a local layer has one kernel for each place.
        positions = 1 if isinstance(module, LocalConv | nn.ConvLocal) else math.prod(output_shape[:-1])
        flops = own["kernel"].size * positions
    name = "/".join(module.path) or type(module).__name__
    return Layer(name, type(module).__name__, output_shape, sum(v.size for v in own.values()), flops)
