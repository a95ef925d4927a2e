"""Compares the graph that torch.fx traces with the network itself, on one random sample."""
from __future__ import annotations

import contextlib
import math
import random
from typing import Any, Callable, Iterator

import numpy as np
import torch
from torch import fx, nn


CAUSES = ("in-place operations on what is used elsewhere, an autograd.Function, no_grad, detach, assignments to "
          "parameters, or random choices in Python")


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Run a network whatever the caller's mode and device, and restore the states of the random generators."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@isolated()
def check_trace(root: nn.Module, graph: fx.Graph, input_shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless a network and its traced graph compute the same.

    Outputs and gradients are compared in single precision. Both runs start from the same random numbers, and must draw
    as many. A network on the meta device is not checked.

    Args:
        root: its parameters are redrawn, so that their values do not matter.
        graph: of `root`.
        input_shape: of one sample.
    """
    if any(parameter.is_meta for parameter in root.parameters()):
        return
    _redraw(root)
    places = _places(root)
    try:
        own, own_generators = _run(root, root, input_shape)
    except Exception as error:  # of any kind, since the network's own code runs
        raise ValueError(f"cannot predict this network, since its forward fails on a random sample: {error}") from error
    assigned = _places(root) != places
    traced, generators = _run(OutOfPlace(root, graph=graph).run, root, input_shape)
    if assigned or generators != own_generators or not all(map(_are_close, own, traced)):
        raise ValueError("cannot predict this network: its forward does something that torch.fx does not see. Known "
                         f"causes are {CAUSES}")


class OutOfPlace(fx.Interpreter):
    """Runs a graph, and gives each operation copies of its inputs."""

    def fetch_args_kwargs_from_env(self, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the copies."""
        return fx.node.map_aggregate(super().fetch_args_kwargs_from_env(node), _copied)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _redraw(root: nn.Module) -> None:
    """Draw parameters of He's scale, at which a difference shows at any depth."""
    torch.manual_seed(0)
    for module in root.modules():
        for name, parameter in module.named_parameters(recurse=False):
            bound = math.sqrt(6 / parameter[0].numel())
            drawn = torch.empty(parameter.shape, device=parameter.device).uniform_(-bound, bound)
            setattr(module, name, nn.Parameter(drawn))


def _places(root: nn.Module) -> list[tuple[int, int]]:
    """Return what an assignment to a parameter changes."""
    return [(parameter.data_ptr(), parameter._version) for parameter in root.parameters()]


def _run(forward: Callable[[torch.Tensor], torch.Tensor], root: nn.Module,
         input_shape: tuple[int, ...]) -> tuple[list[torch.Tensor], tuple[Any, ...]]:
    """Return the output and the input's gradient, and the states of the random generators after the forward.

    The input's gradient passes through all that the parameters' gradients do.
    """
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    device = next(root.parameters()).device
    sample = torch.randn(1, *input_shape, device=device, requires_grad=True)
    output = forward(sample.clone())  # which may be changed in place, unlike a leaf
    generators = random.getstate(), np.random.get_state()[2:], torch.get_rng_state().tolist()
    at_output = torch.randn_like(output)
    (gradient,) = torch.autograd.grad(output, sample, at_output, allow_unused=True, materialize_grads=True)
    return [output, gradient], generators


def _are_close(own: torch.Tensor, traced: torch.Tensor) -> bool:
    return torch.equal(own, traced) or bool(torch.dist(own, traced) <= 1e-3 * torch.linalg.vector_norm(own))
