"""What the functions that look inside a network take: variables or a state, a batch or a data set, images."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import require, shown
from jaxdl.data import Dataset, Stream
from jaxdl.data.checks import check_image_bytes, shapes_of
from jaxdl.data.streams.order import chunks
from jaxdl.train import TrainState
from jaxdl.train.state import check_state, check_variables
from jaxdl.typing import Batch


def variables_of(function: str, variables: Any) -> dict[str, Any]:
    """The collections of a model; a training state will do too."""
    if isinstance(variables, TrainState):
        check_state(function, variables)
        return variables.variables
    require(
        isinstance(variables, Mapping) and "params" in variables,
        f'{function}: variables must be {{"params": ..., "batch_stats": ...}}, got {shown(variables)}; pass the state, '
        "or state.variables, or what transfer.load_torch_weights gives",
    )
    return dict(variables)


def check_fits(function: str, model: nn.Module, variables: Any, inputs: Any) -> Any:
    """The structs of a model's outputs for one of such inputs; raises `ValueError` unless the variables fit them."""
    shapes = shapes_of(function, model, inputs)
    check_variables(function, model, variables, shapes)
    return shapes.outputs


def batch_of(function: str, batch: Any, *, most: int = 128) -> Batch:
    """A batch as it is; of a data set `most` examples, evenly spaced over its rows."""
    if isinstance(batch, Dataset | Stream):
        return read(batch, np.unique(np.linspace(0, len(batch) - 1, most).astype(np.int64)))
    require(
        isinstance(batch, tuple | list)
        and len(batch) == 2
        and not any(isinstance(part, Dataset | Stream) for part in batch),
        f"{function}: batch must be a pair (inputs, targets) or a data set, got {shown(batch)}; pass "
        "(train_set.inputs[:128], train_set.targets[:128])",
    )
    leaves = jax.tree.leaves(tuple(batch))
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves}
    require(
        len(lengths) == 1 and 0 not in lengths,
        f"{function}: inputs and targets must be arrays [batch, ...] of one length, got "
        f"{', '.join(str(list(np.shape(leaf))) for leaf in leaves)}",
    )
    check_image_bytes(function, batch[0])
    return Batch(*jax.tree.map(jnp.asarray, tuple(batch)))


def read(dataset: Dataset | Stream, rows: np.ndarray) -> Batch:
    """The examples at these rows, as NumPy arrays."""
    part = dataset.take(rows)
    if isinstance(part, Dataset):
        return Batch(part.inputs, part.targets)
    ((found, _),) = chunks(part, len(part))
    return found


def check_images(function: str, images: Any, *, name: str = "image", axes: int = 3) -> jax.Array:
    """Images as a JAX array, with as many axes as wanted."""
    layout = "[height, width, channels]" if axes == 3 else "[n, height, width, channels]"
    require(
        isinstance(images, np.ndarray | jax.Array) and images.ndim == axes and images.size > 0,
        f"{function}: {name} must be an array {layout}, got {shown(images)}; test_set.images[0] is one image, "
        "test_set.images[:8] are eight",
    )
    if axes == 4:
        check_image_bytes(function, images)
    return jnp.asarray(images)


def check_label(function: str, label: Any, classes: int) -> None:
    """Raises `ValueError` unless a label is the number of a class."""
    require(
        isinstance(label, int | np.integer) and not isinstance(label, bool) and bool(0 <= label < classes),
        f"{function}: label must be the number of a class in 0..{classes - 1}, got label={shown(label)}",
    )
