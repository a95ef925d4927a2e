"""The networks that the theory covers: chains, taken apart into weight layers and the activations between them."""
from __future__ import annotations

from numbers import Integral
from typing import Any, Iterator, NamedTuple

import numpy as np
import torch
from torch import nn

SUPPORTED = "supported are chains of Conv2d without padding, Linear, ReLU, Flatten, Identity, MaxPool2d without overlap"
SUPPORTED_TYPES = (nn.Conv2d, nn.Linear, nn.ReLU, nn.Flatten, nn.Identity, nn.MaxPool2d)
DIMENSIONS = {nn.Conv2d: 4, nn.Linear: 2, nn.MaxPool2d: 4}  # of the input, with that of the samples


class Activation(NamedTuple):
    """What follows the input or a weight layer: any mixture of ReLUs and max pools, possibly none."""

    pool_size: int = 1  # number of positions that the max pools take the maximum of, in all
    rectified: bool = False  # whether there is a ReLU


class Layer(NamedTuple):
    """A Conv2d or Linear, and the activation that follows it."""

    name: str  # in the network
    module: nn.Module
    fan_in: int  # number of inputs that feed one output
    activation: Activation


class Chain(NamedTuple):
    """A network, from its input to its output."""

    input_activation: Activation  # before the first layer
    layers: list[Layer]
    outputs: int  # number of the network's outputs for one sample


def take_apart(net: nn.Module, input_shape: tuple[int, ...]) -> Chain:
    """Find the weight layers and activations of a network by sending a sample through it.

    Args:
        net: a chain of the modules that `SUPPORTED` names; `Sequential`s in it may be nested.
        input_shape: of one sample, (channels, height, width) or (features,).

    Raises:
        ValueError: if the input shape is no tuple of positive integers, if a module is not supported, shares parameters
            with an earlier one or does not fit the shape that reaches it, or if there is no Conv2d or Linear.
    """
    _check_shape(input_shape)
    signal = torch.zeros((1, *input_shape))  # for its shape only
    seen: set[int] = set()  # identities of the parameters of earlier modules
    weight_layers = []
    activations = [Activation()]  # after the input, then after each weight layer
    for name, module in _modules(net):
        try:
            _check_module(module)
            _check_not_shared(module, seen)
            output = _checked_output(module, signal)
        except (IndexError, RuntimeError, ValueError) as error:
            layer = f"layer '{name}' ({type(module).__name__})" if name else f"a {type(module).__name__}"
            shape = f"an input of shape {tuple(signal.shape[1:])} (input_shape={tuple(input_shape)})"
            raise ValueError(f"cannot predict {layer} for {shape}: {error}; {SUPPORTED}") from error
        signal = output
        seen.update(map(id, module.parameters()))
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight_layers.append((name, module))
            activations.append(Activation())
        else:
            activations[-1] = _followed_by(activations[-1], module)
    if not weight_layers:
        raise ValueError(f"the network has no weight layer (Conv2d or Linear), nothing to predict; {SUPPORTED}")
    layers = []
    for (name, module), activation in zip(weight_layers, activations[1:]):
        fan_in = module.weight[0].numel()
        layers.append(Layer(name, module, fan_in, activation))
    return Chain(activations[0], layers, signal.numel())


def _check_shape(input_shape: Any) -> None:
    if isinstance(input_shape, tuple) and input_shape:
        if all(isinstance(size, Integral) and size > 0 for size in input_shape):
            return
    raise ValueError("input_shape must be a tuple of positive integers, (channels, height, width) or (features,), "
                     f"but is {input_shape!r}")


def _modules(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a chain in order, each with its name in the network, nested chains taken apart."""
    if _is_plain_sequential(module):
        for child_name, child in module._modules.items():  # named_children() leaves out repetitions
            yield from _modules(child, f"{name}.{child_name}" if name else child_name)
    else:
        yield name, module


def _is_plain_sequential(module: nn.Module) -> bool:
    """Tell a chain from a subclass with a forward of its own, such as a residual block, which need not be one."""
    if not isinstance(module, nn.Sequential):
        return False
    return type(module).forward is nn.Sequential.forward and not _is_changed(module)


def _is_changed(module: nn.Module) -> bool:
    """Say whether hooks (weight norm, pruning) or a `forward` of the instance's own may change what it computes."""
    own = vars(module)
    hooks = [value for name, value in own.items() if name.endswith("_hooks")]
    return "forward" in own or any(hooks)


def _followed_by(activation: Activation, module: nn.Module) -> Activation:
    if isinstance(module, nn.ReLU):
        return activation._replace(rectified=True)
    if isinstance(module, nn.MaxPool2d):
        rows, columns = _rows_and_columns(module.kernel_size)
        return activation._replace(pool_size=activation.pool_size * int(rows * columns))
    return activation


def _check_module(module: nn.Module) -> None:
    if type(module) not in SUPPORTED_TYPES:  # not isinstance: a subclass may compute something else
        raise ValueError("this type of module is not supported")
    if _is_changed(module):
        raise ValueError("it has hooks or a forward of its own, which may change what it computes")
    if isinstance(module, nn.Conv2d) and any(module._reversed_padding_repeated_twice):  # `padding` may be a word
        raise ValueError("it pads its input, so pre-activations at the border vary less than the others")


def _check_not_shared(module: nn.Module, seen: set[int]) -> None:
    if any(id(parameter) in seen for parameter in module.parameters()):
        raise ValueError("it shares parameters with an earlier layer, so their gradients add up")


def _checked_output(module: nn.Module, signal: torch.Tensor) -> torch.Tensor:
    if signal.ndim != DIMENSIONS.get(type(module), signal.ndim):
        raise ValueError("the shape does not fit")
    like = next(module.parameters(), signal)
    with torch.no_grad():
        output = module(signal.to(like))  # of its type and on its device
    if isinstance(module, nn.Flatten) and output.shape != (1, signal.numel()):
        raise ValueError("it does not flatten each sample wholly")
    if isinstance(module, nn.MaxPool2d):
        _check_windows(module, signal, output)
    if output.numel() == 0:
        raise ValueError("its output is empty")
    return output


def _check_windows(pool: nn.MaxPool2d, signal: torch.Tensor, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
    if pool.return_indices:
        raise ValueError("it returns the indices of the maxima, too")
    kernel = _rows_and_columns(pool.kernel_size)
    stride = _rows_and_columns(pool.stride)
    if np.any(stride < kernel) or np.any(_rows_and_columns(pool.dilation) != 1):
        raise ValueError("its windows overlap")
    last_window = stride * (np.array(output.shape[2:]) - 1)
    if np.any(pool.padding) or np.any(last_window + kernel > signal.shape[2:]):
        raise ValueError("its windows reach over the edge of its input")


def _rows_and_columns(size: int | tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(size, 2)
