"""The theory against closed forms and against Monte Carlo; what it does not cover is refused."""
import copy
import functools
import math
from typing import Callable, NamedTuple, Sequence

import numpy as np
import pytest
import torch
from scipy.integrate import quad_vec
from scipy.special import ndtr
from torch import nn
from torch.nn.utils import parametrizations, prune

from tests.monte_carlo import root_mean_square, sample
from util.network import Net
from util.parallel import available_cores, run_parallel
from util.signal_propagation import block_moments, gradient_stds, predict, predict_current
from util.static_preconditioned_train import initialize

TOLERANCE = 0.03  # of a standard deviation, relative; over three standard errors, which the test makes sure of

CHAINS = {
    "tutorial network": (Net(), (3, 32, 32)),
    "multi-layer perceptron": (
        nn.Sequential(nn.Flatten(), nn.Linear(48, 100), nn.ReLU(), nn.Linear(100, 80), nn.ReLU(), nn.Linear(80, 20)),
        (3, 4, 4)),
    "convolutions without pooling": (
        nn.Sequential(nn.Conv2d(8, 24, 3), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.ReLU(), nn.Flatten(),
                      nn.Linear(1152, 20)), (8, 10, 10)),
    "pool of 3, and a pool without ReLU": (
        nn.Sequential(nn.Conv2d(6, 16, 3), nn.MaxPool2d(3), nn.ReLU(), nn.Conv2d(16, 32, 2), nn.MaxPool2d(2),
                      nn.Flatten(), nn.Linear(128, 20)), (6, 17, 17)),
    "without bias": (
        nn.Sequential(nn.Conv2d(6, 16, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                      nn.Linear(576, 40, bias=False), nn.ReLU(), nn.Linear(40, 20)), (6, 14, 14)),
    "groups, stride and dilation": (
        nn.Sequential(nn.Conv2d(8, 32, 3, groups=2, stride=2), nn.ReLU(), nn.Conv2d(32, 32, 2, groups=2, dilation=2),
                      nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 20)), (8, 18, 18)),
    "nested, with several pools and ReLUs in a row": (
        nn.Sequential(nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)), nn.ReLU(),
                      nn.Sequential(nn.MaxPool2d((2, 1)), nn.Sequential(nn.Flatten(), nn.Linear(288, 60)), nn.ReLU()),
                      nn.ReLU(), nn.Linear(60, 20)), (16, 16, 9)),
    "ReLU before the first and pool after the last layer": (
        nn.Sequential(nn.ReLU(), nn.Conv2d(8, 24, 3), nn.ReLU(), nn.MaxPool2d(2, stride=3),
                      nn.Conv2d(24, 32, 2), nn.ReLU(), nn.MaxPool2d(2)), (8, 20, 20)),
}


class Case(NamedTuple):
    """Random networks to be measured, with what the theory says of pre-activations and gradients."""

    net: nn.Module
    draw_parameters: Callable[[], None]
    draw_inputs: Callable[[], torch.Tensor]
    variances: Sequence[float]
    stds: Sequence[float]


def variance_preserving(name):
    net, input_shape = CHAINS[name]
    statistics = predict(net, input_shape)
    return Case(net, lambda: initialize(net, statistics), lambda: torch.randn(2, *input_shape),
                np.ones(len(statistics)), gradient_stds(net, statistics))


def default_initialization():
    """PyTorch draws weights and biases uniformly with a variance of 1 / (3 fan-in)."""
    net, twin = Net(), Net()
    fill(twin, [1 / math.sqrt(3 * module.weight[0].numel()) for module in twin if hasattr(module, "weight")
                for _ in ("weight", "bias")])
    statistics = predict_current(twin)

    def draw_parameters():
        for module in net:
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    return Case(net, draw_parameters, lambda: torch.randn(2, 3, 32, 32), forward_variances(twin, statistics),
                gradient_stds(twin, statistics))


def scaled_initialization():
    """Each tensor with a scale of its own, for smooth inputs."""
    scales = [2.0, 0.5, 0.7, 3.0, 1.5, 1.0, 0.8, 2.0, 1.2, 0.1]
    net, twin = Net(), Net()
    stds = [scale * std for scale, layer in zip(zip(scales[::2], scales[1::2]), predict(net))
            for scale, std in zip(scale, (layer.weight_std, layer.bias_std))]
    fill(twin, stds)
    statistics = predict_current(twin, input_moments=(0.5, 0.25))

    def draw_parameters():
        for parameter, std in zip(net.parameters(), stds):
            nn.init.normal_(parameter, std=std)

    return Case(net, draw_parameters, lambda: 0.5 * (torch.randn(2, 3, 32, 32) + torch.randn(2, 3, 1, 1)),
                forward_variances(twin, statistics, (0.5, 0.25)), gradient_stds(twin, statistics))


def fill(net, stds):
    """Give all entries of each parameter tensor the value whose root mean square is asked for."""
    for parameter, std in zip(net.parameters(), stds):
        nn.init.constant_(parameter, std)


def forward_variances(net, statistics, input_moments=(1.0, 0.0)):
    """The variances of the pre-activations that follow from the moments of each block, written out for `Net`."""
    second, cross = input_moments
    variances = []
    for layer, (pool_size, rectified) in zip(statistics, [(4, True), (4, True), (1, True), (1, True), (1, False)]):
        weight = net.get_submodule(layer.name).weight
        variance = weight[0].numel() * layer.weight_std**2 * second + layer.bias_std**2
        rho = (weight[0].numel() * layer.weight_std**2 * cross + layer.bias_std**2) / variance
        block = block_moments(rho if weight.ndim == 4 else 0.0, pool_size, rectified)
        second, cross = variance * block.second, variance * block.cross
        variances.append(variance)
    return variances


CASES = {"default initialization": default_initialization, "scaled initialization": scaled_initialization,
         **{name: functools.partial(variance_preserving, name) for name in CHAINS}}


def measure(name, report):
    """Measure a case, in a process of its own."""
    case = CASES[name]()
    networks = 2500 if isinstance(case.net, Net) else 1000  # as many as the standard errors, see above, ask for
    return sample(case.net, case.draw_parameters, case.draw_inputs, networks, seed=0)


@pytest.fixture(scope="module")
def measured():
    """All cases, side by side, since they take more time than all other tests together."""
    return dict(run_parallel(measure, list(CASES), available_cores(), report=None))


@pytest.mark.parametrize("name", CASES)
def test_monte_carlo(measured, name):
    """Variances of pre-activations and standard deviations of gradients, predicted and measured."""
    case = CASES[name]()
    signals, gradients = measured[name]
    predicted = {**dict(zip(signals, np.sqrt(case.variances))), **dict(zip(gradients, case.stds))}
    for name, squares in {**signals, **gradients}.items():
        rms, standard_error = root_mean_square(squares)
        assert 3 * standard_error < TOLERANCE * predicted[name], name
        assert rms == pytest.approx(predicted[name], rel=TOLERANCE), name


@pytest.mark.parametrize("name", CHAINS)
def test_current_prediction_of_the_variance_preserving_scales_is_the_prediction(name):
    net, input_shape = CHAINS[name]
    net = copy.deepcopy(net)
    expected = predict(net, input_shape, input_moments=(0.5, 0.25))
    for layer in expected:
        module = net.get_submodule(layer.name)
        fill(module, [layer.weight_std, layer.bias_std])
    for layer, current in zip(expected, predict_current(net, input_shape, input_moments=(0.5, 0.25))):
        assert current.name == layer.name
        for field in ("weight_std", "bias_std", "weight_gradient_std", "bias_gradient_std"):
            assert getattr(current, field) == pytest.approx(getattr(layer, field), rel=1e-6), field


def test_current_prediction_right_after_the_initialization_is_the_prediction_up_to_the_draw():
    """Tolerance: the root mean square of 150 weights, the fewest that count, is off by 6 % or less."""
    net = Net()
    torch.manual_seed(0)
    statistics = predict(net)
    initialize(net, statistics)
    assert gradient_stds(net, predict_current(net)) == pytest.approx(gradient_stds(net, statistics), rel=0.06)


def test_layer_of_zeros_has_no_current_prediction():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    fill(net[2], [0, 0])
    with pytest.raises(ValueError, match="'2' .*all zero"):
        predict_current(net, (4,))


@pytest.mark.parametrize("rho", [0, 0.04, 0.5, 0.99, 0.999999])
def test_rectified_normal(rho):
    """m = 1/2, half of the gradients pass, and c is the arc-cosine kernel of degree 1 (Cho and Saul, 2009)."""
    arc_cosine = (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / (2 * math.pi)
    assert block_moments(rho, 1, True) == pytest.approx((0.5, arc_cosine, 0.5), abs=1e-9)


@pytest.mark.parametrize("rho", [0, 0.04, 0.5, 0.99, 0.999999])
def test_no_activation(rho):
    assert block_moments(rho, 1, False) == pytest.approx((1, rho, 1), abs=1e-9)


@pytest.mark.parametrize("pooled, mean, second", [
    (2, 1 / math.sqrt(math.pi), 1),
    (3, 1.5 / math.sqrt(math.pi), 1 + math.sqrt(3) / (2 * math.pi)),
    (4, 6 / math.pi**1.5 * math.atan(math.sqrt(2)), 1 + math.sqrt(3) / math.pi),
])
def test_maximum_of_independent_normals(pooled, mean, second):
    """The moments of normal order statistics (Jones, 1948)."""
    assert block_moments(0, pooled, False) == pytest.approx((second, mean**2, 1), abs=1e-9)


@pytest.mark.parametrize("rho", [0, 0.3, 0.9, 0.999999])
def test_probability_that_two_correlated_normals_are_negative(rho):
    """A quarter plus asin(rho) / 2 pi (Sheppard, 1899)."""
    assert block_moments(rho, 2, True).passing == pytest.approx(0.75 - math.asin(rho) / (2 * math.pi), abs=1e-9)


@pytest.mark.parametrize("rectified", [False, True])
def test_maximum_of_correlated_normals(rectified):
    """Against two million draws of two neighbouring windows; tolerance: five standard errors."""
    rho, pooled, draws = 0.3, 9, 2_000_000
    rng = np.random.default_rng(0)
    common = math.sqrt(rho) * rng.standard_normal(draws)
    windows = [np.full(draws, -np.inf), np.full(draws, -np.inf)]
    for window in windows:
        for _ in range(pooled):
            np.maximum(window, common + math.sqrt(1 - rho) * rng.standard_normal(draws), out=window)
    passing = windows[0] > 0 if rectified else np.full(draws, True)
    a, b = (np.maximum(window, 0) if rectified else window for window in windows)
    for predicted, values in zip(block_moments(rho, pooled, rectified), (a**2, a * b, passing)):
        assert abs(values.mean() - predicted) <= 5 * values.std() / math.sqrt(draws)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("pool_size", [2, 9, 144])
@pytest.mark.parametrize("rho", [0, 0.3, 0.93])
def test_maximum_by_adaptive_quadrature(rho, pool_size, rectified):
    """For each u, the distribution of z itself, integrated by SciPy, and a fine trapezoidal sum over u."""
    common, width = math.sqrt(rho), math.sqrt(1 - rho)
    u = np.linspace(-9, 9, 1001)
    density = np.exp(-u**2 / 2)
    density /= density.sum()

    def distribution(x):
        return ndtr((x - common * u) / width) ** pool_size

    def integrands(x):
        above = 1 - distribution(x)
        below = 0 if rectified else distribution(-x)
        return np.stack([above - below, 2 * x * (above + below)])

    (first, second), _ = quad_vec(integrands, 0, 20, epsabs=1e-10, norm="max")
    passing = density @ (1 - distribution(0)) if rectified else 1
    expected = (density @ second, density @ first**2, passing)
    assert block_moments(rho, pool_size, rectified) == pytest.approx(expected, abs=1e-9)


def test_order_of_relu_and_pool_does_not_matter():
    def chain(*block):
        return nn.Sequential(nn.Conv2d(3, 8, 3), *block, nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))

    assert (predict(chain(nn.ReLU(), nn.MaxPool2d(2)), (3, 14, 14))
            == predict(chain(nn.MaxPool2d(2), nn.ReLU()), (3, 14, 14)))


@pytest.mark.parametrize("bias", [False, True])
def test_very_deep_chain_stays_finite(bias):
    """With biases, neighbours become equal: rho is rounded to 1. A pool of one position is none."""
    chain = nn.Sequential(*(module for _ in range(200) for module in (
        nn.Conv2d(4, 4, 1, bias=bias), nn.ReLU(), nn.MaxPool2d(1))))
    for layer in predict(chain, (4, 2, 2)):
        assert layer.weight_gradient_std > 0 and math.isfinite(layer.weight_gradient_std)


def test_squared_norm_of_the_gradient_is_preserved_by_relu_without_bias():
    """G_l = (pi_l / m_l) (1 - beta^2) G_{l+1}, and pi = m = 1/2: it stays exactly what it is, whatever the widths."""
    widths = [30, 7, 100, 3, 50, 10]
    chain = nn.Sequential(*(module for pair in zip(widths, widths[1:]) for module in (
        nn.Linear(*pair, bias=False), nn.ReLU())))
    squared_norms = [layer.bias_gradient_std**2 * width for layer, width in zip(predict(chain, (30,)), widths[1:])]
    assert squared_norms == pytest.approx([5.0] * 5, rel=1e-12)


@pytest.mark.parametrize("second, cross", [(1.0, 0.0), (0.5, 0.25)])
def test_squared_norm_of_the_gradient_under_biases_and_pools(second, cross):
    """The same formula with each block's own pi and m, which depend on the input's moments."""
    statistics = predict(Net(), input_moments=(second, cross))
    squared_norms = [layer.bias_gradient_std**2 * channels for layer, channels in zip(statistics, (6, 16, 120, 84, 10))]
    first = block_moments(0.96 * cross / second + 0.04, 4, True)
    second = block_moments(0.96 * first.cross / first.second + 0.04, 4, True)
    rectified = block_moments(0.0, 1, True)
    for below, above, block in zip(squared_norms, squared_norms[1:], (first, second, rectified, rectified)):
        assert below == pytest.approx(block.passing / block.second * 0.96 * above)


def test_layers_without_bias_have_no_bias_variance():
    with_bias, without = (predict(nn.Linear(50, 10, bias=bias), (50,), bias_variance=0.5)[0] for bias in (True, False))
    assert with_bias.weight_std == pytest.approx(math.sqrt(0.5 / 50))
    assert with_bias.bias_std == pytest.approx(math.sqrt(0.5))
    assert without.weight_std == pytest.approx(math.sqrt(1 / 50))
    assert without.bias_std == 0


def test_names_are_those_of_the_network():
    net, input_shape = CHAINS["nested, with several pools and ReLUs in a row"]
    assert [layer.name for layer in predict(net, input_shape)] == ["0.0", "2.1.1", "4"]


def test_network_and_random_state_are_left_alone():
    net = Net()
    parameters, random_state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    predict(net)
    assert all(torch.equal(value, parameters[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class LinearOfSomeKind(nn.Linear):
    pass


REPEATED, TIED = nn.Linear(6, 6), nn.Linear(6, 6)
TIED.weight = REPEATED.weight


def with_own_forward(module):
    module.forward = lambda x: 2 * x
    return module


def with_hook(module, register):
    getattr(module, register)(lambda *_: None)
    return module


@pytest.mark.parametrize("chain, input_shape, layer", [
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (3, 8, 8), "'1' (BatchNorm2d)"),
    (nn.Sequential(nn.Linear(6, 6), nn.Dropout()), (6,), "'1' (Dropout)"),
    (nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Tanh())), (6,), "'1.0' (Tanh)"),
    (nn.Sequential(nn.Linear(6, 6), nn.AvgPool2d(2)), (6,), "'1' (AvgPool2d)"),
    (nn.Sequential(nn.Linear(6, 6), Residual(nn.Linear(6, 6))), (6,), "'1' (Residual)"),
    (nn.Sequential(LinearOfSomeKind(6, 6)), (6,), "'0' (LinearOfSomeKind)"),
    (nn.Sequential(REPEATED, nn.ReLU(), REPEATED), (6,), "'2' (Linear)"),
    (nn.Sequential(REPEATED, nn.ReLU(), TIED), (6,), "'2' (Linear)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), (3, 8, 8), "'0' (Conv2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3, padding="same")), (3, 8, 8), "'0' (Conv2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, (1, 2), padding="same")), (3, 8, 8), "'0' (Conv2d)"),
    (nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 6))), (6,), "'0' (Linear): it has hooks"),
    (nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 6))), (6,), "'0' (Linear): it has hooks"),
    (nn.Sequential(prune.l1_unstructured(nn.Linear(6, 6), "weight", 0.5)), (6,), "'0' (Linear): it has hooks"),
    (nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 6))), (6,), "'0' (ParametrizedLinear)"),
    (nn.Sequential(with_hook(nn.Linear(6, 6), "register_forward_hook")), (6,), "'0' (Linear): it has hooks"),
    (nn.Sequential(with_hook(nn.Linear(6, 6), "register_full_backward_hook")), (6,), "'0' (Linear): it has hooks"),
    (nn.Sequential(nn.Linear(6, 6), with_own_forward(nn.ReLU())), (6,), "'1' (ReLU): it has hooks or a forward"),
    (nn.Sequential(nn.Linear(6, 6), with_own_forward(nn.Sequential(nn.ReLU()))), (6,), "'1' (Sequential): it has"),
    (nn.Sequential(nn.LazyLinear(6)), (6,), "'0' (LazyLinear): its parameters get their shapes only when"),
    (nn.Sequential(nn.Linear(6, 4), nn.LazyLinear(6)), (6,), "'1' (LazyLinear): its parameters get their shapes only"),
    (nn.Sequential(nn.Linear(4, 0)), (4,), "'0' (Linear): it has no inputs or no outputs"),
    (nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6).double()), (6,), "'1' (Linear): its parameters and those of the"),
    (nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6, device="meta")), (6,), "'1' (Linear): its parameters and those"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, stride=2)), (3, 9, 9), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d((2, 3), stride=2)), (3, 9, 9), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, padding=1)), (3, 8, 8), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, dilation=2)), (3, 8, 8), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True)), (3, 9, 9), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, stride=3, ceil_mode=True)), (3, 8, 9), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, return_indices=True)), (3, 8, 8), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2)), (3, 8, 8), "'1' (Flatten)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(5)), (3, 8, 8), "'1' (Flatten)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(0)), (3, 8, 8), "'1' (Flatten)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(6, 5)), (3, 8, 8), "'1' (Linear)"),
    (nn.Sequential(nn.Conv2d(1, 4, 3)), (8, 8), "'0' (Conv2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(8)), (3, 8, 8), "'1' (MaxPool2d)"),
    (Net(), (1, 32, 32), "'conv1' (Conv2d)"),
    (Net(), (3, 28, 28), "'fc1' (Linear)"),
    (Net(), (3, 8, 8), "'conv2' (Conv2d)"),
    (Net(), (3072,), "'conv1' (Conv2d)"),
])
def test_what_is_not_covered_is_refused_by_name(chain, input_shape, layer):
    with pytest.raises(ValueError) as error:
        predict(chain, input_shape)
    assert layer in str(error.value)
    assert "supported are" in str(error.value)


@pytest.mark.parametrize("chain", [nn.Sequential(), nn.Sequential(nn.ReLU(), nn.Flatten())])
def test_chain_without_weight_layer_is_refused(chain):
    with pytest.raises(ValueError, match="no weight layer.*supported are"):
        predict(chain, (3, 8, 8))


@pytest.mark.parametrize("bias_variance", [-0.1, 1, 2, math.nan])
def test_bias_variance_out_of_range_is_refused(bias_variance):
    with pytest.raises(ValueError, match="bias_variance"):
        predict(Net(), bias_variance=bias_variance)


@pytest.mark.parametrize("input_shape", [(), (3, -1, 32), (3, 0, 32), (3, 32)])
def test_impossible_input_shapes_are_refused(input_shape):
    with pytest.raises(ValueError, match="shape"):
        predict(Net(), input_shape)


@pytest.mark.parametrize("input_moments", [(0, 0), (-1, 0), (1, -0.1), (1, 1.1), (math.nan, 0), (1, math.nan),
                                           (math.inf, 0), (math.inf, math.inf)])
def test_impossible_input_moments_are_refused(input_moments):
    with pytest.raises(ValueError, match="input_moments"):
        predict(Net(), input_moments=input_moments)
    with pytest.raises(ValueError, match="input_moments"):
        predict_current(Net(), input_moments=input_moments)


@pytest.mark.parametrize("kernel_size, positions", [
    (3, 9), ((3,), 9), ((2,), 4), ((2, 3), 6), (np.int64(2), 4), ([2], 4)])
def test_size_of_a_pool_as_pytorch_understands_it(kernel_size, positions):
    """Seen in the next layer's weights, for which the pool's second moment counts."""
    chain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(kernel_size), nn.Flatten(), nn.LazyLinear(5))
    chain(torch.zeros(1, 3, 6, 6))  # gives the last layer its shape
    second = block_moments(0.04, positions, False).second
    last = predict(chain, (3, 6, 6))[-1]
    assert last.weight_std == pytest.approx(math.sqrt(0.96 / (chain[-1].in_features * second)))


@pytest.mark.parametrize("harmless", [
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(36, 5)),
    nn.Sequential(nn.Conv2d(3, 4, 3, padding="valid"), nn.Identity(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)),
    nn.Sequential(nn.Conv2d(3, 4, 3, padding=(0,)), nn.MaxPool2d((2,), stride=(2,)), nn.Flatten(), nn.Linear(36, 5)),
])
def test_harmless_variants_are_accepted(harmless):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    stds = [(layer.weight_std, layer.weight_gradient_std) for layer in predict(plain, (3, 8, 8))]
    assert [(layer.weight_std, layer.weight_gradient_std) for layer in predict(harmless, (3, 8, 8))] == stds


def test_padding_that_pads_nothing_is_accepted():
    plain, same = (nn.Sequential(nn.Conv2d(3, 4, 1, padding=padding), nn.ReLU()) for padding in (0, "same"))
    assert predict(plain, (3, 8, 8)) == predict(same, (3, 8, 8))


def test_refusal_does_not_touch_the_buffers_of_spectral_norm():
    chain = nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 6)))
    before = copy.deepcopy(chain.state_dict())
    with pytest.raises(ValueError):
        predict(chain, (6,))
    assert all(torch.equal(value, before[name]) for name, value in chain.state_dict().items())


def test_another_number_format():
    assert predict(Net().double()) == predict(Net())
