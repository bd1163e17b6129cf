"""Weights that others trained with torch, for the models of jaxdl."""

import math
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
from jaxdl.models import stack_blocks
from jaxdl.transfer.torch_files import read_torch_file
from jaxdl.tree import check_arrays, check_finite, path_name

_TORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # under which training scripts save the tensors
_PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")
_IGNORED = ("num_batches_tracked",)

# Names of torchvision's and akamaster's ResNets, as patterns over the names of torch modules.
_RESNET_NAMES = [
    (re.compile(r"conv1"), "stem_conv"),
    (re.compile(r"bn1"), "stem_norm"),
    (re.compile(r"bn"), "final_norm"),
    (re.compile(r"fc|linear"), "head"),
    (re.compile(r"layer(\d+)\.(\d+)\.conv(\d+)"), "stage{0}_block{1}/conv{2}"),
    (re.compile(r"layer(\d+)\.(\d+)\.bn(\d+)"), "stage{0}_block{1}/norm{2}"),
    (re.compile(r"layer(\d+)\.(\d+)\.(?:downsample|shortcut)\.0"), "stage{0}_block{1}/shortcut_conv"),
    (re.compile(r"layer(\d+)\.(\d+)\.(?:downsample|shortcut)\.1"), "stage{0}_block{1}/shortcut_norm"),
]


def load_torch_weights(
    model: nn.Module, path: str | os.PathLike, *, image_shape: Sequence[int] = (224, 224, 3)
) -> dict[str, Any]:
    """Reads weights trained with torch into the variables of a model. Needs no torch, and runs no pickled code.

    Read are `.pth`, `.pt`, `.th`, `.bin` and `.tar` files of `torch.save`, `.npz` files with torch's names, and
    `.safetensors`. Names are those of torchvision's AlexNet, VGG and ResNet and of akamaster's CIFAR ResNets, with or
    without `module.` before them, at the top or under "state_dict" and the like.

    Convolutions become [height, width, in, out], dense layers [in, out] (the one after the last feature maps with its
    inputs in the order height, width, channel), running statistics the "batch_stats"; all float32. Padding, epsilon and
    running statistics mean in jaxdl's models what they mean in torch: logits are the same.

    Args:
      model: a jaxdl model, `models.resnet(50)` for example; with `scan=True` blocks are stacked.
      path: the file.
      image_shape: (height, width, channels) of the images. It only matters to `models.alexnet`, whose dense layers
        depend on it.

    Returns:
      {"params": ..., "batch_stats": ...} for `model.apply` and for `train.init_state(..., variables=...)`.

    Raises:
      ValueError: the file's kind is not known, it is a folder, empty or damaged; or its entries are not those of the
        model, with a list of the missing, unexpected and mis-shaped ones; or there are NaN or infinite numbers in it,
        with a list of the entries.
      FileNotFoundError: there is no such file.

    Example:
      >>> from jaxdl import models, transfer
      >>> transfer.load_torch_weights(models.resnet_cifar(20), "resnet20.th")
      Traceback (most recent call last):
      FileNotFoundError: load_torch_weights: there is no file resnet20.th
    """
    function = "load_torch_weights"
    require(
        isinstance(model, nn.Module),
        f"{function}: model must be a flax.linen module, got model={shown(model)}; pass an instance, models.resnet(50) "
        "for example",
    )
    require(isinstance(path, str | os.PathLike), f"{function}: path must be the name of a file, got path={shown(path)}")
    require(
        isinstance(image_shape, Sequence) and not isinstance(image_shape, str) and len(image_shape) == 3,
        f"{function}: image_shape must be (height, width, channels), got image_shape={shown(image_shape)}; "
        "pass train_set.image_shape",
    )
    for side in image_shape:
        check_integer(function, "each of image_shape", side, at_least=1)
    path = Path(path)
    require(not path.is_dir(), f"{function}: {path} is a folder; pass a file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{function}: there is no file {path}")
    require(path.stat().st_size > 0, f"{function}: {path} is empty; download it again")
    found, torch_names = _converted(_read(path))
    scanned = getattr(model, "scan", False)
    if scanned:
        model = model.clone(scan=False)
    images = jnp.zeros((1, *image_shape))
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
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
        isinstance(content, Mapping), f"load_torch_weights: {path} holds no names with tensors, but {type(content)}"
    )
    named = {_PREFIX.sub("", str(name)): value for name, value in content.items()}
    return {name: value for name, value in named.items() if name.rpartition(".")[2] not in _IGNORED}


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
    return f"load_torch_weights: {path} is no {kind} file of arrays, or it is damaged: {type(error).__name__}: {error}"


def _converted(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Arrays by our names, as in "params/stem_conv/kernel", and the torch name of each; unknown names stay theirs."""
    modules, channels = _module_names(tensors)
    arrays, torch_names = {}, {}
    for name, value in tensors.items():
        module, _, kind = name.rpartition(".")
        ours, ndim = modules.get(module), getattr(value, "ndim", -1)
        place = {
            ("weight", 4): f"params/{ours}/kernel",
            ("weight", 2): f"params/{ours}/kernel",
            ("weight", 1): f"params/{ours}/scale",
            ("bias", 1): f"params/{ours}/bias",
            ("running_mean", 1): f"batch_stats/{ours}/mean",
            ("running_var", 1): f"batch_stats/{ours}/var",
        }.get((kind, ndim))
        path = name if ours is None or place is None else place
        arrays[path], torch_names[path] = value, name
        if path != name and ndim == 4:
            arrays[path] = value.transpose(2, 3, 1, 0)
        elif path != name and ndim == 2:
            arrays[path] = _dense_kernel(value, channels.get(module, 1))
    return arrays, torch_names


def _module_names(tensors: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, int]]:
    """Our names of torch's modules; and for a dense layer after feature maps, how many of those there are."""
    names, channels, features, classifier = {}, {}, [], []
    for module in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
        if match := re.fullmatch(r"(features|classifier)\.(\d+)", module):
            (features if match[1] == "features" else classifier).append((int(match[2]), module))
        for pattern, ours in _RESNET_NAMES:
            if match := pattern.fullmatch(module):
                parts = list(match.groups())
                if len(parts) > 1:
                    parts[1] = str(int(parts[1]) + 1)  # torch counts blocks from 0
                names[module] = ours.format(*parts)
    # AlexNet and VGG are numbered with their activations and poolings: the order tells what is what.
    convolutions, maps = 0, 1
    for _, module in sorted(features):
        weight = np.asarray(tensors.get(f"{module}.weight"))
        if weight.ndim == 4:
            convolutions, maps = convolutions + 1, len(weight)
            names[module] = f"conv{convolutions}"
        else:
            names[module] = f"norm{convolutions}"
    for number, (_, module) in enumerate(sorted(classifier), convolutions + 1):
        names[module] = "head" if number == convolutions + len(classifier) else f"dense{number}"
        if number == convolutions + 1:
            channels[module] = maps
    return names, channels


def _dense_kernel(weight: np.ndarray, channels: int) -> np.ndarray:
    """[out, in] to [in, out]; inputs that were feature maps from channel, row, column to row, column, channel."""
    out, inputs = weight.shape
    side = math.isqrt(inputs // channels)
    if inputs != channels * side * side:
        return weight.T
    return weight.reshape(out, channels, side, side).transpose(2, 3, 1, 0).reshape(inputs, out)
