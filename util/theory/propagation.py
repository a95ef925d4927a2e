"""Analytic statistics of the signals and gradients in a random network.

The network is traced by torch.fx. Each of its operations has a rule (`util.theory.rules`) for the moments of its output and,
on the way back, for those of the gradient (`util.theory.signals`). Weights and biases are independent and symmetric about
zero, with variances that an initialization (`util.theory.initializations`) chooses for each layer. The gradient is that of a
single sample, for a standard normal gradient at the network's output.

These rules extend those of He et al., "Delving Deep into Rectifiers" (2015), section 2.2. What they assume:

    everywhere                  weights and biases are independent, of zero mean and symmetric; the gradient at the
                                output has independent entries of zero mean and unit variance; it is one sample's
    the input                   the same moments at all positions; normal, or with ReLU symmetric, where an activation
                                or max pool is applied to it
    activations but ReLU's kind pre-activations are normal of the same variance in all networks, which holds up to
                                errors of order 1 / width
    max pools                   pre-activations are normal, with the same correlation of all positions of a window, and
                                what feeds the position that a pool picks is not larger than elsewhere
    average pools               products of gradients at two positions do not depend on their distance

Without pools and with piecewise linear activations through 0 (ReLU, LeakyReLU), second moments and gradients are exact
at any width, with padding, too, unless all inputs of a layer may be zero. README.md says how far the others hold.
"""
from __future__ import annotations

import math
from numbers import Integral
from typing import Any, Callable

import torch
from torch import fx, nn

from util.theory.initializations import BIAS_VARIANCE, Initialization, current, variance_preserving
from util.theory.rules import RULES, apply_function, apply_rule
from util.theory.signals import Gradient, Input, Signal, Sum, WeightLayer, ancestors, check, positive
from util.theory.statistics import WEIGHT_LAYERS, LayerStatistics

STANDARD = (1.0, 0.0)  # the moments (m_0, c_0) of independent standard normal inputs


def predict(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32), bias_variance: float = BIAS_VARIANCE,
            input_moments: tuple[float, float] = STANDARD) -> list[LayerStatistics]:
    """Compute the weight scales that keep every pre-activation at unit variance, and the gradients' scales that follow.

    Args:
        net: made of operations that `util.theory.rules` lists; the values of its parameters play no role. Dropout counts if
            the network is in training mode.
        input_shape: of one input, (channels, height, width) or (features,).
        bias_variance: beta^2, 0 <= beta^2 < 1, the share of a pre-activation's variance that its bias, if any, carries.
        input_moments: the input's second moment m_0 > 0 and its cross moment c_0 of two neighbouring positions of a
            channel, 0 <= c_0 <= m_0 (a measured one may be a little below). The default is white noise.

    Returns one record per weight layer, in the order in which the network computes them.

    Raises:
        ValueError: for numbers out of range, for networks and input shapes that the rules do not cover, and for a layer
            with a variance that is too small or too large for a float.
    """
    if not 0 <= bias_variance < 1:
        raise ValueError(f"bias_variance must be at least 0 and below 1, but is {bias_variance}")
    return predict_for(variance_preserving(bias_variance), net, input_shape, input_moments)


def predict_current(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
                    input_moments: tuple[float, float] = STANDARD) -> list[LayerStatistics]:
    """Compute the same records for random networks with the root mean squares of this network's parameters as they are.

    Raises a ValueError for a layer whose weights are all zero or not finite, too.
    """
    return predict_for(current, net, input_shape, input_moments)


def predict_for(initialization: Initialization, net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
                input_moments: tuple[float, float] = STANDARD) -> list[LayerStatistics]:
    """Compute the same records for random networks of an initialization, see `util.theory.initializations`."""
    input_shape = _checked_shape(input_shape)
    second, cross = _checked_moments(input_moments)
    _check_unchanged(net)
    walk = Walk(net, initialization, input_shape)
    output = walk.run(Input(input_shape, second, cross))
    _check_output(output)
    _check_all_reached(net, walk, ancestors(output))
    _propagate_gradient(output)
    return [_statistics(name, layer) for name, layer in walk.layers.items()]


def _propagate_gradient(output: Signal) -> None:
    """Walk back from a standard normal gradient at the output."""
    ones = torch.ones_like(output.second)
    output.gradient = Gradient(ones * output.shape.numel() / ones.numel(), 0 * ones, 0 * ones)
    for signal in sorted(ancestors(output), key=lambda signal: signal.depth, reverse=True):
        signal.backward()


def _statistics(name: str, layer: WeightLayer) -> LayerStatistics:
    try:
        bias_gradient_variance = positive(layer.bias_gradient_variance(), "the variance of its biases' gradient")
        weight_gradient_variance = positive(layer.weight_gradient_variance(), "the variance of its weights' gradient")
    except ValueError as error:
        raise ValueError(f"cannot predict layer '{name}': {error}") from error
    return LayerStatistics(
        name=name,
        weight_std=math.sqrt(layer.variances.weight),
        bias_std=math.sqrt(layer.variances.bias),
        weight_gradient_std=math.sqrt(weight_gradient_variance),
        bias_gradient_std=math.sqrt(bias_gradient_variance),
        correlation=(layer.cross.mean() / layer.second.mean()).item())


class Tracer(fx.Tracer):
    """Follows a `forward` down to PyTorch's own modules, and to variants of those that have rules."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Say whether a module is taken as a whole."""
        return isinstance(module, (*WEIGHT_LAYERS, *RULES)) or super().is_leaf_module(module, name)


class Root(nn.Module):
    """A module around the network, so that a network which is a single layer is found as one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        """Do what the network does."""
        return self.net(x)


class Walk(fx.Interpreter):
    """Runs a network on signals: calls the rule of each operation.

    Attributes:
        layers: the weight layers by their names in the network, in the order of computation.
        parameters: all of these layers'.
    """

    def __init__(self, net: nn.Module, initialization: Initialization, input_shape: tuple[int, ...]) -> None:
        root = Root(net)
        super().__init__(root, garbage_collect_values=False, graph=_trace(root))
        self.extra_traceback = False  # an error says already where it comes from
        self.initialization = initialization
        self.input_shape = "(3, 32, 32), the default" if input_shape == (3, 32, 32) else input_shape
        self.layers: dict[str, WeightLayer] = {}
        self.parameters: set[nn.Parameter] = set()

    def run_node(self, node: fx.Node) -> Any:
        """Compute what a node stands for; an error names it."""
        try:
            self._check_not_in_place(node)
            return super().run_node(node)
        except Exception as error:  # of any kind: whatever a forward may ask of a signal that it does not have
            raise ValueError(f"cannot predict {self._describe(node)}: {error}") from error

    def _describe(self, node: fx.Node) -> str:
        place = f"'{node.name}' in the network's forward"
        if node.op == "call_module":
            kind = type(self.fetch_attr(node.target)).__name__
            place = f"layer '{_name(node.target)}' ({kind})"
        inputs = [self.env[argument] for argument in node.all_input_nodes]
        shapes = [str(tuple(signal.shape[1:])) for signal in inputs if isinstance(signal, Signal)]
        return f"{place} for an input of shape {' and '.join(shapes)} (input_shape={self.input_shape})"

    def _check_not_in_place(self, node: fx.Node) -> None:
        module = self.fetch_attr(node.target) if node.op == "call_module" else None
        if getattr(module, "inplace", node.kwargs.get("inplace", False)):
            check(not self._used_again(node), "it works in place on what is used elsewhere, too; use inplace=False")

    def _used_again(self, node: fx.Node) -> bool:
        """Say whether another operation takes a node's input, or what that may be a view of."""
        while node.all_input_nodes:
            node = node.all_input_nodes[0]
            users = [user for user in node.users if user.target not in ("size", getattr)]
            if len(users) > 1:
                return True
            if isinstance(self.env[node], (WeightLayer, Sum)):  # which has memory of its own
                return False
        return False

    def call_module(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signal:
        """Apply the rule of a module."""
        module = self.fetch_attr(target)
        if type(module) not in WEIGHT_LAYERS:
            return apply_rule(module, *args, **kwargs)
        own = set(module.parameters())
        check(own.isdisjoint(self.parameters), "it shares parameters with an earlier layer, so their gradients add up")
        layer = WeightLayer(module, *args, self.initialization)
        self.layers[_name(target)] = layer
        self.parameters |= own
        return layer

    def call_function(self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply the rule of a function; sizes, which are no signals, Python computes."""
        if any(isinstance(part, (Signal, list, tuple)) and not isinstance(part, torch.Size) for part in args):
            return apply_function(target, *args, **kwargs)
        return super().call_function(target, args, kwargs)

    def call_method(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply the rule of a tensor's method."""
        return apply_function(target, *args, **kwargs)


def _trace(root: Root) -> fx.Graph:
    try:
        return Tracer().trace(root)
    except Exception as error:  # of any kind, since the network's own code runs
        raise ValueError(f"cannot predict this network, since torch.fx cannot follow its forward: {error}") from error


def _name(target: str) -> str:
    """Return a module's name in the network, not in the `Root` around it."""
    return target[len("net."):]


def _check_unchanged(net: nn.Module) -> None:
    """Refuse hooks (weight norm, pruning) and a `forward` of an instance's own, which may change what is computed."""
    check("_orig_mod" not in dict(net.named_children()), "the network is compiled; predict before torch.compile")
    for name, module in net.named_modules():
        own = vars(module)
        hooks = [value for attribute, value in own.items() if attribute.endswith("_hooks")]
        check("forward" not in own and not any(hooks), f"cannot predict layer '{name}' ({type(module).__name__}): "
              "it has hooks or a forward of its own, which may change what it computes")


def _check_output(output: Any) -> None:
    check(isinstance(output, Signal), "cannot predict this network: its forward returns something else than one tensor")


def _check_all_reached(net: nn.Module, walk: Walk, reached: set[Signal]) -> None:
    check(walk.layers, "the network has no weight layer (Conv2d or Linear), nothing to predict")
    for name, layer in walk.layers.items():
        check(layer in reached, f"cannot predict layer '{name}': the network's output does not depend on it")
    for name, parameter in net.named_parameters():
        used = parameter in walk.parameters
        check(used, f"cannot predict parameter '{name}': it is none of a Conv2d or Linear that is used")


def input_moments(images: torch.Tensor) -> tuple[float, float]:
    """Measure the moments (m_0, c_0) that `predict` takes.

    Args:
        images: (N, C, H, W) floats, scaled as they enter the network.

    Returns:
        The mean square, and the mean product of two horizontal or vertical neighbours in a channel. Where the latter is
        larger, since the border is darker than the rest, it is the neighbours' correlation times the mean square.

    Raises:
        ValueError: for another shape, or one without neighbours, and for integers, such as pixels not yet scaled.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floats of shape (N, C, H, W), not {images.dtype} of {tuple(images.shape)}")
    squares = products = squares_of_pairs = 0.0
    pairs = 0
    for part in images.detach().split(100):
        part = part.double()
        squares += part.square().sum().item()
        for one, other in ((part[..., 1:], part[..., :-1]), (part[..., 1:, :], part[..., :-1, :])):
            products += (one * other).sum().item()
            squares_of_pairs += (one.square() + other.square()).sum().item() / 2
            pairs += one.numel()
    if pairs == 0:
        raise ValueError(f"images must have neighbouring positions, but are of shape {tuple(images.shape)}")
    second, cross = squares / images.numel(), products / pairs
    if cross > second:
        cross = second * products / squares_of_pairs
    return second, cross


def _checked_shape(input_shape: Any) -> tuple[int, ...]:
    if isinstance(input_shape, tuple) and len(input_shape) in (1, 3):
        if all(isinstance(size, Integral) and size > 0 for size in input_shape):
            return tuple(map(int, input_shape))
    raise ValueError("input_shape must be a tuple of positive integers, (channels, height, width) or (features,), "
                     f"without the dimension of the samples, but is {input_shape!r}")


def _checked_moments(input_moments: tuple[float, float]) -> tuple[float, float]:
    second, cross = input_moments
    if 0 < second < math.inf and -0.05 * second <= cross <= second:
        return second, max(0.0, cross)  # a little below 0, it is 0, and measured on few images
    raise ValueError("input_moments must be m_0 > 0 and c_0 from 0 to m_0, but are "
                     f"{tuple(input_moments)}; the theory does not cover neighbours of opposite signs")
