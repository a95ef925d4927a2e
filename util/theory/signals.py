"""The signals in a random network and the gradients with respect to them: each kind of operation knows both ways.

Forward, a signal a has two moments at each position p of its map, over random networks, inputs and channels:

    m(p) = E[a(p)^2]           `second`
    c(p) = E[a(p) a(p')]       `cross`; p' is a neighbouring position of the same channel

Backward, a gradient g has three quantities at each position, which are summed over the channels:

    G(p) = E[g(p)^2]                                   `squares`
    S(p) = sum over p' != p of E[g(p) g(p')]           `products`; 0 unless an average pool follows
    T(p) = S_a(p) E[f'(z) z / v]^2                     `slope_products`; 0 unless an activation f of z follows, whose
                                                       gradient has the products S_a

What is called normal below is normal given the network, over inputs, and has the same variance in all networks.
"""
from __future__ import annotations

import functools
import operator
from typing import Callable, NamedTuple

import torch
from torch import nn

from util.theory import windows
from util.theory.checks import check, check_positive
from util.theory.quadrature import Moments, activation_moments
from util.theory.initializations import Initialization, fan_in
from util.theory.windows import Windows


BATCH = 7  # of the shapes: samples, so many that an operation that mixes them is seen by its output's shape


class Gradient(NamedTuple):
    """The (H, W) maps G, S and T of the gradient with respect to a signal."""

    squares: torch.Tensor
    products: torch.Tensor
    slope_products: torch.Tensor


NO_GRADIENT = Gradient(*torch.zeros(3, dtype=torch.float64))  # has arrived yet


class Signal:
    """The output of an operation, and the gradient of one sample with respect to this output.

    Attributes:
        shape: with the batch dimension, (BATCH, channels, height, width) or (BATCH, features).
        second, cross: (H, W) float64, m and c. A flattened map keeps its positions.
        inputs: the signals that the operation takes.
        normal: whether the signal is normal, so that an activation may follow.
        layers: the weight layers whose outputs add up to the signal, if it is such a sum.
        gradient: the part of the gradient that has arrived so far, on the way back.
    """

    def __init__(self, shape: tuple[int, ...], *inputs: Signal, normal: bool = False,
                 layers: frozenset[Signal] = frozenset()) -> None:
        self.shape = torch.Size(shape)
        self.inputs = inputs
        self.normal = normal
        self.layers = layers
        self.gradient = NO_GRADIENT

    def size(self, dim: int | None = None) -> torch.Size | int:
        """Return the shape, or one of its sizes, as a tensor does."""
        return self.shape if dim is None else self.shape[dim]

    def start_backward(self) -> None:
        """Let a standard normal gradient arrive, as at the network's output."""
        zeros = torch.zeros_like(self.second)
        self.gradient = Gradient(zeros + self.shape[1:].numel() / zeros.numel(), zeros, zeros)

    def backward(self) -> None:
        """Pass the complete gradient back to the inputs: here, unchanged."""
        self.pass_back(*self.gradient)

    def pass_back(self, *gradient: torch.Tensor) -> None:
        """Add G, S and T to the gradient of each input; the gradients of several consumers are uncorrelated."""
        for signal in self.inputs:
            signal.gradient = Gradient(*map(operator.add, signal.gradient, gradient))


class Input(Signal):
    """The network's input, which has the same moments at all positions."""

    def __init__(self, shape: tuple[int, ...], second: float, cross: float) -> None:
        super().__init__((BATCH, *shape), normal=True)
        places = shape[1:] or (1, 1)
        self.second = torch.full(places, second, dtype=torch.float64)
        self.cross = torch.full(places, cross, dtype=torch.float64)


class WeightLayer(Signal):
    """The pre-activations of a `Conv2d` or `Linear` with independent weights and biases of zero mean.

    With s(p) the mean of m over the taps of the kernel, those outside of the map counting as 0, sigma^2 the variance of
    the weights and beta^2 that of the biases, v(p) = fan-in sigma^2 s(p) + beta^2. Two neighbours have a term in common
    for each tap that lies inside of the map for both. A `Linear` is a kernel as large as the map.
    """

    def __init__(self, layer: nn.Module, signal: Signal, initialization: Initialization) -> None:
        receptive_field = _convolve if isinstance(layer, nn.Conv2d) else _connect
        self.taps, size, output_shape = receptive_field(layer, signal)
        super().__init__(output_shape, signal, normal=True, layers=frozenset([self]))
        self.layer = layer
        self.shared_taps = self.taps.weighted_by_share()
        self.input_second = self.taps.sum(signal.second) / size  # s
        self.input_distant_cross = self.shared_taps.sum(signal.cross) / size  # c_s
        self.input_cross = self.taps.sum_with_neighbours(signal.cross) / size

        second_moment = check_positive(self.input_second.mean().item(), "the second moment of its input")
        self.variances = initialization(layer, second_moment)
        check_positive(self.variances.weight, "the variance of its weights")
        gain = self.variances.weight * fan_in(layer)
        self.backward_gain = gain / size  # of all weights between an output and one position of the input
        self.second = gain * self.input_second + self.variances.bias
        self.cross = gain * self.input_cross + self.variances.bias
        check_positive(self.second.mean(), "the variance of its pre-activations")
        check(self.second.all(), "it has no bias where all its taps lie in the padding; pad by less than the kernel")

    def backward(self) -> None:
        """Each position of the input collects from all outputs for which it is a tap."""
        squares = self.backward_gain * self.taps.distribute(self.gradient.squares)
        products = self.backward_gain * self.shared_taps.distribute(self.gradient.products)
        self.pass_back(squares, products, torch.zeros_like(squares))

    def bias_gradient_variance(self) -> torch.Tensor:
        """Return Var(dL/dbias) = sum (G + S) / channels."""
        total = self.gradient.squares + self.gradient.products
        return total.sum() / self.shape[1]

    def weight_gradient_variance(self) -> torch.Tensor:
        """Return Var(dL/dweight) = sum (G s + S c_s + T sigma^2 s^2) / channels; c_s is the mean of c over the taps.

        The last term follows from Stein's identity: an activation's slope depends on the layer's input.
        """
        squares, products, slope_products = self.gradient
        by_slope = slope_products * self.variances.weight * self.input_second * self.input_second
        total = squares * self.input_second + products * self.input_distant_cross + by_slope
        return total.sum() / self.shape[1]


def _convolve(layer: nn.Conv2d, signal: Signal) -> tuple[Windows, int, tuple[int, ...]]:
    """Return what an output sees, the number of taps, those outside of the map among them, and the output's shape."""
    fits = len(signal.shape) == 4 and signal.shape[1] == layer.in_channels
    check(fits, f"it takes {layer.in_channels} channels of a map")
    check(layer.padding_mode == "zeros", f"it pads its input by '{layer.padding_mode}', not by zeros")
    taps = windows.of_convolution(layer, signal.second.shape)
    return taps, layer.weight[0, 0].numel(), (BATCH, layer.out_channels, *taps.count.shape)


def _connect(layer: nn.Linear, signal: Signal) -> tuple[Windows, int, tuple[int, ...]]:
    fits = signal.shape == (BATCH, layer.in_features)
    check(fits, f"it takes {layer.in_features} features; flatten a map before")
    check(layer.out_features > 0, "its output is empty")
    places = signal.second.shape
    return windows.whole(places), places.numel(), (BATCH, layer.out_features)


class ActivatedMaximum(Signal):
    """f(z), where z is the maximum of normals over each window: activations and max pools, one after another.

    A gradient passes with the factor E[f'(z)^2]. A max pool sends it to one position of the window; all are as likely.
    Windows that share a part of their positions have c + part (m - c) instead of c.
    """

    def __init__(self, preactivation: Signal, function: Callable[[torch.Tensor], torch.Tensor], kinks: set[float],
                 seen: Windows, shape: tuple[int, ...]) -> None:
        super().__init__(shape, preactivation)
        self.preactivation = preactivation
        self.function = function
        self.kinks = kinks  # where its slope jumps
        self.seen = seen

    @functools.cached_property
    def moments(self) -> Moments:
        """The moments of f(z) at each position, computed when they are first asked for."""
        variance = self.seen.mean(self.preactivation.second)
        covariance = self.seen.mean(self.preactivation.cross)
        correlation = (covariance / variance).clamp(0, 1)
        return activation_moments(self.function, self.kinks, variance, correlation, self.seen.count)

    @property
    def second(self) -> torch.Tensor:
        return self.moments.second

    @property
    def cross(self) -> torch.Tensor:
        second, cross, *_ = self.moments
        return cross + self.seen.shared / self.seen.count * (second - cross)

    def backward(self) -> None:
        squares, products, _ = self.gradient
        coincident = products * self.seen.shared_maxima() / max(1, products.numel() - 1)
        arrived = Gradient(
            squares=(squares + coincident) * self.moments.slope,
            products=(products - coincident) * self.moments.cross_slope,
            slope_products=products * self.moments.slope_correlation**2)
        squares, products, slope_products = map(self.seen.share, arrived)
        self.pass_back(squares, products, slope_products / self.preactivation.second)


class Averaged(Signal):
    """The mean over each window of k positions.

    Positions of a window get the same gradient, so that gradients at its positions are correlated. With ' for the
    transpose of averaging, G becomes G' / k, and S becomes (G + S)' - G' / k.
    """

    def __init__(self, seen: Windows, signal: Signal) -> None:
        shape = *signal.shape[:2], *seen.count.shape
        super().__init__(shape, signal, normal=signal.normal, layers=signal.layers)
        self.seen = seen
        self.cross = seen.mean(signal.cross)
        self.second = self.cross + (seen.mean(signal.second) - self.cross) / seen.count

    def backward(self) -> None:
        squares, products, slope_products = self.gradient
        arrived = Gradient(squares, products, slope_products * self.second**2)
        squares, products, slope_products = map(self.seen.share, arrived)
        own = squares / self.seen.count.max()
        (signal,) = self.inputs
        self.pass_back(own, squares + products - own, slope_products / signal.second**2)


class Reshaped(Signal):
    """The same entries in another shape."""

    def __init__(self, shape: tuple[int, ...], signal: Signal) -> None:
        super().__init__(shape, signal, normal=signal.normal, layers=signal.layers)
        self.second = signal.second
        self.cross = signal.cross


class Dropped(Signal):
    """Entries that are 0 with a probability, and else divided by one minus this probability, as dropout does."""

    def __init__(self, probability: float, signal: Signal) -> None:
        super().__init__(signal.shape, signal, layers=signal.layers)
        self.gain = 1 / (1 - probability)  # of second moments
        self.second = self.gain * signal.second
        self.cross = signal.cross

    def backward(self) -> None:
        squares, *products = self.gradient
        self.pass_back(self.gain * squares, *products)


class Sum(Signal):
    """The sum of two signals, of which one has weights of its own, so that E[ab] = 0 and moments add up."""

    def __init__(self, signal: Signal, other: Signal) -> None:
        check(isinstance(signal, Signal) and isinstance(other, Signal),
              "one of the terms is a constant (sum([a, b]) begins with 0; write a + b); scale the input before the "
              "network, or let biases carry the constant")
        check(signal.shape == other.shape, "the terms' shapes differ")
        check(signal.second.shape == other.second.shape, "one of the terms is a flattened map, the other one is not")
        check(_has_own_weights(signal, other) or _has_own_weights(other, signal),
              "neither term is the output of a weight layer that the other does not depend on")
        layers = signal.layers | other.layers if signal.layers and other.layers else frozenset()
        normal = bool(layers) and signal.normal and other.normal
        super().__init__(signal.shape, signal, other, normal=normal, layers=layers)
        self.second = signal.second + other.second
        self.cross = signal.cross + other.cross


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
