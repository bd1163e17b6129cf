"""How an encoded image becomes an array of a fixed size on the host: decoding, resizing and cropping.

Each view decodes no more than it needs: Pillow lets the JPEG decoder halve the sides as long as they stay larger than
what is wanted, and resizes only the part of the image that is kept.
"""

import dataclasses
import io
import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from jaxdl.arguments import check_integer, check_real, require, shown

if TYPE_CHECKING:  # Pillow is imported when the first image is decoded
    from PIL import Image


class View(Protocol):
    """Maps an encoded image to uint8 [size, size, 3]."""

    @property
    def size(self) -> int:
        """Side of the result, in pixels."""
        ...

    def __call__(self, encoded: bytes, generator: np.random.Generator) -> np.ndarray:
        """Decodes one image; random numbers are drawn from the generator."""
        ...


@dataclasses.dataclass(frozen=True)
class DecodeCenterCrop:
    """The middle of an image: the shorter side is resized to `short_side`, and `size` x `size` pixels are kept.

    With 256 and 224 it is the usual single-crop test on ImageNet.

    Images of every kind that Pillow knows become RGB. What is transparent is put on white. Grey numbers of 16 bits keep
    their upper 8, so that numbers up to 255 in 16 bits become black; those of 32 bits and floats tell no brightness and
    cannot be read. The orientation in EXIF data is not applied, as in torchvision. Pillow refuses images of more than
    about 179 million pixels, and `Stream` takes them for damaged.

    Attributes:
      size: side of the result, in pixels.
      short_side: what the shorter side becomes, at least `size`.

    Raises:
      ValueError: a number is out of its range.
    """

    size: int = 224
    short_side: int = 256

    def __post_init__(self):
        check_integer("DecodeCenterCrop", "size", self.size, at_least=1)
        _check_short_side("DecodeCenterCrop", self.short_side, self.size)

    def __call__(self, encoded: bytes, generator: np.random.Generator) -> np.ndarray:
        """Decodes one image to uint8 [size, size, 3]."""
        del generator
        image = _opened(encoded)
        height, width = resized(image.height, image.width, self.short_side)
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return _window(image, (height, width), (top, left), self.size)


@dataclasses.dataclass(frozen=True)
class DecodeRandomCrop:
    """A random part of an image: the shorter side is resized to `short_side`, `size` x `size` pixels are kept.

    With 256 and 224 it is AlexNet's (2012, sec. 4.1), with (256, 480) the ResNet paper's scale augmentation
    (arXiv 1512.03385, sec. 3.4). Flips are left to `data.RandomFlip`, on the device. Images are decoded as
    `DecodeCenterCrop` says.

    Attributes:
      size: side of the result, in pixels.
      short_side: what the shorter side becomes, at least `size`; or a pair (least, most), from which each image draws a
        number uniformly.

    Raises:
      ValueError: a number is out of its range.
    """

    size: int = 224
    short_side: int | tuple[int, int] = 256

    def __post_init__(self):
        check_integer("DecodeRandomCrop", "size", self.size, at_least=1)
        pair = self.short_side if isinstance(self.short_side, tuple) else (self.short_side,) * 2
        require(
            len(pair) == 2 and not isinstance(self.short_side, list),
            f"DecodeRandomCrop: short_side must be a number or a pair, a tuple, got "
            f"short_side={shown(self.short_side)}; pass 256 or (256, 480)",
        )
        for number in pair:
            _check_short_side("DecodeRandomCrop", number, self.size)
        require(
            pair[0] <= pair[1],
            f"DecodeRandomCrop: short_side must be (least, most), got short_side={self.short_side}; swap them",
        )

    def __call__(self, encoded: bytes, generator: np.random.Generator) -> np.ndarray:
        """Decodes one image to uint8 [size, size, 3]."""
        image = _opened(encoded)
        short_side = self.short_side
        if isinstance(short_side, tuple):
            short_side = int(generator.integers(short_side[0], short_side[1], endpoint=True))
        height, width = resized(image.height, image.width, short_side)
        top = int(generator.integers(0, height - self.size, endpoint=True))
        left = int(generator.integers(0, width - self.size, endpoint=True))
        return _window(image, (height, width), (top, left), self.size)


@dataclasses.dataclass(frozen=True)
class DecodeRandomResizedCrop:
    """A random part of random area and aspect ratio, resized to `size` x `size`: Inception's crop, torchvision's.

    The area is a uniform share of the image's, the logarithm of the ratio (width / height) is uniform. Ten parts are
    drawn until one fits into the image; if none does, it is the largest central part of a ratio in the range.
    Images are decoded as `DecodeCenterCrop` says.

    Attributes:
      size: side of the result, in pixels.
      area: least and greatest share of the image's area.
      ratio: least and greatest width / height.

    Raises:
      ValueError: a number is out of its range.

    Reference: Szegedy et al., `Going Deeper with Convolutions`, 2014 (arXiv 1409.4842), sec. 6.
    """

    size: int = 224
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        check_integer("DecodeRandomResizedCrop", "size", self.size, at_least=1)
        for name in ("area", "ratio"):
            pair = getattr(self, name)
            require(
                isinstance(pair, tuple) and len(pair) == 2,
                f"DecodeRandomResizedCrop: {name} must be a pair (least, greatest), got {name}={shown(pair)}",
            )
            for number in pair:
                check_real("DecodeRandomResizedCrop", name, number, at_least=0)
            require(
                0 < pair[0] <= pair[1] and (name == "ratio" or pair[1] <= 1),
                f"DecodeRandomResizedCrop: {name} must be (least, greatest), above 0"
                f"{' and at most 1' if name == 'area' else ''}, got {name}={pair}",
            )

    def __call__(self, encoded: bytes, generator: np.random.Generator) -> np.ndarray:
        """Decodes one image to uint8 [size, size, 3]."""
        image = _opened(encoded)
        top, left, height, width = self._part(image.height, image.width, generator)
        return _part_resized(image, (left, top, left + width, top + height), self.size)

    def _part(self, rows: int, columns: int, generator: np.random.Generator) -> tuple[float, float, float, float]:
        """Top, left, height and width of a part of an image of `rows` x `columns` pixels."""
        for _ in range(10):
            area = rows * columns * generator.uniform(*self.area)
            ratio = math.exp(generator.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < height <= rows and 0 < width <= columns:
                top = int(generator.integers(0, rows - height, endpoint=True))
                left = int(generator.integers(0, columns - width, endpoint=True))
                return top, left, height, width
        ratio = min(max(columns / rows, self.ratio[0]), self.ratio[1])
        height, width = min(rows, round(columns / ratio) or 1), min(columns, round(rows * ratio) or 1)
        return (rows - height) // 2, (columns - width) // 2, height, width


def resized(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width of an image whose shorter side becomes `short_side`; the other is rounded down, as in torch."""
    if height <= width:
        return short_side, max(short_side, short_side * width // height)
    return max(short_side, short_side * height // width), short_side


def _check_short_side(function: str, number: int, size: int) -> None:
    check_integer(function, "short_side", number, at_least=1)
    require(
        number >= size,
        f"{function}: short_side must be at least size={size}, so that the crop lies inside, got short_side={number}",
    )


def _opened(encoded: bytes) -> "Image.Image":
    """The image, of which only the header has been read."""
    from PIL import Image

    return Image.open(io.BytesIO(encoded))


def _window(image: "Image.Image", resized: tuple[int, int], corner: tuple[int, int], size: int) -> np.ndarray:
    """The window of `size` pixels at `corner` (top, left) of the image resized to (height, width)."""
    by_rows, by_columns = image.height / resized[0], image.width / resized[1]
    top, left = corner[0] * by_rows, corner[1] * by_columns
    return _part_resized(image, (left, top, left + size * by_columns, top + size * by_rows), size)


def _part_resized(image: "Image.Image", box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """A part (left, top, right, bottom), in pixels of the image, as uint8 [size, size, 3]."""
    from PIL import Image

    whole = image.size
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        # The decoder may halve the sides, as long as the part keeps twice the pixels that are wanted.
        times = min(box[2] - box[0], box[3] - box[1]) / (2 * size)
        if times >= 2:
            image.draft(None, (math.ceil(whole[0] / times), math.ceil(whole[1] / times)))
    by_columns, by_rows = image.width / whole[0], image.height / whole[1]
    box = (
        box[0] * by_columns,
        box[1] * by_rows,
        min(box[2] * by_columns, image.width),
        min(box[3] * by_rows, image.height),
    )
    colour = _in_colour(image)
    return np.asarray(colour.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _in_colour(image: "Image.Image") -> "Image.Image":
    """Decodes to RGB. Numbers of 16 bits keep their upper 8; what is transparent is put on white."""
    from PIL import Image

    require(
        image.mode != "F" and (image.mode, image.format) != ("I", "TIFF"),
        "its pixels are numbers of 32 bits, which tell no brightness; save it with 8 bits",
    )
    if image.mode.startswith("I"):
        numbers = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(numbers, 0, 65535) // 256).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")
