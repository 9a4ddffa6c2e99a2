"""The loss over two directions, as a contour: levels, labelled isolines, the models on it and the paths between them.

A plane that is not complete is drawn as what is measured and no more: cells without smoothing, a line at the front, a
dashed frame where rows are to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.loss_axis import tick_text
from quant_lens_engine.figures.loss_colours import ColourRange, LossColours, LossScale, loss_colours, scale_notes
from quant_lens_engine.figures.plane_grid import PlaneGrid, distance_at, pair_words, plane_grid, run_range, turned
from quant_lens_engine.figures.plane_labels import PlacedLabel, isoline_spots, place_labels
from quant_lens_engine.figures.tokens import GROUND, TICK_SIZE, Mode
from quant_lens_engine.figures.variant_style import VariantStyle
from quant_lens_engine.schema import FLOAT_VARIANT, Landscape, PlanePoint, RunResult, numbers

SHOWN_ON_PLANE = ("points", "path", "isolines")
"""What a plane shows over its colours, each by choice."""

MARGIN_PX = {"left": 62, "right": 74, "top": 8, "bottom": 48}
_SIDE_PX = 470.0
"""The plot's side that labels are placed for; on a larger plot they only get more room."""
_ISO_WHITE, _HAIR_WHITE = "rgba(255,255,255,0.75)", "rgba(255,255,255,0.2)"
MARKER_EDGE = "#ffffff"


@dataclass(frozen=True)
class PlaneDrawing:
    """A plane with its colours and what is shown over them."""

    grid: PlaneGrid
    colours: LossColours
    shown: tuple[str, ...]

    @property
    def places(self) -> list[list[float | None]]:
        """The grid on the colour scale, ``[alpha][beta]``."""
        return self.colours.placed(self.grid.plane.loss)

    @property
    def points(self) -> list[PlanePoint]:
        """The models that can be seen."""
        return (
            [point for point in self.grid.plane.points if self.grid.in_sight(point)] if "points" in self.shown else []
        )

    @property
    def path_ends(self) -> list[PlanePoint]:
        """The models on the plane that a path from the float model leads to."""
        if "path" not in self.shown or self.start is None:
            return []
        return [
            point
            for point in self.grid.plane.points
            if point.name != FLOAT_VARIANT and self.grid.in_sight(point) and self.grid.on_plane(point)
        ]

    @property
    def start(self) -> PlanePoint | None:
        """The float model, where it lies on the plane."""
        return next(
            (
                point
                for point in self.grid.plane.points
                if point.name == FLOAT_VARIANT and self.grid.on_plane(point) and self.grid.in_sight(point)
            ),
            None,
        )


def gather_plane(
    result: RunResult,
    landscape: Landscape = "smooth",
    pair: str = "",
    variant: str = FLOAT_VARIANT,
    scale: LossScale = "log",
    colours: ColourRange = "run",
    clip: float | None = None,
    shown: Sequence[str] = SHOWN_ON_PLANE,
) -> PlaneDrawing | None:
    """The plane of a variant along a pair of directions; the first there is where none is named."""
    grid = plane_grid(result, variant, landscape, pair)
    if grid is None:
        return None
    own = list(grid.values)
    wide = run_range(result, "~".join(grid.plane.directions)) if colours == "run" else None
    return PlaneDrawing(grid, loss_colours(wide or own, scale=scale, clip=clip, unit=grid.unit), tuple(shown))


def draw_plane(data: PlaneDrawing, mode: Mode) -> FigureSpec:
    """Colours, then isolines, paths, points and their labels."""
    plane = data.grid.plane
    traces = plane_traces(data)
    if plane.complete and "isolines" in data.shown:
        traces.append(isoline_trace(data))
    traces += path_traces(data)
    traces += point_traces(data)
    labels = list(_labels(data))
    notes = [*_point_notes(labels, mode), *_isoline_notes(data, [label for _, label in labels if label])]
    span = [[grid[0], grid[-1]] for grid in (plane.alphas, plane.betas)]
    shapes, waiting = _front(data, mode)
    return framed(
        mode, traces, left=MARGIN_PX["left"], right=MARGIN_PX["right"], height=_height(),
        uirevision=f"plane-{data.grid.variant}-{'~'.join(plane.directions)}",
        hovermode="closest", shapes=shapes, annotations=notes + waiting, dragmode="pan",
        coloraxis=data.colours.axis(mode),
        xaxis=x_axis(mode, plain(data.grid.axis_title(0)), range=span[0], constrain="domain", constraintoward="right",
                     showgrid=False, automargin=False, nticks=7, showline=False),
        yaxis=y_axis(mode, plain(data.grid.axis_title(1)), range=span[1], constrain="domain", showgrid=False,
                     automargin=False, nticks=7, ticks="outside", ticklen=4, tickcolor=GROUND[mode].axis,
                     **({"scaleanchor": "x"} if plane.isometric else {})),
    )  # fmt: skip


def _height() -> int:
    return round(_SIDE_PX) + MARGIN_PX["top"] + MARGIN_PX["bottom"]


def plane_traces(data: PlaneDrawing, **more: Any) -> list[dict[str, Any]]:
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
        **more,
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


def isoline_trace(data: PlaneDrawing, **more: Any) -> dict[str, Any]:
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
        **more,
    }  # fmt: skip


def hover_numbers(grid: PlaneGrid) -> list[list[Any]]:
    """Behind each cell: loss, its rise from the float model's, accuracy in per cent, distance; gaps are null."""
    plane, rows = grid.plane, []
    for place, alpha in enumerate(plane.alphas):
        row = []
        for other, beta in enumerate(plane.betas):
            loss = plane.loss[place][other]
            rise = None if loss is None or grid.reference is None else loss - grid.reference
            seen = plane.accuracy[place][other] if plane.accuracy else None
            distance = distance_at(plane, alpha, beta)
            row.append([_digits(value) for value in (loss, rise, None if seen is None else 100 * seen, distance)])
        rows.append(row)
    return rows


def hover_template(grid: PlaneGrid) -> str:
    """α, β, loss, rise, and what else is known."""
    parts = ["α %{x:.4g}   β %{y:.4g}", f"<b>L %{{customdata[0]:.4g}}</b> {grid.unit}"]
    if grid.reference is not None:
        parts.append("%{customdata[1]:+.3g} from FP32")
    if grid.plane.accuracy:
        parts.append("accuracy %{customdata[2]:.3g} %")
    if grid.plane.isometric:
        parts.append(f"distance %{{customdata[3]:.3g}} {plain(grid.plane.units[0] if grid.plane.units else '')}")
    return "<br>".join(parts) + "<extra></extra>"


def path_traces(data: PlaneDrawing, **more: Any) -> list[dict[str, Any]]:
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
    return [{"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": line, "hoverinfo": "skip", **more}]


def point_traces(data: PlaneDrawing, **more: Any) -> list[dict[str, Any]]:
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
                "hovertemplate": point_hover(data.grid, point), "name": "", **more,
            }
        )  # fmt: skip
    return traces


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


def _labels(data: PlaneDrawing) -> Iterator[tuple[tuple[PlanePoint, VariantStyle, str], PlacedLabel | None]]:
    named = [(point, data.grid.styles[point.name]) for point in data.points if point.name in data.grid.styles]
    plane = data.grid.plane
    spots = [(_share(plane.alphas, p.alpha) * _SIDE_PX, (1 - _share(plane.betas, p.beta)) * _SIDE_PX) for p, _ in named]
    said = ["" if point.loss is None else f"L {numbers.number(point.loss)}" for point, _ in named]
    letters = [len(style.label) + len(words) + 2 for (_, style), words in zip(named, said, strict=True)]
    placed = place_labels(spots, letters, (_SIDE_PX, _SIDE_PX))
    for (point, style), words, label in zip(named, said, placed, strict=True):
        yield (point, style, words), label


def _point_notes(labels: Sequence[Any], mode: Mode) -> list[dict[str, Any]]:
    ground = GROUND[mode]
    return [
        {
            "x": point.alpha, "y": point.beta, "text": f"<b>{plain(style.label)}</b>  {words}".rstrip(),
            "font": {"size": TICK_SIZE, "color": ground.text}, "bgcolor": ground.surface,
            "bordercolor": ground.strong, "borderwidth": 1, "borderpad": 3, "showarrow": True, "arrowhead": 0,
            "arrowwidth": 1, "arrowcolor": MARKER_EDGE, "ax": label.ax, "ay": label.ay, "standoff": 6,
        }
        for (point, style, words), label in labels
        if label is not None
    ]  # fmt: skip


def _isoline_notes(data: PlaneDrawing, labels: Sequence[PlacedLabel]) -> list[dict[str, Any]]:
    plane = data.grid.plane
    if "isolines" not in data.shown or not plane.complete:
        return []
    boxes = [label.box for label in labels]
    spots = isoline_spots(data.places, data.colours.isolines, boxes, (_SIDE_PX, _SIDE_PX))
    low, high = data.colours.ends
    return [
        {
            "x": plane.alphas[0] + spot.x * (plane.alphas[-1] - plane.alphas[0]),
            "y": plane.betas[0] + spot.y * (plane.betas[-1] - plane.betas[0]),
            "text": numbers.number(data.colours.loss_at(level)) if level else tick_text(data.colours.loss_at(level)),
            "font": {"size": 11, "color": "#14171c" if (level - low) / (high - low) > 0.62 else "#ffffff"},
            "bgcolor": data.colours.colour(level), "borderpad": 1, "showarrow": False,
        }
        for level, spot in spots.items()
    ]  # fmt: skip


def _front(data: PlaneDrawing, mode: Mode) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The frame of the rows to come, a line where measured ones end, and how many are missing."""
    plane = data.grid.plane
    if plane.complete:
        return [], []
    ground, done, alphas = GROUND[mode], set(plane.measured_rows), plane.alphas
    shapes, notes = [], []
    half = (alphas[1] - alphas[0]) / 2 if len(alphas) > 1 else 0.5
    for measured, group in groupby(range(len(alphas)), key=done.__contains__):
        rows = list(group)
        left, right = alphas[rows[0]] - half, alphas[rows[-1]] + half
        if measured:
            continue
        shapes.append(
            {"type": "rect", "x0": max(left, alphas[0]), "x1": min(right, alphas[-1]), "y0": plane.betas[0],
             "y1": plane.betas[-1], "line": {"width": 1, "color": ground.strong, "dash": "3px,3px"}}
        )  # fmt: skip
        for edge, row in ((left, rows[0] - 1), (right, rows[-1] + 1)):
            if row in done:
                shapes.append(
                    {"type": "line", "x0": edge, "x1": edge, "y0": plane.betas[0], "y1": plane.betas[-1],
                     "line": {"width": 2, "color": ground.accent}}
                )  # fmt: skip
        if len(rows) >= len(alphas) / 4:
            words = f"{len(rows)} rows<br>to come"
            notes.append(
                {"x": (left + right) / 2, "y": (plane.betas[0] + plane.betas[-1]) / 2, "text": words,
                 "showarrow": False, "font": {"size": TICK_SIZE, "color": ground.muted}}
            )  # fmt: skip
    return shapes, notes


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
    if grid.asked == "deployed" and grid.variant == FLOAT_VARIANT:
        said.append("The float model's two landscapes are one.")
    if grid.plane.network:
        said.append(f"{grid.plane.network[:1].upper()}{grid.plane.network[1:].rstrip('.')}.")
    return " ".join(said)


def tabulate_plane(data: PlaneDrawing) -> DataTable:
    """One row a point of the grid that is measured."""
    grid, plane = data.grid, data.grid.plane
    rows = []
    for place in sorted(plane.measured_rows):
        for other, beta in enumerate(plane.betas):
            loss = plane.loss[place][other]
            rise = None if loss is None or grid.reference is None else loss - grid.reference
            seen = plane.accuracy[place][other] if plane.accuracy else None
            rows.append((plane.alphas[place], beta, loss, rise, seen, distance_at(plane, plane.alphas[place], beta)))
    return DataTable(("alpha", "beta", "loss", "delta_loss", "accuracy", "distance"), rows)


def plane_title(grid: PlaneGrid) -> str:
    """What a plane is of."""
    return f"{pair_words('~'.join(grid.plane.directions))} · {grid.variant}"


def _share(axis: Sequence[float], value: float) -> float:
    return (value - axis[0]) / ((axis[-1] - axis[0]) or 1.0)


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


figure(Chart("plane", "Loss over two directions", gather_plane, draw_plane, describe_plane, tabulate_plane))
