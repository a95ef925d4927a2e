"""The networks of the study, for (N, 3, 32, 32) images and ten classes: the tutorial's, deeper and narrow ones."""
from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.vgg import cfgs, make_layers

from util.network import ACTIVATIONS, TUTORIAL_DEPTH, Net

DEEPEST = 400  # weight layers; in much deeper networks, no float holds what the theory says of PyTorch's initialization
NAMED = "named"


def vgg(configuration: str, width: int = 8) -> nn.Sequential:
    """VGG (Simonyan and Zisserman, 2015) for 32x32 images, narrow and without dropout.

    Args:
        configuration: of the convolutions, in table 1 of the paper: "A" has eight of them, "D" has 13.
        width: channels of the first convolution; 64 in the paper.
    """
    convolutions = make_layers([each if each == "M" else each * width // 64 for each in cfgs[configuration]])
    channels = 8 * width
    dense = [nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), *dense, nn.Linear(channels, 10))


def perceptron() -> nn.Sequential:
    """Ten layers with GELU; the hidden ones have 128 neurons."""
    fan_ins = [3 * 32 * 32, *[128] * 8]
    hidden = [module for fan_in in fan_ins for module in (nn.Linear(fan_in, 128), nn.GELU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))


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


def resnet20() -> nn.Sequential:
    """A pre-activation residual network: 20 layers, two shortcuts with weights, maps of 16x16, 8x8 and 4x4."""
    blocks = []
    for channels, outputs, stride in (8, 8, 1), (8, 16, 2), (16, 32, 2):
        blocks.append(PreActivation(channels, outputs, stride))
        blocks += [PreActivation(outputs, outputs), PreActivation(outputs, outputs)]
    first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    return nn.Sequential(first, *blocks, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


NETWORKS = {
    "lenet5": Net,  # LeNet-5 (LeCun et al., 1998) with ReLU, max pools and three channels is the tutorial's
    "vgg11": partial(vgg, "A"),
    "vgg16": partial(vgg, "D", width=4),  # half as wide, so that an epoch takes about as long
    "perceptron": perceptron,
    "resnet20": resnet20,
}


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


def read_network(depth: str, activation: str, network: str) -> Network:
    """Return the network of a row of results; a ValueError says what its cells are if they name none."""
    if network in NETWORKS and not depth and not activation:
        return Network(NAMED, network)
    if activation in ACTIVATIONS and TUTORIAL_DEPTH <= int(depth) <= DEEPEST and not network:
        return Network(activation, int(depth))
    raise ValueError(f"there is no network of depth '{depth}' ({TUTORIAL_DEPTH} to {DEEPEST}), activation "
                     f"'{activation}' and name '{network}'")
