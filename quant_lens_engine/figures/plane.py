"""The loss over two directions, as a contour: levels, labelled isolines, the models on it and the paths between them.

A plane that is not complete is drawn as what is measured and no more: cells without smoothing, a line at the front, a
dashed frame where rows are to come.
"""

from __future__ import annotations

from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.loss_colours import scale_notes
from quant_lens_engine.figures.method_words import measured_words, sentence
from quant_lens_engine.figures.plane_annotations import plane_annotations
from quant_lens_engine.figures.plane_drawing import PlaneDrawing, gather_plane
from quant_lens_engine.figures.plane_front import measured_front
from quant_lens_engine.figures.plane_grid import PlaneGrid, distance_at, pair_words
from quant_lens_engine.figures.plane_hover import INTERPOLATED, MEASURED, read_out
from quant_lens_engine.figures.plane_traces import isoline_trace, path_traces, plane_traces, point_traces
from quant_lens_engine.figures.reach_words import reach_words
from quant_lens_engine.figures.tokens import GROUND, Mode
from quant_lens_engine.schema import FLOAT_VARIANT

_MARGIN_PX = {"left": 62, "right": 74, "top": 8, "bottom": 48}
_SIDE_PX = 470.0


def draw_plane(data: PlaneDrawing, mode: Mode) -> FigureSpec:
    """Colours, then isolines, paths, points and their labels."""
    plane = data.grid.plane
    shapes, waiting = measured_front(plane, mode)
    return framed(
        mode, plane_layers(data), left=_MARGIN_PX["left"], right=_MARGIN_PX["right"],
        height=round(_SIDE_PX) + _MARGIN_PX["top"] + _MARGIN_PX["bottom"],
        uirevision=f"plane-{data.grid.variant}-{'~'.join(plane.directions)}", meta={"readOut": read_out(data.grid)},
        hovermode="closest", shapes=shapes, annotations=plane_annotations(data, mode, _SIDE_PX) + waiting,
        dragmode="pan", coloraxis=data.colours.axis(mode), **plane_axes(data.grid, mode),
    )  # fmt: skip


def plane_layers(data: PlaneDrawing) -> list[dict[str, Any]]:
    """Every trace of a plane, from the ground up."""
    isolines = [isoline_trace(data)] if data.grid.plane.complete and "isolines" in data.shown else []
    return [*plane_traces(data), *isolines, *path_traces(data), *point_traces(data)]


def plane_axes(grid: PlaneGrid, mode: Mode, **more: Any) -> dict[str, Any]:
    """Both axes; equal lengths are equal distances where the directions allow it."""
    plane = grid.plane
    common = {"constrain": "domain", "showgrid": False, "automargin": False, "nticks": 7} | more
    upward = {"ticks": "outside", "ticklen": 4, "tickcolor": GROUND[mode].axis}
    return {
        "xaxis": x_axis(mode, plain(grid.axis_title(0)), range=[plane.alphas[0], plane.alphas[-1]],
                        constraintoward="right", showline=False, **common),
        "yaxis": y_axis(mode, plain(grid.axis_title(1)), range=[plane.betas[0], plane.betas[-1]], **upward, **common,
                        **({"scaleanchor": "x"} if plane.isometric else {})),
    }  # fmt: skip


def describe_plane(data: PlaneDrawing) -> str:
    """How the plane is read, and everything that is not as one would expect."""
    grid = data.grid
    said = [grid.progress or "Dark is low."]
    if grid.gaps:
        reason = f": {grid.plane.reason}" if grid.plane.reason else ": not finite"
        said.append(f"{grid.gaps} {'gap is a point' if grid.gaps == 1 else 'gaps are points'} without a loss{reason}.")
    said += scale_notes(data.colours, grid.values)
    if any(not grid.on_plane(point) for point in data.points):
        said.append("Hollow: beside the plane.")
    if data.out_of_sight:
        said.append(f"Out of sight: {', '.join(grid.label(point) for point in data.out_of_sight)}.")
    if grid.asked == "deployed" and grid.variant == FLOAT_VARIANT:
        said.append("The float model's two landscapes are one.")
    if measured := measured_words(grid.plane):
        said.append(measured)
    if grid.plane.network:
        said.append(sentence(grid.plane.network))
    return " ".join(said)


def tabulate_plane(data: PlaneDrawing, sourced: bool = False) -> DataTable:
    """One row a point of the rows that are there; where some are interpolated (or ``sourced``), which these are."""
    grid, plane = data.grid, data.grid.plane
    sourced = sourced or plane.estimated is not None
    rows = []
    for place in sorted(plane.measured_rows):
        for other, beta in enumerate(plane.betas):
            loss = plane.loss[place][other]
            rise = None if loss is None or grid.reference is None else loss - grid.reference
            seen = plane.accuracy[place][other] if plane.accuracy else None
            distance = distance_at(plane, plane.alphas[place], beta)
            source = (INTERPOLATED if grid.interpolated(place, other) else MEASURED,) if sourced else ()
            rows.append((plane.alphas[place], beta, loss, rise, seen, distance, *source))
    columns = ("alpha", "beta", "loss", "delta_loss", "accuracy", "distance")
    return DataTable((*columns, "source") if sourced else columns, rows)


def plane_title(grid: PlaneGrid) -> str:
    """What a plane is of."""
    return f"{pair_words('~'.join(grid.plane.directions))} · {grid.variant}"


def note_plane(data: PlaneDrawing) -> str:
    """How many points there are, how far they reach and why, and what made them quicker to compute."""
    plane = data.grid.plane
    said = (f"{len(plane.alphas)} × {len(plane.betas)} points.", reach_words(plane.distance_choice))
    return " ".join(filter(None, (*said, sentence(plane.method))))


figure(
    Chart(
        "plane", "Loss over two directions", gather_plane, draw_plane, describe_plane, tabulate_plane, note=note_plane
    )
)
