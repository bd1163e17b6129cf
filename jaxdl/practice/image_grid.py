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
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = max(map(len, rows))
    ratio = max(image.shape[0] / image.shape[1] for row in rows for image in row)
    lines = max((text.count("\n") + 1 for texts in captions or [] for text in texts), default=0)
    gap = 0.06  # in widths of a tile, as all lengths here
    above = gap + 0.13 * lines / tile
    before = 0.085 * max(map(len, names)) / tile if names else 0.0
    size = before + columns * (1 + gap), len(rows) * (ratio + above)
    figure = Figure(
        figsize=(max(4.5, tile * size[0] + (1.0 if bar else 0.2)), tile * size[1] + 0.6), layout="constrained", dpi=150
    )
    figure.suptitle(title, fontsize=10, wrap=True)
    axes = figure.subplots()  # one for all tiles: to lay out hundreds takes long
    colours = colours or {}
    for r, row in enumerate(rows):
        top = r * (ratio + above) + above
        if names:
            axes.text(-0.1, top + ratio / 2, names[r], fontsize=8, ha="right", va="center")
        for c, image in enumerate(row):
            left, high = c * (1 + gap), image.shape[0] / image.shape[1]
            axes.imshow(image, extent=(left, left + 1, top + high, top), interpolation="nearest", **colours)
            if captions:
                axes.text(left + 0.5, top - 0.02, captions[r][c], fontsize=7, ha="center", va="bottom")
    axes.set(xlim=(-before - gap, columns * (1 + gap)), ylim=(size[1] + gap, 0), aspect="equal")
    axes.axis("off")
    if bar:
        norm = Normalize(colours["vmin"], colours["vmax"])
        figure.colorbar(ScalarMappable(norm, colours["cmap"]), ax=axes, label=bar, shrink=0.8)
    figure.savefig(Path(path))


def in_rows(tiles: Sequence[Any], columns: int) -> list[list[Any]]:
    """A list cut into rows."""
    return [list(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
