"""Things several test files use."""

import contextlib
import math
import subprocess

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import data, models
from jaxdl.models import layers


class NoisyNormNet(nn.Module):
    """A tiny network with everything a step must carry along: batch statistics and dropout."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = x.reshape(x.shape[0], -1)
        x = nn.Dense(8)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.25, deterministic=not train)(nn.relu(x))
        return nn.Dense(3)(x)


class ConvNormNet(nn.Module):
    """Convolution, statistics, dense: no dropout, whose draws depend on the number of devices."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = layers.Conv(4, (3, 3), use_bias=False, name="conv")(x)
        x = nn.relu(layers.BatchNorm(name="norm")(x, train=train))
        return nn.Dense(3)(x.reshape(len(x), -1))


def small_resnet(num_classes=10, *, blocks=1, **fields):
    """The CIFAR ResNet with a single narrow stage: a stem, residual blocks and a head, quick to compile."""
    return models.resnet_cifar(8, num_classes, widths=(4, 8, 16), **fields).clone(stage_sizes=(blocks,), widths=(4,))


@contextlib.contextmanager
def started(command, **options):
    """A child process that does not outlive the test, not where it fails or runs out of time either."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def shapes_filled(model, image_shape, seed=0, dtype=jnp.float32):
    """Variables of a model with numbers from NumPy, of about the size of a trained net's: nothing is compiled."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        drawn, name = rng.normal(size=leaf.shape), path[-1].key
        if name == "kernel":
            drawn *= np.sqrt(2 / math.prod(leaf.shape[:-1]))
        elif name in ("scale", "var"):
            drawn = np.exp(0.2 * drawn)
        else:
            drawn *= 0.1
        return jnp.asarray(drawn, dtype)

    images = jnp.zeros((1, *image_shape))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    return jax.tree_util.tree_map_with_path(fill, shapes)


def random_dataset(n=50, shape=(6, 5, 2), classes=3, seed=0) -> data.Dataset:
    """Random images whose brightness tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n).astype(np.int32)
    images = rng.integers(0, 100, (n, *shape)) + 70 * labels[:, None, None, None]
    standardize = data.Standardize((0.5,) * shape[-1], (0.25,) * shape[-1])
    return data.Dataset("random", "train", images.astype(np.uint8), labels, tuple("abcdef"[:classes]), standardize)


def random_tree(seed=0, dtype=jnp.float32, scale=1.0):
    """A nested tree of arrays: a matrix, a vector, a scalar."""
    rng = np.random.default_rng(seed)
    shapes = {"dense": {"kernel": (3, 4), "bias": (4,)}, "scale": ()}
    return {
        "dense": {k: jnp.asarray(scale * rng.normal(size=s), dtype) for k, s in shapes["dense"].items()},
        "scale": jnp.asarray(scale * rng.normal(), dtype),
    }


def numbers(state):
    """A training state as a tree of plain arrays."""

    def plain(leaf):
        return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)

    return jax.tree.map(plain, state)


def without_times(history):
    """A history but for what a clock wrote."""
    return history._replace(seconds=0.0, eval_seconds=0 * history.eval_seconds)
