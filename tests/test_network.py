"""The network is the tutorial's, parameter by parameter and output by output."""
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
