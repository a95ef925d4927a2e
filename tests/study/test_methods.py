"""What each method does to a network and to its gradients, against PyTorch's own functions and the theory."""
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import gmean
from torch import nn

from tests.helpers import IMAGES, random_images
from util.data import Images, scale
from util.network import Net
from util.static_preconditioned_train import precondition, preconditioner
from util.study import methods
from util.theory import gradient_stds, initialize, input_moments, predict, predict_current, predict_for
from util.theory.initializations import pytorch
from util.training import train

# Of two steps, the second shows the momentum.
train_briefly = partial(train, images=random_images(8), epochs=1, seed=0, report=lambda line: None)


def seeded():
    torch.manual_seed(7)
    return Net()


def begun(name, net, learning_rate=0.0):
    """Let a method begin to train a network; return the optimizer."""
    return methods.METHODS[name].begin(net, IMAGES, learning_rate, 3)


def by_theory(net, **given):
    """Draw a network's parameters, and return the statistics of its layers."""
    statistics = predict(net, **given)
    initialize(net, statistics)
    return statistics


def zero_biases(net, draw_weight=lambda weight: None):
    for name, parameter in net.named_parameters():
        draw = draw_weight if name.endswith("weight") else nn.init.zeros_
        draw(parameter)
    return predict_current(net)


def as_unequal_as_pytorch(net):
    """Return statistics whose factors give predicted gradients the ratios of PyTorch's initialization."""
    own, wanted = by_theory(net), predict_for(pytorch, net)
    ratios = [np.divide(layer[3:5], other[3:5]) for layer, other in zip(own, wanted)]
    weights, biases = np.transpose(ratios) / gmean(ratios, axis=None)
    return [layer._replace(weight_gradient_std=weight, bias_gradient_std=bias)
            for layer, weight, bias in zip(own, weights, biases)]


def renewed(net):
    by_theory(net)
    return predict_current(net)


def measured_by_seed(net):
    by_theory(net)
    return methods.measure(net, IMAGES, 3)


kaiming = partial(zero_biases, draw_weight=partial(nn.init.kaiming_normal_, nonlinearity="relu"))
zero, fifth, half = (partial(by_theory, bias_variance=variance) for variance in (0.0, 0.2, 0.5))
for_images = partial(by_theory, input_moments=input_moments(scale(IMAGES.pixels)))
SGD, ADAM = partial(torch.optim.SGD, momentum=0.9), torch.optim.Adam
DESCRIBED = {  # how a method draws parameters, with the statistics; whether it multiplies gradients; its optimizer
    "default": (predict_current, False, SGD),
    "default-zero-bias": (zero_biases, False, SGD),
    "he": (kaiming, False, SGD),
    "initialization-only": (by_theory, False, SGD),
    "initialization-zero-bias": (zero, False, SGD),
    "initialization-fifth-bias": (fifth, False, SGD),
    "initialization-half-bias": (half, False, SGD),
    "unequal": (as_unequal_as_pytorch, True, SGD),
    "preconditioned": (by_theory, True, SGD),
    "preconditioned-zero-bias": (zero, True, SGD),
    "preconditioned-fifth-bias": (fifth, True, SGD),
    "preconditioned-half-bias": (half, True, SGD),
    "preconditioner-only": (predict_current, True, SGD),
    "preconditioner-only-zero-bias": (zero_biases, True, SGD),
    "preconditioned-images": (for_images, True, SGD),
    "dynamic": (renewed, True, SGD),
    "dynamic-only": (predict_current, True, SGD),
    "measured": (measured_by_seed, True, SGD),
    "adam": (predict_current, False, ADAM),
    "initialization-adam": (by_theory, False, ADAM),
}


@pytest.mark.parametrize("name", methods.METHODS)
def test_first_steps_are_those_of_the_initialization_the_factors_and_the_optimizer_that_are_described(name):
    """To a millionth, as floats are rounded."""
    draw, multiplies, optimizer = DESCRIBED[name]
    expected, net = seeded(), seeded()
    torch.manual_seed(8)
    statistics = draw(expected)
    if multiplies:
        precondition(expected, statistics)
    train_briefly(expected, optimizer=optimizer(expected.parameters(), lr=0.001))
    torch.manual_seed(8)
    train_briefly(net, optimizer=begun(name, net, 0.001))
    torch.testing.assert_close(list(net.parameters()), list(expected.parameters()), rtol=1e-5, atol=1e-6)


def factors_of(net):
    """Return by what the gradient of each parameter is multiplied: where it would be 1, it is the factor."""
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(sum(parameter.sum() for parameter in parameters), parameters)
    return [gradient.mean().item() for gradient in gradients]


def wait(optimizer, steps):
    """Let an optimizer step without any gradient, so that nothing changes."""
    for _ in range(steps):
        optimizer.step()


@pytest.mark.parametrize("name, every, estimate", [
    ("dynamic", 500, predict_current), ("dynamic-only", 100, predict_current),
    ("measured", 500, partial(methods.measure, images=IMAGES, seed=3))])
def test_factors_are_renewed_for_the_network_as_it_is_after_so_many_steps(name, every, estimate):
    """One layer grows in between."""
    net = seeded()
    optimizer = begun(name, net)
    for _ in range(2):
        before = factors_of(net)
        net.conv2.weight.data.mul_(1.2)
        wait(optimizer, every - 1)
        assert factors_of(net) == before
        wait(optimizer, 1)
        expected = preconditioner(net, estimate(net)).values()
        assert factors_of(net) == pytest.approx(list(expected))


@pytest.mark.parametrize("name, steps, layer, value", [
    ("dynamic-only", 100, "conv1", math.nan), ("measured", 500, "fc2", -1e6)], ids=["diverged", "dead"])
def test_factors_that_cannot_be_renewed_do_not_end_a_training_that_diverged_or_whose_layer_died(
        name, steps, layer, value):
    net = seeded()
    optimizer = begun(name, net)
    net.get_submodule(layer).bias.data.fill_(value)
    wait(optimizer, steps)
    assert np.isfinite(factors_of(net)).all()


def test_measured_gradients_are_those_of_single_images_without_the_factors():
    """To 10 %, three standard errors: 20 images are drawn some 25 times each; outputs' squared gradients add up."""
    few, net = random_images(20), seeded()
    squares = np.zeros(10)
    for output in net(scale(few.pixels)).flatten():
        gradients = torch.autograd.grad(output, list(net.parameters()), retain_graph=True)
        squares += [gradient.square().mean().item() for gradient in gradients]
    precondition(net, predict_current(net))
    many = Images(few.pixels.repeat(30, 1, 1, 1), few.labels.repeat(30))
    measured = gradient_stds(net, methods.measure(net, many, 3)).values()
    assert list(measured) == pytest.approx(np.sqrt(squares / 20), rel=0.1)
