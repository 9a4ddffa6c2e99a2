"""The traces of a flat plane: colours, isolines, the models on it and the paths between them."""

from __future__ import annotations

from typing import Any

from quant_lens_engine.figures.plane_drawing import PlaneDrawing
from quant_lens_engine.figures.plane_grid import turned
from quant_lens_engine.figures.plane_hover import hover_numbers, hover_template, point_hover
from quant_lens_engine.figures.tokens import GROUND
from quant_lens_engine.schema import FLOAT_VARIANT

_ISO_WHITE, _HAIR_WHITE = "rgba(255,255,255,0.75)", "rgba(255,255,255,0.2)"
MARKER_EDGE = "#ffffff"


def plane_traces(data: PlaneDrawing) -> list[dict[str, Any]]:
    """The colours: a filled contour of a complete plane, else the measured cells as they are."""
    plane = data.grid.plane
    common = {
        "x": plane.alphas,
        "y": plane.betas,
        "z": turned(data.places),
        "coloraxis": "coloraxis",
        "customdata": turned(hover_numbers(data.grid)),
        "hovertemplate": hover_template(data.grid),
        "hoverongaps": False,
        "name": "",
    }
    if not plane.complete:
        return [{"type": "heatmap", "zsmooth": False, "connectgaps": False, **common}]
    return [
        {
            "type": "contour",
            "autocontour": False,
            "connectgaps": False,
            "contours": {"coloring": "fill", **data.colours.fill_levels},
            "line": {"width": 0.5, "color": _HAIR_WHITE, "smoothing": 1},
            **common,
        }
    ]


def isoline_trace(data: PlaneDrawing) -> dict[str, Any]:
    """The isolines alone; their words are annotations, because Plotly would write the logarithm."""
    levels = data.colours.isolines or [data.colours.ends[1] + 1]
    return {
        "type": "contour",
        "x": data.grid.plane.alphas,
        "y": data.grid.plane.betas,
        "z": turned(data.places),
        "autocontour": False,
        "connectgaps": False,
        "contours": {
            "coloring": "none", "start": levels[0], "end": levels[-1] + 1e-9, "size": data.colours.iso_step,
        },
        "line": {"width": 1.1, "color": _ISO_WHITE, "smoothing": 1},
        "showscale": False,
        "hoverinfo": "skip",
    }  # fmt: skip


def path_traces(data: PlaneDrawing) -> list[dict[str, Any]]:
    """A dotted white line from the float model to each model on the plane."""
    start, ends = data.start, data.path_ends
    if start is None or not ends:
        return []
    xs: list[float | None] = []
    ys: list[float | None] = []
    for end in ends:
        xs += [start.alpha, end.alpha, None]
        ys += [start.beta, end.beta, None]
    line = {"width": 1.6, "color": MARKER_EDGE, "dash": "2px,2.5px"}
    return [{"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": line, "hoverinfo": "skip"}]


def point_traces(data: PlaneDrawing) -> list[dict[str, Any]]:
    """A marker each, the float model on top; one beside the plane is hollow."""
    traces = []
    for point in sorted(data.points, key=lambda item: item.name == FLOAT_VARIANT):
        style = data.grid.styles.get(point.name)
        fill = style.fill["light"] if style else GROUND["light"].muted
        there = data.grid.on_plane(point)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": [point.alpha], "y": [point.beta],
                "marker": {
                    "symbol": style.marker.removesuffix("-open") if style else "circle",
                    "size": 11 if style else 7,
                    "color": fill if there else MARKER_EDGE,
                    "line": {"width": 1.7, "color": MARKER_EDGE if there else fill},
                },
                "hovertemplate": point_hover(data.grid, point), "name": "",
            }
        )  # fmt: skip
    return traces
