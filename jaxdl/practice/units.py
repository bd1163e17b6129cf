"""What the units of a layer compute: the filters of a convolution, and feature maps of an image."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdl.arguments import check_function, require, shown
from jaxdl.data.checks import input_struct, kinds
from jaxdl.modules import apply_model, check_model
from jaxdl.practice.image_grid import MOST, displayable, in_rows, show_tiles
from jaxdl.practice.inputs import check_fits, check_images, variables_of
from jaxdl.practice.sites import find_site, look, unrolled
from jaxdl.program_cache import remembered
from jaxdl.train import TrainState
from jaxdl.train.task import Preprocess
from jaxdl.tree import path_name


@dataclasses.dataclass(frozen=True)
class Filters:
    """The kernels of a convolution.

    Attributes:
      layer: the layer's path.
      kernels: float32 [filters, height, width, input channels].
    """

    layer: str
    kernels: np.ndarray

    def plot(self, path: str | os.PathLike) -> None:
        """Draws filters to a PNG.

        Of layers with 3 input channels the first 64 in colour, with 1 in grey, each stretched so that 0 is the middle
        grey. Of other layers a row is a filter and a column an input channel, up to 16 of each.
        """
        count, _, _, channels = self.kernels.shape
        reach = np.abs(self.kernels).max((1, 2, 3), keepdims=True)
        scaled = self.kernels / np.where(reach == 0, 1, reach)
        if channels in (1, 3):
            tiles = [np.broadcast_to(0.5 + tile / 2, (*tile.shape[:2], 3)) for tile in scaled[:MOST]]
            title = f"{self.layer}: {_of(len(tiles), count)} filters, each with 0 in grey and its own scale"
            show_tiles(path, title, in_rows(tiles, math.ceil(math.sqrt(2 * len(tiles)))), tile=0.8)
            return
        rows = [[tile[..., c] for c in range(min(channels, 16))] for tile in scaled[:16]]
        title = (
            f"{self.layer}: {_of(len(rows), count)} filters (rows), {_of(min(channels, 16), channels)} input channels"
        )
        colours = {"cmap": "PuOr", "vmin": -1, "vmax": 1}
        names = [str(number) for number in range(len(rows))]
        show_tiles(path, title, rows, names=names, tile=0.45, colours=colours, bar="weight / largest of the filter")


@dataclasses.dataclass(frozen=True)
class FeatureMaps:
    """What a layer gives for one image.

    Attributes:
      layer: the layer's name.
      image: the image, as it was passed.
      maps: float32 [height, width, channels].
    """

    layer: str
    image: np.ndarray
    maps: np.ndarray

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the image and the first 63 maps to a PNG; all maps have one scale of colours."""
        maps = [self.maps[..., c] for c in range(min(self.maps.shape[-1], MOST - 1))]
        low, high = float(self.maps.min()), float(self.maps.max())
        if low < 0:
            reach = max(-low, high)
            colours = {"cmap": "PuOr", "vmin": -reach, "vmax": reach}
        else:
            colours = {"cmap": "viridis", "vmin": 0.0, "vmax": high or 1.0}
        tiles = [displayable(self.image), *maps]
        captions = ["the image", *(f"channel {c}" for c in range(len(maps)))]
        columns = math.ceil(math.sqrt(1.6 * len(tiles)))
        title = f"{self.layer}: {_of(len(maps), self.maps.shape[-1])} feature maps"
        rows, texts = in_rows(tiles, columns), in_rows(captions, columns)
        show_tiles(path, title, rows, captions=texts, tile=0.95, colours=colours, bar="activation")


def filters(variables: Mapping[str, Any] | TrainState, layer: str | None = None) -> Filters:
    """The filters of a convolution, by default of the only one with 1 or 3 input channels.

    Args:
      variables: {"params": ..., ...}, or a training state.
      layer: the path of a layer with a kernel of four axes, "stem_conv"; by default the one with 1 or 3 input channels.

    Returns:
      `Filters`, which draw themselves with `plot(path)`.

    Raises:
      ValueError: there is no such layer; the message names those that there are.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxdl import models, practice
      >>> variables = models.convnet().init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
      >>> practice.filters(variables).kernels.shape
      (16, 3, 3, 1)
    """
    params = variables_of("filters", variables)["params"]
    found = {
        path_name(path).removesuffix("/kernel"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if leaf.ndim == 4
    }
    require(bool(found), "filters: the model has no kernels [height, width, channels in, channels out]")
    if layer is None:
        first = [name for name, leaf in found.items() if leaf.shape[2] in (1, 3)]
        require(
            len(first) == 1,
            f"filters: {len(first)} layers have kernels of 1 or 3 input channels; pass layer=..., one of "
            f"{', '.join(found)}",
        )
        layer = first[0]
    require(layer in found, f"filters: layer must be one of {', '.join(found)}, got layer={shown(layer)}")
    kernel = np.asarray(found[layer], np.float32)
    return Filters(str(layer), kernel.transpose(3, 0, 1, 2))


def feature_maps(
    model: nn.Module,
    variables: Mapping[str, Any] | TrainState,
    image: Any,
    layer: str,
    *,
    preprocess: Preprocess | None = None,
) -> FeatureMaps:
    """What a layer or a nonlinearity gives for an image, in evaluation.

    Args:
      model: a module called as `model(inputs, train=bool)`, or `model(inputs)`.
      variables: {"params": ..., "batch_stats": ...}, or a training state.
      image: [height, width, channels].
      layer: a name as in `inspect`'s table: "stage1_block1/conv1", "relu_0".
      preprocess: from images to the model's inputs, `train_set.standardize` for uint8 images.

    Returns:
      `FeatureMaps`, which draw themselves with `plot(path)`.

    Raises:
      ValueError: an argument is wrong, or the layer has no maps [height, width, channels].
    """
    image = check_images("feature_maps", image)
    found = np.asarray(layer_program("feature_maps", model, variables, preprocess, layer)(image[None]))[0]
    require(
        found.ndim == 3,
        f"feature_maps: {layer} must give maps [height, width, channels], got {kinds(found)} for one image; its "
        "numbers are in inspect's table",
    )
    return FeatureMaps(layer, np.asarray(image), np.asarray(found, np.float32))


def layer_program(function: str, model: nn.Module, variables: Any, preprocess: Preprocess | None, layer: str) -> Any:
    """A function from inputs [batch, ...] to what a layer gives for them, [batch, ...]."""
    check_model(function, model)
    model, collections = unrolled(model, variables_of(function, variables))
    if preprocess is not None:
        check_function(function, "preprocess", preprocess, "train_set.standardize")
    program = _compiled(function, model, preprocess, layer)

    known = set()

    def checked(images):
        struct = jax.ShapeDtypeStruct(images.shape, images.dtype)
        if struct not in known:
            check_fits(function, model, collections, input_struct(function, struct, preprocess))
            known.add(struct)
        return program(collections, images)

    return checked


@remembered()
def _compiled(function: str, model: nn.Module, preprocess: Preprocess | None, layer: str) -> Any:
    def values(variables, inputs):
        given = inputs if preprocess is None else preprocess(inputs)
        size = len(jax.tree.leaves(given)[0])
        _, sites, found = look(
            lambda variables, given: apply_model(model, variables, given, train=False), variables, given, batch=size
        )
        return found[find_site(function, sites, layer)]

    return jax.jit(values)


def _of(some: int, all_: int) -> str:
    return str(all_) if some == all_ else f"{some} of {all_}"
