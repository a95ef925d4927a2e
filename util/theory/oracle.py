"""Holds the graph that torch.fx traces against the network itself, on one random sample."""
from __future__ import annotations

import math
import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx, nn
from torch.func import functional_call

CAUSES = ("in-place operations on what is used elsewhere, an autograd.Function, no_grad, detach, assignments to "
          "parameters, or random choices in Python")


class Traced(nn.Module):
    """The traced graph as a module that works out of place."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__()
        self.root = root
        self.graph = graph

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the graph's output."""
        return OutOfPlace(self.root, graph=self.graph).run(x)


class OutOfPlace(fx.Interpreter):
    """Runs a graph, and gives each operation copies of its inputs."""

    def fetch_args_kwargs_from_env(self, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the copies."""
        return fx.node.map_aggregate(super().fetch_args_kwargs_from_env(node), _copied)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def check_trace(root: nn.Module, graph: fx.Graph, input_shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless a network and its traced graph compute the same.

    Outputs and gradients are compared for random parameters, in single precision. Both runs start from the same random
    numbers, and must draw as many. The network's own parameters and gradients stay as they are. A network on the meta
    device is not checked.
    """
    if any(parameter.is_meta for parameter in root.parameters()):
        return
    _seed()
    drawn = {name: _drawn(parameter) for name, parameter in root.named_parameters()}
    places = [(tensor.data_ptr(), tensor._version) for tensor in drawn.values()]
    try:
        own = _run(root, "", drawn, input_shape)
    except Exception as error:  # of any kind, since the network's own code runs
        raise ValueError(f"cannot predict this network, since its forward fails on a random sample: {error}") from error
    assigned = places != [(tensor.data_ptr(), tensor._version) for tensor in drawn.values()]
    traced = _run(Traced(root, graph), "root.", drawn, input_shape)
    if assigned or own.generators != traced.generators or not all(map(_are_close, own.tensors, traced.tensors)):
        raise ValueError("cannot predict this network: its forward does something that torch.fx does not see. Known "
                         f"causes are {CAUSES}")


class Outcome(NamedTuple):
    """What a run leaves behind."""

    tensors: list[torch.Tensor]  # the output and the gradients
    generators: tuple[Any, ...]  # the states of Python's, NumPy's and torch's


def _run(module: nn.Module, prefix: str, drawn: dict[str, torch.Tensor], input_shape: tuple[int, ...]) -> Outcome:
    _seed()
    tensors = {prefix + name: parameter for name, parameter in drawn.items()}
    tensors.update((name, buffer.detach().clone()) for name, buffer in module.named_buffers())
    # A layer's bias, if it has one, gets the gradient of its pre-activations, which the weights' follow from.
    tested = [parameter for name, parameter in drawn.items()
              if name.endswith("bias") or f"{name[:-len('weight')]}bias" not in drawn]
    sample = torch.randn(1, *input_shape, device=tested[0].device)
    output = functional_call(module, tensors, (sample,))
    generators = random.getstate(), np.random.get_state()[2:], torch.get_rng_state().tolist()
    gradients = torch.autograd.grad(output, tested, torch.randn_like(output), allow_unused=True)
    return Outcome([output, *gradients], generators)


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _drawn(parameter: nn.Parameter) -> torch.Tensor:
    """Draw by He's initialization, so that a difference shows at any depth."""
    fan_in = parameter[0].numel()
    values = torch.randn(parameter.shape, device=parameter.device)
    return values.mul_(math.sqrt(2 / fan_in)).requires_grad_()


def _are_close(own: torch.Tensor | None, traced: torch.Tensor | None) -> bool:
    if own is None or traced is None:
        return own is traced
    return torch.equal(own, traced) or bool(torch.dist(own, traced) <= 1e-3 * torch.linalg.vector_norm(own))
