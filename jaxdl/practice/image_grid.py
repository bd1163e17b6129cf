"""Pictures of many images."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.arguments import require

MOST = 64
"""Tiles in one picture."""


def displayable(image: Any) -> np.ndarray:
    """An image [height, width, channels] as matplotlib shows it, [height, width, 3], between 0 and 1.

    Bytes keep their brightness; other numbers are stretched from their least to their greatest.
    """
    image = np.asarray(image)
    require(
        image.ndim == 3 and image.shape[-1] in (1, 3),
        f"to be drawn, an image must be [height, width, 1 or 3], got {list(image.shape)}",
    )
    if image.dtype == np.uint8:
        shown = image / 255.0
    else:
        image = np.asarray(image, np.float64)
        spread = np.ptp(image)
        shown = (image - image.min()) / (spread or 1.0)
    return np.broadcast_to(shown, (*image.shape[:2], 3))


def show_tiles(
    path: str | os.PathLike,
    title: str,
    rows: Sequence[Sequence[np.ndarray]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    names: Sequence[str] | None = None,
    tile: float = 1.1,
    colours: dict[str, Any] | None = None,
    bar: str = "",
) -> None:
    """Draws rows of images to a PNG.

    Args:
      path: the file.
      title: above all.
      rows: images [height, width, 3] in 0..1, or numbers [height, width], which are drawn in colours.
      captions: a text above each image.
      names: a text before each row.
      tile: width of an image in inches.
      colours: `cmap`, `vmin` and `vmax` of numbers.
      bar: what the colours mean; with it a colour bar is drawn.
    """
    from matplotlib.figure import Figure

    columns = max(map(len, rows))
    shape = rows[0][0].shape
    height = tile * shape[0] / shape[1] + (0.36 if captions else 0.06)
    margin = (0.012 * 8 * max(map(len, names)) if names else 0.0) + (0.9 if bar else 0.0)
    size = (max(4.5, tile * columns + margin), height * len(rows) + 0.75)
    figure = Figure(figsize=size, layout="constrained", dpi=130)
    figure.suptitle(title, fontsize=10, wrap=True)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    drawn, kept = None, []
    for r, axes_of_row in enumerate(grid):
        for c, axes in enumerate(axes_of_row):
            axes.set(xticks=[], yticks=[])
            if c >= len(rows[r]):
                axes.remove()
                continue
            kept.append(axes)
            drawn = axes.imshow(rows[r][c], interpolation="nearest", **(colours or {}))
            axes.spines[:].set_visible(False)
            if captions:
                axes.set_title(captions[r][c], fontsize=7, pad=2)
            if names and c == 0:
                axes.set_ylabel(names[r], fontsize=8, rotation=0, ha="right", va="center")
    if bar and drawn is not None:
        figure.colorbar(drawn, ax=kept, label=bar, shrink=0.8)
    figure.savefig(Path(path))


def in_rows(tiles: Sequence[Any], columns: int) -> list[list[Any]]:
    """A list cut into rows."""
    return [list(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
