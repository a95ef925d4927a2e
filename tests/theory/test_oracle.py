"""A network whose forward is not what torch.fx traces is refused, and whatever `predict` does leaves no traces."""
import copy
import io
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.theory.networks import NETWORKS
from util.network import Net
from util.theory import predict, predict_current


class Scaling(torch.autograd.Function):
    """Returns its input, and multiplies the gradient by ten."""

    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return 10 * gradient


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other, self.last = (nn.Linear(6, 6) for _ in range(3))


class OwnFunction(Layers):
    def forward(self, x):
        x = functional.relu(Scaling.apply(self.one(x)))
        return self.last(functional.relu(self.other(x)))


class NoGrad(Layers):
    def forward(self, x):
        with torch.no_grad():
            x = self.one(x)
        return self.last(functional.relu(self.other(functional.relu(x))))


class AddedInPlace(Layers):
    def forward(self, x):
        x = residual = self.one(x)
        x += self.other(functional.relu(x))
        return self.last(functional.relu(x)) + residual


class ReluInPlace(Layers):
    def forward(self, x):
        x = self.one(x)
        return self.last(functional.relu(self.other(functional.relu(x, inplace=True)) + x))


class Coin(Layers):
    def __init__(self, toss):
        super().__init__()
        self.toss = toss

    def forward(self, x):
        x = self.one(x)
        if not self.training or self.toss() < 2:
            x = x + self.other(functional.relu(x))
        return self.last(functional.relu(x))


class Chain(Layers):
    """Changes its parameters before it uses them."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        self.change(self.one)
        return self.last(functional.relu(self.other(functional.relu(self.one(x)))))


def clamp(layer):
    for parameter in layer.parameters():
        parameter.data.clamp_(-0.05, 0.05)


class FaintBranch(Layers):
    """A branch without gradients, which are small beside those of the other one."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(*(module for _ in range(6) for module in (nn.Linear(6, 6), nn.Sigmoid())))

    def forward(self, x):
        with torch.no_grad():
            branch = self.branch(x)
        return self.last(functional.relu(self.one(x) + self.other(branch)))


class Deep(nn.Module):
    """Gradients vanish: their squares are too small for a float."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(module for _ in range(48) for module in (nn.Linear(6, 6), nn.Sigmoid())))

    def forward(self, x):
        return Scaling.apply(self.layers(x))


@pytest.mark.parametrize("net", [
    OwnFunction(), NoGrad(), AddedInPlace(), ReluInPlace(), Coin(random.random), Coin(lambda: np.random.rand()),
    Coin(lambda: torch.rand(()).item()), Chain(clamp), Chain(lambda layer: nn.init.constant_(layer.bias, 0.1)),
    FaintBranch(), Deep()], ids=lambda net: type(net).__name__)
def test_forward_that_does_more_than_its_graph_is_refused(net):
    """And leaves the parameters as they were."""
    parameters = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="does something that torch.fx does not see.*in-place|init.constant_.*forward .input_shape.*no rule"):
        predict(net, (6,))
    torch.testing.assert_close(net.state_dict(), parameters, rtol=0, atol=0)


def test_coin_that_is_not_tossed_in_evaluation_mode_is_accepted():
    assert len(predict(Coin(random.random).eval(), (6,))) == 3


class Keeping(Layers):
    """Keeps activations, in an attribute and in a list."""

    def __init__(self):
        super().__init__()
        self.other = None
        self.kept = []

    def forward(self, x):
        self.activation = functional.relu(self.one(x))
        self.kept.append(self.activation)
        return self.last(functional.dropout(self.activation))


def test_predict_leaves_network_and_generators_as_they_were():
    net = Keeping()
    parameters = copy.deepcopy(net.state_dict())
    states = random.getstate(), np.random.get_state()[2], torch.get_rng_state().tolist()
    predict(net, (6,))
    predict_current(net, (6,))
    assert (random.getstate(), np.random.get_state()[2], torch.get_rng_state().tolist()) == states
    assert net.kept == [] and not hasattr(net, "activation")
    assert all(parameter.grad is None for parameter in net.parameters())
    torch.testing.assert_close(net.state_dict(), parameters, rtol=0, atol=0)
    torch.save(net, io.BytesIO())


def test_network_that_holds_activations_is_refused_with_the_way_out():
    net = Keeping()
    net(torch.randn(1, 6))
    with pytest.raises(ValueError, match="cannot be copied.*predict before its first forward"):
        predict(net, (6,))


@pytest.mark.parametrize("net, input_shape", [NETWORKS["perceptron with GELU"],
                                              NETWORKS["three convolutions, global average"]])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")])
def test_prediction_is_the_same_in_every_context(net, input_shape, context):
    expected = predict(net, input_shape)
    with context():
        assert predict(net, input_shape) == expected


@pytest.mark.parametrize("change", [
    lambda net: net.double(), lambda net: net.half(), lambda net: net.to("meta"), lambda net: net.requires_grad_(False),
    lambda net: nn.init.constant_(net.fc1.weight, torch.nan)])
def test_prediction_is_the_same_for_parameters_of_any_kind(change):
    net = Net()
    change(net)
    assert predict(net) == predict(Net())


def test_asymmetric_weights_or_biases_have_no_current_prediction():
    torch.manual_seed(0)
    weights, biases = Net(), Net()
    nn.init.uniform_(weights.fc1.weight)
    nn.init.ones_(biases.conv2.bias)
    with pytest.raises(ValueError, match="'fc1': its weights are not symmetric about zero"):
        predict_current(weights)
    with pytest.raises(ValueError, match="'conv2': its biases are not symmetric about zero"):
        predict_current(biases)
    assert len(predict_current(Net())) == 5
