"""Refusals: what must hold, and what to say if it does not."""
from __future__ import annotations

import math

import torch


def check(condition: object, problem: str) -> None:
    """Raise a ValueError unless a condition holds."""
    if not condition:
        raise ValueError(problem)


def check_positive(value: float | torch.Tensor, quantity: str) -> float | torch.Tensor:
    """Return a number; raise a ValueError unless it is positive and finite."""
    check(0 < value < math.inf, f"{quantity} is {value}, but must be positive and finite in double precision")
    return value
