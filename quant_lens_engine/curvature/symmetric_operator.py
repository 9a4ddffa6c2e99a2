"""What curvature asks of an operator, and the products that are taken with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from quant_lens_engine.curvature.basis_room import most_bytes

TOGETHER = 8
"""Products that are taken at once where it is known that they are needed."""

_VECTOR_BYTES = 24
"""Of each number of a vector that is multiplied: itself, its product, and its copy in the model's dtype."""


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


def most_together(dimension: int, device: torch.device) -> int:
    """Flat vectors that are multiplied at once: :data:`TOGETHER`, or as many as there is memory for."""
    return max(1, min(TOGETHER, most_bytes(device) // (_VECTOR_BYTES * dimension)))


def each_product(
    operator: SymmetricOperator, draw: Callable[[int], Tensor], places: range
) -> Iterator[tuple[Tensor, Tensor]]:
    """Vectors and A times each, in turn; drawn and multiplied so many at a time as fit. That changes no digit.

    Args:
        operator: A.
        draw: the vector of a place, ``(dimension,)``.
        places: of the vectors.
    """
    most = most_together(operator.dimension, operator.device)
    for start in range(places.start, places.stop, most):
        vectors = torch.stack([draw(place).to(operator.device) for place in places[start - places.start :][:most]])
        yield from zip(vectors, products_with(operator, vectors), strict=True)


def exact_diagonal(operator: SymmetricOperator, on_product: Callable[[], None] = lambda: None) -> tuple[Tensor, float]:
    """The diagonal ``(dimension,)`` and the sum of the squares of all entries, from a product a column."""
    dimension, device = operator.dimension, operator.device
    diagonal, squares = torch.zeros(dimension, dtype=torch.float64, device=device), 0.0
    most = most_together(dimension, device)
    for start in range(0, dimension, most):
        places = torch.arange(start, min(start + most, dimension), device=device)
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


@runtime_checkable
class NudgedOperator(Protocol):
    """An operator that can show its rounding."""

    @property
    def rounds(self) -> bool:
        """Whether rounding is worth a product: in float64 it is far below every tolerance."""

    def nudged_product(self, vector: Tensor) -> Tensor:
        """A′ · ``vector``: the operator where every parameter is moved by its last digit."""


def rounds(operator: SymmetricOperator) -> TypeGuard[NudgedOperator]:
    """Whether an operator can show its rounding, and has any to speak of."""
    return isinstance(operator, NudgedOperator) and operator.rounds


_DRAWS = 2.0
"""One draw stands for all: its length is near that of the error, which is at most so many times it."""


def rounding_error(operator: SymmetricOperator, vector: Tensor, image: Tensor) -> float:
    """About the largest error of vᵀAv by rounding: twice the length of (A′ − A)v.

    A forward pass rounds each activation by about its last digit; so does moving the parameters by theirs, at random.
    What such a step changes is what the digits of the products are worth. Asymmetry does not see it: rounding in the
    forward pass gives the exact Hessian of another function. 0.0 for an operator that cannot tell.

    Args:
        operator: A.
        vector: v, unit.
        image: A v.
    """
    if not rounds(operator):
        return 0.0
    return _DRAWS * float(torch.linalg.vector_norm(operator.nudged_product(vector) - image))
