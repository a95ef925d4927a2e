"""Which rule each kind of module, function and method has.

A rule takes a module and the signal that enters it, and returns the signal that leaves it (`util.theory.signals`).

- To add a kind of activation, add a line to `ACTIVATIONS`, and to `KINKS` if its slope jumps elsewhere than at 0.
- To add another kind of module, write a rule and add a line to `RULES`; `FUNCTIONS` has its functional form.
- If no signal of `util.theory.signals` does what the module does, write a `Signal` that sets `second` and `cross`, and
  has a `backward` that calls `pass_back`. Pass `normal` and `layers` on if an activation or a sum may follow.

Conv2d and Linear, which have weights, are `util.theory.signals.WeightLayer`.
"""
from __future__ import annotations

import operator
from functools import partial
from typing import Any, Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from util.theory import windows
from util.theory.checks import check
from util.theory.signals import ActivatedMaximum, Averaged, Dropped, Reshaped, Signal, Sum
from util.theory.windows import Windows


def activate(module: nn.Module, signal: Signal) -> ActivatedMaximum:
    """Apply an elementwise function to a normal signal, or behind other such functions and max pools.

    Kinks elsewhere than at 0 are those of its own input. Behind another activation that is not linear, the quadrature
    misses them, and errs by up to some percent.
    """
    before = _activated(signal)

    def function(z: torch.Tensor) -> torch.Tensor:
        return forward_of(module)(before.function(z))

    own_kinks = KINKS.get(type(module), lambda module: ())
    kinks = before.kinks.union(own_kinks(module))
    return ActivatedMaximum(before.preactivation, function, kinks, before.seen, before.shape)


def forward_of(module: nn.Module) -> Callable[..., torch.Tensor]:
    """Return the forward that a module's type defines, without the hooks of a user."""
    return partial(type(module).forward, module)


def _activated(signal: Signal) -> ActivatedMaximum:
    if isinstance(signal, ActivatedMaximum):
        return signal
    check(signal.normal, "its input must be the output of a Conv2d or Linear, or a sum of such outputs")
    return ActivatedMaximum(signal, nn.Identity(), {0.0}, windows.single(signal.second.shape), signal.shape)


def max_pool(module: nn.Module, signal: Signal) -> Signal:
    """Take the maximum over each window of a normal signal, or of a nondecreasing function of one."""
    check(not module.return_indices, "it returns the indices of the maxima, too")
    size = map_size(signal)
    before = _activated(signal)
    check(_nondecreasing(before), "it follows an activation that is not monotone; put the pool before the activation")
    of_pool = windows.of_max_pool if isinstance(module, nn.MaxPool2d) else windows.of_adaptive_pool
    seen = of_pool(module, size).after(before.seen)
    shape = *before.shape[:2], *seen.count.shape
    return ActivatedMaximum(before.preactivation, before.function, before.kinks, seen, shape)


def _nondecreasing(signal: ActivatedMaximum) -> bool:
    """Say whether f is nondecreasing within six standard deviations, so that it commutes with a maximum."""
    reach = 6 * signal.preactivation.second.max().sqrt()
    values = signal.function(reach * torch.linspace(-1, 1, 1001).double())
    return bool(values.diff().min() >= 0)


def average_pool(module: nn.AvgPool2d, signal: Signal) -> Signal:
    """Average over windows of equal size."""
    check(not torch.tensor(module.padding).any(), "it pads its input")
    check(module.divisor_override is None, "it has a divisor_override")
    pool = nn.MaxPool2d(module.kernel_size, module.stride, ceil_mode=module.ceil_mode)  # of the same windows
    return _averaged(windows.of_max_pool(pool, map_size(signal)), signal)


def adaptive_average_pool(module: nn.AdaptiveAvgPool2d, signal: Signal) -> Signal:
    """Average over windows of equal size, which follows from the output's size."""
    return _averaged(windows.of_adaptive_pool(module, map_size(signal)), signal)


def _averaged(seen: Windows, signal: Signal) -> Averaged:
    check((seen.count == seen.count.max()).all(), "its windows are not of equal size")
    check(seen.distribute(torch.ones_like(seen.count)).max() == 1, "its windows overlap, so that their gradients add "
          "up; let its stride be its size, or the output of an adaptive pool divide its input")
    return Averaged(seen, signal)


def dropout(module: nn.Dropout, signal: Signal) -> Signal:
    """Drop entries with probability p, and divide the others by 1 - p, unless the module is in evaluation mode."""
    if not module.training or module.p == 0:
        return reshape(nn.Identity(), signal)
    check(type(module) is nn.Dropout, "it drops whole channels; nn.Dropout has a rule")
    check(module.p < 1, "it drops all")
    return Dropped(module.p, signal)


def reshape(change: Callable[[torch.Tensor], torch.Tensor], signal: Signal) -> Signal:
    """Flatten each sample, drop dimensions of size 1, or leave the shape as it is; the entries stay the same."""
    before = torch.empty(signal.shape)
    after = change(before)
    check(after.is_floating_point(), "it rounds")
    squeezed = after.ndim < before.ndim and after.squeeze().shape == before.squeeze().shape
    check(squeezed or after.shape in (before.shape, before.flatten(1).shape),
          "it does not reshape as flatten(x, 1) or squeeze do")
    if isinstance(signal, ActivatedMaximum):
        return ActivatedMaximum(signal.preactivation, signal.function, signal.kinks, signal.seen, after.shape)
    return Reshaped(after.shape, signal)


def reshape_by_module(module: nn.Module, signal: Signal) -> Signal:
    """Flatten as a module does."""
    return reshape(forward_of(module), signal)


def map_size(signal: Signal) -> torch.Size:
    """Return the height and width of a map of channels; a ValueError if the signal is none."""
    check(len(signal.shape) == 4, "it takes a map of channels")
    return signal.shape[2:]


def rule_of(operation: object) -> Callable[..., Any]:
    """Return the rule of a type of modules, of a function, or of a method by its name; a ValueError if it has none."""
    rule = RULES.get(operation) or FUNCTIONS.get(operation)  # not isinstance: a subclass may compute something else
    check(rule, f"it has no rule{REASONS.get(operation, NO_REASON)}")
    return rule


def _as_module(kind: type[nn.Module]) -> Callable[..., Signal]:
    """Return the rule of a function that takes, besides its input, what a kind of module is made with."""
    def rule(signal: Signal, *arguments: object, **options: object) -> Signal:
        return RULES[kind](kind(*arguments, **options), signal)

    return rule


def _as_method(name: str) -> Callable[..., Signal]:
    """Return the rule of a tensor's method that changes its shape, memory format, device or precision, but no value."""
    def rule(signal: Signal, *arguments: object, **options: object) -> Signal:
        return reshape(operator.methodcaller(name, *arguments, **options), signal)

    return rule


def _dropout_function(signal: Signal, p: float = 0.5, training: bool = True, inplace: bool = False) -> Signal:
    return dropout(nn.Dropout(p).train(training), signal)


def _mean_function(signal: Signal, dim: int | Sequence[int], keepdim: bool = False) -> Signal:
    average = adaptive_average_pool(nn.AdaptiveAvgPool2d(1), signal)
    samples = torch.empty(signal.shape)
    check(samples.mean(dim, keepdim=True).shape == average.shape, "it does not average over height and width")
    average.shape = samples.mean(dim, keepdim).shape
    return average


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
    nn.ReLU: [functional.relu, torch.relu, "relu", torch.relu_, "relu_"],
    nn.ReLU6: [functional.relu6],
    nn.SELU: [functional.selu],
    nn.SiLU: [functional.silu],
    nn.Sigmoid: [torch.sigmoid, "sigmoid"],
    nn.Softplus: [functional.softplus],
    nn.Softsign: [functional.softsign],
    nn.Tanh: [torch.tanh, "tanh"],
}
KINKS = {  # where their slopes jump, besides at 0: of a module
    nn.Hardsigmoid: lambda module: (-3.0, 3.0),
    nn.Hardswish: lambda module: (-3.0, 3.0),
    nn.Hardtanh: lambda module: (module.min_val, module.max_val),
    nn.ReLU6: lambda module: (module.min_val, module.max_val),
}
RULES = {  # (module, signal) -> signal, by the module's type
    **dict.fromkeys(ACTIVATIONS, activate),
    nn.AdaptiveAvgPool2d: adaptive_average_pool,
    nn.AdaptiveMaxPool2d: max_pool,
    nn.AvgPool2d: average_pool,
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d), dropout),
    **dict.fromkeys((nn.Flatten, nn.Identity), reshape_by_module),
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
    **{name: _as_method(name) for name in ("contiguous", "double", "float", "to", "view")},
    **dict.fromkeys((torch.flatten, "flatten"), _as_method("flatten")),
    **dict.fromkeys((torch.reshape, "reshape"), _as_method("reshape")),
    **dict.fromkeys((torch.squeeze, "squeeze"), _as_method("squeeze")),
    **dict.fromkeys((operator.add, torch.add, "add", "add_"), Sum),
    getattr: getattr,  # of the shape
    "size": Signal.size,
}
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm, functional.batch_norm,
                  functional.group_norm, functional.instance_norm, functional.layer_norm)
SOFTMAXES = (nn.LogSoftmax, nn.Softmax, functional.log_softmax, functional.softmax, torch.log_softmax, torch.softmax,
             "log_softmax", "softmax")
NO_REASON = "; util/theory/rules.py lists what has one"
REASONS = {  # why some have no rule
    **dict.fromkeys(NORMALIZATIONS, ": a normalization makes its output's scale independent of the weights'"),
    **dict.fromkeys(SOFTMAXES, ": leave it to the loss, such as cross_entropy, and predict the network without it"),
    **dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), ": recurrent layers use their weights at every time step"),
    **dict.fromkeys((nn.MultiheadAttention, nn.TransformerEncoderLayer), ": attention multiplies signals"),
    **dict.fromkeys((operator.matmul, torch.matmul), ": products of signals are not normal"),
    **dict.fromkeys((operator.mul, torch.mul), ": products are not normal; let the weights carry a constant factor"),
    **dict.fromkeys((operator.truediv, torch.div), ": scale the input before the network"),
    **dict.fromkeys((operator.sub, torch.sub), ": scale the input before the network; add instead of subtracting"),
    nn.DataParallel: ": predict the module that it wraps",
    torch.cat: ": concatenated signals have different moments",
    nn.PReLU: ": its slopes are parameters of their own",
}
