"""The network is the tutorial's, parameter by parameter and output by output; a deeper one has more hidden layers."""
import pytest
import torch
from torch import nn
from torch.nn import functional

from util.network import Net


class TutorialNet(nn.Module):
    """The tutorial's definition, written out."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(functional.relu(self.fc2(x)))


def test_same_parameters_and_outputs_as_the_tutorial():
    torch.manual_seed(3)
    tutorial = TutorialNet()
    torch.manual_seed(3)
    net = Net()
    assert list(net.state_dict()) == list(tutorial.state_dict())
    assert all(map(torch.equal, net.parameters(), tutorial.parameters()))
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(net(images), tutorial(images))


class NetOfDepth8(TutorialNet):
    """With three more hidden layers and any activation, written out."""

    def __init__(self, activation):
        super().__init__()
        self.activation = activation
        self.fc3 = nn.Linear(84, 84)
        self.fc4 = nn.Linear(84, 84)
        self.fc5 = nn.Linear(84, 84)
        self.fc6 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(self.activation(self.conv1(x)))
        x = self.pool(self.activation(self.conv2(x)))
        x = self.activation(self.fc1(torch.flatten(x, 1)))
        x = self.activation(self.fc2(x))
        x = self.activation(self.fc3(x))
        x = self.activation(self.fc4(x))
        x = self.activation(self.fc5(x))
        return self.fc6(x)


@pytest.mark.parametrize("name, activation", [("relu", torch.relu), ("tanh", torch.tanh)])
def test_a_deeper_network_has_more_hidden_layers_before_the_last(name, activation):
    net, written_out = Net(8, name), NetOfDepth8(activation)
    assert list(net.state_dict()) == list(written_out.state_dict())
    written_out.load_state_dict(net.state_dict())
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(net(images), written_out(images))


def test_a_deeper_network_draws_its_random_numbers_in_the_order_of_its_layers():
    torch.manual_seed(3)
    tutorial = TutorialNet()
    torch.manual_seed(3)
    net = Net(depth=8)
    for name in "conv1", "conv2", "fc1", "fc2":
        assert torch.equal(net.get_submodule(name).weight, tutorial.get_submodule(name).weight)


def test_a_network_below_the_tutorials_depth_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 5, but is 4"):
        Net(depth=4)
