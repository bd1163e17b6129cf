"""Receptive fields, and the patches of images that move a unit most."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, require, shown
from jaxdl.data import Dataset
from jaxdl.data.checks import check_dataset
from jaxdl.practice.image_grid import displayable, show_tiles
from jaxdl.practice.units import layer_program
from jaxdl.train import TrainState
from jaxdl.train.task import Preprocess


class ReceptiveField(NamedTuple):
    """The pixels that the units of a layer see: unit (y, x) sees the rectangle of rows[y] and columns[x]."""

    rows: np.ndarray  # int [height of the layer, 2]: the first row, and the one after the last
    columns: np.ndarray  # int [width of the layer, 2]


class Patch(NamedTuple):
    """A patch of an image that moves a unit."""

    row: int  # of the image in the data set
    value: float  # the unit's activation
    position: tuple[int, ...]  # (y, x) of the unit in its feature map; () for a layer without positions
    box: tuple[int, int, int, int]  # the pixels that it sees: top, bottom, left, right; bottom and right are exclusive
    pixels: np.ndarray  # [bottom - top, right - left, channels]


NEVER = "\n(never above 0)"


@dataclasses.dataclass(frozen=True)
class TopPatches:
    """The patches that move some units most.

    Attributes:
      layer: the layer's name.
      units: numbers of the units (channels).
      patches: for each unit its patches, the strongest first; each of another image.
    """

    layer: str
    units: tuple[int, ...]
    patches: tuple[tuple[Patch, ...], ...]

    def plot(self, path: str | os.PathLike) -> None:
        """Draws a row of patches for each unit to a PNG; where a unit sees beyond the image's edge it is grey."""
        everything = [patch.pixels.shape for patches in self.patches for patch in patches]
        height, width = max(shape[0] for shape in everything), max(shape[1] for shape in everything)
        rows = [[_framed(patch, height, width) for patch in patches] for patches in self.patches]
        captions = [[f"{patch.value:.3g}" for patch in patches] for patches in self.patches]
        never = [all(patch.value <= 0 for patch in patches) for patches in self.patches]
        names = [f"unit {unit}{NEVER if silent else ''}" for unit, silent in zip(self.units, never, strict=True)]
        about = f"with its activation ({height} x {width} pixels; what is beyond the image is grey)"
        title = f"{self.layer}: patches that activate a unit most, {about}"
        show_tiles(path, title, rows, captions=captions, names=names, tile=0.8)


def receptive_field(
    model: nn.Module,
    variables: Mapping[str, Any] | TrainState,
    image_shape: Sequence[int],
    layer: str,
) -> ReceptiveField:
    """The pixels on which the units of a layer depend, in evaluation, exactly.

    One row of an image after the other (then one column) is set to NaN; the units that become NaN depend on it. So it
    holds for any layers between, as long as they pass NaN on, as convolutions, pooling and the usual nonlinearities do.
    What a unit sees is taken for a rectangle.

    Args:
      model: as for `feature_maps`, and so are `variables` and `layer`.
      variables: {"params": ..., "batch_stats": ...}, or a training state.
      image_shape: (height, width, channels) of the model's inputs.
      layer: a name as in `inspect`'s table. For layers without positions the field has one row and one column.

    Raises:
      ValueError: an argument is wrong, or a unit depends on no pixel as far as NaN shows.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxdl import models, practice
      >>> model = models.convnet()
      >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
      >>> practice.receptive_field(model, variables, (28, 28, 1), "relu_0").rows[:3].tolist()  # 3x3, then 2x2 pooling
      [[0, 3], [1, 5], [3, 7]]
    """
    sides = tuple(image_shape) if isinstance(image_shape, Sequence | np.ndarray) else ()
    require(
        len(sides) == 3 and not isinstance(image_shape, str),
        f"receptive_field: image_shape must be (height, width, channels), got image_shape={shown(image_shape)}",
    )
    height, width, channels = (check_integer("receptive_field", "image_shape", side, at_least=1) for side in sides)
    images = np.ones((height + width, height, width, channels), np.float32)
    images[np.arange(height), np.arange(height)] = np.nan
    images[height + np.arange(width), :, np.arange(width)] = np.nan
    program = layer_program("receptive_field", model, variables, None, layer)
    with jax.debug_nans(False):
        reached = np.isnan(np.asarray(program(jnp.asarray(images)), np.float32))
    if reached.ndim == 2:
        reached = reached[:, None, None]
    require(
        reached.ndim == 4,
        f"receptive_field: {layer} must give [batch, height, width, channels] or [batch, features]",
    )
    reached = np.any(reached, -1, keepdims=True)
    return ReceptiveField(
        _bounds(layer, reached[:height].any((2, 3))),
        _bounds(layer, reached[height:].any((1, 3))),
    )


def top_patches(
    model: nn.Module,
    variables: Mapping[str, Any] | TrainState,
    dataset: Dataset,
    layer: str,
    units: Sequence[int],
    *,
    k: int = 9,
    preprocess: Preprocess | None = None,
    batch_size: int = 250,
) -> TopPatches:
    """The patches of a data set's images that move some units most: what the unit sees where it is largest.

    Args:
      model: as for `feature_maps`, and so are `variables` and `layer`.
      variables: {"params": ..., "batch_stats": ...}, or a training state.
      dataset: a set of images in memory; all are looked at.
      layer: a name as in `inspect`'s table.
      units: numbers of units, channels of the layer.
      k: patches for each unit, each of another image.
      preprocess: by default `dataset.standardize`.
      batch_size: images at a time.

    Returns:
      `TopPatches`, which draw themselves with `plot(path)`.

    Raises:
      ValueError: an argument is wrong.

    Reference: Girshick et al., `Rich feature hierarchies`, 2014 (arXiv 1311.2524), sec. 3.1.
    """
    check_dataset("top_patches", "dataset", dataset, streams=False)
    check_integer("top_patches", "k", k, at_least=1)
    check_integer("top_patches", "batch_size", batch_size, at_least=1)
    images, size = dataset.images, min(batch_size, len(dataset))
    program = layer_program("top_patches", model, variables, preprocess or dataset.standardize, layer)
    example = jax.ShapeDtypeStruct((size, *dataset.image_shape), images.dtype)
    *layout, channels = jax.eval_shape(program, example).shape[1:]
    chosen = _units(units, channels)
    inputs = jax.eval_shape(preprocess or dataset.standardize or (lambda x: x), dataset.example.inputs)
    require(
        inputs.shape[1:3] == images.shape[1:3],
        f"top_patches: preprocess must keep the images' sides, {images.shape[1:3]}, got {inputs.shape[1:3]}",
    )
    field = receptive_field(model, variables, inputs.shape[1:], layer)
    best, places = [], []
    for start in range(0, len(images), size):
        rows = np.minimum(np.arange(start, start + size), len(images) - 1)  # all batches have one shape
        values = program(jnp.asarray(images[rows]))
        flat = values.reshape(size, -1, channels)[:, :, np.array(chosen)]
        best.append(np.asarray(jnp.max(flat, 1), np.float32)[: len(images) - start])
        places.append(np.asarray(jnp.argmax(flat, 1))[: len(images) - start])
    best, places = np.concatenate(best), np.concatenate(places)
    found = []
    for number in range(len(chosen)):
        order = np.argsort(-best[:, number], kind="stable")[:k]
        found.append(
            tuple(_patch(images, int(row), best[row, number], places[row, number], layout, field) for row in order)
        )
    return TopPatches(layer, chosen, tuple(found))


def _bounds(layer: str, reached: np.ndarray) -> np.ndarray:
    """The first pixel and the one after the last that reach each unit, [units, 2], from bool [pixels, units]."""
    require(
        bool(reached.any(0).all()),
        f"receptive_field: some units of {layer} depend on no pixel as far as NaN shows; a function before the layer, "
        "jnp.where(x > 0, x, 0) for example, stops NaN; use jax.nn.relu",
    )
    return np.stack([reached.argmax(0), len(reached) - reached[::-1].argmax(0)], 1)


def _units(units: Any, channels: int) -> tuple[int, ...]:
    given = tuple(units) if isinstance(units, Sequence | np.ndarray | range) and not isinstance(units, str) else ()
    good = bool(given) and all(
        isinstance(unit, int | np.integer) and not isinstance(unit, bool) and 0 <= unit < channels for unit in given
    )
    require(good, f"top_patches: units must be numbers of channels in 0..{channels - 1}, got units={shown(units)}")
    return tuple(map(int, given))


def _patch(images, row: int, value: float, place: int, layout: Sequence[int], field: ReceptiveField) -> Patch:
    position = tuple(int(i) for i in np.unravel_index(place, tuple(layout))) if layout else ()
    y, x = position or (0, 0)
    top, bottom, left, right = (int(bound) for bound in (*field.rows[y], *field.columns[x]))
    return Patch(row, float(value), position, (top, bottom, left, right), images[row, top:bottom, left:right])


def _framed(patch: Patch, height: int, width: int) -> np.ndarray:
    """A patch on grey, which shows where the image ends before what the unit sees."""
    shown_pixels = displayable(patch.pixels)
    frame = np.full((height, width, 3), 0.8)
    top = height - len(shown_pixels) if patch.box[0] == 0 else 0
    left = width - shown_pixels.shape[1] if patch.box[2] == 0 else 0
    frame[top : top + len(shown_pixels), left : left + shown_pixels.shape[1]] = shown_pixels
    return frame
