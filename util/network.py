"""The network that is trained: the one of PyTorch's CIFAR-10 tutorial, or a deeper one."""
from collections import OrderedDict

from torch import nn

TUTORIAL_DEPTH = 5  # weight layers
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Net(nn.Sequential):
    """Maps (N, 3, 32, 32) images to (N, 10) class scores (logits); 62,006 parameters at the tutorial's depth.

    It is written as a chain of named layers, so that `util.signal_propagation` analyses the very modules that compute.
    Parameter names, shapes, the order in which random numbers are drawn, and outputs are those of the tutorial,
    https://pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html.

    Args:
        depth: the number of weight layers, at least 5; beyond 5, each is a `Linear(84, 84)` with an activation before
            the last layer.
        activation: one of `ACTIVATIONS`; the tutorial's is "relu".

    Raises:
        ValueError: for a smaller depth.
    """

    def __init__(self, depth: int = TUTORIAL_DEPTH, activation: str = "relu") -> None:
        if depth < TUTORIAL_DEPTH:
            raise ValueError(f"depth must be at least {TUTORIAL_DEPTH}, but is {depth}")
        nonlinearity = ACTIVATIONS[activation]
        super().__init__(OrderedDict(
            conv1=nn.Conv2d(3, 6, 5), relu1=nonlinearity(), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5), relu2=nonlinearity(), pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(400, 120), relu3=nonlinearity(),
            fc2=nn.Linear(120, 84), relu4=nonlinearity(),
        ))
        for layer in range(TUTORIAL_DEPTH, depth):
            self.add_module(f"fc{layer - 2}", nn.Linear(84, 84))
            self.add_module(f"relu{layer}", nonlinearity())
        self.add_module(f"fc{depth - 2}", nn.Linear(84, 10))
