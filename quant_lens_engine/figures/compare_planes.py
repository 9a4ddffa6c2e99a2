"""Planes of several runs side by side: one colour range, one pair of axes for pan and zoom; flat, or as surfaces with
linked cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.compare_lines import ComparedResult, short_name
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.loss_colours import LossColours, LossScale, loss_colours, scale_notes
from quant_lens_engine.figures.plane import (
    SHOWN_ON_PLANE,
    PlaneDrawing,
    isoline_trace,
    path_traces,
    plane_traces,
    point_traces,
    tabulate_plane,
)
from quant_lens_engine.figures.plane_grid import PlaneGrid, plane_grid, plane_pairs
from quant_lens_engine.figures.plane_surface import scene, scene_points, surface_trace
from quant_lens_engine.figures.tokens import GROUND, Mode
from quant_lens_engine.schema import FLOAT_VARIANT, Landscape

PlaneView = Literal["flat", "surface"]
PLANE_VIEWS: dict[PlaneView, str] = {"flat": "2-D", "surface": "3-D"}
MOST_SURFACES = 6
"""Each surface takes a WebGL context; browsers drop the oldest of more than about eight."""
_IN_A_ROW = 4
_PANEL_PX = 300


@dataclass(frozen=True)
class ComparedPlane:
    """One run's plane."""

    run: ComparedResult
    drawing: PlaneDrawing


@dataclass(frozen=True)
class ComparedPlanes:
    """The planes of the runs that have one, on one colour scale.

    Attributes:
        without: letters of the runs that have no such plane.
        notes: where grids or networks of the runs differ.
    """

    planes: list[ComparedPlane]
    colours: LossColours
    view: PlaneView
    without: list[str]
    notes: list[str]

    @property
    def shown(self) -> list[ComparedPlane]:
        """As many as a page can draw."""
        return self.planes[:MOST_SURFACES] if self.view == "surface" else self.planes


def compared_grids(
    runs: Sequence[ComparedResult], landscape: Landscape, pair: str, network: str = ""
) -> list[tuple[ComparedResult, PlaneGrid]]:
    """The plane of each run that has one: of the variant that is compared, else of the float model."""
    wanted = pair or next(iter(plane_pairs([run.result for run in runs])), "")
    found = []
    for run in runs:
        names = [network] if network else [run.variant, FLOAT_VARIANT]
        grids = (plane_grid(run.result, name, landscape, wanted) for name in names)
        grid = next((grid for grid in grids if grid is not None), None)
        if grid is not None:
            found.append((run, grid))
    return found


def gather_compared_planes(
    runs: Sequence[ComparedResult],
    landscape: Landscape = "smooth",
    pair: str = "",
    view: PlaneView = "flat",
    scale: LossScale = "log",
    clip: float | None = None,
) -> ComparedPlanes | None:
    """The planes along one pair of directions; None where no run has one."""
    found = compared_grids(runs, landscape, pair)
    if not found:
        return None
    losses = [value for _, grid in found for value in grid.values]
    colours = loss_colours(losses, scale=scale, clip=clip, unit=found[0][1].unit)
    planes = [ComparedPlane(run, PlaneDrawing(grid, colours, SHOWN_ON_PLANE)) for run, grid in found]
    having = {run.letter for run, _ in found}
    notes = scale_notes(colours, losses)
    networks = {run.letter: grid.variant for run, grid in found if grid.variant != run.variant}
    if networks:
        notes.append("Of the float model's network: the plane of the variant's was not measured.")
    if len({tuple(grid.plane.alphas) for _, grid in found}) > 1:
        notes.append("The grids differ in reach.")
    return ComparedPlanes(planes, colours, view, [run.letter for run in runs if run.letter not in having], notes)


def panel_domains(count: int, *, right: float = 0.0) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Horizontal and vertical domain of each panel, in rows of up to four, from the upper left.

    Example:
        >>> len(panel_domains(6)), panel_domains(2)[1][0][1]
        (6, 1.0)
    """
    columns = min(count, _IN_A_ROW)
    rows = -(-count // columns)
    gap_x, gap_y = 0.05, 0.16
    width = (1 - right - gap_x * (columns - 1)) / columns
    height = (1 - gap_y * (rows - 1)) / rows
    found = []
    for place in range(count):
        column, row = place % columns, place // columns
        left, low = column * (width + gap_x), 1 - (row + 1) * height - row * gap_y
        found.append(((left, min(left + width, 1.0)), (max(low, 0.0), min(low + height, 1.0))))
    return found


def draw_compared_planes(data: ComparedPlanes, mode: Mode) -> FigureSpec:
    """One panel a run, in one figure."""
    return _surfaces(data, mode) if data.view == "surface" else _flat(data, mode)


def _flat(data: ComparedPlanes, mode: Mode) -> FigureSpec:
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    domains = panel_domains(len(data.planes))
    ends = [item.drawing.grid.plane for item in data.planes]
    spans = [[min(grid[0] for grid in grids), max(grid[-1] for grid in grids)]
             for grids in ([plane.alphas for plane in ends], [plane.betas for plane in ends])]  # fmt: skip
    for place, (item, (across, upward)) in enumerate(zip(data.planes, domains, strict=True)):
        suffix = "" if place == 0 else str(place + 1)
        on = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        drawing = item.drawing
        traces += plane_traces(drawing, **on)
        traces += [isoline_trace(drawing, **on)] if drawing.grid.plane.complete else []
        traces += path_traces(drawing, **on) + point_traces(drawing, **on)
        first, matched = place == 0, {} if place == 0 else {"matches": "x"}
        layout[f"xaxis{suffix}"] = x_axis(
            mode, "α", domain=list(across), anchor=f"y{suffix}", range=spans[0], showgrid=False, nticks=4,
            automargin=False, constrain="domain", **matched,
        )  # fmt: skip
        layout[f"yaxis{suffix}"] = y_axis(
            mode, "β" if first else "", domain=list(upward), anchor=f"x{suffix}", range=spans[1], showgrid=False,
            nticks=4, showticklabels=place % _IN_A_ROW == 0, automargin=False, constrain="domain",
            ticks="outside" if place % _IN_A_ROW == 0 else "", ticklen=4, tickcolor=GROUND[mode].axis,
            constraintoward="top", scaleanchor=f"x{suffix}", **({} if first else {"matches": "y"}),
        )  # fmt: skip
    return framed(
        mode, traces, left=56, right=70, height=_height(len(domains)), dragmode="pan",
        margin={"l": 56, "r": 70, "t": 26, "b": 44}, coloraxis=data.colours.axis(mode),
        uirevision="compare-planes-flat",
        annotations=_titles(data, domains, mode), **layout,
    )  # fmt: skip


def _surfaces(data: ComparedPlanes, mode: Mode) -> FigureSpec:
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    domains = panel_domains(len(data.shown))
    for place, (item, (across, upward)) in enumerate(zip(data.shown, domains, strict=True)):
        name = "scene" if place == 0 else f"scene{place + 1}"
        traces += [surface_trace(item.drawing, name), *scene_points(item.drawing, name)]
        domain = {"x": list(across), "y": list(upward)}
        layout[name] = scene(item.drawing, mode, labels=False, domain=domain)
    traces[0] |= {"showscale": True, "colorbar": data.colours.axis(mode)["colorbar"]}
    return framed(
        mode, traces, height=_height(len(domains)), margin={"l": 0, "r": 70, "t": 26, "b": 0},
        uirevision="compare-planes-surface", annotations=_titles(data, domains, mode), **layout,
    )  # fmt: skip


def _height(panels: int) -> int:
    rows = -(-panels // _IN_A_ROW)
    return 70 + rows * _PANEL_PX + (rows - 1) * 50


def _titles(data: ComparedPlanes, domains: Sequence[Any], mode: Mode) -> list[dict[str, Any]]:
    ground = GROUND[mode]
    return [
        {
            "x": across[0], "y": upward[1], "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom",
            "yshift": 3, "showarrow": False, "font": {"size": 12, "color": ground.text},
            "text": f"<b>{item.run.letter}</b>  {plain(short_name(item.run.name))}"
            f"<span style='color:{ground.muted}'>  {plain(item.drawing.grid.variant)}"
            f"{' · ' + item.drawing.grid.progress.rstrip('.') if item.drawing.grid.progress else ''}</span>",
        }
        for item, (across, upward) in zip(data.shown, domains, strict=True)
    ]  # fmt: skip


def describe_compared_planes(data: ComparedPlanes) -> str:
    """What is shared, and what is missing."""
    linked = "cameras are linked" if data.view == "surface" else "pan and zoom are linked"
    said = [f"One colour range; {linked}."]
    if len(data.shown) < len(data.planes):
        said.append(f"3-D shows the first {MOST_SURFACES} runs.")
    if data.without:
        said.append(f"No such plane: {', '.join(data.without)}.")
    return " ".join([*said, *data.notes])


def tabulate_compared_planes(data: ComparedPlanes) -> DataTable:
    """One row a measured point of each run's plane."""
    rows: list[tuple[Any, ...]] = []
    columns: Sequence[str] = ()
    for item in data.planes:
        table = tabulate_plane(item.drawing)
        columns = table.columns
        rows += [(f"{item.run.letter} {item.run.name}", item.drawing.grid.variant, *row) for row in table.rows]
    return DataTable(("run", "variant", *columns), rows)


figure(
    Chart(
        "compare-planes", "Planes", gather_compared_planes, draw_compared_planes, describe_compared_planes,
        tabulate_compared_planes, many=True,
    )
)  # fmt: skip
