"""Analytic statistics of the signals and gradients in a random network.

torch.fx traces the network. Each operation has a rule (`util.theory.rules`) for the moments of its output and, on the
way back, for those of the gradient (`util.theory.signals`). An initialization (`util.theory.initializations`) chooses
the variances of each layer's parameters. The gradient is that of a single sample, for a standard normal gradient at the
network's output. The traced graph is compared with the network itself (`util.theory.oracle`).

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
at any width, with padding, too, unless all inputs of a layer may be zero. README.md in this folder says how far the
other rules hold.
"""
from __future__ import annotations

import math
import os
import re
from numbers import Integral
from typing import Any, Callable

import torch
from torch import fx, nn
from torch.nn.modules.lazy import LazyModuleMixin

from util.theory.checks import check, check_positive
from util.theory.initializations import BIAS_VARIANCE, Initialization, current, fan_in, mean_power, variance_preserving
from util.theory.moments import WHITE_NOISE
from util.theory.oracle import check_trace, copied, isolated
from util.theory.rules import RULES, rule_of
from util.theory.signals import NO_GRADIENT, Input, Signal, WeightLayer
from util.theory.statistics import WEIGHT_LAYERS, LayerStatistics

# What the means of a layer's parameters may add to its pre-activations' second moment, in units of the latter. In four
# trained networks, weights added at most 6, and biases 0.2; weights from uniform_(0, 1) add 57, biases of one 0.7.
MEAN_LIMITS = {"weights": 20.0, "biases": 0.5}


def predict(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32), bias_variance: float = BIAS_VARIANCE,
            input_moments: tuple[float, float] = WHITE_NOISE) -> list[LayerStatistics]:
    """Compute the weight scales that keep every pre-activation at unit variance, and the gradients' scales that follow.

    Args:
        net: made of operations that `util.theory.rules` lists; the values of its parameters play no role. Dropout
            counts if the network is in training mode.
        input_shape: of one input, (channels, height, width) or (features,).
        bias_variance: beta^2, 0 <= beta^2 < 1, the share of a pre-activation's variance that its bias, if any, carries.
        input_moments: the input's second moment m_0 > 0 and its cross moment c_0 of two neighbouring positions of a
            channel, 0 <= c_0 <= m_0 (a measured one may be just below 0). The default is white noise.

    Returns one record per weight layer, in the order in which the network computes them.

    Raises:
        ValueError: for numbers out of range, for networks and input shapes that the rules do not cover, for a forward
            that computes something else than its traced graph, and for a layer with a variance that is too small or too
            large for a float.
    """
    check(0 <= bias_variance < 1, f"bias_variance must be at least 0 and below 1, but is {bias_variance}")
    return predict_for(variance_preserving(bias_variance), net, input_shape, input_moments)


def predict_current(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
                    input_moments: tuple[float, float] = WHITE_NOISE) -> list[LayerStatistics]:
    """Compute the same records for random networks with the current root mean squares of this network's parameters.

    Raises a ValueError, too, for a layer whose weights are all zero or not finite, or whose parameters are not nearly
    symmetric about zero.
    """
    layers = _propagate(current, net, input_shape, input_moments)
    for name, layer in layers.items():
        _check_symmetric(name, layer)
    return _statistics(layers)


def predict_for(initialization: Initialization, net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
                input_moments: tuple[float, float] = WHITE_NOISE) -> list[LayerStatistics]:
    """Compute the same records for random networks of an initialization, see `util.theory.initializations`."""
    return _statistics(_propagate(initialization, net, input_shape, input_moments))


def propagate(initialization: Initialization, net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
              input_moments: tuple[float, float] = WHITE_NOISE) -> list[LayerStatistics]:
    """Do what `predict_for` does without checking the graph, for a network that was predicted before."""
    return _statistics(_propagate(initialization, net, input_shape, input_moments, compare=False))


@isolated()
def _propagate(initialization: Initialization, net: nn.Module, input_shape: tuple[int, ...],
               input_moments: tuple[float, float], compare: bool = True) -> dict[str, WeightLayer]:
    """Walk forward and back through the graph of a network, and compare the graph with the network.

    Returns the weight layers by name, in the order of computation.
    """
    input_shape = _checked_shape(input_shape)
    second, cross = _checked_moments(input_moments)
    _check_parameters(net)
    root = copied(net, torch.empty_like)  # since its forward may change modules or parameters
    graph = _trace(root)
    for parameter, original in zip(root.parameters(), net.parameters()):
        parameter.data = original.data
    walk = Walk(root, graph, initialization, input_shape)
    output = walk.run(Input(input_shape, second, cross))
    check(isinstance(output, Signal), "cannot predict this network: its forward returns something else than one tensor")
    output.start_backward()
    for signal in walk.signals():
        if signal.gradient is not NO_GRADIENT:
            signal.backward()
    _check_all_reached(root, walk)
    if compare:
        check_trace(net, graph, input_shape)
    return walk.layers


def _check_symmetric(name: str, layer: WeightLayer) -> None:
    """Refuse parameters whose means make up much of the pre-activations.

    The mean of the weights multiplies the mean of the inputs, whose square the inputs' cross moment bounds.
    """
    module = layer.layer
    inputs = fan_in(module) * layer.input_cross.mean().sqrt()
    variance = layer.second.mean()
    means = {"weights": inputs * mean_power(module.weight, 1), "biases": mean_power(module.bias, 1)}
    for kind, mean in means.items():
        share = mean**2 / variance
        check(share < MEAN_LIMITS[kind], f"cannot predict layer '{name}': its {kind} are not symmetric about zero; "
              f"their mean adds {share:.2g} times the predicted variance of its pre-activations")


def _statistics(layers: dict[str, WeightLayer]) -> list[LayerStatistics]:
    return [_statistics_of(name, layer) for name, layer in layers.items()]


def _statistics_of(name: str, layer: WeightLayer) -> LayerStatistics:
    place = f"cannot predict layer '{name}': the variance of its"
    bias_gradient_variance = check_positive(layer.bias_gradient_variance(), f"{place} biases' gradient")
    weight_gradient_variance = check_positive(layer.weight_gradient_variance(), f"{place} weights' gradient")
    stds = map(math.sqrt, (*layer.variances, weight_gradient_variance, bias_gradient_variance))
    correlation = layer.cross.mean() / layer.second.mean()
    return LayerStatistics(name, *stds, correlation.item())


class Tracer(fx.Tracer):
    """Follows a `forward` down to PyTorch's own modules, and to variants of those that have rules."""

    record_stack_traces = True

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Say whether a module is taken as a whole."""
        return isinstance(module, (*WEIGHT_LAYERS, *RULES)) or super().is_leaf_module(module, name)


class Walk(fx.Interpreter):
    """Runs a network on signals: calls the rule of each operation.

    Attributes:
        layers: the weight layers by their names in the network, in the order of computation.
        addresses: of the parameters of all these layers in memory.
    """

    def __init__(self, root: nn.Sequential, graph: fx.Graph, initialization: Initialization,
                 input_shape: tuple[int, ...]) -> None:
        super().__init__(root, garbage_collect_values=False, graph=graph)
        self.extra_traceback = False  # an error says already where it comes from
        self.initialization = initialization
        self.input_shape = input_shape
        self.layers: dict[str, WeightLayer] = {}
        self.addresses: set[int] = set()

    def signals(self) -> list[Signal]:
        """Return all signals, the last one first."""
        signals = [value for value in self.env.values() if isinstance(value, Signal)]
        return list(dict.fromkeys(reversed(signals)))

    def run_node(self, node: fx.Node) -> Any:
        """Compute what a node stands for; an error names it."""
        try:
            return super().run_node(node)
        except Exception as error:  # of any kind: a forward may use what a `Signal` lacks
            raise ValueError(f"cannot predict {self._describe(node)}: {error}") from error

    def _describe(self, node: fx.Node) -> str:
        place = f"'{_line(node)}' in the network's forward"
        if node.op == "call_module":
            kind = type(self.fetch_attr(node.target)).__name__
            place = f"layer '{_name(node.target)}' ({kind})"
        inputs = [self.env[argument] for argument in node.all_input_nodes]
        shapes = [str(tuple(signal.shape[1:])) for signal in inputs if isinstance(signal, Signal)]
        of_shape = f" for an input of shape {' and '.join(shapes)}" if shapes else ""
        default = ", the default" if self.input_shape == (3, 32, 32) else ""
        return f"{place}{of_shape} (input_shape={self.input_shape}{default})"

    def call_module(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signal:
        """Apply the rule of a module, or keep the layer if it has weights."""
        module = self.fetch_attr(target)
        signals = *args, *kwargs.values()
        if type(module) not in WEIGHT_LAYERS:
            return rule_of(type(module))(module, *signals)
        addresses = set(map(_address, module.parameters()))
        alone = addresses.isdisjoint(self.addresses)
        check(alone, "it shares parameters with an earlier layer, so their gradients add up")
        layer = WeightLayer(module, *signals, self.initialization)
        self.layers[_name(target)] = layer
        self.addresses |= addresses
        return layer

    def call_function(self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply the rule of a function of signals or parameters; Python computes with sizes itself."""
        kinds = Signal, torch.Tensor, list, tuple
        parts = *args, *kwargs.values()
        if any(isinstance(part, kinds) and not isinstance(part, torch.Size) for part in parts):
            return rule_of(target)(*args, **kwargs)
        return super().call_function(target, args, kwargs)

    def call_method(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply the rule of a tensor's method."""
        return rule_of(target)(*args, **kwargs)


HINTS = {  # what helps, by a part of torch.fx's message
    "cannot be iterated": "write torch.flatten(x, 1) instead of a loop over sizes; layers that return tuples, as "
    "recurrent ones and attention, have no rule",
    "not installed as a submodule": "create modules in __init__, outside of lambdas, or call functions such as "
    "torch.relu(x)",
    "missing": "a network has one input; of several branches, predict the common trunk",
    "control flow": "no `if` or `assert` may depend on a tensor",
}


def _trace(root: nn.Module) -> fx.Graph:
    try:
        return Tracer().trace(root)
    except Exception as error:  # of any kind, since the network's own code runs
        hints = [hint for part, hint in HINTS.items() if part in str(error)]
        raise ValueError("; ".join(["cannot predict this network, since torch.fx cannot follow its forward: "
                                    f"{error}", *hints])) from error


def _address(parameter: nn.Parameter) -> int:
    return parameter.data_ptr() or id(parameter)  # on the meta device, there is no memory


def _name(target: str) -> str:
    """Return a module's name in the network, not in the `nn.Sequential` around it."""
    return target[len("0."):]


def _line(node: fx.Node) -> str:
    """Return the line of the network's own code that a node stands for, or the node's name if it has none."""
    frames = re.findall(r'File "(.*)", line .*\n *(.*)', node.stack_trace or "")
    lines = [line for file, line in frames if not file.startswith(os.path.dirname(torch.__file__))]
    return lines[-1] if lines else node.name


def _check_parameters(net: nn.Module) -> None:
    """Refuse parameters that are not drawn as they are: uninitialized, or computed (weight norm, pruning)."""
    check("_orig_mod" not in dict(net.named_children()), "the network is compiled; predict before torch.compile")
    for layer, module in net.named_modules():
        place = f"cannot predict layer '{layer}' ({type(module).__name__})"
        check(not isinstance(module, LazyModuleMixin), f"{place}: its shape is not known before it has seen an input")
        names = {name for name, _ in module.named_parameters()}
        check(not isinstance(module, WEIGHT_LAYERS) or names <= {"weight", "bias"},
              f"{place}: its weights are computed from other parameters")


def _check_all_reached(root: nn.Sequential, walk: Walk) -> None:
    check(walk.layers, "the network has no weight layer (Conv2d or Linear) to predict")
    for name, layer in walk.layers.items():
        reached = layer.gradient is not NO_GRADIENT
        check(reached, f"cannot predict layer '{name}': the network's output does not depend on it")
    for target, parameter in root.named_parameters():
        used = _address(parameter) in walk.addresses
        check(used, f"cannot predict parameter '{_name(target)}': it belongs to no Conv2d or Linear in use")


def _checked_shape(input_shape: Any) -> tuple[int, ...]:
    fits = isinstance(input_shape, tuple) and len(input_shape) in (1, 3)
    check(fits and all(isinstance(size, Integral) and size > 0 for size in input_shape), "input_shape must be a tuple "
          "of positive integers, (channels, height, width) or (features,), without the batch dimension (Conv1d and "
          f"Conv3d have no rules), but is {input_shape!r}")
    return tuple(map(int, input_shape))


def _checked_moments(input_moments: tuple[float, float]) -> tuple[float, float]:
    second, cross = input_moments
    check(0 < second < math.inf and -0.05 * second <= cross <= second, "input_moments must be m_0 > 0 and c_0 from 0 "
          f"to m_0, but are {tuple(input_moments)}; the theory does not cover anticorrelated neighbours")
    return second, max(0.0, cross)  # just below 0, it is the noise of few images
