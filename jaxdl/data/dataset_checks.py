"""Checks that arrays can be the inputs and targets of a data set."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_function, looks_channels_first, require, shown
from jaxdl.data.standardization import Standardize


def check_inputs(where: str, inputs: Any) -> None:
    """Raises `ValueError` unless inputs are arrays of one length; one array of bytes must be images."""
    if isinstance(inputs, np.ndarray):
        like_images = inputs.ndim in (3, 4) and inputs.dtype.kind in "iu"
        if inputs.dtype == np.uint8 or like_images:
            _check_images(where, inputs)
        require(
            inputs.ndim != 4 or not looks_channels_first(inputs.shape[1:]),
            f"{where}: inputs {inputs.dtype} {inputs.shape} look like images [n, channels, height, width]; use "
            'inputs.transpose(0, 2, 3, 1). (If they are something else, pass them in a dict, {"x": inputs}.)',
        )
    if _depth(inputs) in (3, 4):
        _check_images(where, inputs)
    _check_arrays(where, "inputs", inputs, None)


def _depth(lists: Any) -> int:
    """How many axes nested lists have."""
    return 1 + _depth(lists[0] if lists else None) if isinstance(lists, list) else 0


def _check_arrays(where: str, name: str, tree: Any, examples: int | None) -> None:
    """Raises `ValueError` unless all leaves are NumPy arrays that JAX keeps as they are, with one leading axis."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    require(bool(leaves), f"{where}: {name} must be arrays [n, ...], got {shown(tree)}")
    are_lists = isinstance(tree, list) and not all(isinstance(leaf, np.ndarray) for _, leaf in leaves)
    for path, found in leaves:
        what = name if are_lists else f"{name}{jax.tree_util.keystr(path)}"
        leaf: Any = tree if are_lists else found
        require(
            isinstance(leaf, np.ndarray) and leaf.ndim > 0,
            f"{where}: {what} must be a NumPy array [n, ...], got "
            + ("a scalar" if isinstance(leaf, np.ndarray) else type(leaf).__name__)
            + f"; use np.asarray({what}), or data.from_arrays, which does",
        )
        examples = len(leaf) if examples is None else examples
        require(
            len(leaf) == examples > 0,
            f"{where}: {what} must be of {examples or 'one or more'} examples, got shape {leaf.shape}; inputs and "
            "targets (images and labels) have one leading axis",
        )
        kept = jax.dtypes.canonicalize_dtype(leaf.dtype) if leaf.dtype.kind in "biuf" else None
        remedy = f"; use .astype(np.{kept})" if kept else ""
        require(
            leaf.dtype == kept or leaf.dtype == jnp.bfloat16,
            f"{where}: {what} must be of a dtype that JAX keeps, got {leaf.dtype}{remedy}",
        )
        finite = leaf.dtype.kind != "f" or bool(np.isfinite(leaf).all())
        require(finite, f"{where}: {what} hold NaN or infinite numbers; leave those examples out, or fill them in")


def check_targets(where: str, targets: Any, examples: int, classes: int) -> None:
    """Raises `ValueError` unless targets are arrays, and with classes labels or one number for each class."""
    are_arrays = isinstance(targets, np.ndarray)
    one_for_each = are_arrays and targets.dtype.kind in "fbV" and targets.shape == (examples, classes)
    if classes and (not one_for_each or targets.dtype == np.float64):
        _check_labels(where, targets, examples, classes)
    _check_arrays(where, "targets", targets, examples)


def check_standardize(where: str, standardize: Any, inputs: Any) -> None:
    """Raises `ValueError` unless `standardize` is None, or a function that takes these inputs."""
    if standardize is None:
        return
    check_function(where, "standardize", standardize, "data.Standardize(mean, std)")
    require(
        not isinstance(standardize, type),
        f"{where}: standardize must be a function of images, got the class {standardize!r}; "
        "pass data.Standardize(mean, std)",
    )
    empty = not jax.tree.leaves(inputs) or getattr(inputs, "size", 1) == 0
    if not isinstance(standardize, Standardize) or isinstance(inputs, list) or empty:
        return  # `check_inputs` refuses such inputs
    what = f"{where}: data.Standardize takes uint8 images, and these inputs are"
    remedy = "leave standardize out, or pass a function of your own"
    if not isinstance(inputs, np.ndarray):
        require(hasattr(inputs, "shape"), f"{what} {shown(jax.tree.structure(inputs))}; {remedy}")
        return
    if inputs.dtype != np.uint8:
        remedy = _to_bytes(inputs) if inputs.ndim in (3, 4) else remedy
        raise ValueError(f"{what} {inputs.dtype} {inputs.shape}; {remedy}")
    channels = len(standardize.mean)
    require(
        inputs.ndim != 4 or inputs.shape[-1] == channels or looks_channels_first(inputs.shape[1:]),
        f"{where}: standardize is for {channels} channels, and the images have {inputs.shape[-1]}, in the last axis; "
        "data.from_arrays(images, labels) makes one for them",
    )


def _check_images(where: str, images: Any) -> None:
    """Raises `ValueError` unless images are uint8 [n, height, width, channels] of at least one image."""
    what = "images must be uint8 [n, height, width, channels] with n >= 1"
    require(
        isinstance(images, np.ndarray),
        f"{where}: {what}, a NumPy array, got {type(images).__name__}; use np.asarray(images)",
    )
    got = f"got {images.dtype} {images.shape}"
    require(images.size > 0, f"{where}: {what}, {got}, which holds no images")
    if images.ndim == 3:
        raise ValueError(f"{where}: {what}, {got}; add an axis of one channel, images[..., None]")
    remedy = "; if these are not images, use .astype(np.int32) or .astype(np.float32)" if images.ndim < 3 else ""
    require(images.ndim == 4, f"{where}: {what}, {got}{remedy}")
    require(
        not looks_channels_first(images.shape[1:]),
        f"{where}: {what}, {got}, which looks like [n, channels, height, width]; use images.transpose(0, 2, 3, 1)",
    )
    if images.dtype != np.uint8:
        raise ValueError(f"{where}: {what}, {got}; {_to_bytes(images)}")


def _to_bytes(images: np.ndarray) -> str:
    """How images of another dtype become uint8."""
    if images.dtype.kind not in "iuf":
        return "pass numbers from 0 to 255"
    low, high = images.min(), images.max()
    if images.dtype.kind in "iu":
        if low >= 0 and high <= 255:
            return "use images.astype(np.uint8)"
        return f"the numbers must be in 0..255, got {low}..{high}; scale them and use images.astype(np.uint8)"
    if low >= 0 and high <= 1:
        return "scale to 0..255 and use (255 * images).round().astype(np.uint8)"
    if low >= 0 and high <= 255:
        return "use images.round().astype(np.uint8)"
    return (
        f"the numbers must be in 0..255, got {low:.3g}..{high:.3g}; undo the standardisation, or leave standardize "
        "out, data.from_arrays(images, labels), which takes floats as they are"
    )


def check_class_names(where: str, names: Any) -> None:
    """Raises `ValueError` unless all are strings."""
    require(
        isinstance(names, list | tuple) and all(isinstance(name, str) for name in names),
        f"{where}: class_names must be a tuple of names, got class_names={shown(names)}; "
        'pass ("cat", "dog") for example, or tuple(map(str, range(10)))',
    )


def _check_labels(where: str, labels: Any, examples: int, classes: int) -> None:
    """Raises `ValueError` unless labels are int32 [examples], each in [0, classes)."""
    what = f"labels must be int32 [{examples}], one per example"
    require(
        isinstance(labels, np.ndarray),
        f"{where}: {what}, a NumPy array, got {type(labels).__name__}; use np.array(labels, np.int32)",
    )
    got = f"got {labels.dtype} {labels.shape}"
    if labels.shape == (examples, 1):
        raise ValueError(f"{where}: {what}, {got}; use labels[:, 0]")
    if labels.ndim == 2 and len(labels) == examples:
        raise ValueError(
            f"{where}: {what}, {got}; labels are class numbers, and one-hot ones become them by "
            f"labels.argmax(1).astype(np.int32); soft ones are float32 [{examples}, {classes}]"
            + (", labels.astype(np.float32)" if labels.shape[1] == classes else "")
        )
    require(labels.shape == (examples,), f"{where}: {what}, {got}, for {examples} images")
    if labels.dtype.kind == "f" and np.all(labels == np.round(labels)):
        what += " (labels.astype(np.int32))"
    require(
        labels.dtype.kind in "iub",
        f"{where}: {what}, {got}; class numbers are needed, from 0 to {classes - 1}",
    )
    low, high = int(labels.min()), int(labels.max())
    require(
        low >= 0 and high < classes,
        f"{where}: labels must be in [0, {classes}) as there are {classes} class names, got {low}..{high}; "
        + ("leave out what has no class" if low < 0 else "classes are counted from 0, each with a name"),
    )
    require(labels.dtype == np.int32, f"{where}: {what}, {got}; use labels.astype(np.int32)")
