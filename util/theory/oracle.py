"""Compares the graph that torch.fx traces with the network itself, on random samples."""
from __future__ import annotations

import contextlib
import copy
import math
import random
from typing import Any, Callable, Iterator

import numpy as np
import torch
from torch import fx, nn

from util.theory.checks import check
from util.theory.rules import forward_of

CAUSES = ("hooks, in-place operations on what is used elsewhere, an autograd.Function, no_grad, detach, assignments "
          "to parameters, or random choices in Python")
LARGEST = 1_000_000  # entries of parameters whose gradients are compared, since larger ones take most of the time
ENTRIES = 10_000  # of the samples that are compared, if one sample is not larger


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Run a network on the CPU in any mode, and restore the states of its random generators; CUDA is not touched."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def copied(net: nn.Module, new: Callable[[torch.Tensor], torch.Tensor]) -> nn.Sequential:
    """Copy a network, so that its forward may change attributes and parameters; `new` makes the copy of a parameter.

    The copy stands in an `nn.Sequential`, in which a network that is a single layer is a layer, too.
    """
    parameters = {id(parameter): nn.Parameter(new(parameter)) for parameter in net.parameters()}
    try:
        return nn.Sequential(copy.deepcopy(net, parameters))
    except Exception as error:  # of any kind: whatever an attribute raises
        raise ValueError(f"cannot predict this network, since it cannot be copied: {error}; predict before its first "
                         "forward if it keeps activations") from error


@isolated()
def check_trace(net: nn.Module, graph: fx.Graph, input_shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless a network and its traced graph compute the same.

    Outputs and gradients are compared for random parameters, on the CPU. Both runs start from the same random numbers,
    and must draw as many. A network with parameters on the meta device is not checked.

    Args:
        net: has run-time behaviour that the graph may lack.
        graph: of the network in an `nn.Sequential`.
        input_shape: of one sample.
    """
    if any(parameter.is_meta for parameter in net.parameters()):
        return
    torch.default_generator.manual_seed(0)
    root = copied(net, _draw).cpu()
    before = _sums(root)
    try:
        own = _run(root, root, input_shape)
    except Exception as error:  # of any kind, since the network's own code runs
        raise ValueError(f"cannot predict this network, since its forward fails on a random sample: {error}") from error
    assigned = _sums(root) != before
    traced = _run(OutOfPlace(root, graph=graph).run, root, input_shape)
    check(not assigned and all(map(_are_close, own, traced)), "cannot predict this network: its forward does something "
          f"that torch.fx does not see. Known causes are {CAUSES}")


class OutOfPlace(fx.Interpreter):
    """Runs a graph: calls the forward that each module's type defines, without hooks, on copies of its inputs."""

    def call_module(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the forward that the module's type defines."""
        return forward_of(self.fetch_attr(target))(*args, **kwargs)

    def fetch_args_kwargs_from_env(self, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the copies."""
        return fx.node.map_aggregate(super().fetch_args_kwargs_from_env(node), _cloned)


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _draw(parameter: torch.Tensor) -> torch.Tensor:
    """Draw at He's scale, at which a difference shows at any depth, in single precision or better."""
    fan_in = max(parameter.shape[-1], parameter[0].numel())
    bound = math.sqrt(6 / fan_in)
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    return torch.empty(parameter.shape, dtype=dtype).uniform_(-bound, bound)


def _sums(root: nn.Module) -> list[float]:
    return [parameter.sum().item() for parameter in root.parameters()]


def _run(forward: Callable[[torch.Tensor], torch.Tensor], root: nn.Module,
         input_shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Return the output, the gradients of the input and of the parameters, and the next number of each generator."""
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)
    samples = max(1, ENTRIES // math.prod(input_shape))
    dtype = next(root.parameters()).dtype
    inputs = torch.randn(samples, *input_shape, dtype=dtype, requires_grad=True)
    output = forward(inputs.clone())  # which may be changed in place, unlike a leaf
    numbers = torch.tensor([random.random(), np.random.random(), torch.rand(())])
    at_output = torch.randn_like(output)
    compared = [parameter for parameter in root.parameters() if parameter.numel() <= LARGEST]
    gradients = torch.autograd.grad(output, [inputs, *compared], at_output, allow_unused=True, materialize_grads=True)
    return [output, *gradients, numbers]


def _are_close(own: torch.Tensor, traced: torch.Tensor) -> bool:
    if own.shape != traced.shape:
        return False
    difference = own.to(traced) - traced
    return bool((difference.abs() <= 1e-5 * own.abs().max()).all())  # not so if it is infinite or not a number
