"""The same plane as a surface: height and colour are the loss on one scale; drawn on demand, for it takes WebGL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from quant_lens_engine.figures.chart import Chart, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain
from quant_lens_engine.figures.plane import describe_plane, note_plane, tabulate_plane
from quant_lens_engine.figures.plane_drawing import PlaneDrawing, gather_plane
from quant_lens_engine.figures.plane_grid import turned
from quant_lens_engine.figures.plane_hover import hover_numbers, hover_template, point_hover, read_out
from quant_lens_engine.figures.plane_labels import place_labels
from quant_lens_engine.figures.plane_traces import MARKER_EDGE
from quant_lens_engine.figures.tokens import GROUND, SEQUENTIAL, TICK_SIZE, Mode, colour_scale
from quant_lens_engine.schema import FLOAT_VARIANT, PlanePoint

CAMERA = {"eye": {"x": 1.06, "y": -1.06, "z": 1.5}, "center": {"x": 0.0, "y": 0.0, "z": -0.17}}
"""High, so that points in a narrow valley are not hidden behind its rim."""
_LIFT = 0.02
"""Markers stand this share of the height over the surface, so that it does not swallow them."""
_ROOM = 0.01
"""Above and below the surface, as a share of its height: a loss that is cut lies in the lid of the box, which would eat
holes into it."""
_BOX = {"x": 1.1, "y": 1.1, "z": 0.62}
"""The scene's sides."""
_SIDE_PX = 440.0


def draw_surface(data: PlaneDrawing, mode: Mode) -> FigureSpec:
    """One scene; labels are annotations of it and turn with it."""
    plane = data.grid.plane
    return framed(
        mode, [surface_trace(data, "scene"), *scene_points(data, "scene")], left=0, right=0, height=470,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        uirevision=f"surface-{data.grid.variant}-{'~'.join(plane.directions)}",
        meta={"readOut": read_out(data.grid)}, scene=scene(data, mode),
    )  # fmt: skip


def surface_trace(data: PlaneDrawing, name: str) -> dict[str, Any]:
    """The surface with its isolines; a gap is a hole."""
    low, high = data.colours.ends
    levels = data.colours.isolines
    lines: dict[str, Any] = {"show": False}
    if "isolines" in data.shown and levels:
        lines = {
            "show": True, "start": levels[0], "end": levels[-1] + 1e-9, "size": data.colours.iso_step,
            "color": "rgba(255,255,255,0.9)", "width": 1.5, "usecolormap": False, "highlight": False,
        }  # fmt: skip
    return {
        "type": "surface",
        "scene": name,
        "x": data.grid.plane.alphas,
        "y": data.grid.plane.betas,
        "z": turned(data.places),
        "customdata": turned(hover_numbers(data.grid)),
        "hovertemplate": hover_template(data.grid),
        "cmin": low,
        "cmax": high,
        "colorscale": colour_scale(SEQUENTIAL),
        "showscale": False,
        "connectgaps": False,
        "lighting": {"ambient": 0.82, "diffuse": 0.4, "specular": 0.02, "roughness": 0.9, "fresnel": 0.02},
        "contours": {"z": lines, "x": {"highlight": False}, "y": {"highlight": False}},
    }


def scene_points(data: PlaneDrawing, name: str) -> list[dict[str, Any]]:
    """The models on the surface: their own markers, and the paths that lie on it."""
    traces = []
    start, ends = data.start, data.path_ends
    for end in ends if start else []:
        steps = [k / 24 for k in range(25)]
        xs = [start.alpha + t * (end.alpha - start.alpha) for t in steps]  # type: ignore[union-attr]
        ys = [start.beta + t * (end.beta - start.beta) for t in steps]  # type: ignore[union-attr]
        heights = [_height(data, x, y) for x, y in zip(xs, ys, strict=True)]
        traces.append(
            {"type": "scatter3d", "scene": name, "mode": "lines", "x": xs, "y": ys, "z": heights,
             "line": {"width": 4, "color": MARKER_EDGE, "dash": "dot"}, "hoverinfo": "skip"}
        )  # fmt: skip
    for point in data.points:
        height = _height(data, point.alpha, point.beta)
        if height is None:
            continue
        style = data.grid.styles.get(point.name)
        fill, there = style.fill["light"] if style else GROUND["light"].muted, data.grid.on_plane(point)
        traces.append(
            {
                "type": "scatter3d", "scene": name, "mode": "markers", "x": [point.alpha], "y": [point.beta],
                "z": [height], "name": "",
                "marker": {"symbol": _symbol(style.marker if style else "circle"), "size": 5.5,
                           "color": fill if there else MARKER_EDGE,
                           "line": {"width": 2, "color": MARKER_EDGE if there else fill}},
                "hovertemplate": point_hover(data.grid, point),
            }
        )  # fmt: skip
    return traces


def scene(
    data: PlaneDrawing, mode: Mode, *, domain: dict[str, list[float]] | None = None, farther: float = 1.0
) -> dict[str, Any]:
    """Axes, camera (``farther`` away by a factor), and the labels of the models."""
    ground, plane = GROUND[mode], data.grid.plane
    low, high = data.colours.ends
    places, words = data.colours.ticks
    room = _ROOM * (high - low)
    common = {
        "backgroundcolor": ground.surface, "gridcolor": ground.border, "zerolinecolor": ground.border,
        "color": ground.muted, "tickfont": {"size": 10.5, "color": ground.muted}, "showspikes": False, "nticks": 5,
        "showbackground": False,
    }  # fmt: skip
    font = {"size": TICK_SIZE + 1, "color": ground.second}
    return {
        "xaxis": {**common, "title": {"text": "α", "font": font}, "range": [plane.alphas[0], plane.alphas[-1]]},
        "yaxis": {**common, "title": {"text": "β", "font": font}, "range": [plane.betas[0], plane.betas[-1]]},
        "zaxis": {**common, "title": {"text": "L", "font": font}, "range": [low - room, high + room],
                  "tickvals": places, "ticktext": words},
        "camera": CAMERA | {"eye": {axis: farther * place for axis, place in CAMERA["eye"].items()}},
        "aspectmode": "manual",
        "aspectratio": _BOX,
        "dragmode": "turntable",
        "bgcolor": ground.surface,
        "annotations": _scene_labels(data, mode),
        **({"domain": domain} if domain else {}),
    }  # fmt: skip


def _scene_labels(data: PlaneDrawing, mode: Mode) -> list[dict[str, Any]]:
    ground = GROUND[mode]
    named = [
        (point, data.grid.styles[point.name].label, height)
        for point in data.points
        if point.name in data.grid.styles and (height := _height(data, point.alpha, point.beta)) is not None
    ]
    spots = [_on_screen(data, point, height) for point, _, height in named]
    places = place_labels(spots, [len(label) + 1 for _, label, _ in named], (_SIDE_PX, _SIDE_PX))
    return [
        {
            "x": point.alpha, "y": point.beta, "z": height, "text": f"<b>{plain(label)}</b>",
            "font": {"size": TICK_SIZE, "color": ground.text}, "bgcolor": ground.surface,
            "bordercolor": ground.strong, "borderwidth": 1, "borderpad": 3, "showarrow": True, "arrowhead": 0,
            "arrowwidth": 1, "arrowcolor": MARKER_EDGE, "ax": place.ax, "ay": place.ay,
        }
        for (point, label, height), place in zip(named, places, strict=True)
        if place is not None
    ]  # fmt: skip


def _on_screen(data: PlaneDrawing, point: PlanePoint, height: float) -> tuple[float, float]:
    """Where a point is seen before anyone has turned the scene, in pixels, about: labels are placed by it."""
    plane, (low, high) = data.grid.plane, data.colours.ends
    shares = (
        (point.alpha - plane.alphas[0]) / (plane.alphas[-1] - plane.alphas[0]),
        (point.beta - plane.betas[0]) / (plane.betas[-1] - plane.betas[0]),
        (height - low) / (high - low),
    )
    x, y, z = ((share - 0.5) * side for share, side in zip(shares, _BOX.values(), strict=True))
    eye, middle = CAMERA["eye"], CAMERA["center"]
    flat = math.hypot(eye["x"], eye["y"])
    far = math.hypot(flat, eye["z"] - middle["z"])
    right = (-x * eye["y"] + y * eye["x"]) / flat
    towards = (x * eye["x"] + y * eye["y"]) / flat
    up = ((z - middle["z"]) * flat - towards * (eye["z"] - middle["z"])) / far
    depth = far - (towards * flat + (z - middle["z"]) * (eye["z"] - middle["z"])) / far
    zoom = _SIDE_PX * 1.2 / depth
    return _SIDE_PX / 2 + right * zoom, _SIDE_PX / 2 - up * zoom


def _height(data: PlaneDrawing, alpha: float, beta: float) -> float | None:
    """The drawn surface at a place, bilinear; a little above it. None over a gap."""
    plane, colours = data.grid.plane, data.colours
    row, right = _cell(plane.alphas, alpha)
    column, up = _cell(plane.betas, beta)
    corners = [colours.place(plane.loss[row + i][column + j]) for i in (0, 1) for j in (0, 1)]
    if any(value is None for value in corners):
        return None
    one, two, three, four = (value for value in corners if value is not None)
    low, high = colours.ends
    flat = (one * (1 - up) + two * up) * (1 - right) + (three * (1 - up) + four * up) * right
    return flat + _LIFT * (high - low)


def _cell(axis: Sequence[float], value: float) -> tuple[int, float]:
    step = (axis[-1] - axis[0]) / (len(axis) - 1)
    place = min(max((value - axis[0]) / step, 0.0), len(axis) - 1.0)
    index = min(int(place), len(axis) - 2)
    return index, place - index


def _symbol(marker: str) -> str:
    """3-D has fewer markers."""
    plain_name = marker.removesuffix("-open")
    return plain_name if plain_name in {"circle", "square", "diamond", "cross"} else "diamond"


def describe_surface(data: PlaneDrawing) -> str:
    """What the flat plane says, and where the labels' points stand."""
    aside = [point for point in data.points if point.name != FLOAT_VARIANT and not data.grid.on_plane(point)]
    beside = " Beside it: " + ", ".join(point.name for point in aside) + "." if aside else ""
    return describe_plane(data).replace(" Hollow: beside the plane.", beside)


figure(
    Chart(
        "plane-surface", "The same plane in 3-D", gather_plane, draw_surface, describe_surface, tabulate_plane,
        note=note_plane,
    )
)  # fmt: skip
