"""Records what torch makes of files that `transfer.save_torch_weights` wrote.

    python tests/oracles/torch_saved.py write FOLDER     # where jaxdl is
    python tests/oracles/torch_saved.py record FOLDER    # where torch 2.13, safetensors and numpy are

Every file is loaded with `load_state_dict(strict=True)` into the architecture in torch, and must have the very names,
dtypes and shapes of its own `state_dict`. Variables are drawn in jaxdl's layout, so that nothing here depends on
`load_torch_weights`; one file holds the published weights of ResNet-20, where `../shared` has them. Writes
torch_saved.json beside this file: a checksum of what torch then holds, and logits.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
REAL = HERE.parents[2] / "shared" / "weights" / "resnet20-12fca82f.th"
# Of the images, 32 where not named: such that the last feature maps of AlexNet and VGG are 6 x 6 and 2 x 2.
SIDES = {"alexnet": 224, "vgg11": 64, "vgg13_bn": 64, "resnet18": 64, "resnet50": 64}


def jaxdl_models():
    """Models by name, small where the architecture lets them be; the names are those of the files."""
    from jaxdl import models
    from jaxdl.models import layers

    return {
        "alexnet": models.alexnet_torchvision(10).clone(widths=(8, 16, 24, 16, 12), hidden=20),
        "vgg11": models.vgg(11, 10, hidden=20, pooled=2),
        "vgg13_bn": models.vgg(13, 10, hidden=20, pooled=2, norm=layers.BatchNorm),
        "resnet18": models.resnet(18, 10),
        "resnet50": models.resnet(50, 10, scan=True),
        "resnet14_a": models.resnet_cifar(14),
        "resnet14_b": models.resnet_cifar(14, shortcut=layers.shortcut_b, scan=True),
        "resnet20_real": models.resnet_cifar(20),
    }


def torch_models():
    """The same architectures in torch."""
    import torch_models as torchvision
    from torch import nn
    from torch.nn import functional as F

    class CifarBlock(torchvision.BasicBlock):
        def __init__(self, inputs, width, stride, option):
            super().__init__(inputs, width, stride)
            self.missing = width - inputs
            self.shortcut = nn.Sequential()
            if self.missing and option == "B":
                self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

        def forward(self, x):
            shortcut = self.shortcut(x)
            if self.missing and not len(self.shortcut):
                shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.missing // 2, self.missing // 2))
            return F.relu(self.branch(x) + shortcut)

    class CifarResNet(nn.Module):
        """akamaster/pytorch_resnet_cifar10."""

        def __init__(self, blocks, option):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            for stage, (inputs, width, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 64, 2)), 1):
                made = [CifarBlock(inputs, width, stride, option)]
                made += [CifarBlock(width, width, 1, option) for _ in range(blocks - 1)]
                setattr(self, f"layer{stage}", nn.Sequential(*made))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = F.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(x.mean((2, 3)))

    return {
        "alexnet": torchvision.AlexNet((8, 16, 24, 16, 12), 20, 10),
        "vgg11": torchvision.VGG(False, (1, 1, 2, 2, 2), 2, 20, 10),
        "vgg13_bn": torchvision.VGG(True, (2, 2, 2, 2, 2), 2, 20, 10),
        "resnet18": torchvision.ResNet(torchvision.BasicBlock, (2, 2, 2, 2), 10),
        "resnet50": torchvision.ResNet(torchvision.Bottleneck, (3, 4, 6, 3), 10),
        "resnet14_a": CifarResNet(2, "A"),
        "resnet14_b": CifarResNet(2, "B"),
        "resnet20_real": CifarResNet(3, "A"),
    }


def images(name: str) -> np.ndarray:
    """[2, side, side, 3]."""
    side = SIDES.get(name, 32)
    return np.random.default_rng(0).standard_normal((2, side, side, 3), np.float32)


def drawn(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array by its path in jaxdl's variables; uniform numbers, which are the same bits on every machine."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    numbers = rng.random(shape, np.float32)
    if path.endswith("kernel"):
        return (numbers - np.float32(0.5)) * np.float32(np.sqrt(24 / np.prod(shape[-4:-1])))  # He's variance
    if path.endswith(("var", "scale")):
        # The last scale of a residual branch is small, or a sum of many branches grows large.
        last = path.endswith(("norm2/scale", "norm3/scale"))
        return (numbers + np.float32(0.5)) * np.float32(0.25 if last else 1)
    return np.float32(0.25) * (numbers - np.float32(0.5))


def variables(name: str):
    """What is written into a model's file; scanned blocks are drawn as those of the model with blocks one by one."""
    import jax
    import jax.numpy as jnp

    from jaxdl import models, transfer
    from jaxdl.tree import path_name

    model = jaxdl_models()[name]
    if name == "resnet20_real":
        return transfer.load_torch_weights(model, REAL)
    plain = model.clone(scan=False) if getattr(model, "scan", False) else model
    shapes = jax.eval_shape(lambda: plain.init(jax.random.key(0), jnp.asarray(images(name)), train=False))
    tree = jax.tree_util.tree_map_with_path(lambda path, leaf: drawn(path_name(path), leaf.shape), shapes)
    return models.stack_blocks(tree) if plain is not model else tree


def checksum(tensors) -> str:
    """Of names, dtypes, shapes and numbers."""
    crc = 0
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        crc = zlib.crc32(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes(), crc)
    return f"{len(tensors)} arrays, {sum(np.size(array) for array in tensors.values())} numbers, crc32 {crc:08x}"


def write(folder: Path) -> None:
    """Saves every model."""
    from jaxdl import transfer

    for name, model in jaxdl_models().items():
        if name != "resnet20_real" or REAL.exists():
            transfer.save_torch_weights(folder / f"{name}.safetensors", model, variables(name))


def record(folder: Path) -> None:
    """Loads every model."""
    import torch
    from safetensors.torch import load_file

    recorded = {"torch_version": torch.__version__}
    for name, net in torch_models().items():
        state = load_file(folder / f"{name}.safetensors")
        own = {key: (value.dtype, value.shape) for key, value in net.state_dict().items()}
        assert {key: (value.dtype, value.shape) for key, value in state.items()} == own, name
        net.load_state_dict(state, strict=True)
        if name == "resnet20_real":
            published = torch.load(REAL, map_location="cpu")["state_dict"]
            for key, value in published.items():
                assert torch.equal(value, net.state_dict()[key.removeprefix("module.")]), key
        with torch.no_grad():
            logits = net.eval()(torch.from_numpy(np.moveaxis(images(name), -1, 1).copy())).numpy()
        held = {key: value.numpy() for key, value in net.state_dict().items()}
        recorded[name] = {"state_dict": checksum(held), "logits": logits.tolist()}
        print(name, recorded[name]["state_dict"], np.abs(logits).max(), np.abs(logits[0] - logits[1]).max())
    Path(__file__).with_suffix(".json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    {"write": write, "record": record}[sys.argv[1]](Path(sys.argv[2]))
