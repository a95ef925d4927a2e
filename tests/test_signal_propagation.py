"""The theory against closed forms and against Monte Carlo; what it does not cover is refused."""
import copy
import math
import re

import numpy as np
import pytest
import torch
from scipy.integrate import quad_vec
from scipy.special import ndtr
from torch import nn
from torch.nn.utils import parametrizations, prune

from tests.monte_carlo import root_mean_square, sample
from util.network import Net
from util.parallel import run_parallel
from util.signal_propagation import block_moments, gradient_stds, input_moments, predict, predict_current
from util.static_preconditioned_train import initialize

TOLERANCE = 0.03  # of a standard deviation, relative; over three standard errors, which `compare` makes sure of

CHAINS = {
    "tutorial network": (Net(), (3, 32, 32)),
    "pool of 3, and a pool without ReLU": (
        nn.Sequential(nn.Conv2d(6, 16, 3), nn.MaxPool2d(3), nn.ReLU(), nn.Conv2d(16, 32, 2), nn.MaxPool2d(2),
                      nn.Flatten(), nn.Linear(128, 20)), (6, 17, 17)),
    "groups, stride and dilation, partly without bias": (
        nn.Sequential(nn.Conv2d(8, 32, 3, groups=2, stride=2, bias=False), nn.ReLU(),
                      nn.Conv2d(32, 32, 2, groups=2, dilation=2), nn.ReLU(), nn.MaxPool2d(2),
                      nn.Flatten(), nn.Linear(288, 20, bias=False)), (8, 18, 18)),
    "nested, with several pools and ReLUs in a row": (
        nn.Sequential(nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)), nn.ReLU(),
                      nn.Sequential(nn.MaxPool2d((2, 1)), nn.Sequential(nn.Flatten(), nn.Linear(288, 60)), nn.ReLU()),
                      nn.ReLU(), nn.Linear(60, 20)), (16, 16, 9)),
    "ReLU before the first and pool after the last layer": (
        nn.Sequential(nn.ReLU(), nn.Conv2d(8, 24, 3), nn.ReLU(), nn.MaxPool2d(2, stride=3),
                      nn.Conv2d(24, 32, 2), nn.ReLU(), nn.MaxPool2d(2)), (8, 20, 20)),
    "pool before the first layer": (
        nn.Sequential(nn.MaxPool2d((2, 3)), nn.Conv2d(16, 32, 2), nn.ReLU(), nn.Flatten(), nn.Linear(288, 20)),
        (16, 8, 12)),
}


def repeat(times, *modules):
    """Chain copies of some modules, one after another."""
    return nn.Sequential(*(copy.deepcopy(module) for _ in range(times) for module in modules))


def compare(measured, predicted):
    """Hold root mean squares against predicted standard deviations."""
    assert len(measured) == len(predicted)
    for (name, squares), std in zip(measured.items(), predicted):
        rms, standard_error = root_mean_square(squares)
        assert 3 * standard_error < TOLERANCE * std, name
        assert rms == pytest.approx(std, rel=TOLERANCE), name


def fill(net, stds):
    """Give each parameter tensor random entries with the very root mean square that is asked for."""
    for parameter, std in zip(net.parameters(), stds):
        nn.init.normal_(parameter)
        root_mean_square = parameter.data.double().square().mean().sqrt()
        parameter.data *= std / root_mean_square.item()


def measure(name):
    net, input_shape = CHAINS[name]
    statistics = predict(net, input_shape)
    networks = 2500 if isinstance(net, Net) else 1000  # as many as the standard errors ask for
    return sample(net, lambda: initialize(net, statistics), lambda: torch.randn(2, *input_shape), networks, seed=0)


@pytest.fixture(scope="module")
def measured():
    """All chains, side by side, since they take more time than all else in this file."""
    return dict(run_parallel(measure, list(CHAINS), processes=2))


@pytest.mark.parametrize("name", CHAINS)
def test_monte_carlo(name, measured):
    """Pre-activations are standard normal, and gradients have the predicted standard deviations."""
    statistics = predict(*CHAINS[name])
    signals, gradients = measured[name]
    compare(signals, [1.0] * len(statistics))
    compare(gradients, gradient_stds(CHAINS[name][0], statistics))


def test_monte_carlo_of_the_current_prediction():
    """Each tensor with a scale of its own, and neighbouring inputs with a correlation of one half."""
    net, input_shape = CHAINS["ReLU before the first and pool after the last layer"]
    stds = [0.3, 0.8, 0.1, 1.5]
    fill(net, stds)
    predicted = gradient_stds(net, predict_current(net, input_shape, input_moments=(0.5, 0.25)))

    def draw_parameters():
        for parameter, std in zip(net.parameters(), stds):
            nn.init.normal_(parameter, std=std)

    def draw_inputs():
        return 0.5 * (torch.randn(2, *input_shape) + torch.randn(2, input_shape[0], 1, 1))

    _, gradients = sample(net, draw_parameters, draw_inputs, 1000, seed=0)
    compare(gradients, predicted)


@pytest.mark.parametrize("name", CHAINS)
def test_current_prediction_of_the_variance_preserving_scales_is_the_prediction(name):
    """Tolerance: the parameters are float32."""
    net, input_shape = CHAINS[name]
    expected = predict(net, input_shape, input_moments=(0.5, 0.25))
    for layer in expected:
        fill(net.get_submodule(layer.name), [layer.weight_std, layer.bias_std])
    current = predict_current(net, input_shape, input_moments=(0.5, 0.25))
    assert [layer.name for layer in current] == [layer.name for layer in expected]
    for layer, expected_layer in zip(current, expected):
        assert layer[1:] == pytest.approx(expected_layer[1:], rel=1e-6), layer.name


@pytest.mark.parametrize("rho", [0, 0.04, 0.5, 0.99, 0.999999])
def test_single_normal(rho):
    """With ReLU, half of the gradients pass, and c is the arc-cosine kernel of degree 1 (Cho and Saul, 2009)."""
    angle = math.acos(rho)
    arc_cosine = (math.sin(angle) + rho * (math.pi - angle)) / (2 * math.pi)
    assert block_moments(rho, 1, True) == pytest.approx((0.5, arc_cosine, 0.5), abs=1e-9)
    assert block_moments(rho, 1, False) == pytest.approx((1, rho, 1), abs=1e-9)


@pytest.mark.parametrize("rho", [0, 0.3, 0.999])
@pytest.mark.parametrize("pool_size, mean, second", [
    (2, 1 / math.sqrt(math.pi), 1),
    (3, 1.5 / math.sqrt(math.pi), 1 + math.sqrt(3) / (2 * math.pi)),
    (4, 6 / math.pi**1.5 * math.atan(math.sqrt(2)), 1 + math.sqrt(3) / math.pi),
])
def test_maximum_of_normals(pool_size, mean, second, rho):
    """The moments of normal order statistics (Jones, 1948), to which the common part of the normals adds its own."""
    expected = (rho + (1 - rho) * second, rho + (1 - rho) * mean**2, 1)
    assert block_moments(rho, pool_size, False) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rho", [0, 0.3, 0.9, 0.999999])
def test_probability_that_two_correlated_normals_are_negative(rho):
    """A quarter plus asin(rho) / 2 pi (Sheppard, 1899)."""
    expected = 0.75 - math.asin(rho) / (2 * math.pi)
    assert block_moments(rho, 2, True).pass_probability == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("rho, pool_size, tolerance", [
    (0, 9, 1e-9), (0.3, 2, 1e-9), (0.93, 9, 1e-9), (0.3, 144, 4e-7), (0.93, 144, 4e-7)])
def test_maximum_by_adaptive_quadrature(rho, pool_size, tolerance, rectified):
    """For each u, the distribution of z itself, integrated by SciPy, and a fine trapezoidal sum over u."""
    common, width = math.sqrt(rho), math.sqrt(1 - rho)
    u = np.linspace(-8, 8, 1001)
    density = np.exp(-u**2 / 2)
    density /= density.sum()

    def distribution(x):
        return ndtr((x - common * u) / width) ** pool_size

    def integrands(x):
        above = 1 - distribution(x)
        below = 0 if rectified else distribution(-x)
        return np.stack([above - below, 2 * x * (above + below)])

    (first, second), _ = quad_vec(integrands, 0, 10, epsabs=tolerance / 10, norm="max")
    pass_probability = 1 - distribution(0) if rectified else np.ones_like(u)
    expected = (density @ second, density @ first**2, density @ pass_probability)
    assert block_moments(rho, pool_size, rectified) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("bias", [False, True])
def test_very_deep_chain_stays_finite(bias):
    """Where neighbouring inputs are equal, rho = 1 up to rounding errors. A pool of one position is none."""
    net = repeat(200, nn.Conv2d(4, 4, 1, bias=bias), nn.ReLU(), nn.MaxPool2d(1))
    for layer in predict(net, (4, 2, 2), input_moments=(1, 1)):
        assert 0 < layer.weight_gradient_std < math.inf


def test_thousands_of_layers():
    """G_l = 2 of 4 outputs in all of them, in 4 channels."""
    net = repeat(4000, nn.Linear(4, 4, bias=False), nn.ReLU())
    first, *others = predict(net, (4,))
    assert len(others) == 3999
    assert first.bias_gradient_std == pytest.approx(math.sqrt(0.5), rel=1e-6)


def test_squared_norm_of_the_gradient_is_preserved_by_relu_without_bias():
    """G_l = (pi_l / m_l) (1 - beta^2) G_{l+1}, and pi = m = 1/2: it stays exactly what it is, whatever the widths."""
    widths = [30, 7, 100, 3, 50, 10]
    net = nn.Sequential()
    for fan_in, fan_out in zip(widths, widths[1:]):
        net.append(nn.Linear(fan_in, fan_out, bias=False))
        net.append(nn.ReLU())
    for layer, width in zip(predict(net, (30,)), widths[1:]):
        squared_norm = width * layer.bias_gradient_std**2
        assert squared_norm == pytest.approx(5.0, rel=1e-9), layer.name


def test_layers_without_bias_have_no_bias_variance():
    (with_bias,) = predict(nn.Linear(50, 10), (50,), bias_variance=0.5)
    assert (with_bias.weight_std, with_bias.bias_std) == pytest.approx((math.sqrt(0.5 / 50), math.sqrt(0.5)))
    (without,) = predict(nn.Linear(50, 10, bias=False), (50,), bias_variance=0.5)
    assert (without.weight_std, without.bias_std) == pytest.approx((math.sqrt(1 / 50), 0))


def test_network_and_random_state_are_left_alone():
    net = Net()
    parameters = copy.deepcopy(net.state_dict())
    random_state = torch.get_rng_state()
    predict(net)
    predict_current(net)
    for name, value in net.state_dict().items():
        assert torch.equal(value, parameters[name]), name
    assert torch.equal(torch.get_rng_state(), random_state)


def test_another_number_format():
    assert predict(Net().double()) == predict(Net())


@pytest.mark.parametrize("convolution, pool", [
    (nn.Conv2d(3, 4, 3, padding="valid"), nn.MaxPool2d((2,), stride=(2,))),
    (nn.Conv2d(3, 4, 3, padding=(0,)), nn.MaxPool2d(2, ceil_mode=True)),
    (nn.Conv2d(3, 4, (3, 3)), nn.Sequential(nn.Identity(), nn.MaxPool2d([2, 2]))),
])
def test_harmless_variants_are_accepted(convolution, pool):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    variant = nn.Sequential(convolution, pool, nn.Flatten(), nn.Linear(36, 5))
    for layer, expected in zip(predict(variant, (3, 8, 8)), predict(plain, (3, 8, 8))):
        assert layer[1:] == expected[1:]


def test_layers_are_named_as_in_the_network():
    inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    net = nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Identity(), inner))
    assert [layer.name for layer in predict(net, (6,))] == ["0", "1.1.0", "1.1.2"]


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class OwnLinear(nn.Linear):
    pass


LINEAR, TIED, HOOKED, CHANGED, EMPTY = (nn.Linear(6, 6) for _ in range(5))
TIED.weight = LINEAR.weight
HOOKED.register_forward_hook(lambda *_: None)
CHANGED.forward = torch.relu
EMPTY.weight, EMPTY.bias = nn.Parameter(torch.zeros(0, 6)), nn.Parameter(torch.zeros(0))
CHANGED_CHAIN = nn.Sequential(nn.ReLU())
CHANGED_CHAIN.forward = torch.tanh
PRUNED = prune.l1_unstructured(nn.Linear(6, 6), "weight", 0.5)
PARAMETRIZED = parametrizations.spectral_norm(nn.Linear(6, 6))


@pytest.mark.parametrize("module, reason", [
    (nn.Dropout(), "'1' (Dropout).*not supported"),
    (nn.Sequential(nn.Tanh()), "'1.0' (Tanh).*not supported"),
    (Residual(nn.Linear(6, 6)), "'1' (Residual).*not supported"),
    (OwnLinear(6, 6), "'1' (OwnLinear).*not supported"),
    (PARAMETRIZED, "'1' (ParametrizedLinear).*not supported"),
    (CHANGED_CHAIN, "'1' (Sequential).*not supported"),
    (CHANGED, "'1' (Linear).*hooks or a forward of its own"),
    (HOOKED, "'1' (Linear).*hooks or a forward of its own"),
    (PRUNED, "'1' (Linear).*hooks or a forward of its own"),
    (LINEAR, "'1' (Linear).*shares parameters"),
    (TIED, "'1' (Linear).*shares parameters"),
    (nn.Linear(7, 6), "'1' (Linear).*of shape (6,)"),
    (nn.MaxPool2d(2), "'1' (MaxPool2d).*shape does not fit"),
    (nn.Flatten(2), "'1' (Flatten).*Dimension out of range"),
    (EMPTY, "'1' (Linear).*output is empty"),
])
def test_what_does_not_follow_a_linear_layer_is_refused_by_name(module, reason):
    check_refusal(nn.Sequential(LINEAR, module), (6,), reason)


@pytest.mark.parametrize("module, reason", [
    (nn.BatchNorm2d(4), "'1' (BatchNorm2d).*not supported"),
    (nn.Conv2d(4, 4, 3, padding=1), "'1' (Conv2d).*pads its input"),
    (nn.Conv2d(4, 4, (1, 2), padding="same"), "'1' (Conv2d).*pads its input"),
    (nn.Conv2d(4, 4, 7), "'1' (Conv2d).*of shape (4, 6, 6)"),
    (nn.Linear(6, 5), "'1' (Linear).*shape does not fit"), (nn.Flatten(2), "'1' (Flatten).*does not flatten"),
    (nn.MaxPool2d(2, return_indices=True), "'1' (MaxPool2d).*returns the indices"),
    (nn.MaxPool2d(3, stride=2), "'1' (MaxPool2d).*windows overlap"),
    (nn.MaxPool2d((2, 3), stride=2), "'1' (MaxPool2d).*windows overlap"),
    (nn.MaxPool2d(2, dilation=2), "'1' (MaxPool2d).*windows overlap"),
    (nn.MaxPool2d(5, padding=1), "'1' (MaxPool2d).*over the edge"),
    (nn.MaxPool2d((2, 4), ceil_mode=True), "'1' (MaxPool2d).*over the edge"),
    (nn.MaxPool2d(2, stride=5, ceil_mode=True), "'1' (MaxPool2d).*over the edge"),
    (nn.MaxPool2d(2, stride=(2, 5), ceil_mode=True), "'1' (MaxPool2d).*over the edge"),
])
def test_what_does_not_follow_a_convolution_is_refused_by_name(module, reason):
    check_refusal(nn.Sequential(nn.Conv2d(3, 4, 3), module), (3, 8, 8), reason)


@pytest.mark.parametrize("input_shape, reason", [
    ((1, 32, 32), "'conv1' (Conv2d)"),
    ((32, 32), "'conv1' (Conv2d).*shape does not fit"),
    ((3, 8, 8), "'conv2' (Conv2d)"),
    ((3, 28, 28), "'fc1' (Linear) for an input of shape (256,) (input_shape=(3, 28, 28)):"),
])
def test_input_shape_that_does_not_fit_is_refused_by_name(input_shape, reason):
    check_refusal(Net(), input_shape, reason)


def check_refusal(net, input_shape, reason):
    pattern = reason.replace("(", r"\(").replace(")", r"\)")
    for prediction in predict, predict_current:
        with pytest.raises(ValueError, match=pattern + ".*supported are chains of"):
            prediction(net, input_shape)


@pytest.mark.parametrize("prediction", [predict, predict_current])
@pytest.mark.parametrize("input_shape", [
    10, None, "333", [3, 32, 32], torch.zeros(3), (), (3, 0, 32), (3, -1, 32), (3.0, 32, 32), ("3", 32, 32)])
def test_what_is_no_input_shape_is_refused(prediction, input_shape):
    with pytest.raises(ValueError, match="^input_shape must be a tuple of positive integers.*but is "
                                         + re.escape(repr(input_shape))):
        prediction(Net(), input_shape)


@pytest.mark.parametrize("input_shape", [torch.Size([3, 32, 32]), tuple(np.array([3, 32, 32]))])
def test_tuples_of_other_integers_are_input_shapes(input_shape):
    assert predict(Net(), input_shape) == predict(Net())


@pytest.mark.parametrize("last", [LINEAR, TIED])
def test_parameters_shared_by_layers_that_are_no_neighbours_are_refused(last):
    net = nn.Sequential(LINEAR, nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), last)
    check_refusal(net, (6,), "'4' (Linear).*shares parameters")


def test_network_that_is_no_chain_is_named():
    with pytest.raises(ValueError, match=r"cannot predict a Residual for .*not supported; supported are chains of"):
        predict(Residual(nn.Linear(6, 6)), (6,))


@pytest.mark.parametrize("chain", [nn.Sequential(), nn.Sequential(nn.ReLU(), nn.Flatten())])
def test_chain_without_weight_layer_is_refused(chain):
    with pytest.raises(ValueError, match="no weight layer.*supported are chains of"):
        predict(chain, (3, 8, 8))


def check_no_current_prediction(net, input_shape, problem):
    with pytest.raises(ValueError, match=f"cannot predict layer {problem}$"):
        predict_current(net, input_shape)


@pytest.mark.parametrize("name", ["conv1", "fc3"])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_of_zero_weights_has_no_current_prediction(name, bias):
    net = Net()
    layer = net.get_submodule(name)
    nn.init.zeros_(layer.weight)
    if not bias:
        nn.init.zeros_(layer.bias)
    check_no_current_prediction(net, (3, 32, 32), f"'{name}': the variance of its weights is zero, .*")


def test_biases_may_be_zero():
    net = Net()
    nn.init.zeros_(net.fc3.bias)
    assert predict_current(net)[-1].bias_std == 0


@pytest.mark.parametrize("bias", [False, True])
def test_chain_at_the_initialization_of_pytorch_ends_with_the_floats(bias):
    """Variances fall by a factor of 6 a layer; a float64 holds 5e-324."""
    chain = repeat(450, nn.Linear(64, 64, bias=bias), nn.ReLU())
    torch.manual_seed(0)
    for layer in chain[::2]:
        layer.reset_parameters()
    check_no_current_prediction(chain, (64,), "'[0-9]+': the .* of its .* is too small for a float")
    for layer in predict_current(chain[:800], (64,)):
        assert layer.weight_gradient_std > 0


def chain_of_scales(*stds):
    chain = repeat(len(stds), nn.Linear(4, 4, bias=False)).double()
    fill(chain, stds)
    return chain


@pytest.mark.parametrize("stds, problem", [
    ((1, 1e-200), "'1': the variance of its weights is too small for a float"),
    ((1e-100, 1e-100), "'1': the variance of its pre-activations is too small for a float"),
    ((1e150, 1e-100, 1e-100), "'0': the variance of its biases' gradient is too small for a float"),
    ((1e-100, 1e100, 1e-80, 1), "'1': the variance of its weights' gradient is too small for a float"),
    ((1e-100, 1e100, 1e-100, 1e-100), "'3': the variance of its pre-activations is too small for a float"),
    ((1, 1e200), "'1': the variance of its weights is infinite or too large for a float"),
    ((1e100, 1e100), "'1': the variance of its pre-activations is infinite or too large for a float"),
    ((1e-100, 1e100, 1e100), "'0': the variance of its biases' gradient is infinite or too large for a float"),
    ((1e100, 1e-100, 1e80, 1), "'1': the variance of its weights' gradient is infinite or too large for a float"),
    ((math.nan,), "'0': the variance of its weights is not a number"),
    ((math.inf,), "'0': the variance of its weights is infinite or too large for a float"),
])
def test_what_no_float_holds_is_refused(stds, problem):
    check_no_current_prediction(chain_of_scales(*stds), (4,), problem)


@pytest.mark.parametrize("value, problem", [
    (math.nan, "not a number"), (math.inf, "infinite or too large for a float")])
def test_biases_that_are_not_finite_are_refused(value, problem):
    net = Net()
    net.fc2.bias.data[5] = value
    check_no_current_prediction(net, (3, 32, 32), f"'fc2': the variance of its pre-activations is {problem}")


@pytest.mark.parametrize("second_moment, problem", [
    (5e-324, "'1': the second moment of its input is too small for a float"),
    (1e-320, "'1': the variance of its weights is infinite or too large for a float"),
    (1e308, "'1': the variance of its weights is too small for a float")])
def test_input_moments_at_the_ends_of_the_floats_are_refused(second_moment, problem):
    """With weights of zero, which play no role."""
    net = nn.Sequential(nn.ReLU(), nn.Linear(4, 4))
    nn.init.zeros_(net[1].weight)
    with pytest.raises(ValueError, match=f"cannot predict layer {problem}$"):
        predict(net, (4,), input_moments=(second_moment, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_input_moments(dtype):
    """The mean square, and the mean product of neighbours, by loops over the positions; in more than one part."""
    images = (10 + 300 * torch.rand(203, 2, 3, 5)).to(dtype)
    squares, products = [], []
    for channel in images.flatten(0, 1).tolist():
        for row in range(3):
            for column in range(5):
                value = channel[row][column]
                squares.append(value**2)
                if row > 0:
                    products.append(value * channel[row - 1][column])
                if column > 0:
                    products.append(value * channel[row][column - 1])
    second, cross = input_moments(images)
    assert type(second) is type(cross) is float
    assert (second, cross) == pytest.approx((np.mean(squares), np.mean(products)), rel=1e-12)


def test_images_are_left_alone():
    images = torch.randn(3, 2, 4, 4, requires_grad=True)
    before = images.detach().clone()
    input_moments(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("images", [
    torch.zeros(5, 3, 4, 4, dtype=torch.uint8), torch.zeros(5, 3, 4, 4, dtype=torch.int64),
    torch.zeros(3, 4, 4), torch.zeros(5, 3, 4, 4, 4), torch.zeros(0, 3, 4, 4), torch.zeros(5, 3, 1, 1)])
def test_what_are_no_images_is_refused(images):
    with pytest.raises(ValueError, match="^images must .*" + re.escape(str(tuple(images.shape)))):
        input_moments(images)


@pytest.mark.parametrize("bias_variance", [-0.1, 1, math.nan])
def test_bias_variance_out_of_range_is_refused(bias_variance):
    with pytest.raises(ValueError, match="bias_variance"):
        predict(Net(), bias_variance=bias_variance)


@pytest.mark.parametrize("prediction", [predict, predict_current])
@pytest.mark.parametrize("input_moments", [(0, 0), (1, -0.1), (1, 1.1), (math.nan, 0), (1, math.nan), (math.inf, 0)])
def test_impossible_input_moments_are_refused(prediction, input_moments):
    with pytest.raises(ValueError, match="input_moments"):
        prediction(Net(), input_moments=input_moments)
