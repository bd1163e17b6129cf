"""Records what torch's layers and torchvision's architectures give, as oracles for jaxdl's.

    python tests/oracles/torch_models.py

In an environment of its own, with torch 2.13 and numpy. There is no torchvision here, so its AlexNet, VGG and ResNet
are written out below, with its module names; `main` checks their published parameter counts. Weights and images are
drawn by name and seed (`random_weights.py`), so that only logits are kept. Writes, beside this file:

- torch_models.npz: logits, and inputs, outputs and gradients of layers;
- torch_models.json: names and shapes of the state dicts;
- torch_zip.pth, torch_legacy.th: one small state dict in torch's two file formats, torch_file.npz: its numbers.
"""

import json
from pathlib import Path

import numpy as np
import torch
from random_weights import random_images, random_weight
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent
torch.set_num_threads(2)


def relu():
    return nn.ReLU(inplace=True)


class AlexNet(nn.Module):
    """torchvision.models.alexnet; narrower ones for tests."""

    def __init__(self, widths=(64, 192, 384, 256, 256), hidden=4096, classes=1000):
        super().__init__()
        a, b, c, d, e = widths
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, 4, 2), relu(), nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2), relu(), nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1), relu(),
            nn.Conv2d(c, d, 3, padding=1), relu(),
            nn.Conv2d(d, e, 3, padding=1), relu(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(e * 36, hidden), relu(),
            nn.Dropout(), nn.Linear(hidden, hidden), relu(),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class VGG(nn.Module):
    """torchvision.models.vgg16 and vgg16_bn; other depths and dense layers for tests."""

    def __init__(self, batch_norm, sizes=(2, 2, 3, 3, 3), pooled=7, hidden=4096, classes=1000):
        super().__init__()
        layers, channels = [], 3
        for width, size in zip((64, 128, 256, 512, 512), sizes, strict=True):
            for _ in range(size):
                layers += [nn.Conv2d(channels, width, 3, padding=1)] + [nn.BatchNorm2d(width)] * batch_norm + [relu()]
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.classifier = nn.Sequential(
            nn.Linear(512 * pooled**2, hidden), relu(), nn.Dropout(),
            nn.Linear(hidden, hidden), relu(), nn.Dropout(),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def branch(self, x):
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)

    def branch(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.bn3(self.conv3(y))


class ResNet(nn.Module):
    """torchvision.models.resnet18 and so on."""

    def __init__(self, block, sizes, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, size in enumerate(sizes):
            width, blocks = 64 * 2**stage, []
            for i in range(size):
                stride = 2 if stage and i == 0 else 1
                new = block(channels, width, stride)
                out = width * block.expansion
                if stride != 1 or channels != out:
                    new.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
                else:
                    new.downsample = None
                blocks.append(new)
                channels = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, 5):
            for block in getattr(self, f"layer{stage}"):
                shortcut = x if block.downsample is None else block.downsample(x)
                x = F.relu(block.branch(x) + shortcut)
        return self.fc(x.mean((2, 3)))


ARCHITECTURES = {  # published parameter count, side of the images
    "alexnet": (AlexNet, 61_100_840, 224),
    "vgg16": (lambda: VGG(False), 138_357_544, 64),
    "vgg16_bn": (lambda: VGG(True), 138_365_992, 64),
    "resnet18": (lambda: ResNet(BasicBlock, (2, 2, 2, 2)), 11_689_512, 64),
    "resnet34": (lambda: ResNet(BasicBlock, (3, 4, 6, 3)), 21_797_672, 64),
    "resnet50": (lambda: ResNet(Bottleneck, (3, 4, 6, 3)), 25_557_032, 64),
    "resnet101": (lambda: ResNet(Bottleneck, (3, 4, 23, 3)), 44_549_160, 64),
    "resnet152": (lambda: ResNet(Bottleneck, (3, 8, 36, 3)), 60_192_808, 64),
}


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def nhwc(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def logits(name):
    make, count, side = ARCHITECTURES[name]
    model = make().eval()
    assert sum(p.numel() for p in model.parameters()) == count, name
    state = model.state_dict()
    model.load_state_dict({k: torch.from_numpy(np.asarray(random_weight(k, tuple(v.shape)))) for k, v in state.items()})
    with torch.no_grad():
        out = model(nchw(random_images((2, side, side, 3)))).numpy()
    return out, {k: list(v.shape) for k, v in state.items()}


def layers():
    """name -> (module in double precision, input shape NHWC)."""
    x = (3, 7, 9, 6)
    return {
        "local_response_norm": (nn.LocalResponseNorm(5, alpha=0.3, beta=0.75, k=2.0), x),
        "local_response_norm_even": (nn.LocalResponseNorm(4, alpha=0.3, beta=0.6, k=1.0), x),
        "group_norm": (nn.GroupNorm(3, 6), x),
        "layer_norm": (nn.GroupNorm(1, 6), x),
        "instance_norm": (nn.InstanceNorm2d(6, affine=True), x),
        "prelu": (nn.PReLU(6), x),
        "elu": (nn.ELU(), x),
        "leaky_relu": (nn.LeakyReLU(0.01), x),
        "max_pool_ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), (2, 8, 11, 3)),
        "max_pool_padded": (nn.MaxPool2d(3, 2, padding=1), (2, 8, 11, 3)),
        "max_pool_padded_ceil": (nn.MaxPool2d(2, 3, padding=1, ceil_mode=True), (2, 8, 10, 3)),
        "avg_pool_ceil": (nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False), (2, 8, 11, 3)),
        "avg_pool_padded": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (2, 8, 11, 3)),
        "adaptive_avg_pool": (nn.AdaptiveAvgPool2d(4), (2, 9, 7, 3)),
        "adaptive_avg_pool_small": (nn.AdaptiveAvgPool2d(7), (2, 3, 2, 3)),
    }


def record_layers(out):
    for name, (layer, shape) in layers().items():
        layer = layer.double()
        for key, value in layer.state_dict().items():
            drawn = random_weight(f"{name}.{key}", tuple(value.shape)).astype(np.float64)
            layer.state_dict()[key].copy_(torch.from_numpy(drawn))
            out[f"{name}/{key}"] = drawn
        x = random_images(shape).astype(np.float64)
        t = nchw(x).requires_grad_()
        y = layer(t)
        y.square().sum().backward()
        out[f"{name}/x"], out[f"{name}/y"], out[f"{name}/dx"] = x, nhwc(y), nhwc(t.grad)
        for key, parameter in layer.named_parameters():
            out[f"{name}/d{key}"] = parameter.grad.numpy()


def record_batch_norm(out):
    """Three training steps' outputs, gradients and running statistics, then an evaluation."""
    layer = nn.BatchNorm2d(5).double().train()
    for key, value in layer.state_dict().items():
        value.copy_(torch.from_numpy(np.asarray(random_weight(f"batch_norm.{key}", tuple(value.shape)))))
        out[f"batch_norm/{key}"] = value.numpy().copy()
    for step in range(3):
        x = random_images((4, 3, 2, 5)).astype(np.float64) * (step + 1) + 100 * step
        t = nchw(x).requires_grad_()
        y = layer(t)
        (y**3).sum().backward()
        out[f"batch_norm/x{step}"], out[f"batch_norm/y{step}"], out[f"batch_norm/dx{step}"] = x, nhwc(y), nhwc(t.grad)
        out[f"batch_norm/running_mean{step}"] = layer.running_mean.numpy().copy()
        out[f"batch_norm/running_var{step}"] = layer.running_var.numpy().copy()
    out["batch_norm/y_eval"] = nhwc(layer.eval()(nchw(x)))


def record_files():
    """A state dict with what makes reading hard: views, strides, a shared storage, several dtypes, other objects."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "plain": base,
        "transposed": base.t(),
        "slice": base[1:3, 2:5],
        "double": torch.linspace(0, 1, 5, dtype=torch.float64),
        "half": torch.tensor([1.5, -2.25], dtype=torch.float16),
        "bfloat16": torch.tensor([[1.5, -3.0]], dtype=torch.bfloat16),
        "long": torch.tensor([2**40, -1]),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.tensor([4.0, 5.0])),
    }
    checkpoint = {"epoch": 3, "best_prec1": 91.5, "state_dict": tensors, "path": Path("somewhere")}
    torch.save(checkpoint, HERE / "torch_zip.pth")
    torch.save(checkpoint, HERE / "torch_legacy.th", _use_new_zipfile_serialization=False)
    numbers = {
        k: v.detach().float().numpy() if v.dtype == torch.bfloat16 else v.detach().numpy() for k, v in tensors.items()
    }
    np.savez_compressed(HERE / "torch_file.npz", **numbers)


def main():
    out, names = {}, {}
    for name in ARCHITECTURES:
        out[f"logits/{name}"], names[name] = logits(name)
        print(name, np.abs(out[f"logits/{name}"]).max())
    record_layers(out)
    record_batch_norm(out)
    np.savez_compressed(HERE / "torch_models.npz", torch_version=torch.__version__, **out)
    (HERE / "torch_models.json").write_text(json.dumps(names, indent=None, separators=(",", ":")) + "\n")
    record_files()


if __name__ == "__main__":
    main()
