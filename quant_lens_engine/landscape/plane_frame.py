"""Two directions, their grid, and the models that stand on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from quant_lens_engine.errors import InputError
from quant_lens_engine.landscape.basin import basin_rise
from quant_lens_engine.landscape.directions import Direction, make_direction
from quant_lens_engine.landscape.distance import Reach, Rises, automatic_reach
from quant_lens_engine.landscape.line_frame import rises, symmetric_grid
from quant_lens_engine.landscape.readings import Reader
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings, inner, length, moved
from quant_lens_engine.objective.function import Point
from quant_lens_engine.schema import DirectionName, PlaneOptions, PlanePoint
from quant_lens_engine.schema.direction_name import JOINS_POINTS, SPANS_CHECKPOINTS

_MARGIN = 1.25
"""Room beyond the farthest model that a plane is laid through."""
_PARALLEL = 1e-4
"""Length of a unit direction's part outside the other one that is none."""
_ROUNDING = 1e-6
"""Parts of a model's way below this share of it are the axes' own rounding: no distance, and no coordinate. Of coarser
parameters it is their dtype's ε: two axes are off by ε/2 of their length each, at most."""


class Gram(NamedTuple):
    """Scalar products of two axes: of the first with itself, of both, of the second with itself."""

    one: float
    both: float
    two: float


@dataclass(frozen=True)
class PlaneFrame:
    """What every piece of a plane shares.

    Attributes:
        names: the two directions.
        axes: what is added at α = 1 and at β = 1, by parameter name, in the parameters' own precision: two copies of
            the parameters for the whole plane.
        units: of each axis, in words.
        joins: whether it is laid through the float point, whatever the variant; its axes are then orthogonal and as
            long as w, so that distances on it are distances between parameters, in ‖w‖.
        grid: of both axes.
        reach: the largest coordinate, and how it was chosen.
    """

    names: tuple[str, str]
    axes: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
    units: tuple[str, str]
    joins: bool
    grid: list[float]
    reach: Reach

    @cached_property
    def gram(self) -> Gram:
        """The axes' scalar products, for every model that is located."""
        return gram_of(self.axes)

    def place(self, origin: Point, alpha: float, beta: float) -> dict[str, Tensor]:
        """The parameters at (α, β)."""
        return moved(origin, (self.axes[0], alpha), (self.axes[1], beta))

    def locate(self, name: str, steps: Mapping[str, Tensor], whole: float) -> PlanePoint:
        """Where a model lies: its projection, and its distance out of the plane. One tensor after the other.

        Args:
            name: of the model.
            steps: from the plane's origin to it.
            whole: ‖w‖, the unit of distances.
        """
        alpha, beta = _coordinates(self.axes, self.gram, steps)
        rest = Steps(
            dict.fromkeys((*steps, *self.axes[0], *self.axes[1])),
            lambda key: torch.as_tensor(
                _part(steps, key) - alpha * _part(self.axes[0], key) - beta * _part(self.axes[1], key)
            ),
        )
        size, outside = length(steps), length(rest)
        wide = (math.sqrt(self.gram.one), math.sqrt(self.gram.two), 1.0)
        rounding = max(_ROUNDING, *(torch.finfo(tensor.dtype).eps for axis in self.axes for tensor in axis.values()))
        alpha, beta, outside = (
            0.0 if abs(part) * unit <= rounding * size else part
            for part, unit in zip((alpha, beta, outside), wide, strict=True)
        )
        return PlanePoint(
            name=name, alpha=alpha, beta=beta, distance=_share(outside, whole), shift=_share(size, whole)
        )  # fmt: skip


def plane_frame(
    around: Surroundings, names: tuple[str, str], options: PlaneOptions, reader: Reader, reach: Reach | None = None
) -> PlaneFrame:
    """The frame of a plane at the float point: the same for every variant of a run.

    Two directions of which one leads to another model are made orthogonal and as long as w; others stay as they are.
    Axes are made a tensor at a time: beside them stand in memory the models that they lead to, as far as the axes are
    not made yet, and of other directions one tensor.

    Args:
        around: the float point.
        names: of the directions.
        options: grid and distance.
        reader: reads the places that the range is chosen from.
        reach: of the same frame, where it was made before.

    Raises:
        InputError: a direction cannot be made; ``parallel_directions``: they span no plane.
    """
    frame, floor = _spanned(around, names)
    if options.distance:
        reach = Reach(options.distance, "as asked for")
    reach = reach or _reach(frame, around, floor, reader)
    return replace(frame, grid=symmetric_grid(options.points, reach.distance), reach=reach)


def _share(size: float, whole: float) -> float:
    """In units of ‖w‖; as it is where every weight is 0."""
    return size / (whole or 1.0)


def _spanned(around: Surroundings, names: tuple[str, str]) -> tuple[PlaneFrame, float]:
    """The axes, and how far the picture must reach for the models that they lead to; the directions are let go of."""
    directions = [make_direction(name, around) for name in names]
    joins = any(DirectionName.parse(name).kind in JOINS_POINTS for name in names)
    first, second = (direction.steps for direction in directions)
    units = (directions[0].unit, directions[1].unit)
    floor = 0.0
    _refuse_parallel(first, second, names)
    if joins:
        ends = [direction.steps for direction in directions if direction.end is not None]
        if any(DirectionName.parse(name).kind in SPANS_CHECKPOINTS for name in names):
            ends += [around.steps_to(point) for point in around.checkpoints]
        first, second = _isometric(first, second, _unit(around))
        gram = gram_of((first, second)) if ends else None
        places = [abs(part) for end in ends if gram for part in _coordinates((first, second), gram, end)]
        floor = _round_up(_MARGIN * max(places, default=0.0))
        units = ("‖w‖", "‖w‖")
    axes = _axes(around.objective.point, first, second, directions)
    return PlaneFrame(names, axes, units, joins, [], Reach(1.0, "")), floor


def _unit(around: Surroundings) -> float:
    """‖w‖, the length of axes on which distances are distances between parameters."""
    size = length(around.base)
    if not size:
        raise InputError(
            "every weight of the float model is 0: a plane through it and another model has no unit of length",
            hint="choose two random-raw directions",
            code="bad_direction",
        )
    return size


def _axes(
    origin: Point, first: Mapping[str, Tensor], second: Mapping[str, Tensor], directions: Sequence[Direction]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """In the parameters' own precision. The models that the directions lead to are let go of tensor by tensor, so that
    a plane never stands in memory beside the models it is laid through."""
    axes: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for key, tensor in origin.items():
        for axis, steps in zip(axes, (first, second), strict=True):
            if key in steps:
                axis[key] = steps[key].to(tensor.dtype)
        for direction in directions:
            direction.release(key)
    return axes


def _round_up(distance: float) -> float:
    """To two digits, so that an axis ends at a number that can be read.

    Example:
        >>> _round_up(0.241339), _round_up(0.0)
        (0.25, 0.0)
    """
    if not distance:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(distance)) - 1)
    return float(f"{math.ceil(distance / unit) * unit:.6g}")


def _reach(frame: PlaneFrame, around: Surroundings, floor: float, reader: Reader) -> Reach:
    base = around.objective
    base_loss = base.loss()

    def rises_at(distance: float) -> Rises:
        ends = [(distance, 0.0), (-distance, 0.0), (0.0, distance), (0.0, -distance)]
        return rises([reader.read(base.at(frame.place(base.point, *end)), "range") for end in ends], base_loss)

    return automatic_reach(rises_at, basin_rise(base_loss), start=floor or 1.0, floor=floor)


def _refuse_parallel(first: Mapping[str, Tensor], second: Mapping[str, Tensor], names: Sequence[str]) -> None:
    cosine = inner(first, second) / (length(first) * length(second))
    if 1 - cosine**2 < _PARALLEL**2:
        raise InputError(
            f"the directions {names[0]!r} and {names[1]!r} are parallel: they span no plane",
            hint="choose two that lead elsewhere; a variant of hardly any error lies on every line",
            code="parallel_directions",
        )


def _isometric(first: Mapping[str, Tensor], second: Mapping[str, Tensor], unit: float) -> tuple[Steps, Steps]:
    """Gram and Schmidt's two axes, each of length ``unit``; the first keeps its direction."""
    stretch = unit / length(first)
    one = Steps(first, lambda key: first[key] * stretch)
    share = inner(second, one) / unit**2
    names = dict.fromkeys((*second, *one))
    rest = Steps(names, lambda key: torch.as_tensor(_part(second, key) - share * _part(one, key)))
    size = length(rest)
    return one, Steps(rest, lambda key: rest[key] * (unit / size))


def gram_of(axes: Sequence[Mapping[str, Tensor]]) -> Gram:
    """The scalar products of two axes."""
    one, two = axes
    return Gram(inner(one, one), inner(one, two), inner(two, two))


def _coordinates(axes: Sequence[Mapping[str, Tensor]], gram: Gram, steps: Mapping[str, Tensor]) -> tuple[float, float]:
    """Of the projection onto the plane, by the two normal equations."""
    x, y = inner(axes[0], steps), inner(axes[1], steps)
    determinant = gram.one * gram.two - gram.both * gram.both
    return (gram.two * x - gram.both * y) / determinant, (gram.one * y - gram.both * x) / determinant


def _part(axis: Mapping[str, Tensor], key: str) -> Tensor | float:
    return axis[key].double() if key in axis else 0.0
