"""Two directions, their grid, and the models that stand on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from quant_lens_engine.errors import InputError
from quant_lens_engine.landscape.basin import basin_rise
from quant_lens_engine.landscape.directions import make_direction
from quant_lens_engine.landscape.distance import Reach, Rises, automatic_reach
from quant_lens_engine.landscape.line_frame import rises, symmetric_grid
from quant_lens_engine.landscape.readings import Reader
from quant_lens_engine.landscape.surroundings import Surroundings, inner, length, moved
from quant_lens_engine.objective.function import Point
from quant_lens_engine.schema import DirectionName, PlaneOptions, PlanePoint
from quant_lens_engine.schema.direction_name import JOINS_POINTS

_MARGIN = 1.25
"""Room beyond the farthest model that a plane is laid through."""
_PARALLEL = 1e-4
"""Length of a unit direction's part outside the other one that is none."""
_ROUNDING = 1e-6
"""Parts of a model's way below this share of it are the axes' own rounding: no distance, and no coordinate."""


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

    def place(self, origin: Point, alpha: float, beta: float) -> dict[str, Tensor]:
        """The parameters at (α, β)."""
        return moved(origin, (self.axes[0], alpha), (self.axes[1], beta))

    def locate(self, name: str, steps: Mapping[str, Tensor], whole: float) -> PlanePoint:
        """Where a model lies: its projection, and its distance out of the plane.

        Args:
            name: of the model.
            steps: from the plane's origin to it.
            whole: ‖w‖, the unit of distances.
        """
        alpha, beta = _coordinates(self.axes, steps)
        rest = {
            key: step.double() - alpha * _part(self.axes[0], key) - beta * _part(self.axes[1], key)
            for key, step in steps.items()
        }
        size, outside = length(steps), length(rest)
        wide = (length(self.axes[0]), length(self.axes[1]), 1.0)
        alpha, beta, outside = (
            0.0 if abs(part) * unit <= _ROUNDING * size else part
            for part, unit in zip((alpha, beta, outside), wide, strict=True)
        )
        return PlanePoint(
            name=name, alpha=alpha, beta=beta, distance=outside / whole if whole else math.inf, shift=size / whole
        )  # fmt: skip


def plane_frame(around: Surroundings, names: tuple[str, str], options: PlaneOptions, reader: Reader) -> PlaneFrame:
    """The frame of a plane at the float point: the same for every variant of a run.

    Two directions of which one leads to another model are made orthogonal and as long as w; others stay as they are.

    Raises:
        InputError: a direction cannot be made; ``parallel_directions``: they span no plane.
    """
    directions = [make_direction(name, around) for name in names]
    joins = any(DirectionName.parse(name).kind in JOINS_POINTS for name in names)
    first, second = (dict(direction.steps) for direction in directions)
    units = (directions[0].unit, directions[1].unit)
    floor = 0.0
    _refuse_parallel(first, second, names)
    if joins:
        ends = [dict(direction.steps) for direction in directions if direction.end is not None]
        first, second = _isometric(first, second, length(around.base))
        places = [abs(part) for end in ends for part in _coordinates((first, second), end)]
        floor = _round_up(_MARGIN * max(places, default=0.0))
        units = ("‖w‖", "‖w‖")
    base = around.base
    axes = tuple({key: step.to(base[key].dtype) for key, step in axis.items()} for axis in (first, second))
    frame = PlaneFrame(names, (axes[0], axes[1]), units, joins, [], Reach(1.0, ""))
    reach = Reach(options.distance, "as asked for") if options.distance else _reach(frame, around, floor, reader)
    return PlaneFrame(frame.names, frame.axes, units, joins, symmetric_grid(options.points, reach.distance), reach)


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


def _isometric(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], unit: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gram and Schmidt's two axes, each of length ``unit``; the first keeps its direction."""
    one = {key: step * (unit / length(first)) for key, step in first.items()}
    share = inner(second, one) / unit**2
    rest = {key: step - share * one[key] for key, step in second.items()}
    size = length(rest)
    return one, {key: step * (unit / size) for key, step in rest.items()}


def _coordinates(axes: Sequence[Mapping[str, Tensor]], steps: Mapping[str, Tensor]) -> tuple[float, float]:
    """Of the projection onto the plane, by the two normal equations."""
    one, two = axes
    a, b, c = _inner(one, one), _inner(one, two), _inner(two, two)
    x, y = _inner(one, steps), _inner(two, steps)
    determinant = a * c - b * b
    return (c * x - b * y) / determinant, (a * y - b * x) / determinant


def _inner(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> float:
    shared = {key: tensor for key, tensor in one.items() if key in two}
    return inner(shared, two) if shared else 0.0


def _part(axis: Mapping[str, Tensor], key: str) -> Tensor | float:
    return axis[key].double() if key in axis else 0.0
