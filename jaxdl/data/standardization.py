"""Standardises uint8 images to mean 0 and standard deviation 1."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_real, require, shown


@dataclasses.dataclass(frozen=True)
class Standardize:
    """Turns uint8 images into float32 images of mean 0 and deviation 1 in each channel: (x / 255 - mean) / std.

    Attributes:
      mean, std: one number per channel, in units of full brightness (255 is 1).

    Raises:
      ValueError: a mean is outside [0, 1], a deviation is not above 0, or there are not as many means as deviations;
        or, when called, the images are not integers, or have another number of channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, list | np.ndarray):  # a tuple can be hashed: compiled functions are found by it
                values = tuple(values)
            require(
                isinstance(values, tuple) and len(values) > 0,
                f"Standardize: {name} must be a tuple of one number per channel, got {name}={shown(values)}; "
                "pass (0.5,) for one channel",
            )
            for value in values:
                check_real("Standardize", name, value, at_least=0, remedy="in units of full brightness, where 255 is 1")
            object.__setattr__(self, name, tuple(map(float, values)))
        require(
            len(self.mean) == len(self.std),
            f"Standardize: mean and std must have one number per channel each, got {len(self.mean)} and "
            f"{len(self.std)}",
        )
        require(
            max(self.mean) <= 1,
            "Standardize: mean must be in [0, 1], in units of full brightness (255 is 1), got "
            f"mean={shown(self.mean)}; divide mean and std by 255",
        )
        require(
            min(self.std) > 0,
            f"Standardize: std must be above 0, got std={shown(self.std)}; leave out a channel that is constant, or "
            "pass 1 for it",
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps [..., channels] of uint8 to the same shape of float32."""
        require(
            hasattr(images, "dtype") and jnp.issubdtype(images.dtype, jnp.integer),
            "Standardize: images must be uint8, of 0 to 255, got "
            f"{getattr(images, 'dtype', shown(images))}, which would be scaled twice if it is scaled already; pass a "
            "preprocess of your own for float images",
        )
        require(
            images.ndim > 0 and images.shape[-1] == len(self.mean),
            f"Standardize: images must have {len(self.mean)} channels in the last axis, as there are so many means, "
            f"got {tuple(images.shape)}; one made for such images is train_set.standardize",
        )
        scale = 1 / (255 * np.asarray(self.std))
        shift = np.asarray(self.mean) / np.asarray(self.std)
        return images.astype(jnp.float32) * scale.astype(np.float32) - shift.astype(np.float32)


def channel_statistics(images: np.ndarray) -> Standardize:
    """Mean and deviation of each channel over uint8 images [n, height, width, channels], exactly, from histograms."""
    channels = images.shape[-1]
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)])
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = np.sum(counts * np.square(values - mean[:, None]), 1) / counts.sum(1)
    require(
        bool(np.all(variance > 0)),
        "a channel is constant over all images, so it cannot be standardised by its own statistics; leave it out, or "
        "pass standardize=data.Standardize(mean, std) with a std of 1 for it",
    )
    return Standardize(tuple(map(float, mean)), tuple(map(float, np.sqrt(variance))))
