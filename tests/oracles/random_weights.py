"""Random weights by name: the same arrays where torch runs and where jaxdl does, without a file of them."""

import zlib

import numpy as np


def random_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An entry of a torch state_dict: such that activations keep their size through the network."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(7)
    if name.endswith(("running_var", "weight")) and len(shape) == 1:
        # The last scale of a residual branch is small: else a sum of 50 branches explodes.
        scale = 0.2 if name.endswith(("bn2.weight", "bn3.weight")) else 1.0
        return (scale * rng.uniform(0.5, 1.5, shape)).astype(np.float32)
    if len(shape) >= 2:
        gain = 0.02 if name.startswith(("fc", "classifier.6")) else 2  # logits of about 1
        return (rng.standard_normal(shape, np.float32) * np.sqrt(gain / np.prod(shape[1:]))).astype(np.float32)
    return (0.1 * rng.standard_normal(shape)).astype(np.float32)


def random_images(shape: tuple[int, ...]) -> np.ndarray:
    """Images [batch, height, width, channels]."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)
