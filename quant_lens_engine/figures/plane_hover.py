"""What a plane tells of the place under the pointer: in the box beside it, and in the read-out under the chart."""

from __future__ import annotations

from typing import Any, TypedDict

from quant_lens_engine.figures.frame import plain
from quant_lens_engine.figures.plane_grid import PlaneGrid, distance_at
from quant_lens_engine.schema import FLOAT_VARIANT, PlanePoint, numbers

INTERPOLATED = "interpolated"
MEASURED = "measured"


class Reading(TypedDict, total=False):
    """One number of a read-out.

    Attributes:
        of: ``x``, ``y``, or the place in ``customdata``.
        words: before the number.
        unit: behind it.
        signed: whether a plus is written.
        word: it is a word; nothing is said where it is empty.
    """

    of: str | int
    words: str
    unit: str
    signed: bool
    word: bool


def hover_numbers(grid: PlaneGrid) -> list[list[Any]]:
    """Behind each cell: loss, its rise from the float model's, accuracy in per cent, distance; gaps are null. Where
    some losses are not measured: a word on those, and the line of the box that says so."""
    plane, rows = grid.plane, []
    for place, alpha in enumerate(plane.alphas):
        row = []
        for other, beta in enumerate(plane.betas):
            loss = plane.loss[place][other]
            rise = None if loss is None or grid.reference is None else loss - grid.reference
            seen = plane.accuracy[place][other] if plane.accuracy else None
            distance = distance_at(plane, alpha, beta)
            known = [_digits(value) for value in (loss, rise, None if seen is None else 100 * seen, distance)]
            row.append([*known, *_source(grid, place, other, known[2])])
        rows.append(row)
    return rows


def hover_template(grid: PlaneGrid) -> str:
    """α, β, loss, rise, and what else is known."""
    parts = ["α %{x:.4g}   β %{y:.4g}", f"<b>L %{{customdata[0]:.4g}}</b> {grid.unit}"]
    if grid.reference is not None:
        parts.append("%{customdata[1]:+.3g} from FP32")
    if grid.plane.estimated is not None:
        parts.append("%{customdata[5]}")
    elif grid.plane.accuracy:
        parts.append("accuracy %{customdata[2]:.3g} %")
    if grid.plane.isometric:
        parts.append(f"%{{customdata[3]:.3g}} {_length_unit(grid)} from {plain(origin_words(grid))}")
    return "<br>".join(parts) + "<extra></extra>"


def read_out(grid: PlaneGrid) -> list[Reading]:
    """The same numbers, for the line under the chart that follows the pointer."""
    readings: list[Reading] = [
        {"of": "x", "words": "α"}, {"of": "y", "words": "β"}, {"of": 0, "words": "L", "unit": grid.unit},
    ]  # fmt: skip
    if grid.reference is not None:
        readings.append({"of": 1, "words": "ΔL", "signed": True})
    if grid.plane.accuracy:
        readings.append({"of": 2, "words": "accuracy", "unit": "%"})
    if grid.plane.isometric:
        readings.append({"of": 3, "words": f"from {origin_words(grid)}", "unit": _length_unit(grid)})
    if grid.plane.estimated is not None:
        readings.append({"of": 4, "words": "", "word": True})
    return readings


def origin_words(grid: PlaneGrid) -> str:
    """Whose point α = β = 0 is: distances are from it."""
    return FLOAT_VARIANT if grid.plane.origin == "FP32" else grid.variant


def _length_unit(grid: PlaneGrid) -> str:
    return grid.plane.units[0] if grid.plane.units else ""


def point_hover(grid: PlaneGrid, point: PlanePoint) -> str:
    """Everything that is known of a model on, or beside, a plane."""
    said = [f"<b>{plain(point.name)}</b>", f"α {point.alpha:.4g}   β {point.beta:.4g}".replace("-", numbers.MINUS)]
    if point.loss is None:
        said.append("loss not evaluated yet")
    else:
        said.append(f"evaluated L {point.loss:.4g} {grid.unit}")
        if grid.reference is not None and point.name != FLOAT_VARIANT:
            said.append(f"{numbers.number(point.loss - grid.reference, signed=True)} from FP32")
    if point.accuracy is not None:
        said.append(f"accuracy {numbers.percent(point.accuracy)}")
    if point.shift is not None:
        said.append(f"‖Δw‖ / ‖w‖ {numbers.number(point.shift)}")
    if not grid.on_plane(point):
        said.append(f"{numbers.number(point.distance)} ‖w‖ beside the plane: its loss is not the plane's here")
    return "<br>".join(said) + "<extra></extra>"


def _source(grid: PlaneGrid, place: int, other: int, accuracy: float | None) -> list[str]:
    """The last two of what is behind a cell; an interpolated point has no accuracy, of which Plotly would make a 0."""
    if grid.plane.estimated is None:
        return []
    if grid.interpolated(place, other):
        return [INTERPOLATED, INTERPOLATED]
    return ["", MEASURED if accuracy is None else f"accuracy {accuracy:.3g} %"]


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
