"""What curvature asks of an operator, and the products that are taken with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

TOGETHER = 8
"""Products that are taken at once where it is known that they are needed."""


class SymmetricOperator(Protocol):
    """Anything with a dimension and symmetric products of flat float64 vectors."""

    @property
    def dimension(self) -> int:
        """Length of the vectors."""

    @property
    def device(self) -> torch.device:
        """Where vectors live."""

    def matvec(self, vector: Tensor) -> Tensor:
        """A · ``vector``, both ``(dimension,)``."""


@runtime_checkable
class BlockOperator(Protocol):
    """An operator that has a way of its own to take several products at once."""

    def matmat(self, vectors: Tensor) -> Tensor:
        """A times each of ``vectors``, both ``(k, dimension)``."""


def products_with(operator: SymmetricOperator, vectors: Tensor) -> Tensor:
    """A times each of ``vectors``, both ``(k, dimension)``."""
    if isinstance(operator, BlockOperator):
        return operator.matmat(vectors)
    return torch.stack([operator.matvec(vector) for vector in vectors])


def exact_diagonal(operator: SymmetricOperator, on_product: Callable[[], None] = lambda: None) -> tuple[Tensor, float]:
    """The diagonal ``(dimension,)`` and the sum of the squares of all entries, from a product a column."""
    dimension, device = operator.dimension, operator.device
    diagonal, squares = torch.zeros(dimension, dtype=torch.float64, device=device), 0.0
    for start in range(0, dimension, TOGETHER):
        places = torch.arange(start, min(start + TOGETHER, dimension), device=device)
        units = torch.zeros((len(places), dimension), dtype=torch.float64, device=device)
        units[torch.arange(len(places), device=device), places] = 1.0
        columns = products_with(operator, units)
        diagonal[places] = columns[:, places].diagonal()
        squares += float(columns.square().sum())
        on_product()
    return diagonal, squares


def product_error(operator: SymmetricOperator) -> float:
    """What an operator knows of the error of its own products with unit vectors: differences of gradients have one."""
    return float(getattr(operator, "product_error", 0.0))
