"""What directions are made from: the float parameters, and what else a run knows around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quant_lens_engine.errors import InputError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point

_BLOCK = 2**18
"""Numbers that are added up in float64 at once."""


def no_variant(name: str) -> Point:
    """Nobody has said where variants are."""
    raise InputError(f"there is no variant {name!r} here", code="unknown_variant")


def _no_eigenvector(number: int) -> Tensor:
    raise InputError(f"eigenvector {number} is not known here", code="no_eigenvectors")


def _no_gradient() -> Tensor:
    raise InputError("the gradient is not known here", code="no_gradient")


@dataclass(frozen=True)
class Surroundings:
    """The float point, and what directions lead away from it to.

    Attributes:
        objective: of the float model; its point is w.
        seed: of the run.
        own: the variant whose line or plane it is, as its dequantized parameters; None for the float model.
        point_of: the parameters of a variant of the run, by its name.
        eigenvector: the Hessian's eigenvector at w to its Nth largest eigenvalue, from 1, ``(dimension,)``.
        gradient: ∇L(w), ``(dimension,)``.
        checkpoints: further checkpoints of the same training, in order.
    """

    objective: Objective
    seed: int = 0
    own: Point | None = None
    point_of: Callable[[str], Point] = no_variant
    eigenvector: Callable[[int], Tensor] = _no_eigenvector
    gradient: Callable[[], Tensor] = _no_gradient
    checkpoints: Sequence[Point] = ()

    @property
    def base(self) -> dict[str, Tensor]:
        """w: the parameters that move."""
        return {name: self.objective.point[name] for name in self.objective.free}

    def steps_to(self, point: Point) -> dict[str, Tensor]:
        """``point − w``, in float64, of the parameters that move."""
        return {name: point[name].to(tensor.device).double() - tensor.double() for name, tensor in self.base.items()}

    def shaped(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector ``(dimension,)`` as tensors by parameter name, in float64."""
        base = self.base
        parts = torch.split(flat.double(), [tensor.numel() for tensor in base.values()])
        return {name: part.view(tensor.shape) for (name, tensor), part in zip(base.items(), parts, strict=True)}


def length(steps: Point) -> float:
    """Euclidean norm over all tensors, summed in float64.

    Example:
        >>> length({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
        5.0
    """
    return float(torch.stack([tensor.double().square().sum() for tensor in steps.values()]).sum().sqrt())


def inner(one: Point, two: Point) -> float:
    """Scalar product over all tensors, summed in float64."""
    parts = [(tensor.double() * two[name].double()).sum() for name, tensor in one.items()]
    return float(torch.stack(parts).sum())


def moved(origin: Point, *steps: tuple[Point, float]) -> dict[str, Tensor]:
    """``origin + Σ coefficient · direction``, added in float64 and rounded once.

    Coefficients of 0 move nothing: the origin's own tensors come back. The order of evaluation is that of the steps,
    so a point of a plane has the same digits whichever was measured before it. It takes the memory of one copy of the
    parameters that move, and of a block in float64.
    """
    active = [(direction, coefficient) for direction, coefficient in steps if coefficient]
    place = dict(origin)
    for name in dict.fromkeys(name for direction, _ in active for name in direction):
        own = [(direction[name], coefficient) for direction, coefficient in active if name in direction]
        place[name] = _sum(origin[name], own)
    return place


def _sum(start: Tensor, steps: Sequence[tuple[Tensor, float]]) -> Tensor:
    """A block of rows at a time, so that a large tensor never stands in memory in float64."""
    if start.ndim == 0:
        return _block_sum(start, steps)
    place = torch.empty_like(start)
    rows = max(1, _BLOCK * len(start) // max(1, start.numel()))
    for first in range(0, len(start), rows):
        block = slice(first, first + rows)
        place[block] = _block_sum(start[block], [(step[block], coefficient) for step, coefficient in steps])
    return place


def _block_sum(start: Tensor, steps: Sequence[tuple[Tensor, float]]) -> Tensor:
    total = start.to(torch.float64, copy=True)
    for step, coefficient in steps:
        total.add_(step, alpha=coefficient)
    return total.to(start.dtype)
