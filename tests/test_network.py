"""The network is the tutorial's, parameter by parameter and output by output; a deeper one has more hidden layers."""
import pytest
import torch
from torch import nn

from util.network import Net


@pytest.mark.parametrize("depth, name, activation, widths", [
    (5, "relu", nn.ReLU(), [400, 120, 84]), (8, "tanh", nn.Tanh(), [400, 120, 84, 84, 84, 84])])
def test_parameters_and_outputs_are_those_of_the_network_written_out(depth, name, activation, widths):
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 5), activation, nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 16, 5), activation, nn.MaxPool2d(2), nn.Flatten()]
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), activation]
    expected = nn.Sequential(*layers, nn.Linear(84, 10))
    torch.manual_seed(3)
    net = Net(depth, name)
    assert all(map(torch.equal, net.parameters(), expected.parameters()))
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(net(images), expected(images))


def test_a_network_below_the_tutorials_depth_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 5, but is 4"):
        Net(depth=4)
