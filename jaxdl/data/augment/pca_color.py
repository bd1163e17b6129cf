"""AlexNet's random changes of colour, along the principal components of the training set's colours."""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from jaxdl.arguments import check_choice, check_real, require, shown
from jaxdl.data.augment.checks import check_call, check_channels, check_pixels
from jaxdl.data.augment.pixels import from_brightness, to_brightness
from jaxdl.data.image_sums import channel_covariance


@dataclasses.dataclass(frozen=True)
class PcaColor:
    """Adds one colour to all pixels of an image, drawn along the principal components of the pixels' colours.

    The colour is the sum over components i of p_i a_i l_i, with a_i from a normal distribution of mean 0 and standard
    deviation 0.1, drawn once for each image; p_i and l_i are the eigenvectors and eigenvalues of the covariance of the
    channels over all pixels of the training set (Krizhevsky et al. 2012, sec. 4.1).

    An eigenvalue is a squared brightness, so the paper's formula depends on the units. Here they are those of full
    brightness (255 is 1), as is usual. `by="deviation"` takes the square roots of the eigenvalues, which are the
    standard deviations along the components, and does not depend on the units: Krizhevsky's cuda-convnet multiplies by
    values that it calls `color_stdevs`. The shifts are then about twice as large on natural images.

    Attributes:
      eigenvalues: one for each channel, in squared units of full brightness.
      eigenvectors: for each eigenvalue its vector, a tuple of one number for each channel.
      deviation: the standard deviation of a_i.
      by: "eigenvalue", the paper's formula, or "deviation".

    Raises:
      ValueError: an attribute has the wrong shape or values; or, when called, there is not one key for each image, or
        the images are neither uint8 nor floating point, or have another number of channels.

    Example:
      >>> from jaxdl import data
      >>> train_set, _ = data.load("fashion_mini")
      >>> data.PcaColor.of(train_set).eigenvectors
      ((1.0,),)
    """

    eigenvalues: tuple[float, ...]
    eigenvectors: tuple[tuple[float, ...], ...]
    deviation: float = 0.1
    by: Literal["eigenvalue", "deviation"] = "eigenvalue"

    def __post_init__(self):
        remedy = "PcaColor.of(train_set) computes it"
        try:
            values = np.asarray(self.eigenvalues, float)
            vectors = np.asarray(self.eigenvectors, float)
        except (TypeError, ValueError):
            values, vectors = np.zeros(0), np.zeros((0, 0))
        require(
            values.ndim == 1 and values.size > 0 and bool(np.all(np.isfinite(values) & (values >= 0))),
            "PcaColor: eigenvalues must be one number >= 0 for each channel, got "
            f"eigenvalues={shown(self.eigenvalues)}; {remedy}",
        )
        require(
            values.max() <= 1,
            "PcaColor: eigenvalues must be in squared units of full brightness, at most 1, got "
            f"eigenvalues={shown(self.eigenvalues)}; divide those of levels from 0 to 255 by 255**2",
        )
        require(
            vectors.shape == (len(values), len(values))
            and np.allclose(vectors @ vectors.T, np.eye(len(values)), atol=0.01),
            "PcaColor: eigenvectors must be one unit vector for each eigenvalue, at right angles to each other, got "
            f"eigenvectors={shown(self.eigenvectors)}; {remedy}",
        )
        check_real("PcaColor", "deviation", self.deviation, at_least=0)
        check_choice("PcaColor", "by", self.by, ("eigenvalue", "deviation"))
        object.__setattr__(self, "eigenvalues", tuple(values.tolist()))
        object.__setattr__(self, "eigenvectors", tuple(map(tuple, vectors.tolist())))

    @classmethod
    def of(
        cls, images: Any, deviation: float = 0.1, by: Literal["eigenvalue", "deviation"] = "eigenvalue"
    ) -> "PcaColor":
        """With the eigenvalues and eigenvectors of images, whose covariance is computed exactly, from integers.

        Args:
          images: a `Dataset` of images, an array uint8 [n, height, width, channels], or an iterable of such arrays, of
            any sizes. Or a `Stream`, which is read once, through its view: `train_set.take(rows)` of a large one will
            do, 10,000 images at random for example.
          deviation: as the attribute.
          by: as the attribute.

        Raises:
          ValueError: the images are none of these, or there are none.
        """
        values, vectors = np.linalg.eigh(channel_covariance("PcaColor", images))
        # The largest first. Signs and last digits are made the same on every machine, as a resumed run compares them.
        values, vectors = np.maximum(values[::-1], 0).round(12), vectors.T[::-1]
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1, keepdims=True), 1)
        vectors = (vectors * np.sign(largest)).round(9)
        return cls(tuple(values.tolist()), tuple(map(tuple, vectors.tolist())), deviation, by)

    def draw(self, key: jax.Array) -> jax.Array:
        """The colour to add [channels], in units of full brightness."""
        scales = np.asarray(self.eigenvalues) if self.by == "eigenvalue" else np.sqrt(self.eigenvalues)
        draws = self.deviation * jax.random.normal(key, (len(scales),))
        return (draws * scales.astype(np.float32)) @ np.asarray(self.eigenvectors, np.float32)

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Maps images [batch, height, width, channels] to the same shape; floats are not cut off at 0 and 1."""
        check_call("PcaColor", keys, images)
        check_pixels("PcaColor", images)
        check_channels("PcaColor", images, len(self.eigenvalues), "PcaColor.of(train_set) makes one for such images")
        colors = jax.vmap(self.draw)(keys)[:, None, None, :]
        return from_brightness(to_brightness(images) + colors, images.dtype)
