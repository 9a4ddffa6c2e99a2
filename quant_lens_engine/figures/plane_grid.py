"""A plane of a result as charts need it: found by name, with what a reader has to be told of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import FLOAT_VARIANT, Landscape, Plane, PlanePoint, RunResult, Variant, numbers
from quant_lens_engine.schema.direction_name import DirectionName

Grid = list[list[float | None]]
"""``[alpha][beta]``, as in a result; Plotly wants :func:`turned`."""

PAIR_SIGN = "~"
"""Between two directions; it is in the name of none, and stays as it is in an address."""

_AT_ONE_PLACE = 1e-6
"""Of ‖w‖: what is nearer to a plane than this lies on it."""


def turned(grid: Grid) -> Grid:
    """From ``[alpha][beta]`` to Plotly's ``[y][x]``.

    Example:
        >>> turned([[1.0, 2.0], [3.0, 4.0]])
        [[1.0, 3.0], [2.0, 4.0]]
    """
    return [list(column) for column in zip(*grid, strict=True)]


def direction_words(name: str) -> str:
    """A direction as it is read.

    Example:
        >>> direction_words("to:int8"), direction_words("random:2"), direction_words("eigenvector:1")
        ('FP32 → int8', 'random 2', 'eigenvector 1')
    """
    kind, argument = DirectionName.parse(name)
    if kind == "to":
        return f"{FLOAT_VARIANT} → {argument}"
    if kind == "path":
        return f"{FLOAT_VARIANT} → variant"
    return f"{kind} {argument}".strip()


def pair_key(plane: Plane) -> str:
    """The two directions as one word, for an address and a choice."""
    return PAIR_SIGN.join(plane.directions)


def pair_words(key: str) -> str:
    """What a pair of directions is called.

    Example:
        >>> pair_words("to:int8~to:int3"), pair_words("random:1~random:2")
        ('FP32 → int8 × FP32 → int3', 'random 1 × random 2')
    """
    return " × ".join(direction_words(name) for name in key.split(PAIR_SIGN))


@dataclass(frozen=True)
class PlaneGrid:
    """One plane with its place in the result.

    Attributes:
        plane: the record.
        variant: whose network was measured.
        styles: of every variant of the run.
        reference: the float model's evaluated loss.
        unit: of the loss.
        asked: the landscape that was asked for; the float model has but one.
    """

    plane: Plane
    variant: str
    styles: dict[str, VariantStyle]
    reference: float | None
    unit: str
    asked: Landscape = "smooth"

    @property
    def values(self) -> Iterator[float]:
        """Every loss that is known and finite."""
        return (value for row in self.plane.loss for value in row if value is not None and math.isfinite(value))

    @property
    def rows_done(self) -> int:
        """How many rows are measured."""
        return len(self.plane.measured_rows)

    @property
    def gaps(self) -> int:
        """Points of measured rows without a finite loss."""
        return sum(
            value is None or not math.isfinite(value)
            for row in self.plane.measured_rows
            for value in self.plane.loss[row]
        )

    @property
    def progress(self) -> str:
        """``25 of 41 rows``; empty where the plane is complete."""
        return "" if self.plane.complete else f"{self.rows_done} of {len(self.plane.alphas)} rows measured."

    def interpolated(self, place: int, other: int) -> bool:
        """Whether the loss at ``loss[place][other]`` is foretold by its neighbours, not measured."""
        return self.plane.estimated is not None and self.plane.estimated[place][other]

    def on_plane(self, point: PlanePoint) -> bool:
        """Whether a model lies on the plane and not beside it."""
        return abs(point.distance) <= _AT_ONE_PLACE

    def in_sight(self, point: PlanePoint) -> bool:
        """Whether a model lies within the axes."""
        alphas, betas = self.plane.alphas, self.plane.betas
        return alphas[0] <= point.alpha <= alphas[-1] and betas[0] <= point.beta <= betas[-1]

    def label(self, point: PlanePoint) -> str:
        """What a model is called."""
        return self.styles[point.name].label if point.name in self.styles else point.name

    def axis_title(self, which: int) -> str:
        """Symbol, direction and unit."""
        name = direction_words(self.plane.directions[which]) if len(self.plane.directions) > which else "direction"
        unit = self.plane.units[which] if len(self.plane.units) > which else ""
        return f"{'αβ'[which]}   {name}" + (f"   ({unit})" if unit else "")


def find_plane(variant: Variant, landscape: Landscape, pair: str = "") -> Plane | None:
    """The plane of a variant along a pair of directions; the first that has a row where none is named. The float
    model's two landscapes are one, and measured once."""
    wanted = "smooth" if variant.name == FLOAT_VARIANT else landscape
    return next(
        (
            plane
            for plane in variant.planes
            if plane.landscape == wanted and (not pair or pair_key(plane) == pair) and plane.measured_rows
        ),
        None,
    )


def plane_grid(result: RunResult, variant: str, landscape: Landscape, pair: str = "") -> PlaneGrid | None:
    """The plane that was asked for; None where it has no row yet."""
    found = next((item for item in result.variants if item.name == variant), None)
    plane = find_plane(found, landscape, pair) if found else None
    if plane is None:
        return None
    return PlaneGrid(
        plane,
        variant,
        variant_styles(result.variants),
        reference_loss(result, plane),
        loss_unit(result.task),
        landscape,
    )


def reference_loss(result: RunResult, plane: Plane) -> float | None:
    """The float model's evaluated loss: of its stage, or of its point on the plane."""
    floats = next((item for item in result.variants if item.name == FLOAT_VARIANT), None)
    if floats is not None and floats.evaluation is not None:
        return floats.evaluation.loss
    return next((point.loss for point in plane.points if point.name == FLOAT_VARIANT), None)


def plane_pairs(results: Sequence[RunResult]) -> list[str]:
    """Every pair of directions of which there is a plane, in the runs' order."""
    planes = (plane for result in results for variant in result.variants for plane in variant.planes)
    return list(dict.fromkeys(pair_key(plane) for plane in planes))


def plane_variants(results: Sequence[RunResult], pair: str = "") -> list[str]:
    """The variants of whose network there is a plane along a pair of directions."""
    return list(
        dict.fromkeys(
            variant.name
            for result in results
            for variant in result.variants
            if any(not pair or pair_key(plane) == pair for plane in variant.planes)
        )
    )


def run_range(result: RunResult, pair: str = "") -> tuple[float, float] | None:
    """Lowest and highest finite loss over all planes of the run along a pair of directions."""
    values = [
        value
        for variant in result.variants
        for plane in variant.planes
        if not pair or pair_key(plane) == pair
        for row in plane.loss
        for value in row
        if value is not None and math.isfinite(value)
    ]
    return (min(values), max(values)) if values else None


def distance_at(plane: Plane, alpha: float, beta: float) -> float | None:
    """√(α² + β²), where that is a distance between parameters."""
    return math.hypot(alpha, beta) if plane.isometric else None


def point_loss(point: PlanePoint, unit: str) -> str:
    """``L 0.193 nats``, or that it is not evaluated yet."""
    return "not evaluated yet" if point.loss is None else f"L {numbers.number(point.loss)} {unit}"
