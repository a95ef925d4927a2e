"""The networks that the theory covers: chains, taken apart into weight layers and the blocks between them."""
from __future__ import annotations

from typing import Iterator, NamedTuple

import numpy as np
import torch
from torch import nn

SUPPORTED = ("supported are chains (nn.Sequential) of Conv2d without padding, Linear, ReLU, Flatten of all dimensions, "
             "Identity, and MaxPool2d whose windows neither overlap nor reach over the edge")


class WeightLayer(NamedTuple):
    """A Conv2d or Linear, its name in the network, and the number of inputs that feed one of its outputs."""

    name: str
    module: nn.Module
    fan_in: int


class Block(NamedTuple):
    """An activation block: over how many positions does it take the maximum, and has it a ReLU?"""

    pool_size: int = 1
    rectified: bool = False


def take_apart(net: nn.Module, input_shape: tuple[int, ...]) -> tuple[list[WeightLayer], list[Block], int]:
    """Return a network's weight layers, its blocks from the one before the first layer on, and its number of outputs.

    Args and errors: as of `util.signal_propagation.predict`.
    """
    if min(input_shape, default=0) < 1:
        raise ValueError(f"input_shape must consist of sizes from 1 on, but is {tuple(input_shape)}")
    layers, blocks = [], [Block()]
    signal = torch.zeros((1, *input_shape))  # walks along, for its shape only
    for name, module in _chain(net):
        try:
            _check(module, signal.shape[1:], [layer.module for layer in layers])
            signal = _output(module, signal)
        except ValueError as objection:
            raise ValueError(f"cannot predict layer '{name}' ({type(module).__name__}): {objection}; "
                             f"{SUPPORTED}") from None
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            layers.append(WeightLayer(name, module, fan_in=module.weight[0].numel()))
            blocks.append(Block())
        elif isinstance(module, nn.ReLU):
            blocks[-1] = blocks[-1]._replace(rectified=True)
        elif isinstance(module, nn.MaxPool2d):
            positions = int(np.prod(np.broadcast_to(module.kernel_size, 2)))
            blocks[-1] = blocks[-1]._replace(pool_size=blocks[-1].pool_size * positions)
    if not layers:
        raise ValueError(f"the network has no weight layer (Conv2d or Linear), nothing to predict; {SUPPORTED}")
    return layers, blocks, signal.numel()


def _chain(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a chain in order, each with its name in the network, nested chains taken apart."""
    # a subclass of Sequential with a forward of its own (a residual block, say) need not be a chain
    if (isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
            and not _changed_from_outside(module)):
        for child_name, child in module._modules.items():  # named_children() leaves out repetitions
            yield from _chain(child, f"{name}.{child_name}" if name else child_name)
    else:
        yield name, module


def _changed_from_outside(module: nn.Module) -> bool:
    """Say whether hooks or a `forward` of the instance's own may change what a module computes or passes back.

    `nn.utils.weight_norm`, `spectral_norm` and `prune` recompute a layer's weight in such a hook.
    """
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module)


def _check(module: nn.Module, shape: torch.Size, earlier: list[nn.Module]) -> None:
    """Raise a ValueError that says why the formulas do not cover a module, if so.

    Args:
        shape: of its input, without the batch dimension.
        earlier: the weight layers before it.
    """
    kind = type(module)  # not isinstance: a subclass may compute something else
    own = list(module.parameters())
    others = [parameter for layer in earlier for parameter in layer.parameters()]
    if any(isinstance(parameter, nn.UninitializedParameter) for parameter in own):
        raise ValueError("its parameters get their shapes only when it is first used; use it once before")
    if _changed_from_outside(module):
        raise ValueError("it has hooks or a forward of its own, which may change what it computes")
    if kind not in (nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Identity):
        raise ValueError("this type of module is not supported")
    if any(parameter is other for parameter in own for other in others):
        raise ValueError("it shares parameters with an earlier layer, so their gradients add up")
    if len({(parameter.dtype, parameter.device) for parameter in own + others}) > 1:
        raise ValueError("its parameters and those of the layers before it are not all of one dtype and on one device")
    if any(parameter.numel() == 0 for parameter in own):
        raise ValueError("it has no inputs or no outputs")
    if kind is nn.Linear and len(shape) != 1:
        raise ValueError(f"its input has the shape {tuple(shape)} instead of (features,)")
    if kind in (nn.Conv2d, nn.MaxPool2d) and len(shape) != 3:
        raise ValueError(f"its input has the shape {tuple(shape)} instead of (channels, height, width)")
    if kind is nn.Conv2d:
        named = {"valid": 0, "same": np.subtract(module.kernel_size, 1)}
        if np.any(named.get(module.padding, module.padding)):
            raise ValueError("it pads its input, so pre-activations at the border vary less than the others")
    if kind is nn.MaxPool2d:
        _check_windows(module, shape[1:])


def _check_windows(pool: nn.MaxPool2d, size: tuple[int, int]) -> None:
    """Raise a ValueError unless the windows are disjoint parts of an input of this height and width."""
    kernel, stride, padding, dilation = (np.broadcast_to(each, 2) for each in (
        pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    if (stride < kernel).any():
        raise ValueError("its windows overlap")
    if padding.any() or pool.ceil_mode and ((size - kernel) % stride).any():
        raise ValueError("its windows reach over the edge of its input")
    if (dilation != 1).any():
        raise ValueError("its windows are dilated")
    if pool.return_indices:
        raise ValueError("it returns indices too")


def _output(module: nn.Module, signal: torch.Tensor) -> torch.Tensor:
    """Return what a module makes of a signal; a ValueError if that does not fit, or is not what the formulas mean."""
    try:
        with torch.no_grad():
            output = module(signal.to(next(module.parameters(), signal)))  # of the type and on the device
    except (IndexError, RuntimeError):
        raise ValueError(f"its input has the shape {tuple(signal.shape[1:])}, which does not fit") from None
    if isinstance(module, nn.Flatten) and output.shape != (1, signal.numel()):
        raise ValueError("it does not flatten each sample wholly")
    return output
