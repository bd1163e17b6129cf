"""Which pixels a classification depends on: saliency and occlusion maps."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_function, check_integer, check_real, require
from jaxdl.modules import apply_model, check_model
from jaxdl.practice.image_grid import displayable, show_tiles
from jaxdl.practice.inputs import check_fits, check_images, check_label, variables_of
from jaxdl.program_cache import remembered
from jaxdl.train import TrainState
from jaxdl.train.task import Preprocess

_AT_ONCE = 128  # occluded images in one call


@dataclasses.dataclass(frozen=True)
class Saliency:
    """How strongly the score of a class depends on each pixel.

    Attributes:
      images: the images, as they were passed.
      labels: int [n], the classes whose scores these are.
      maps: float32 [n, height, width], >= 0: the largest absolute gradient over the channels.
    """

    images: np.ndarray
    labels: np.ndarray
    maps: np.ndarray

    def plot(self, path: str | os.PathLike, class_names: Sequence[str] = ()) -> None:
        """Draws images (the first 10) and their maps to a PNG; each map has its own scale."""
        count = min(len(self.images), 10)
        maps = [m / (m.max() or 1.0) for m in self.maps[:count]]
        rows = [[displayable(image) for image in self.images[:count]], maps]
        captions = [[_name(label, class_names) for label in self.labels[:count]], [""] * count]
        show_tiles(
            path,
            "Saliency: how strongly each pixel moves the score of the class",
            rows,
            captions=captions,
            names=["image", "saliency"],
            tile=1.15,
            colours={"cmap": "viridis", "vmin": 0, "vmax": 1},
            bar="gradient / largest",
        )


@dataclasses.dataclass(frozen=True)
class Occlusion:
    """The probability of a class with a part of the image covered.

    Attributes:
      image: the image, as it was passed.
      label: the class.
      whole: its probability for the whole image.
      probabilities: float32 [rows, columns], with the square at (tops[row], lefts[column]).
      tops: first rows of pixels of the squares.
      lefts: first columns of pixels.
      size: side of the square in pixels.
    """

    image: np.ndarray
    label: int
    whole: float
    probabilities: np.ndarray
    tops: np.ndarray
    lefts: np.ndarray
    size: int

    def plot(self, path: str | os.PathLike, class_names: Sequence[str] = ()) -> None:
        """Draws the image, and the probability by the place of the square's centre, to a PNG."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        name = _name(self.label, class_names)
        figure = Figure(figsize=(8, 3.9), layout="constrained", dpi=130)
        figure.suptitle(f"Occlusion by a square of {self.size} pixels: probability of {name}", fontsize=11)
        left, right = figure.subplots(1, 2)
        height, width = self.image.shape[:2]
        left.imshow(displayable(self.image), extent=(0, width, height, 0), interpolation="nearest")
        left.set_title(f"the whole image: {self.whole:.3f}", fontsize=10)
        right.imshow(displayable(self.image).mean(-1), extent=(0, width, height, 0), cmap="gray", vmin=0, vmax=1)
        y, x = (_edges(starts, self.size) for starts in (self.tops, self.lefts))
        mesh = right.pcolormesh(x, y, self.probabilities, cmap="viridis", vmin=0, vmax=1, alpha=0.8, linewidth=0)
        lowest = np.unravel_index(np.argmin(self.probabilities), self.probabilities.shape)
        corner = float(self.lefts[lowest[1]]), float(self.tops[lowest[0]])
        for axes in (left, right):
            axes.add_patch(Rectangle(corner, self.size, self.size, fill=False, edgecolor="#d55e00", linewidth=2))
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
        right.set_title(f"by the centre of the square; least, framed: {self.probabilities.min():.3f}", fontsize=10)
        figure.colorbar(mesh, ax=right, label="probability")
        figure.savefig(Path(path))


def saliency(
    model: nn.Module,
    variables: Mapping[str, Any] | TrainState,
    images: Any,
    labels: Any = None,
    *,
    preprocess: Preprocess | None = None,
) -> Saliency:
    """The gradient of a class's score with respect to the pixels, in evaluation; its maximum over the channels.

    The score is the logit. The pixels are the model's inputs, after `preprocess`.

    Args:
      model: a module called as `model(inputs, train=bool)`, or `model(inputs)`; it gives logits [batch, classes].
      variables: {"params": ..., "batch_stats": ...}, or a training state.
      images: [n, height, width, channels].
      labels: int [n], the classes whose scores to look at; by default those that the model predicts.
      preprocess: from images to the model's inputs, `train_set.standardize` for uint8 images.

    Returns:
      `Saliency`, which draws itself with `plot(path, class_names)`.

    Raises:
      ValueError: an argument is wrong.

    Reference: Simonyan et al., `Deep Inside Convolutional Networks`, 2013 (arXiv 1312.6034), sec. 3.
    """
    check_model("saliency", model)
    images = check_images("saliency", images, name="images", axes=4)
    collections = variables_of("saliency", variables)
    inputs = _inputs("saliency", images, preprocess)
    classes = _classes("saliency", model, collections, inputs)
    logits, gradient = _compiled(model)
    if labels is None:
        labels = np.argmax(logits(collections, inputs), -1)
    labels = np.asarray(labels)
    require(
        labels.shape == (len(images),) and np.issubdtype(labels.dtype, np.integer),
        f"saliency: labels must be class numbers [n], one for each of the {len(images)} images, got shape "
        f"{list(labels.shape)} of {labels.dtype}",
    )
    for label in (int(labels.min()), int(labels.max())):
        check_label("saliency", label, classes)
    maps = np.abs(np.asarray(gradient(collections, inputs, labels), np.float32)).max(-1)
    return Saliency(np.asarray(images), labels, maps)


def occlusion(
    model: nn.Module,
    variables: Mapping[str, Any] | TrainState,
    image: Any,
    label: int,
    *,
    size: int = 8,
    stride: int = 2,
    fill: float = 0.0,
    preprocess: Preprocess | None = None,
) -> Occlusion:
    """The probability of a class while a square covers one part of the image after the other.

    Args:
      model: as for `saliency`.
      variables: {"params": ..., "batch_stats": ...}, or a training state.
      image: [height, width, channels].
      label: the class.
      size: side of the square in pixels, at most that of the image.
      stride: pixels between places of the square. The last place along a side is that where the square still fits.
      fill: the model's inputs, after `preprocess`, under the square. With `train_set.standardize` 0 is the mean colour.
      preprocess: from images to the model's inputs, `train_set.standardize` for uint8 images.

    Returns:
      `Occlusion`, which draws itself with `plot(path, class_names)`.

    Raises:
      ValueError: an argument is wrong.

    Reference: Zeiler and Fergus, `Visualizing and Understanding Convolutional Networks`, 2013 (arXiv 1311.2901), sec.
    4.
    """
    check_model("occlusion", model)
    image = check_images("occlusion", image)
    check_integer("occlusion", "size", size, at_least=1)
    check_integer("occlusion", "stride", stride, at_least=1)
    check_real("occlusion", "fill", fill)
    collections = variables_of("occlusion", variables)
    given = np.asarray(_inputs("occlusion", image[None], preprocess))[0]
    height, width = given.shape[:2]
    require(
        size <= min(height, width) and given.shape[:2] == image.shape[:2],
        f"occlusion: size must be at most the sides of the image, {height} x {width}, got size={size}",
    )
    check_label("occlusion", label, _classes("occlusion", model, collections, given[None]))
    tops, lefts = (np.arange(0, side - size + 1, stride) for side in (height, width))
    places = [None, *((top, left) for top in tops for left in lefts)]  # the first image is whole
    at_once = min(_AT_ONCE, len(places))
    logits, _ = _compiled(model)
    found = []
    for start in range(0, len(places), at_once):
        covered = np.repeat(given[None], at_once, 0)
        for number, place in enumerate(places[start : start + at_once]):
            if place is not None:
                covered[number, place[0] : place[0] + size, place[1] : place[1] + size] = fill
        found.append(jax.nn.softmax(logits(collections, covered).astype(jnp.float32))[:, label])
    probabilities = np.concatenate([np.asarray(part) for part in found])[: len(places)]
    by_place = probabilities[1:].reshape(len(tops), len(lefts))
    return Occlusion(np.asarray(image), int(label), float(probabilities[0]), by_place, tops, lefts, size)


@remembered()
def _compiled(model: nn.Module) -> tuple[Any, Any]:
    """Compiled functions: the logits, and the gradient of chosen logits with respect to the inputs."""

    def logits(variables, inputs):
        return apply_model(model, variables, inputs, train=False)

    def scores(inputs, variables, labels):  # each image's score depends on that image alone
        return jnp.sum(jnp.take_along_axis(logits(variables, inputs), labels[:, None], -1))

    return jax.jit(logits), jax.jit(lambda variables, inputs, labels: jax.grad(scores)(inputs, variables, labels))


def _inputs(function: str, images: jax.Array, preprocess: Preprocess | None) -> jax.Array:
    if preprocess is not None:
        check_function(function, "preprocess", preprocess, "train_set.standardize")
    given = images if preprocess is None else preprocess(images)
    require(
        jnp.issubdtype(given.dtype, jnp.floating),
        f"{function}: the model would be shown {given.dtype} images; pass preprocess=train_set.standardize, or floats",
    )
    return given


def _classes(function: str, model: nn.Module, variables: Any, inputs: Any) -> int:
    outputs = check_fits(function, model, variables, jax.ShapeDtypeStruct(inputs.shape, inputs.dtype))
    shape = list(getattr(outputs, "shape", ()))
    require(
        len(shape) == 2 and shape[-1] >= 2,
        f"{function}: {type(model).__name__} must give logits [batch, classes], got {shape}",
    )
    return int(shape[-1])


def _edges(starts: np.ndarray, size: int) -> np.ndarray:
    """The edges of cells around the centres of squares."""
    step = starts[1] - starts[0] if len(starts) > 1 else size
    centres = starts + size / 2
    return np.append(centres - step / 2, centres[-1] + step / 2)


def _name(label: Any, class_names: Sequence[str]) -> str:
    return str(class_names[label]) if len(class_names) else f"class {label}"
