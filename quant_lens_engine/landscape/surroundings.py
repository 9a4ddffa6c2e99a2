"""What directions are made from: the float parameters, and what else a run knows around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from quant_lens_engine.errors import InputError
from quant_lens_engine.landscape.steps import Steps
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

    def steps_to(self, point: Point, origin: Point | None = None) -> Steps:
        """``point − origin``, in float64; without an origin from w.

        Of the parameters that move, and of frozen ones that differ: their end is the whole model.
        """
        start = self.objective.point if origin is None else origin
        free = set(self.objective.free)
        return Steps(
            [name for name in self.objective.point if name in free or _differs(point, start, name)],
            lambda name: point[name].to(start[name].device).double() - start[name].double(),
        )

    def shaped(self, flat: Tensor, factor: float = 1.0) -> Steps:
        """A vector ``(dimension,)``, times a factor, as tensors by parameter name, in float64."""
        base = self.base
        parts = dict(zip(base, torch.split(flat, [tensor.numel() for tensor in base.values()]), strict=True))
        return Steps(base, lambda name: parts[name].double().view(base[name].shape) * factor)


def _differs(point: Point, start: Point, name: str) -> bool:
    """Whether a floating-point parameter has other values in the two; one that ``point`` leaves out has not."""
    if name not in point or not start[name].is_floating_point():
        return False
    return not torch.equal(point[name].to(start[name].device, start[name].dtype), start[name])


def length(steps: Point) -> float:
    """Euclidean norm over all tensors, summed in float64.

    Example:
        >>> length({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
        5.0
    """
    return float(torch.stack([tensor.double().square().sum() for tensor in steps.values()]).sum().sqrt())


def inner(one: Point, two: Point) -> float:
    """Scalar product over all tensors, summed in float64; one that either leaves out is zero there.

    Example:
        >>> inner({"a": torch.tensor([3.0]), "b": torch.ones(2)}, {"a": torch.tensor([2.0])})
        6.0
    """
    parts = [(one[name].double() * two[name].double()).sum() for name in one if name in two]
    return float(torch.stack(parts).sum()) if parts else 0.0


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
        place[name] = moved_tensor(origin[name], own)
    return place


class RowMap(NamedTuple):
    """What becomes of the rows of a moved tensor, in float64: each times its factor, plus its offset."""

    factors: Tensor
    offsets: Tensor | None = None

    def part(self, block: slice) -> RowMap:
        """Of some of the rows."""
        return RowMap(self.factors[block], None if self.offsets is None else self.offsets[block])


def moved_tensor(
    start: Tensor,
    steps: Sequence[tuple[Tensor, float]],
    rows: RowMap | None = None,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """One tensor of :func:`moved`, laid out as ``memory_format`` says.

    A block of rows at a time, so that a large tensor never stands in memory in float64.
    """
    place = torch.empty_like(start, memory_format=memory_format)
    if start.ndim == 0:
        return place.copy_(_block_sum(start, steps, rows))
    height = max(1, _BLOCK * len(start) // max(1, start.numel()))
    for first in range(0, len(start), height):
        block = slice(first, first + height)
        part = None if rows is None else rows.part(block)
        own_steps = [(step[block], coefficient) for step, coefficient in steps]
        place[block].copy_(_block_sum(start[block], own_steps, part))
    return place


def _block_sum(start: Tensor, steps: Sequence[tuple[Tensor, float]], rows: RowMap | None) -> Tensor:
    total = start.to(torch.float64, copy=True)
    for step, coefficient in steps:
        total.add_(step, alpha=coefficient)
    if rows is not None:
        aside = (-1, *(1,) * (total.ndim - 1))
        total.mul_(rows.factors.view(aside))
        if rows.offsets is not None:
            total.add_(rows.offsets.view(aside))
    return total
