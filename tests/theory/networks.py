"""Networks that people have, narrow enough for random ones to be measured; those of the study are described there."""
from torch import nn

from util.network import Net
from util.study.networks import PreActivation, perceptron, vgg

NETWORKS = {  # with the shape of an input
    "LeNet-5 with ReLU and max pools": (Net(), (3, 32, 32)),
    "LeNet-5 of 1998: Tanh, average pools": (nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)), (1, 28, 28)),
    "AlexNet's kind, narrow": (nn.Sequential(  # overlapping pools, padding, dropout
        nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Dropout(), nn.Linear(288, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 10)), (3, 64, 64)),
    "VGG-11, a quarter as wide": (vgg("A", width=16), (3, 32, 32)),
    "perceptron with GELU": (perceptron(), (3, 32, 32)),
    "pre-activation residual network": (nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), PreActivation(16, 16), PreActivation(16, 16), PreActivation(16, 16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10)), (3, 8, 8)),
    "three convolutions, global average": (nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), (3, 16, 16)),
    "padding, max pool, global average": (nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), (3, 16, 16)),
    "overlapping max pool, global average": (nn.Sequential(  # as in ResNet's stem
        nn.Conv2d(6, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(24, 24, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)), (6, 12, 12)),
}
NARROW = {  # of few inputs of a neuron, where errors of order 1 / fan-in show
    "Tanh perceptron, 1 input": (nn.Sequential(
        nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)), (1,)),
    "Tanh perceptron, 2 inputs": (nn.Sequential(
        nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)), (2,)),
    "Tanh perceptron, 3 inputs": (nn.Sequential(
        nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)), (3,)),
    "depthwise 3x3 with SiLU": (nn.Sequential(
        nn.Conv2d(3, 3, 3, groups=3), nn.SiLU(), nn.Conv2d(3, 32, 1), nn.SiLU(),
        nn.Conv2d(32, 32, 3, groups=32), nn.SiLU(), nn.Flatten(), nn.Linear(512, 10)), (3, 8, 8)),
    "two 3x3 convolutions, max pool, global average, 1 channel": (nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), (1, 12, 12)),
    "the same, 3 channels": (nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), (3, 12, 12)),
    "residual network, average pool, 16 channels": (nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), PreActivation(16, 16), PreActivation(16, 16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)), (3, 8, 8)),
    "the same, 32 channels": (nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), PreActivation(32, 32), PreActivation(32, 32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), (3, 8, 8)),
    "the same, 64 channels": (nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), PreActivation(64, 64), PreActivation(64, 64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)), (3, 8, 8)),
}
POOLED = {  # of few inputs of a neuron before a max pool, which prefers positions where the input is large
    "3x3, 3 to 32 channels, pool of 12x12": (
        nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(12)), (3, 14, 14)),
    "3x3, 1 to 32 channels, pool of 3x3": (
        nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(3)), (1, 14, 14)),
    "1x1, 3 to 32 channels, pool of 12x12": (
        nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.MaxPool2d(12)), (3, 12, 12)),
    "3x3, depthwise, 32 channels, pool of 12x12": (
        nn.Sequential(nn.Conv2d(32, 32, 3, groups=32), nn.ReLU(), nn.MaxPool2d(12)), (32, 14, 14)),
    "3x3, depthwise, 32 channels, pool of 2x2": (
        nn.Sequential(nn.Conv2d(32, 32, 3, groups=32), nn.ReLU(), nn.MaxPool2d(2)), (32, 14, 14)),
    "1x1, 1 to 64 to 64 channels, pool of 2x2": (
        nn.Sequential(nn.Conv2d(1, 64, 1), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU(), nn.MaxPool2d(2)), (1, 8, 8)),
}
