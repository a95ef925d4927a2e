"""The network is the tutorial's, parameter by parameter and output by output; a deeper one has more hidden layers."""
import pytest
import torch
from torch import nn

from util.network import Net


def written_out(activation, hidden):
    """The tutorial's network, with `hidden` more layers of 84 neurons."""
    convolutions = [nn.Conv2d(3, 6, 5), activation, nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5), activation]
    layers = [nn.Linear(16 * 5 * 5, 120), activation, nn.Linear(120, 84), activation]
    for _ in range(hidden):
        layers += [nn.Linear(84, 84), activation]
    return nn.Sequential(*convolutions, nn.MaxPool2d(2, 2), nn.Flatten(), *layers, nn.Linear(84, 10))


@pytest.mark.parametrize("depth, name, activation", [(5, "relu", nn.ReLU()), (8, "relu", nn.ReLU()),
                                                     (8, "tanh", nn.Tanh())])
def test_same_parameters_and_outputs_as_the_network_written_out(depth, name, activation):
    torch.manual_seed(3)
    expected = written_out(activation, hidden=depth - 5)
    torch.manual_seed(3)
    net = Net(depth, name)
    assert all(map(torch.equal, net.parameters(), expected.parameters()))
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(net(images), expected(images))


def test_layers_are_named_as_in_the_tutorial():
    assert [name for name, _ in Net().named_children()] == ["conv1", "pool", "conv2", "fc1", "fc2", "fc3"]
    assert [name for name, _ in Net(7).named_children()][3:] == ["fc1", "fc2", "fc3", "fc4", "fc5"]


def test_a_network_below_the_tutorials_depth_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 5, but is 4"):
        Net(depth=4)
