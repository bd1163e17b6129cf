"""The image files of each class: those in class folders, or those that a list in Tiny-ImageNet's form names."""

import os
import warnings
from pathlib import Path

from jaxdl.arguments import require, shown

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_LIST = "val_annotations.txt"


def class_files(root: Path) -> dict[str, list[str]]:
    """Paths below `root` of the images of each class, sorted.

    Raises:
      ValueError: there are none, or the list does not fit the images.
    """
    if (root / _LIST).is_file():
        return _listed(root)
    found, others, outside = {}, [], []
    real = Path(os.path.realpath(root))
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            outside += [path.name] if _is_image(path.name) else []
            continue
        files, seen = [], {str(place) for place in (real, *real.parents)}  # a link to one of them would be a loop
        for place, folders, names in os.walk(path, followlinks=True):
            where = os.path.realpath(place)
            if where in seen:
                folders.clear()
                continue
            seen.add(where)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.startswith(".") or name == f"{path.name}_boxes.txt":  # Tiny-ImageNet's
                    continue
                below = os.path.relpath(os.path.join(place, name), root)
                (files if _is_image(name) else others).append(below)
        if files:
            found[path.name] = files
        else:
            warnings.warn(f"folder: the class folder {path} holds no image and is left out", stacklevel=3)
    if outside:
        warnings.warn(
            f"folder: {len(outside)} images in {root}, outside of its class folders, are left out, "
            f"{', '.join(outside[:3])} for example; move them into {root}/<class>",
            stacklevel=3,
        )
    if others:
        warnings.warn(
            f"folder: {len(others)} files in {root} do not end like an image's name and are left out, "
            f"{', '.join(others[:3])} for example",
            stacklevel=3,
        )
    require(bool(found), f"folder: {root} must hold class folders with images, root/train/<class>/*.jpg; got none")
    return found


def _listed(root: Path) -> dict[str, list[str]]:
    """The files in root/images, whose classes the list tells: a line is the file's name, a tab, its class, and more."""
    images = root / "images"
    left = set(filter(_is_image, os.listdir(images))) if images.is_dir() else set()
    found: dict[str, list[str]] = {}
    for number, line in enumerate((root / _LIST).read_text().splitlines(), 1):
        name, label, *_ = [*line.split("\t"), ""]
        require(
            name in left and bool(label),
            f"folder: line {number} of {root / _LIST} must be the name of an image in {images}, each once, a tab, and "
            f"its class, got {shown(line)}; unpack the set again",
        )
        left.remove(name)
        found.setdefault(label, []).append(f"images/{name}")
    require(
        not left and bool(found),
        f"folder: {root / _LIST} must name every image in {images}, got {len(left)} without a line, "
        f"{', '.join(sorted(left)[:3]) or 'and no image at all'}; unpack the set again",
    )
    return {label: sorted(found[label]) for label in sorted(found)}


def _is_image(name: str) -> bool:
    return name.lower().endswith(_ENDINGS)
