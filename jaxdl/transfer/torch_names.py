"""Torch's names and layouts for the arrays of jaxdl's models: tables for both directions."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from jaxdl.arguments import require
from jaxdl.models import VGG, AlexNet, ResNet

# Names of one module in torchvision's ResNets, in akamaster's, and here. {} are numbers: stage, block, layer. (Torch
# counts blocks from 0.)
_RESNET_NAMES = [
    ("conv1", "conv1", "stem_conv"),
    ("bn1", "bn1", "stem_norm"),
    ("bn", "bn", "final_norm"),
    ("fc", "linear", "head"),
    ("layer{}.{}.conv{}", "layer{}.{}.conv{}", "stage{}_block{}/conv{}"),
    ("layer{}.{}.bn{}", "layer{}.{}.bn{}", "stage{}_block{}/norm{}"),
    ("layer{}.{}.downsample.0", "layer{}.{}.shortcut.0", "stage{}_block{}/shortcut_conv"),
    ("layer{}.{}.downsample.1", "layer{}.{}.shortcut.1", "stage{}_block{}/shortcut_norm"),
]
# Our collection and name of an array, torch's name, and how many axes it has.
_ARRAYS = [
    ("params", "kernel", "weight", 4),
    ("params", "kernel", "weight", 2),
    ("params", "scale", "weight", 1),
    ("params", "bias", "bias", 1),
    ("batch_stats", "mean", "running_mean", 1),
    ("batch_stats", "var", "running_var", 1),
]
_KERNEL_AXES = (2, 3, 1, 0)  # from [out, in, height, width] to [height, width, in, out]
_WEIGHT_AXES = tuple(map(_KERNEL_AXES.index, range(4)))  # and back
COUNTER = "num_batches_tracked"
"""The name of BatchNorm's counter of batches in torch, which torch does not use by default."""


def from_torch(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Arrays by our names, as in "params/stem_conv/kernel", and torch's name of each; unknown names stay the same."""
    modules, maps = _our_modules(tensors)
    places = {(theirs, ndim): (collection, ours) for collection, ours, theirs, ndim in _ARRAYS}
    arrays, torch_names = {}, {}
    for name, value in tensors.items():
        module, _, kind = name.rpartition(".")
        path, place = name, places.get((kind, getattr(value, "ndim", -1)))
        if module in modules and place is not None:
            collection, leaf = place
            path = f"{collection}/{modules[module]}/{leaf}"
            value = _kernel(value, maps.get(module, 1)) if leaf == "kernel" else value
        arrays[path], torch_names[path] = value, name
    return arrays, torch_names


def has_torch_names(model: nn.Module) -> bool:
    """Whether `to_torch` knows the model."""
    return isinstance(model, ResNet | VGG) or (isinstance(model, AlexNet) and model.torchvision)


def to_torch(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `from_torch`: the `state_dict` of the same model in torch. BatchNorm's counters are 0.

    Args:
      model: a model for which `has_torch_names` is true.
      arrays: all arrays of the model, by our names; a ResNet's blocks one by one, not stacked.

    Raises:
      ValueError: torch has no name for some of the arrays.
    """
    places = {path: _split(path) for path in arrays}
    modules = _torch_modules(model, [module for _, module, _ in places.values()])
    kinds = {(collection, ours): theirs for collection, ours, theirs, _ in _ARRAYS}
    unknown = [path for path, (c, module, leaf) in places.items() if module not in modules or (c, leaf) not in kinds]
    rest = f" and {len(unknown) - 12} more" if len(unknown) > 12 else ""
    require(
        not unknown,
        f"save_torch_weights: torch's {type(model).__name__} has nothing like {', '.join(unknown[:12])}{rest}; "
        "it has convolutions, normalisations and dense layers only",
    )
    tensors = {f"{modules[module]}.{kinds[c, leaf]}": arrays[path] for path, (c, module, leaf) in places.items()}
    tensors = {name: _weight(array) if array.ndim == 4 else array for name, array in tensors.items()}
    _, maps = _our_modules(tensors)
    for name, array in list(tensors.items()):
        module, _, kind = name.rpartition(".")
        if array.ndim == 2:
            tensors[name] = _weight(array, maps.get(module, 1))
        elif kind == "running_mean":
            tensors[f"{module}.{COUNTER}"] = np.zeros((), np.int64)
    return tensors


def _split(path: str) -> tuple[str, str, str]:
    """The collection, module and array that "params/stage1_block1/conv1/kernel" names."""
    collection, *module, array = path.split("/")
    return collection, "/".join(module), array


def _our_modules(tensors: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, int]]:
    """Our names for torch's modules; and for dense layers after feature maps, the number of maps."""
    names, maps, features, classifier = {}, {}, [], []
    for module in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
        if match := re.fullmatch(r"(features|classifier)\.(\d+)", module):
            (features if match[1] == "features" else classifier).append((int(match[2]), module))
        for *theirs, ours in _RESNET_NAMES:
            for template in theirs:
                if (name := _renamed(module, template, ours, +1)) is not None:
                    names[module] = name
    # AlexNet and VGG are numbered with their activations and poolings: the order tells what is what.
    convolutions, last_maps = 0, 1
    for _, module in sorted(features):
        weight = np.asarray(tensors.get(f"{module}.weight"))
        if weight.ndim == 4:
            convolutions, last_maps = convolutions + 1, len(weight)
            names[module] = f"conv{convolutions}"
        else:
            names[module] = f"norm{convolutions}"
    for number, (_, module) in enumerate(sorted(classifier), convolutions + 1):
        names[module] = "head" if number == convolutions + len(classifier) else f"dense{number}"
        if number == convolutions + 1:
            maps[module] = last_maps
    return names, maps


def _torch_modules(model: nn.Module, modules: Sequence[str]) -> dict[str, str]:
    """Torch's names for our modules; modules for which it has none are left out."""
    if isinstance(model, VGG):
        return _numbered(tuple(itertools.accumulate(model.stage_sizes)), model.norm is not None, model.dropout_first)
    if isinstance(model, AlexNet):
        return _numbered((1, 2, 5), normed=False, dropout_first=True)
    names = {}
    for torchvision, akamaster, ours in _RESNET_NAMES:
        theirs = torchvision if getattr(model, "imagenet_stem", True) else akamaster
        found = {module: _renamed(module, ours, theirs, -1) for module in modules}
        names.update({module: name for module, name in found.items() if name is not None})
    return names


def _numbered(pooled: tuple[int, ...], normed: bool, dropout_first: bool) -> dict[str, str]:
    """Torch's names for the modules of AlexNet and VGG. Torch also counts modules without arrays ("" below).

    Args:
      pooled: numbers of the convolutions that pooling follows, the last one's too.
      normed: whether normalisations follow the convolutions.
      dropout_first: dropout stands before the hidden dense layers, rather than after.
    """
    features, classifier = [], []
    for number in range(1, pooled[-1] + 1):
        features += [f"conv{number}", *[f"norm{number}"] * normed, "", *[""] * (number in pooled)]
    for number in (pooled[-1] + 1, pooled[-1] + 2):
        classifier += ["", f"dense{number}", ""] if dropout_first else [f"dense{number}", "", ""]
    parts = {"features": features, "classifier": [*classifier, "head"]}
    return {ours: f"{part}.{place}" for part, names in parts.items() for place, ours in enumerate(names) if ours}


def _renamed(name: str, old: str, new: str, shift: int) -> str | None:
    """Rewrites a name of the form `old` in the form `new`, and adds `shift` to its second number, the block's.

    Returns None if the name does not have the form `old`.
    """
    match = re.fullmatch(re.escape(old).replace(r"\{\}", r"(\d+)"), name)
    if match is None:
        return None
    numbers = [int(number) + shift * (place == 1) for place, number in enumerate(match.groups())]
    return new.format(*numbers)


def _kernel(weight: np.ndarray, maps: int = 1) -> np.ndarray:
    """Torch's weight of a convolution or dense layer as ours: [out, in] becomes [in, out].

    If the inputs of a dense layer are `maps` feature maps, torch has them in the order channel, row, column; here the
    order is row, column, channel.
    """
    if weight.ndim == 4:
        return weight.transpose(_KERNEL_AXES)
    out, inputs = weight.shape
    maps, side = _sides(inputs, maps)
    return weight.reshape(out, maps, side, side).transpose(_KERNEL_AXES).reshape(inputs, out)


def _weight(kernel: np.ndarray, maps: int = 1) -> np.ndarray:
    """The inverse of `_kernel`."""
    if kernel.ndim == 4:
        return kernel.transpose(_WEIGHT_AXES)
    inputs, out = kernel.shape
    maps, side = _sides(inputs, maps)
    return kernel.reshape(side, side, maps, out).transpose(_WEIGHT_AXES).reshape(out, inputs)


def _sides(inputs: int, maps: int) -> tuple[int, int]:
    """Number and side of the feature maps before a dense layer; if they are not square, they count as maps of 1 x 1."""
    side = math.isqrt(inputs // maps)
    return (maps, side) if inputs == maps * side * side else (inputs, 1)
