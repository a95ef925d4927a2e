"""How each kind of operation hands on signals and gradients: one rule for each, which knows both ways.

Forward, a signal has for each position p of its map, over random networks, inputs and channels, the second moment
m(p) = E[a(p)^2] and the cross moment c(p) = E[a(p) a(p')] of two neighbouring positions of one channel. Backward, a
gradient g has for each position, summed over the channels,

    G(p) = E[g(p)^2]                         its squared norm
    S(p) = sum over p' != p of E[g(p) g(p')]  its products with other positions, which only average pools bring about
    T(p) = sum over p' != p of E[g_a(p) g_a(p')] t^2 / v, with g_a above an activation and t = E[f'(z) z] / sqrt(v)

A rule is a function (module, signal) -> signal, or the class of the signal that it makes. `RULES` lists them by kind of
module, and `FUNCTIONS` says which functions and methods do what a kind of module does. README.md derives the formulas.
"""
from __future__ import annotations

import functools
import math
import operator
from typing import Callable, NamedTuple, Sequence

import torch
from torch import nn
from torch.nn import functional

from util import windows
from util.activation_moments import Moments, activation_moments
from util.initializations import Initialization, fan_in
from util.windows import Windows


NOTHING = torch.zeros((), dtype=torch.float64)


class Gradient(NamedTuple):
    """By a signal: the (H, W) maps G, S and T."""

    squares: torch.Tensor = NOTHING
    products: torch.Tensor = NOTHING
    tilts: torch.Tensor = NOTHING

    def plus(self, other: Gradient) -> Gradient:
        """Add the gradient that comes by another way. Independent weights make both uncorrelated."""
        return Gradient(*map(operator.add, self, other))


class Signal:
    """The output of an operation for one sample, and the gradient by it.

    Attributes:
        shape: with the sample's dimension, (1, channels, height, width) or (1, features).
        second: (H, W) float64, m; the features of a map that was flattened keep its positions.
        cross: (H, W) float64, c.
        inputs: the signals that it is computed from.
        normal: whether it is normal, so that an activation may follow.
        layers: the weight layers of which it is a sum, which make its mean zero whatever else there is; mostly none.
        gradient: what has arrived at it so far, on the way back.
    """

    def __init__(self, shape: tuple[int, ...], *inputs: Signal, normal: bool = False,
                 layers: frozenset[Signal] = frozenset()) -> None:
        self.shape = torch.Size(shape)
        self.inputs = inputs
        self.normal = normal
        self.layers = layers
        self.gradient = Gradient()
        self.depth: int = 1 + max((signal.depth for signal in inputs), default=0)

    def size(self, dimension: int | None = None) -> torch.Size | int:
        """Return the shape, or one of its sizes, as a tensor does."""
        return self.shape if dimension is None else self.shape[dimension]

    def backward(self) -> None:
        """Hand the gradient, which is complete, on to the inputs."""

    def pass_back(self, squares: torch.Tensor, products: torch.Tensor, tilts: torch.Tensor = NOTHING) -> None:
        """Add to the gradient of the only input."""
        (signal,) = self.inputs
        signal.gradient = signal.gradient.plus(Gradient(squares, products, tilts))


class Input(Signal):
    """White noise, or what else has the same moments at all positions."""

    def __init__(self, shape: tuple[int, ...], second: float, cross: float) -> None:
        super().__init__((1, *shape), normal=True)
        places = shape[1:] or (1, 1)
        self.second = torch.full(places, second, dtype=torch.float64)
        self.cross = self.distant = torch.full(places, cross, dtype=torch.float64)


class WeightLayer(Signal):
    """The pre-activations of a `Conv2d` or `Linear` with independent weights and biases of zero mean.

    With s(p) the mean of m over the taps of the kernel, those outside of the map counting as 0, sigma^2 the variance of
    the weights and beta^2 that of the biases, v(p) = fan-in sigma^2 s(p) + beta^2. Two neighbours have a term in common
    for each tap that lies inside of the map for both. A `Linear` is a kernel as large as the map.
    """

    def __init__(self, layer: nn.Module, signal: Signal, initialization: Initialization) -> None:
        taps, kernel, stride, shape = _convolve(layer, signal) if isinstance(layer, nn.Conv2d) else _connect(layer, signal)
        super().__init__(shape, signal, normal=True, layers=frozenset([self]))
        self.layer = layer
        self.taps = taps
        self.distant_taps = taps.with_distant(stride)
        self.input_second = taps.sum(signal.second) / kernel  # s
        self.input_distant = self.distant_taps.sum(signal.distant) / kernel  # s_d
        second_moment = positive(self.input_second.mean().item(), "the second moment of its input")
        self.variances = initialization(layer, second_moment)
        positive(self.variances.weight, "the variance of its weights")
        gain = self.variances.weight * fan_in(layer)
        self.second = gain * self.input_second + self.variances.bias
        self.cross = gain * taps.sum_with_neighbours(signal.cross, stride) / kernel + self.variances.bias
        self.distant = gain * self.input_distant + self.variances.bias
        positive(self.second.mean().item(), "the variance of its pre-activations")
        self.backward_gain = gain / kernel  # of all weights between an output and one position of the input

    def backward(self) -> None:
        """Each position of the input collects from all outputs for which it is a tap."""
        squares, products, _ = self.gradient
        gain = self.backward_gain
        self.pass_back(gain * self.taps.spread(squares), gain * self.distant_taps.spread(products))

    def bias_gradient_variance(self) -> float:
        """Return Var(dL/dbias) = sum (G + S) / channels."""
        squares, products, _ = self.gradient
        return ((squares + products).sum() / self.shape[1]).item()

    def weight_gradient_variance(self) -> float:
        """Return Var(dL/dweight) = sum (G s + S s_d + T sigma^2 s^2) / channels, s_d being the mean of d over the taps.

        The last term, by Stein's identity, is there since an activation's slope depends on what enters the layer.
        """
        squares, products, tilts = self.gradient
        by_slope = tilts * self.variances.weight * self.input_second * self.input_second
        total = squares * self.input_second + products * self.input_distant + by_slope
        return (total.sum() / self.shape[1]).item()


def _convolve(layer: nn.Conv2d, signal: Signal) -> tuple[Windows, int, tuple[int, int], tuple[int, ...]]:
    """Return the taps, how many there are, the stride, and the output's shape."""
    check(len(signal.shape) == 4 and signal.shape[1] == layer.in_channels,
          f"it takes {layer.in_channels} channels of a map")
    check(layer.padding_mode == "zeros", f"it pads its input by '{layer.padding_mode}', not by zeros")
    taps = windows.of_convolution(layer, signal.second.shape)
    return taps, layer.weight[0, 0].numel(), layer.stride, (1, layer.out_channels, *taps.count.shape)


def _connect(layer: nn.Linear, signal: Signal) -> tuple[Windows, int, tuple[int, int], tuple[int, ...]]:
    check(signal.shape == (1, layer.in_features), f"it takes {layer.in_features} features; flatten a map before")
    check(layer.out_features > 0, "its output is empty")
    return windows.whole(signal.second.shape), signal.second.numel(), (1, 1), (1, layer.out_features)


class Activated(Signal):
    """f(z), where z is the maximum of normals over each window: activations and max pools, one after another.

    A gradient passes with the factor E[f'(z)^2], and a max pool sends it to one position of the window, each as likely.
    Windows that share a part of their positions have c + part (m - c) instead of c.
    """

    def __init__(self, field: Signal, function: nn.Module, seen: Windows,
                 shape: tuple[int, ...]) -> None:
        super().__init__(shape, field)
        self.field = field
        self.function = function
        self.seen = seen

    @functools.cached_property
    def moments(self) -> Moments:
        """The moments of f(z) at each position, computed when they are first asked for."""
        variance = self.seen.mean(self.field.second)
        covariance = _mean_cross(self.field, self.seen)
        correlation = (covariance / variance).clamp(0, 1)
        kinks = {kink for module in self.function.modules() for kink in _kinks(module)}
        return activation_moments(self.function, kinks, variance, correlation, self.seen.count)

    @property
    def second(self) -> torch.Tensor:
        return self.moments.second

    @property
    def cross(self) -> torch.Tensor:
        second, cross, *_ = self.moments
        return cross + self.seen.shared() / self.seen.count * (second - cross)

    @property
    def distant(self) -> torch.Tensor:
        """To first order in the difference of c and d before: the derivative by it is E[f'(z) f'(z')] (Price, 1958)."""
        difference = self.seen.mean(self.field.cross - self.field.distant)
        return self.moments.cross - difference * self.moments.cross_slope

    def backward(self) -> None:
        squares, products, _ = self.gradient
        moments = self.moments

        def pick(values: torch.Tensor) -> torch.Tensor:
            return self.seen.spread(values / self.seen.count)

        tilts = pick(products * moments.tilt**2) / self.field.second
        self.pass_back(pick(squares * moments.slope), pick(products * moments.cross_slope), tilts)


def _kinks(module: nn.Module) -> tuple[float, ...]:
    """Return where an activation's slope may jump."""
    if isinstance(module, nn.Hardtanh):  # a ReLU6 is one
        return 0.0, module.min_val, module.max_val
    if isinstance(module, (nn.Hardsigmoid, nn.Hardswish)):
        return 0.0, -3.0, 3.0
    return (0.0,)


def activate(module: nn.Module, signal: Signal) -> Activated:
    """Apply an elementwise function to a normal signal, or behind other such functions and max pools."""
    before = _activated(signal)
    return Activated(before.field, nn.Sequential(before.function, module), before.seen, before.shape)


def _activated(signal: Signal) -> Activated:
    if isinstance(signal, Activated):
        return signal
    check(signal.normal, "what enters it is not normal, as the output of a weight layer or a sum of such outputs is")
    return Activated(signal, nn.Identity(), windows.single(signal.second.shape), signal.shape)


def max_pool(module: nn.Module, signal: Signal) -> Signal:
    """Take the maximum over each window of a normal signal, or of one that ascends with it."""
    check_map(signal)
    check(not module.return_indices, "it returns the indices of the maxima, too")
    before = _activated(signal)
    check(_ascends(before), "it follows an activation that is not monotone; put the pool before the activation")
    of_pool = windows.of_max_pool if isinstance(module, nn.MaxPool2d) else windows.of_adaptive_pool
    seen = of_pool(module, before.shape[2:]).after(before.seen)
    return Activated(before.field, before.function, seen, (*before.shape[:2], *seen.count.shape))


def _ascends(signal: Activated) -> bool:
    """Say whether f never falls within six standard deviations, so that it commutes with a maximum."""
    reach = 6 * signal.field.second.max().sqrt()
    values = signal.function(reach * torch.linspace(-1, 1, 1001).double())
    return bool((values.diff() >= 0).all())


def _mean_cross(signal: Signal, seen: Windows) -> torch.Tensor:
    """Average the cross moments of the positions within each window: neighbours', unless it is the whole map."""
    return seen.mean(signal.distant if len(seen.rows) == len(seen.columns) == 1 else signal.cross)


class Averaged(Signal):
    """The mean over each window of k positions.

    Positions of a window get the same gradient, so that gradients of different positions no longer add up as squares.
    With ' for the transpose of the averaging: G' / k at the input, and of all products (G + S)' the rest.
    """

    def __init__(self, seen: Windows, signal: Signal) -> None:
        check_map(signal)
        super().__init__((*signal.shape[:2], *seen.count.shape), signal, normal=signal.normal, layers=signal.layers)
        self.seen = seen
        second, cross = seen.mean(signal.second), _mean_cross(signal, seen)
        self.second = cross + (second - cross) / seen.count
        self.cross = cross + seen.shared() / seen.count**2 * (second - cross)
        self.distant = seen.mean(signal.distant)

    def backward(self) -> None:
        squares, products, tilts = (self.seen.spread(values / self.seen.count) for values in self.gradient)
        own = squares / self.seen.count.max()
        (signal,) = self.inputs
        left = self.seen.spread(self.second / self.seen.count) / signal.second  # of the variance
        self.pass_back(own, squares + products - own, tilts * left**2)


def average_pool(module: nn.AvgPool2d, signal: Signal) -> Signal:
    """Average over windows of equal size."""
    check_map(signal)
    check(not any(windows.both(module.padding)), "it pads its input")
    check(module.divisor_override is None, "it divides by another number than that of its window's positions")
    seen = windows.of_average_pool(module, signal.shape[2:])
    check((seen.count == seen.count.max()).all(), "its windows reach over the edge of its input")
    return Averaged(seen, signal)


def adaptive_average_pool(module: nn.AdaptiveAvgPool2d, signal: Signal) -> Signal:
    """Average over windows of equal size, which are as large as the output's size asks for."""
    check_map(signal)
    seen = windows.of_adaptive_pool(module, signal.shape[2:])
    check((seen.count == seen.count.max()).all() and not seen.overlap, "its windows are not of equal size, side by side")
    return Averaged(seen, signal)


class Passed(Signal):
    """What has another shape, but is otherwise as it was; or, with dropout, is 0 or larger by a factor."""

    def __init__(self, shape: tuple[int, ...], signal: Signal, gain: float = 1.0) -> None:
        super().__init__(shape, signal, normal=signal.normal and gain == 1, layers=signal.layers)
        self.gain = gain  # of second moments
        self.second = gain * signal.second
        self.cross = signal.cross
        self.distant = signal.distant

    def backward(self) -> None:
        squares, products, tilts = self.gradient
        self.pass_back(self.gain * squares, products, tilts)


def dropout(module: nn.Dropout, signal: Signal) -> Signal:
    """Drop entries with probability p, and divide the others by 1 - p, unless the module is in evaluation mode."""
    if not module.training:
        return signal
    check(module.p < 1, "it drops all")
    return Passed(signal.shape, signal, gain=1 / (1 - module.p))


def reshape(change: Callable[[torch.Tensor], torch.Tensor], signal: Signal) -> Signal:
    """Flatten each sample wholly, or leave the shape as it is."""
    shape = change(torch.empty(signal.shape, device="meta")).shape
    check(shape in (signal.shape, (1, signal.shape.numel())), "it does not flatten each sample wholly")
    if isinstance(signal, Activated):
        return Activated(signal.field, signal.function, signal.seen, shape)
    return Passed(shape, signal)


class Sum(Signal):
    """The sum of two signals, of which one has weights of its own, so that E[ab] = 0 and moments add up."""

    def __init__(self, signal: Signal, other: Signal) -> None:
        check(isinstance(signal, Signal) and isinstance(other, Signal), "one of the terms is no signal")
        check(signal.shape == other.shape and signal.second.shape == other.second.shape, "the terms' shapes differ")
        check(_has_own_weights(signal, other) or _has_own_weights(other, signal),
              "neither term is the output of a weight layer that the other does not depend on")
        layers = signal.layers | other.layers if signal.layers and other.layers else frozenset()
        normal = bool(layers) and signal.normal and other.normal
        super().__init__(signal.shape, signal, other, normal=normal, layers=layers)
        self.second = signal.second + other.second
        self.cross = signal.cross + other.cross
        self.distant = signal.distant + other.distant

    def backward(self) -> None:
        for signal in self.inputs:
            signal.gradient = signal.gradient.plus(self.gradient)


def _has_own_weights(signal: Signal, other: Signal) -> bool:
    return bool(signal.layers) and signal.layers.isdisjoint(ancestors(other))


def ancestors(signal: Signal) -> set[Signal]:
    """Return a signal and all that it is computed from."""
    found = {signal}
    waiting = [signal]
    while waiting:
        new = set(waiting.pop().inputs) - found
        found |= new
        waiting += new
    return found


def positive(value: float, quantity: str) -> float:
    """Return a value; raise a ValueError unless it is positive and finite. If it is 0, it is an underflow."""
    check(not math.isnan(value), f"{quantity} is not a number")
    check(value > 0, f"{quantity} is too small for a float")
    check(value < math.inf, f"{quantity} is infinite or too large for a float")
    return value


def check(condition: object, problem: str) -> None:
    """Raise a ValueError unless a condition holds."""
    if not condition:
        raise ValueError(problem)


def check_map(signal: Signal) -> None:
    check(len(signal.shape) == 4, "it takes a map of channels")


def apply_rule(module: nn.Module, signal: Signal) -> Signal:
    """Hand a signal through a module that has no weights; a ValueError if its type has no rule."""
    if type(module) not in RULES:  # not isinstance: a subclass may compute something else
        raise ValueError(f"it has no rule{REASONS.get(type(module), '')}")
    return RULES[type(module)](module, signal)


def apply_function(function: object, *arguments: object, **options: object) -> Signal | torch.Size | int:
    """Call what a function, or a method by its name, does to its first argument; a ValueError if it has no rule."""
    if function not in FUNCTIONS:
        raise ValueError(f"it has no rule{REASONS.get(function, '')}")
    return FUNCTIONS[function](*arguments, **options)


def _as_module(kind: type[nn.Module]) -> Callable[..., Signal]:
    """Return the rule of a function that takes, besides its input, what a kind of module is made with."""
    def rule(signal: Signal, *arguments: object, **options: object) -> Signal:
        return apply_rule(kind(*arguments, **options), signal)

    return rule


def _as_method(name: str) -> Callable[..., Signal]:
    """Return the rule of a tensor's method that changes nothing but the shape."""
    def rule(signal: Signal, *arguments: object, **options: object) -> Signal:
        return reshape(operator.methodcaller(name, *arguments, **options), signal)

    return rule


def _dropout_function(signal: Signal, p: float = 0.5, training: bool = True, inplace: bool = False) -> Signal:
    return dropout(nn.Dropout(p).train(training), signal)


def _mean_function(signal: Signal, dim: Sequence[int], keepdim: bool = False) -> Signal:
    check_map(signal)
    check({size % 4 for size in dim} == {2, 3}, "it averages over other dimensions than height and width")
    average = adaptive_average_pool(nn.AdaptiveAvgPool2d(1), signal)
    return average if keepdim else reshape(nn.Flatten(), average)


WEIGHT_LAYERS = (nn.Conv2d, nn.Linear)
ACTIVATIONS = {  # elementwise functions: kinds of modules, and the functions and methods that do the same
    nn.CELU: [functional.celu],
    nn.ELU: [functional.elu],
    nn.GELU: [functional.gelu],
    nn.Hardsigmoid: [functional.hardsigmoid],
    nn.Hardswish: [functional.hardswish],
    nn.Hardtanh: [functional.hardtanh],
    nn.LeakyReLU: [functional.leaky_relu],
    nn.LogSigmoid: [functional.logsigmoid],
    nn.Mish: [functional.mish],
    nn.ReLU: [functional.relu, torch.relu, "relu"],
    nn.ReLU6: [functional.relu6],
    nn.SELU: [functional.selu],
    nn.SiLU: [functional.silu],
    nn.Sigmoid: [torch.sigmoid, "sigmoid"],
    nn.Softplus: [functional.softplus],
    nn.Softsign: [functional.softsign],
    nn.Tanh: [torch.tanh, "tanh"],
}
RULES = {  # (module, signal) -> signal, by the module's type
    **dict.fromkeys(ACTIVATIONS, activate),
    nn.AdaptiveAvgPool2d: adaptive_average_pool,
    nn.AdaptiveMaxPool2d: max_pool,
    nn.AvgPool2d: average_pool,
    nn.Dropout: dropout,
    nn.Flatten: reshape,
    nn.Identity: reshape,
    nn.MaxPool2d: max_pool,
}
FUNCTIONS = {  # (signal, further arguments) -> signal, by the function, or the name of a tensor's method
    **{function: _as_module(kind) for kind, functions in ACTIVATIONS.items() for function in functions},
    functional.adaptive_avg_pool2d: _as_module(nn.AdaptiveAvgPool2d),
    functional.adaptive_max_pool2d: _as_module(nn.AdaptiveMaxPool2d),
    functional.avg_pool2d: _as_module(nn.AvgPool2d),
    functional.dropout: _dropout_function,
    functional.max_pool2d: _as_module(nn.MaxPool2d),
    torch.mean: _mean_function,
    "mean": _mean_function,
    **dict.fromkeys((torch.flatten, "flatten"), _as_method("flatten")),
    **dict.fromkeys((torch.reshape, "reshape"), _as_method("reshape")),
    "view": _as_method("view"),
    **dict.fromkeys((operator.add, torch.add, "add"), Sum),
    getattr: getattr,  # of the shape
    "size": Signal.size,
}
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm, functional.batch_norm,
                  functional.group_norm, functional.instance_norm, functional.layer_norm)
SOFTMAXES = (nn.LogSoftmax, nn.Softmax, functional.log_softmax, functional.softmax, torch.log_softmax, torch.softmax)
REASONS = {  # why some have no rule
    **dict.fromkeys(NORMALIZATIONS, ": a normalization makes its output's scale independent of the weights'"),
    **dict.fromkeys(SOFTMAXES, ": leave it to the loss, such as cross_entropy, and predict the network without it"),
    **dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), ": recurrent layers use their weights at every time step"),
    nn.MultiheadAttention: ": attention multiplies signals by each other",
    **dict.fromkeys((operator.mul, torch.mul, operator.matmul, torch.matmul), ": products of signals are not normal"),
    torch.cat: ": concatenated signals have different moments",
    nn.PReLU: ": its slopes are parameters of their own",
    **dict.fromkeys((nn.Dropout1d, nn.Dropout2d), ": it drops whole channels; nn.Dropout has a rule"),
}
