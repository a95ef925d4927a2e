"""The study's methods: how each begins, what it does to the gradient, and what the theory says of its networks."""
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tests.test_training import IMAGES, random_images
from util.data import Images, scale
from util.network import Net
from util.static_preconditioned_train import precondition, preconditioner
from util.study import methods, theory
from util.study.methods import GRADIENTS, METHODS, PAIRS
from util.theory import gradient_stds, initialize, input_moments, predict, predict_current


def seeded(depth=5):
    torch.manual_seed(7)
    return Net(depth)


def begun(method):
    """Return a network as a method begins to train it, and the optimizer."""
    net = seeded()
    optimizer = method.begin(net, IMAGES, learning_rate=0.0, seed=3)
    return net, optimizer


def same_parameters(net, other):
    return all(map(torch.equal, net.parameters(), other.parameters()))


def factors(net):
    """Return by what the gradient of each parameter is multiplied on its way: where it would be 1, it is the factor."""
    net.zero_grad()
    sum(parameter.sum() for parameter in net.parameters()).backward()
    return [parameter.grad.mean().item() for parameter in net.parameters()]


def test_pairs_differ_in_nothing_but_the_gradient():
    assert PAIRS == {
        "preconditioner-only": "default",
        "preconditioned": "initialization-only",
        "preconditioned-zero-bias": "initialization-zero-bias",
        "preconditioned-fifth-bias": "initialization-fifth-bias",
        "preconditioned-half-bias": "initialization-half-bias",
    }


def test_no_two_methods_are_the_same():
    assert len(set(METHODS.values())) == len(METHODS)


@pytest.mark.parametrize("name", ["default", "preconditioner-only", "dynamic-only", "adam"])
def test_pytorchs_network_is_left_as_it_is(name):
    assert same_parameters(begun(METHODS[name])[0], seeded())


def test_he_draws_what_kaiming_draws():
    net = seeded()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    assert same_parameters(begun(METHODS["he"])[0], net)


@pytest.mark.parametrize("suffix, bias_variance", [
    ("", 0.04), ("-zero-bias", 0.0), ("-fifth-bias", 0.2), ("-half-bias", 0.5)])
def test_variance_preserving_methods_draw_by_their_biases(suffix, bias_variance):
    net = seeded()
    initialize(net, predict(net, bias_variance=bias_variance))
    alone, preconditioned = (f"{name}{suffix}" for name in ("initialization", "preconditioned"))
    if not suffix:
        alone = "initialization-only"
    for name in alone, preconditioned:
        assert same_parameters(begun(METHODS[name])[0], net)


def test_a_method_may_be_told_the_moments_of_the_images():
    net = seeded()
    statistics = predict(net, input_moments=input_moments(scale(IMAGES.pixels)))
    initialize(net, statistics)
    result, _ = begun(METHODS["preconditioned-images"])
    assert same_parameters(result, net) and factors(result) == pytest.approx(preconditioner(net, statistics))


def test_static_factors_are_those_of_the_initialization():
    """Of PyTorch's: those of the parameters as they were drawn."""
    net, _ = begun(METHODS["preconditioned-half-bias"])
    assert factors(net) == pytest.approx(preconditioner(net, predict(net, bias_variance=0.5)))
    net, _ = begun(METHODS["preconditioner-only"])
    assert factors(net) == pytest.approx(preconditioner(net, predict_current(net)))
    net, _ = begun(METHODS["default"])
    assert factors(net) == [1] * 10


@pytest.mark.parametrize("name, optimizer, momentum", [
    ("default", torch.optim.SGD, 0.9), ("measured", torch.optim.SGD, 0.9), ("adam", torch.optim.Adam, None)])
def test_optimizers(name, optimizer, momentum):
    made = METHODS[name].begin(seeded(), IMAGES, learning_rate=0.25, seed=3)
    assert type(made) is optimizer
    assert (made.defaults["lr"], made.defaults.get("momentum"), made.defaults["fused"]) == (0.25, momentum, True)


@pytest.mark.parametrize("name, every, estimate", [
    ("dynamic", 500, predict_current), ("dynamic-only", 100, predict_current),
    ("measured", 500, partial(methods.measure, images=IMAGES, seed=3))])
def test_factors_are_refreshed_after_so_many_steps(name, every, estimate):
    """For a network of which one layer grows in between, and again after as many steps."""
    net, optimizer = begun(METHODS[name])
    for _ in range(2):
        before = factors(net)
        assert before == pytest.approx(preconditioner(net, estimate(net)))
        net.conv2.weight.data.mul_(1.2)
        net.zero_grad()  # then a step changes nothing
        for _ in range(every - 1):
            optimizer.step()
        assert factors(net) == before
        net.zero_grad()
        optimizer.step()
        assert factors(net) == pytest.approx(preconditioner(net, estimate(net)))
        assert factors(net)[0] == pytest.approx(before[0] / 1.2, rel=0.05)


def test_factors_are_not_refreshed_when_the_training_has_diverged():
    """The theory would refuse it; the next loss is not finite, and ends the training."""
    net, optimizer = begun(METHODS["dynamic-only"])
    net.conv1.weight.data.fill_(math.nan)
    for _ in range(100):
        optimizer.step()


def test_a_dead_layer_is_no_reason_to_end():
    """Its gradients, which are zero, stay zero; the last layer's bias is still trained."""
    net = seeded()
    net.fc2.bias.data.fill_(-1e6)
    optimizer = torch.optim.SGD(net.parameters(), lr=0)
    GRADIENTS[METHODS["measured"].gradient](net, [], optimizer, IMAGES, 7)
    assert factors(net)[0] == 1
    assert factors(net)[-1] == pytest.approx(1, rel=0.1)


def test_measured_gradients_are_those_of_single_images(monkeypatch):
    """To 10 %, about three standard errors: each image is drawn 30 times, and its outputs' squared gradients add up."""
    monkeypatch.setattr(methods, "MEASURED_IMAGES", 600)
    few, squares, net = random_images(20), np.zeros(10), seeded()
    for output in [output for pixels in few.pixels for output in net(scale(pixels[None]))[0]]:
        gradients = torch.autograd.grad(output, list(net.parameters()), retain_graph=True)
        squares += [gradient.square().mean().item() for gradient in gradients]
    many = Images(few.pixels.repeat(30, 1, 1, 1), few.labels.repeat(30))
    measured = gradient_stds(net, methods.measure(net, many, seed=0))
    assert measured == pytest.approx(np.sqrt(squares / 20), rel=0.1)


def test_what_is_measured_is_not_multiplied_by_the_factors():
    net = seeded()
    plain = gradient_stds(net, methods.measure(net, IMAGES, seed=3))
    precondition(net, predict_current(net))
    assert gradient_stds(net, methods.measure(net, IMAGES, seed=3)) == plain


def test_networks_are_measured_in_training_and_by_the_names_of_their_layers():
    """With half of the inputs dropped and the others doubled, the squared gradient of the weights doubles; to 10 %."""
    inner = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    nested = nn.Sequential(nn.Dropout(0.5), inner).eval()
    (dropped,) = methods.measure(nested, IMAGES, seed=3)
    (kept,) = methods.measure(inner, IMAGES, seed=3)
    assert (dropped.name, kept.name) == ("1.1", "1")
    assert dropped.weight_gradient_std / kept.weight_gradient_std == pytest.approx(2**0.5, rel=0.05)


def test_images_are_measured_by_the_hundreds():
    assert methods.MEASURED_IMAGES == 500


@pytest.mark.parametrize("name, draw", [
    ("He", nn.init.kaiming_normal_), ("Glorot", nn.init.xavier_normal_), ("PyTorch", lambda weight: None)])
def test_initializations_of_the_theory_are_those_of_torch(name, draw):
    """To 15 %, over four standard errors of the smallest layer's 450 weights."""
    net = seeded(6)
    for layer in theory.predictions(name, 6):
        module = net.get_submodule(layer.name)
        draw(module.weight)
        assert module.weight.std().item() == pytest.approx(layer.weight_std, rel=0.15)
        assert layer.bias_std == pytest.approx(layer.weight_std if name == "PyTorch" else 0)


def test_the_theory_is_not_of_initializations_for_images():
    assert list(methods.INITIALIZATIONS) == [*theory.NAMES, METHODS["preconditioned-images"].initialization]


def test_gradients_are_as_unequal_as_their_largest_and_smallest():
    """With half of the variance in the biases, the squared gradient halves with every layer on its way back."""
    assert theory.spread("half bias", 14) / theory.spread("half bias", 10) == pytest.approx(4, rel=0.01)
    layers = predict(Net(7), bias_variance=0.2)
    stds = [layer.weight_gradient_std for layer in layers]
    assert theory.spread("fifth bias", 7) == pytest.approx(max(stds) / min(stds)) == pytest.approx(4.05, rel=0.01)
    assert theory.ends("fifth bias", 7) == pytest.approx((stds[0], 1 - layers[5].correlation))


def test_correlations_below_the_resolution_of_the_theory_count_as_that():
    assert theory.ends("PyTorch", 40).difference_left == theory.RESOLUTION
