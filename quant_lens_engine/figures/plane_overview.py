"""The plane as one picture among others: small, without a colour bar, the models on it marked."""

from __future__ import annotations

from quant_lens_engine.figures.chart import Chart, figure
from quant_lens_engine.figures.frame import HEIGHT, FigureSpec, framed
from quant_lens_engine.figures.plane import describe_plane, note_plane, plane_axes, plane_layers, tabulate_plane
from quant_lens_engine.figures.plane_annotations import plane_annotations
from quant_lens_engine.figures.plane_drawing import PlaneDrawing, gather_plane
from quant_lens_engine.figures.plane_front import measured_front
from quant_lens_engine.figures.tokens import Mode

_MARGIN_PX = {"l": 58, "r": 12, "t": 8, "b": 44}
_SIDE_PX = HEIGHT - 52.0


def draw_small_plane(data: PlaneDrawing, mode: Mode) -> FigureSpec:
    """The plane without its colour bar; words only for the models."""
    shapes, waiting = measured_front(data.grid.plane, mode)
    labels = plane_annotations(data, mode, _SIDE_PX, isolines=False)
    return framed(
        mode, plane_layers(data), margin=_MARGIN_PX, uirevision="plane-overview", hovermode="closest", shapes=shapes,
        annotations=labels + waiting, dragmode=False, coloraxis=data.colours.axis(mode) | {"showscale": False},
        **plane_axes(data.grid, mode, nticks=5),
    )  # fmt: skip


figure(
    Chart("plane-overview", "Plane", gather_plane, draw_small_plane, describe_plane, tabulate_plane, note=note_plane)
)
