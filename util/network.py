"""The network that is trained: the one of PyTorch's CIFAR-10 tutorial."""
from collections import OrderedDict

from torch import nn


class Net(nn.Sequential):
    """Maps (N, 3, 32, 32) images to (N, 10) class scores (logits), with 62,006 parameters.

    It is written as a chain of named layers, so that `util.signal_propagation` analyses the very modules that compute.
    Parameter names, shapes, the order in which random numbers are drawn, and outputs are those of the tutorial,
    https://pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html.
    """

    def __init__(self) -> None:
        super().__init__(OrderedDict(
            conv1=nn.Conv2d(3, 6, 5), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(400, 120), relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84), relu4=nn.ReLU(),
            fc3=nn.Linear(84, 10),
        ))
