"""Loads weights that were trained with torch, and saves weights for torch."""

import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.arguments import check_integer, require, shown
from jaxdl.models import stack_blocks, unstack_blocks
from jaxdl.transfer.torch_files import read_torch_file
from jaxdl.transfer.torch_names import COUNTER, from_torch, has_torch_names, to_torch
from jaxdl.tree import check_arrays, check_finite, path_name

_TORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # under which training scripts save the tensors
_PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")


def load_torch_weights(
    model: nn.Module, path: str | os.PathLike, *, image_shape: Sequence[int] = (224, 224, 3)
) -> dict[str, Any]:
    """Reads weights trained with torch into the variables of a model. It needs no torch, and runs no pickled code.

    It reads `.pth`, `.pt`, `.th`, `.bin` and `.tar` files of `torch.save`, `.npz` files with torch's names, and
    `.safetensors`. The names must be those of torchvision's AlexNet, VGG and ResNet or of akamaster's CIFAR ResNets,
    with or without `module.` before them, at the top of the file or under "state_dict" and the like.

    Kernels of convolutions become [height, width, in, out] and those of dense layers [in, out]; the inputs of the dense
    layer after the last feature maps come in the order height, width, channel. Running statistics become "batch_stats".
    All arrays become float32. Padding, epsilon and running statistics have the same meaning as in torch, so the logits
    are the same.

    Args:
      model: a jaxdl model, `models.resnet(50)` for example; with `scan=True` blocks are stacked.
      path: the file.
      image_shape: (height, width, channels) of the images. It matters only for `models.alexnet`, whose dense layers
        depend on it.

    Returns:
      {"params": ..., "batch_stats": ...} for `model.apply` and for `train.init_state(..., variables=...)`.

    Raises:
      ValueError: the path is a folder, or the file is of an unknown kind, empty or damaged; its entries are not those
        of the model (the message lists the missing, unexpected and mis-shaped ones); or there are NaN or infinite
        numbers in it (the message lists the entries).
      FileNotFoundError: there is no such file.

    Example:
      >>> from jaxdl import models, transfer
      >>> transfer.load_torch_weights(models.resnet_cifar(20), "resnet20.th")
      Traceback (most recent call last):
      FileNotFoundError: load_torch_weights: there is no file resnet20.th
    """
    function = "load_torch_weights"
    _check_model(function, model)
    path = _checked_path(function, path)
    require(
        isinstance(image_shape, Sequence) and not isinstance(image_shape, str) and len(image_shape) == 3,
        f"{function}: image_shape must be (height, width, channels), got image_shape={shown(image_shape)}; "
        "pass train_set.image_shape",
    )
    for side in image_shape:
        check_integer(function, "each of image_shape", side, at_least=1)
    if not path.is_file():
        raise FileNotFoundError(f"{function}: there is no file {path}")
    require(path.stat().st_size > 0, f"{function}: {path} is empty; download it again")
    found, torch_names = from_torch(_read(path))
    scanned = getattr(model, "scan", False)
    if scanned:
        model = model.clone(scan=False)
    expected = _shapes(model, image_shape)
    leaves, structure = jax.tree_util.tree_flatten_with_path(expected)
    check_arrays(
        f"{function}: {path} does not fit this {type(model).__name__}",
        needed={path_name(p): leaf.shape for p, leaf in leaves},
        given={name: getattr(value, "shape", None) for name, value in found.items()},
        given_names=torch_names,
    )
    check_finite(
        f"{function}: {path} is no file of trained weights", {torch_names[name]: array for name, array in found.items()}
    )
    variables = jax.tree.unflatten(structure, [jnp.asarray(found[path_name(p)], jnp.float32) for p, _ in leaves])
    variables = {"batch_stats": {}, **variables}
    return stack_blocks(variables) if scanned else variables


def save_torch_weights(path: str | os.PathLike, model: nn.Module, variables: Mapping[str, Any]) -> None:
    """Writes the variables of a model as the `state_dict` of the same model in torch: inverts `load_torch_weights`.

    In torch:

        net.load_state_dict(safetensors.torch.load_file("resnet18.safetensors"))

    Names, layouts and dtypes are those of torchvision's ResNets, VGGs and AlexNet, and for the CIFAR ResNets those of
    akamaster's. BatchNorm's `num_batches_tracked` is 0. The file holds arrays only. The logits are equal if the network
    in torch has the epsilon (1e-5), the shortcuts and the activations of the model; by default `alexnet_torchvision`,
    `vgg`, `resnet` and `resnet_cifar` have those of torchvision and akamaster. Names of VGGs with `dropout_first` have
    the numbers that this order of layers gives in torch.

    The file appears when it is complete, and replaces an older one. With several processes call it in one of them.

    Args:
      path: a path that ends in `.safetensors` or `.npz`.
      model: made by `models.resnet`, `resnet_cifar`, `plain_cifar`, `wide_resnet`, `vgg`, `vgg_cifar` or
        `alexnet_torchvision`; `scan=True` or not.
      variables: {"params": ..., "batch_stats": ...}, `state.variables` for example. They are written as float32.

    Raises:
      ValueError: torch has no names for the model or for one of its arrays (a PReLU's slopes); the variables are not
        those of the model, or hold NaN or infinite numbers (the message lists them); they are of several members; or
        the path is a folder or has another ending.
      FileNotFoundError: there is no folder to write to.

    Example:
      >>> import pathlib, tempfile, jax, jax.numpy as jnp
      >>> from jaxdl import models, transfer
      >>> model = models.resnet_cifar(8)
      >>> variables = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False))()
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "resnet8.safetensors"
      ...     transfer.save_torch_weights(path, model, variables)
      ...     again = transfer.load_torch_weights(model, path)
      >>> bool((again["params"]["head"]["kernel"] == variables["params"]["head"]["kernel"]).all())
      True
    """
    function = "save_torch_weights"
    path = _checked_path(function, path, "; the order is save_torch_weights(path, model, variables)")
    require(
        path.suffix in (".safetensors", ".npz"),
        f"{function}: {path.name} must end in .safetensors or .npz; torch reads the former by "
        "safetensors.torch.load_file",
    )
    _check_model(function, model)
    require(
        has_torch_names(model),
        f"{function}: torch has no names for the arrays of this {type(model).__name__}; pass a model made by "
        "models.resnet, resnet_cifar, plain_cifar, wide_resnet, vgg, vgg_cifar or alexnet_torchvision",
    )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{function}: there is no folder {path.parent}")
    arrays = to_torch(model, _checked_arrays(function, model, variables))
    tensors = {name: array.copy(order="C") for name, array in arrays.items()}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            if path.suffix == ".npz":
                np.savez(file, **tensors)  # pyright: ignore[reportArgumentType]
            else:
                from safetensors.numpy import save  # not `save_file`: other users could not read its file

                file.write(save(tensors, metadata={"format": "pt"}))  # as torch's own; some readers ask for it
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _checked_arrays(function: str, model: nn.Module, variables: Any) -> dict[str, np.ndarray]:
    """A model's variables by path, float32, blocks one by one, after checks that they are the model's and finite."""
    require(
        isinstance(variables, Mapping) and "params" in variables,
        f'{function}: variables must be {{"params": ..., "batch_stats": ...}}, got {shown(variables)}; pass '
        "state.variables",
    )
    given = _by_path(dict(variables))
    shapes: dict[str, tuple[int, ...]] = {path: tuple(getattr(leaf, "shape", ())) for path, leaf in given.items()}
    # Of the images' shape only the channels matter to these models; the first convolution knows them.
    windows = [shapes.get(f"params/{name}/kernel", ()) for name in ("stem_conv", "conv1")]
    channels = next((window[-2] for window in windows if len(window) >= 4), 3)
    needed = {path: leaf.shape for path, leaf in _by_path(_shapes(model, (224, 224, channels))).items()}
    stacked = shapes.keys() == needed.keys() and all(shapes[path][1:] == needed[path] for path in needed)
    members = {shape[0] for shape in shapes.values() if stacked}
    require(
        len(members) != 1,
        f"{function}: variables must be those of one model, got {min(members, default=0)} stacked members; pass one of "
        "them, jax.tree.map(lambda leaf: leaf[0], variables) for example",
    )
    check_arrays(f"{function}: the variables do not fit this {type(model).__name__}", needed=needed, given=shapes)
    with np.errstate(over="ignore"):  # a number that is too large becomes infinite, and is refused
        numbers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), dict(variables))
    check_finite(f"{function}: the variables are not all finite", _by_path(numbers))
    return _by_path(unstack_blocks(numbers) if getattr(model, "scan", False) else numbers)


def _by_path(tree: Any) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _shapes(model: nn.Module, image_shape: Sequence[int]) -> Any:
    """The shapes of a model's variables."""
    images = jnp.zeros((1, *image_shape))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def _check_model(function: str, model: Any) -> None:
    require(
        isinstance(model, nn.Module),
        f"{function}: model must be a flax.linen module, got model={shown(model)}; pass an instance, models.resnet(50) "
        "for example",
    )


def _checked_path(function: str, path: Any, remedy: str = "") -> Path:
    """The path, after checks that it may be that of a file."""
    require(
        isinstance(path, str | os.PathLike),
        f"{function}: path must be the name of a file, got path={shown(path)}{remedy}",
    )
    path = Path(path)
    require(not path.is_dir(), f"{function}: {path} is a folder; pass a file in it")
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    """Tensors by their torch names, without what training scripts wrap around them."""
    if path.suffix == ".npz":
        content: Any = _read_npz(path)
    elif path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        require(
            path.suffix in _TORCH_SUFFIXES,
            f"load_torch_weights: {path.name} must end in .npz, .safetensors or {', '.join(_TORCH_SUFFIXES)}",
        )
        content = read_torch_file(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    require(
        isinstance(content, Mapping),
        f"load_torch_weights: {path} must hold tensors by name, got a {type(content).__name__}; in torch save "
        "net.state_dict()",
    )
    named = {_PREFIX.sub("", str(name)): value for name, value in content.items()}
    return {name: value for name, value in named.items() if name.rpartition(".")[2] != COUNTER}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, so that it is closed whatever happens: np.load leaves a damaged one open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, LookupError, TypeError) as error:
        raise ValueError(_damaged(path, ".npz", error)) from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError, LookupError, TypeError) as error:
        raise ValueError(_damaged(path, ".safetensors", error)) from error


def _damaged(path: Path, kind: str, error: Exception) -> str:
    return (
        f"load_torch_weights: {path} must be a {kind} file of arrays, and reading it failed: {type(error).__name__}: "
        f"{error}; the file may be damaged, download it again"
    )
