"""Flax linen modules: pure `init` and `apply`, images [batch, height, width, channels] in, logits out."""

from jaxdl.models import layers
from jaxdl.models.alexnets import AlexNet, alexnet, alexnet_one_tower, alexnet_torchvision
from jaxdl.models.convnets import ConvNet, convnet
from jaxdl.models.cuda_convnets import ConvLocalNet, CudaConvNet, conv_local, cuda_convnet
from jaxdl.models.named_resnets import plain_cifar, resnet, resnet_cifar, wide_resnet
from jaxdl.models.perceptrons import MLP, mlp
from jaxdl.models.resnets import ResNet
from jaxdl.models.stacked import stack_blocks, unstack_blocks
from jaxdl.models.summaries import Summary, summary
from jaxdl.models.vggs import VGG, vgg, vgg_cifar

__all__ = [
    "MLP",
    "VGG",
    "AlexNet",
    "ConvLocalNet",
    "ConvNet",
    "CudaConvNet",
    "ResNet",
    "Summary",
    "alexnet",
    "alexnet_one_tower",
    "alexnet_torchvision",
    "conv_local",
    "convnet",
    "cuda_convnet",
    "layers",
    "mlp",
    "plain_cifar",
    "resnet",
    "resnet_cifar",
    "stack_blocks",
    "summary",
    "unstack_blocks",
    "vgg",
    "vgg_cifar",
    "wide_resnet",
]
