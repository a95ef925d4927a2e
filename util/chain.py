"""The networks that the theory covers: chains, taken apart into weight layers and the activations between them."""
from __future__ import annotations

from typing import Iterator, NamedTuple

import numpy as np
import torch
from torch import nn

SUPPORTED = "supported are chains of Conv2d without padding, Linear, ReLU, Flatten, Identity, MaxPool2d without overlap"


class Layer(NamedTuple):
    """A Conv2d or Linear with the activation that follows it: any mixture of ReLUs and max pools, possibly none."""

    name: str  # in the network
    module: nn.Module | None
    fan_in: int  # number of inputs that feed one output
    pool_size: int = 1  # number of positions that the max pools take the maximum of, in all
    rectified: bool = False  # whether there is a ReLU


def take_apart(net: nn.Module, input_shape: tuple[int, ...]) -> tuple[list[Layer], int]:
    """Return the layers, headed by one without module for the input, and the number of outputs; else a ValueError."""
    layers = [Layer("input", None, 0)]
    signal = torch.zeros((1, *input_shape))  # walks along, for its shape only
    seen: set[int] = set()  # identities of the parameters of earlier layers
    for name, module in _modules(net):
        try:
            signal = _checked_output(module, signal, seen)
        except (AttributeError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(f"cannot predict layer '{name}' ({type(module).__name__}) for an input of shape "
                             f"{tuple(signal.shape[1:])}: {error}; {SUPPORTED}") from error
        seen.update(map(id, module.parameters()))
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            layers.append(Layer(name, module, fan_in=module.weight[0].numel()))
        elif isinstance(module, nn.ReLU):
            layers[-1] = layers[-1]._replace(rectified=True)
        elif isinstance(module, nn.MaxPool2d):
            positions = np.prod(np.broadcast_to(module.kernel_size, 2))
            layers[-1] = layers[-1]._replace(pool_size=layers[-1].pool_size * int(positions))
    if len(layers) == 1:
        raise ValueError(f"the network has no weight layer (Conv2d or Linear), nothing to predict; {SUPPORTED}")
    return layers, signal.numel()


def _modules(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a chain in order, each with its name in the network, nested chains taken apart."""
    # a subclass of Sequential with a forward of its own (a residual block, say) need not be a chain
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not _is_changed(module):
        for child_name, child in module._modules.items():  # named_children() leaves out repetitions
            yield from _modules(child, f"{name}.{child_name}" if name else child_name)
    else:
        yield name, module


def _is_changed(module: nn.Module) -> bool:
    """Say whether hooks (weight norm, pruning) or a `forward` of the instance's own may change what it computes."""
    return any(value for name, value in vars(module).items() if name == "forward" or name.endswith("_hooks"))


def _checked_output(module: nn.Module, signal: torch.Tensor, seen: set[int]) -> torch.Tensor:
    kind = type(module)  # not isinstance: a subclass may compute something else
    if kind not in (nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Identity):
        raise ValueError("this type of module is not supported")
    if _is_changed(module):
        raise ValueError("it has hooks or a forward of its own, which may change what it computes")
    if any(id(parameter) in seen for parameter in module.parameters()):
        raise ValueError("it shares parameters with an earlier layer, so their gradients add up")
    if kind is nn.Conv2d and any(module._reversed_padding_repeated_twice):  # `padding` may be a word
        raise ValueError("it pads its input, so pre-activations at the border vary less than the others")
    if signal.ndim != {nn.Linear: 2, nn.Conv2d: 4, nn.MaxPool2d: 4}.get(kind, signal.ndim):
        raise ValueError("the shape does not fit")
    with torch.no_grad():
        output = module(signal.to(next(module.parameters(), signal)))  # of the type and on the device
    if kind is nn.Flatten and output.shape != (1, signal.numel()):
        raise ValueError("it does not flatten each sample wholly")
    if kind is nn.MaxPool2d:
        kernel, stride = np.broadcast_to(module.kernel_size, 2), np.broadcast_to(module.stride, 2)
        if (stride < kernel).any() or np.any(np.not_equal(module.dilation, 1)):
            raise ValueError("its windows overlap")
        if np.any(module.padding) or ((np.array(output.shape[2:]) - 1) * stride + kernel > signal.shape[2:]).any():
            raise ValueError("its windows reach over the edge of its input")
    return output
