"""A network whose forward is not what torch.fx traces is refused, and whatever `predict` does leaves no traces."""
import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import relu
from torch.nn.modules.module import register_module_forward_hook
from torch.testing import assert_close

from tests.theory.networks import NETWORKS
from util.network import Net
from util.theory import predict


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 6)
        self.other = nn.Linear(6, 6)
        self.last = nn.Linear(6, 6)


class NoGrad(Layers):
    def forward(self, x):
        with torch.no_grad():
            x = self.one(x)
        return self.last(relu(self.other(relu(x))))


class ReluInPlace(Layers):
    def forward(self, x):
        x = self.one(x)
        return self.last(relu(self.other(relu(x, inplace=True)) + x))


class Acting(Layers):
    """Does something besides while it is trained."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def forward(self, x):
        if self.training:
            self.action(self.one)
        return self.last(relu(self.other(relu(self.one(x)))))


def clamp(layer):
    for parameter in layer.parameters():
        parameter.data.clamp_(-0.05, 0.05)


class Scaling(torch.autograd.Function):
    """Returns its input, and multiplies the gradient by 1.001."""

    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return 1.001 * gradient


class Scaled(nn.Module):
    def forward(self, x):
        return Scaling.apply(x)


DOUBLING, MULTIPLYING, REPLACED, CUTTING, ROUNDING, ROOTING, DIVIDING = (nn.Linear(6, 6) for _ in range(7))
DOUBLING.register_forward_hook(lambda layer, inputs, output: 2 * output)
MULTIPLYING.register_full_backward_hook(lambda layer, at_inputs, at_output: (3 * at_inputs[0],))
REPLACED.forward = torch.tanh
CUTTING.register_forward_hook(lambda layer, inputs, output: output[:, :2])
ROUNDING.register_forward_hook(lambda layer, inputs, output: output.bfloat16())
ROOTING.register_forward_hook(lambda layer, inputs, output: output.sqrt())  # not numbers, where it is negative
DIVIDING.register_forward_hook(lambda layer, inputs, output: torch.cat([output[:, :-1], output[:, -1:] / 0], dim=1))


class Detaching(Layers):
    """Keeps the parameters of a layer from getting gradients."""

    def forward(self, x):
        detached = {name: parameter.detach() for name, parameter in self.one.named_parameters()}
        x = functional_call(self.one, detached, (x,))
        return self.last(relu(self.other(relu(x))))


@pytest.mark.parametrize("net, reason", [
    (NoGrad(), "does something that torch.fx does not see.*in-place"),
    (ReluInPlace(), "does something"),
    (DOUBLING, "does something.*hooks"),
    (MULTIPLYING, "does something"),
    (REPLACED, "does something"),
    (CUTTING, "does something"),
    (ROUNDING, "does something"),
    (ROOTING, "does something"),
    (DIVIDING, "does something"),
    (Detaching(), "does something"),
    (Acting(lambda layer: random.random()), "does something"),
    (Acting(lambda layer: np.random.rand()), "does something"),
    (Acting(lambda layer: torch.rand(())), "does something"),
    (Acting(clamp), "does something"),
    (Acting(lambda layer: nn.init.constant_(layer.bias, 0.1)), "init.constant_.*no rule"),
    # Gradients vanish, so that their squares are too small for a float.
    (nn.Sequential(*(module for _ in range(48) for module in (nn.Linear(6, 6), nn.Sigmoid())), Scaled()),
     "does something"),
])
def test_forward_that_does_more_than_its_graph_is_refused(net, reason):
    """And leaves the parameters as they were."""
    parameters = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=reason):
        predict(net, (6,))
    assert_close(net.state_dict(), parameters, rtol=0, atol=0)


def test_hook_for_all_modules_is_refused():
    with register_module_forward_hook(lambda module, inputs, output: 2 * output):
        with pytest.raises(ValueError, match="does something.*hooks"):
            predict(nn.Linear(6, 6), (6,))


def test_hook_that_only_records_is_no_reason_and_sees_no_other_values():
    recorded = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Softplus())
    for layer in net:
        layer.register_forward_hook(lambda layer, inputs, output: recorded.append(output.sum().item()))
    assert len(predict(net, (6,))) == 1
    assert len(recorded) == 3


class Switching(nn.Sequential):
    def forward(self, x):
        self.train()
        return super().forward(x)


def test_dropout_counts_as_the_forward_switches_it():
    layers = nn.Linear(6, 6), nn.Dropout(), nn.Linear(6, 6)
    expected = predict(nn.Sequential(*layers), (6,))
    assert predict(Switching(*layers).eval(), (6,)) == expected


def test_prediction_leaves_cuda_untouched(monkeypatch):
    """Else no process could be forked afterwards that uses it."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", None)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", None)
    assert len(predict(nn.Linear(6, 6), (6,))) == 1


def test_what_a_forward_does_in_training_mode_only_is_no_reason_in_evaluation_mode():
    net = Acting(lambda layer: random.random())
    assert len(predict(net.eval(), (6,))) == 3


class Keeping(nn.Sequential):
    """Keeps its output."""

    kept = None

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept


def random_states():
    return random.getstate(), np.random.get_state()[2], torch.get_rng_state().tolist()


def test_predict_leaves_network_and_generators_as_they_were():
    net = Keeping(nn.Linear(6, 6), nn.Dropout())
    states = random_states()
    predict(net, (6,))
    assert random_states() == states
    assert net.kept is None


def test_network_that_holds_activations_is_refused_with_the_way_out():
    net = Keeping(nn.Linear(6, 6))
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
