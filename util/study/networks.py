"""The networks of the study, for (N, 3, 32, 32) images and ten classes: the tutorial's, and five that are narrow."""
from __future__ import annotations

from typing import NamedTuple, Sequence

import torch
from torch import nn
from torch.nn import functional

from util.network import ACTIVATIONS, TUTORIAL_DEPTH, Net

DEEPEST = 400  # weight layers; in much deeper networks, no float holds what the theory says of PyTorch's initialization
NAMED = "named"


def lenet5() -> nn.Sequential:
    """LeNet-5 (LeCun et al., 1998) with ReLU and max pools: the tutorial's network."""
    convolutions = [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*convolutions, nn.Flatten(), *dense)


def vgg(depths: Sequence[int], width: int = 8) -> nn.Sequential:
    """VGG (Simonyan and Zisserman, 2015) for 32x32 images, narrow and without dropout.

    Args:
        depths: the number of convolutions in each of the five stages, of 1, 2, 4, 8 and 8 times `width` channels.
        width: channels of the first stage; 64 in the paper.
    """
    layers: list[nn.Module] = []
    channels = 3
    for depth, factor in zip(depths, (1, 2, 4, 8, 8)):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, factor * width, 3, padding=1), nn.ReLU()]
            channels = factor * width
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for _ in range(2):
        layers += [nn.Linear(channels, channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(channels, 10))


def vgg11() -> nn.Sequential:
    """VGG with eight convolutions."""
    return vgg([1, 1, 2, 2, 2])


def vgg16() -> nn.Sequential:
    """VGG with 13 convolutions, half as wide, so that an epoch takes about as long as one of `vgg11`."""
    return vgg([2, 2, 3, 3, 3], width=4)


def perceptron() -> nn.Sequential:
    """Ten layers with GELU; the hidden ones have 128 neurons."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(3 * 32 * 32, 128), nn.GELU()]
    for _ in range(8):
        layers += [nn.Linear(128, 128), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


class PreActivation(nn.Module):
    """A block of a pre-activation residual network (He et al., 2016), whose shortcut has weights if the map changes."""

    def __init__(self, channels: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, outputs, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        changes = stride > 1 or outputs != channels
        self.shortcut = nn.Conv2d(channels, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of the shortcut and the residual."""
        residual = self.conv1(functional.relu(x))
        residual = self.conv2(functional.relu(residual))
        return self.shortcut(x) + residual


def resnet20(width: int = 8) -> nn.Sequential:
    """A pre-activation residual network: 20 layers, two shortcuts with weights, maps of 16x16, 8x8 and 4x4."""
    blocks = []
    channels = width
    for outputs in (width, 2 * width, 4 * width):
        stride = 1 if outputs == channels else 2
        blocks += [PreActivation(channels, outputs, stride), PreActivation(outputs, outputs),
                   PreActivation(outputs, outputs)]
        channels = outputs
    first = nn.Conv2d(3, width, 3, stride=2, padding=1)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(first, *blocks, nn.ReLU(), pool, nn.Flatten(), nn.Linear(channels, 10))


NETWORKS = {"lenet5": lenet5, "vgg11": vgg11, "vgg16": vgg16, "perceptron": perceptron, "resnet20": resnet20}


class Network(NamedTuple):
    """Which network is trained: the tutorial's of some activation and depth, or one of `NETWORKS`.

    Networks of one family are compared in one table.
    """

    family: str  # the activation of the tutorial's network, or NAMED
    member: int | str  # the number of weight layers of the tutorial's network, or a name in NETWORKS

    @property
    def kind(self) -> str:
        """By what the members of the family differ."""
        return "network" if self.family == NAMED else "depth"

    @property
    def suffix(self) -> str:
        """The family's part of the names of configurations."""
        return "" if self.family in ("relu", NAMED) else f"-{self.family}"

    def __str__(self) -> str:
        return f"{self.kind} {self.member}"

    def build(self) -> nn.Module:
        """Return the network with the parameters that PyTorch draws."""
        return NETWORKS[self.member]() if self.family == NAMED else Net(self.member, self.family)

    def cells(self) -> dict[str, object]:
        """Return the cells of a row of results, by their columns."""
        if self.family == NAMED:
            return {"depth": "", "activation": "", "network": self.member}
        return {"depth": self.member, "activation": self.family, "network": ""}


TUTORIAL = Network("relu", TUTORIAL_DEPTH)


def read_network(depth: str, activation: str, network: str) -> Network:
    """Return the network of a row of results; a ValueError says what is wrong with its cells."""
    if network:
        if network not in NETWORKS:
            raise ValueError(f"there is no network '{network}'")
        if depth or activation:
            raise ValueError(f"depth and activation are of the tutorial's network, not of {network}")
        return Network(NAMED, network)
    if activation not in ACTIVATIONS:
        raise ValueError(f"there is no activation '{activation}'")
    if not TUTORIAL_DEPTH <= int(depth) <= DEEPEST:
        raise ValueError(f"depth is {depth}, not from {TUTORIAL_DEPTH} to {DEEPEST}")
    return Network(activation, int(depth))
