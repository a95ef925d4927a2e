"""The signals in a random network and the gradients by them: each kind of operation knows both ways.

Forward, a signal a has for each position p of its map three moments over random networks, inputs and channels:

    m(p) = E[a(p)^2]
    c(p) = E[a(p) a(p')]      p' being a neighbouring position of the same channel
    d(p) = E[a(p) a(p')]      p' being any position of the same channel, which is mostly a distant one

Backward, a gradient g has for each position three quantities, which are summed over the channels:

    G(p) = E[g(p)^2]
    S(p) = sum over p' != p of E[g(p) g(p')]           0 below all average pools, since they alone bring it about
    T(p) = S_a(p) E[f'(z) z / v]^2                     S_a being S behind the activation f; it is 0 but behind one

What is called normal below is normal given the network, over inputs, and has the same variance in all networks.
"""
from __future__ import annotations

import functools
import math
import operator
from typing import NamedTuple

import torch
from torch import nn

from util.theory import windows
from util.theory.quadrature import Moments, activation_moments
from util.theory.initializations import Initialization, fan_in
from util.theory.windows import Windows


NOTHING = torch.zeros((), dtype=torch.float64)


class Gradient(NamedTuple):
    """By a signal: the (H, W) maps G, S and T."""

    squares: torch.Tensor = NOTHING
    products: torch.Tensor = NOTHING
    tilts: torch.Tensor = NOTHING


class Signal:
    """The output of an operation for one sample, and the gradient by it.

    Attributes:
        shape: with the sample's dimension, (1, channels, height, width) or (1, features).
        second, cross, distant: (H, W) float64, m, c and d; the features of a flattened map keep its positions.
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

    def size(self, dim: int | None = None) -> torch.Size | int:
        """Return the shape, or one of its sizes, as a tensor does."""
        return self.shape if dim is None else self.shape[dim]

    def backward(self) -> None:
        """Hand the gradient, which is complete, on to the inputs."""

    def pass_back(self, squares: torch.Tensor, products: torch.Tensor, tilts: torch.Tensor) -> None:
        """Add to the gradient of each input; gradients that come by two ways are uncorrelated."""
        for signal in self.inputs:
            signal.gradient = Gradient(*map(operator.add, signal.gradient, (squares, products, tilts)))


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
        kernel = _convolve(layer, signal) if isinstance(layer, nn.Conv2d) else _connect(layer, signal)
        super().__init__(kernel.output_shape, signal, normal=True, layers=frozenset([self]))
        self.layer = layer
        self.taps = kernel.taps
        self.distant_taps = kernel.taps.with_distant(kernel.stride)
        self.input_second = self.taps.sum(signal.second) / kernel.size  # s
        self.input_distant = self.distant_taps.sum(signal.distant) / kernel.size  # s_d
        input_cross = self.taps.sum_with_neighbours(signal.cross, kernel.stride) / kernel.size

        second_moment = positive(self.input_second.mean().item(), "the second moment of its input")
        self.variances = initialization(layer, second_moment)
        positive(self.variances.weight, "the variance of its weights")
        gain = self.variances.weight * fan_in(layer)
        self.backward_gain = gain / kernel.size  # of all weights between an output and one position of the input
        self.second = gain * self.input_second + self.variances.bias
        self.cross = gain * input_cross + self.variances.bias
        self.distant = gain * self.input_distant + self.variances.bias
        positive(self.second.mean().item(), "the variance of its pre-activations")
        check(self.second.all(), "it has no bias where all its taps lie in the padding; pad by less than the kernel")

    def backward(self) -> None:
        """Each position of the input collects from all outputs for which it is a tap."""
        squares = self.backward_gain * self.taps.spread(self.gradient.squares)
        products = self.backward_gain * self.distant_taps.spread(self.gradient.products)
        self.pass_back(squares, products, torch.zeros_like(squares))

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


class Kernel(NamedTuple):
    """What a weight layer's outputs see of its input."""

    taps: Windows
    size: int  # number of taps, those outside of the map among them
    stride: tuple[int, int]
    output_shape: tuple[int, ...]


def _convolve(layer: nn.Conv2d, signal: Signal) -> Kernel:
    fits = len(signal.shape) == 4 and signal.shape[1] == layer.in_channels
    check(fits, f"it takes {layer.in_channels} channels of a map")
    check(layer.padding_mode == "zeros", f"it pads its input by '{layer.padding_mode}', not by zeros")
    taps = windows.of_convolution(layer, signal.second.shape)
    output_shape = (1, layer.out_channels, *taps.count.shape)
    return Kernel(taps, layer.weight[0, 0].numel(), layer.stride, output_shape)


def _connect(layer: nn.Linear, signal: Signal) -> Kernel:
    check(signal.shape == (1, layer.in_features), f"it takes {layer.in_features} features; flatten a map before")
    check(layer.out_features > 0, "its output is empty")
    places = signal.second.shape
    return Kernel(windows.whole(places), places.numel(), (1, 1), (1, layer.out_features))


class Activated(Signal):
    """f(z), where z is the maximum of normals over each window: activations and max pools, one after another.

    A gradient passes with the factor E[f'(z)^2], and a max pool sends it to one position of the window, each as likely.
    Windows that share a part of their positions have c + part (m - c) instead of c.
    """

    def __init__(self, field: Signal, function: nn.Module, kinks: set[float], seen: Windows,
                 shape: tuple[int, ...]) -> None:
        super().__init__(shape, field)
        self.field = field
        self.function = function
        self.kinks = kinks  # where its slope jumps
        self.seen = seen

    @functools.cached_property
    def moments(self) -> Moments:
        """The moments of f(z) at each position, computed when they are first asked for."""
        variance = self.seen.mean(self.field.second)
        covariance = _mean_cross(self.field, self.seen)
        correlation = (covariance / variance).clamp(0, 1)
        return activation_moments(self.function, self.kinks, variance, correlation, self.seen.count)

    @property
    def second(self) -> torch.Tensor:
        return self.moments.second

    @property
    def cross(self) -> torch.Tensor:
        second, cross, *_ = self.moments
        return cross + self.seen.shared / self.seen.count * (second - cross)

    @property
    def distant(self) -> torch.Tensor:
        """To first order in the difference of c and d before: the derivative by it is E[f'(z) f'(z')] (Price, 1958)."""
        difference = _mean_cross(self.field, self.seen) - self.seen.mean(self.field.distant)
        return self.moments.cross - difference * self.moments.cross_slope

    def backward(self) -> None:
        squares, products, _ = self.gradient
        coincident = products * self.seen.coincidences() / max(1, products.numel() - 1)
        arrived = Gradient(
            squares=(squares + coincident) * self.moments.slope,
            products=(products - coincident) * self.moments.cross_slope,
            tilts=products * self.moments.tilt**2)
        squares, products, tilts = (self.seen.spread(values / self.seen.count) for values in arrived)
        self.pass_back(squares, products, tilts / self.field.second)


def _mean_cross(signal: Signal, seen: Windows) -> torch.Tensor:
    """Average the cross moments of the positions within each window: neighbours', unless it is the whole map."""
    return seen.mean(signal.distant if len(seen.rows) == len(seen.columns) == 1 else signal.cross)


class Averaged(Signal):
    """The mean over each window of k positions.

    Positions of a window get the same gradient, so that gradients of different positions no longer add up as squares.
    With ' for the transpose of the averaging: G' / k at the input, and of all products (G + S)' the rest.
    """

    def __init__(self, seen: Windows, signal: Signal) -> None:
        super().__init__((*signal.shape[:2], *seen.count.shape), signal, normal=signal.normal, layers=signal.layers)
        self.seen = seen
        self.cross = _mean_cross(signal, seen)
        self.second = self.cross + (seen.mean(signal.second) - self.cross) / seen.count
        self.distant = seen.mean(signal.distant)

    def backward(self) -> None:
        squares, products, tilts = self.gradient
        squares, products, tilts = (self.seen.spread(values / self.seen.count) for values in (
            squares, products, tilts * self.second**2))
        own = squares / self.seen.count.max()
        (signal,) = self.inputs
        self.pass_back(own, squares + products - own, tilts / signal.second**2)


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
        self.pass_back(*self.gradient)


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
