"""Planes of several runs side by side: one colour range, one pair of axes for pan and zoom; flat, or as surfaces with
linked cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.compare_lines import ComparedResult, short_name
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.loss_colours import LossColours, LossScale, loss_colours, scale_notes
from quant_lens_engine.figures.method_words import measured_words
from quant_lens_engine.figures.plane import plane_layers, tabulate_plane
from quant_lens_engine.figures.plane_drawing import SHOWN_ON_PLANE, PlaneDrawing
from quant_lens_engine.figures.plane_grid import PlaneGrid, pair_words, plane_grid, plane_pairs
from quant_lens_engine.figures.plane_surface import scene, scene_points, surface_trace
from quant_lens_engine.figures.tokens import GROUND, Mode
from quant_lens_engine.schema import FLOAT_VARIANT, Landscape

PlaneView = Literal["flat", "surface"]
PLANE_VIEWS: dict[PlaneView, str] = {"flat": "2-D", "surface": "3-D"}
MOST_SURFACES = 5
"""Each surface takes a WebGL context, and a picture of them for export one more; browsers drop the oldest of more than
about eight, so a page has six at most."""
_Domain = tuple[tuple[float, float], tuple[float, float]]
_FARTHER = 1.12
"""Cameras stand off by this much more than for a single surface: panels are small, and ticks keep their size."""
_IN_A_ROW = 4
_PANEL_PX = 300
_FEW, _FEW_PX = 3, 430
"""Fewer surfaces than three are wide: a scene's size follows its height."""


@dataclass(frozen=True)
class ComparedPlane:
    """One run's plane."""

    run: ComparedResult
    drawing: PlaneDrawing


@dataclass(frozen=True)
class ComparedPlanes:
    """The planes of the runs that have one, on one colour scale.

    Attributes:
        without: the runs that have no such plane.
        letters: of all runs, in their order.
        pair: the directions that were asked for.
        notes: where grids or networks of the runs differ.
    """

    planes: list[ComparedPlane]
    colours: LossColours
    view: PlaneView
    without: list[ComparedResult]
    letters: list[str]
    pair: str
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
    pair = pair or next(iter(plane_pairs([run.result for run in runs])), "")
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
    without = [run for run in runs if run.letter not in having]
    return ComparedPlanes(planes, colours, view, without, [run.letter for run in runs], pair, notes)


def panel_columns(count: int) -> int:
    """How many panels stand in a row: up to four; five and six in rows of three.

    Example:
        >>> [panel_columns(count) for count in (1, 4, 5, 6, 7, 9)]
        [1, 4, 3, 3, 4, 4]
    """
    return count if count <= _IN_A_ROW else min(_IN_A_ROW, -(-count // 2))


def panel_domains(count: int, *, right: float = 0.0) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Horizontal and vertical domain of each panel, in rows of up to four, from the upper left.

    Example:
        >>> len(panel_domains(6)), panel_domains(2)[1][0][1]
        (6, 1.0)
    """
    columns = panel_columns(count)
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
    domains = _domains(data)
    ends = [item.drawing.grid.plane for item in data.planes]
    spans = [[min(grid[0] for grid in grids), max(grid[-1] for grid in grids)]
             for grids in ([plane.alphas for plane in ends], [plane.betas for plane in ends])]  # fmt: skip
    for place, item in enumerate(data.planes):
        across, upward = domains[item.run.letter]
        is_leftmost = across[0] == 0
        suffix = "" if place == 0 else str(place + 1)
        on = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        traces += [trace | on for trace in plane_layers(item.drawing)]
        first, matched = place == 0, {} if place == 0 else {"matches": "x"}
        layout[f"xaxis{suffix}"] = x_axis(
            mode, "α", domain=list(across), anchor=f"y{suffix}", range=spans[0], showgrid=False, nticks=6,
            automargin=False, constrain="domain", **matched,
        )  # fmt: skip
        layout[f"yaxis{suffix}"] = y_axis(
            mode, "β" if first else "", domain=list(upward), anchor=f"x{suffix}", range=spans[1], showgrid=False,
            nticks=6, showticklabels=is_leftmost, automargin=False, constrain="domain",
            ticks="outside" if is_leftmost else "", ticklen=4, tickcolor=GROUND[mode].axis,
            constraintoward="top", scaleanchor=f"x{suffix}", **({} if first else {"matches": "y"}),
        )  # fmt: skip
    return framed(
        mode, traces, left=56, right=70, height=_height(len(domains)), dragmode="pan",
        margin={"l": 56, "r": 70, "t": 26, "b": 44}, coloraxis=data.colours.axis(mode),
        uirevision="compare-planes-flat",
        annotations=_words(data, domains, mode), shapes=_frames(data, domains, mode), **layout,
    )  # fmt: skip


def _surfaces(data: ComparedPlanes, mode: Mode) -> FigureSpec:
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    domains = _domains(data)
    for place, item in enumerate(data.shown):
        across, upward = domains[item.run.letter]
        name = "scene" if place == 0 else f"scene{place + 1}"
        traces += [surface_trace(item.drawing, name), *scene_points(item.drawing, name)]
        domain = {"x": list(across), "y": list(upward)}
        layout[name] = scene(item.drawing, mode, domain=domain, farther=_FARTHER)
    traces[0] |= {"showscale": True, "colorbar": data.colours.axis(mode)["colorbar"]}
    return framed(
        mode, traces, height=_height(len(domains), _FEW_PX if len(domains) < _FEW else _PANEL_PX),
        margin={"l": 0, "r": 70, "t": 26, "b": 0}, uirevision="compare-planes-surface",
        annotations=_words(data, domains, mode), shapes=_frames(data, domains, mode), **layout,
    )  # fmt: skip


def _domains(data: ComparedPlanes) -> dict[str, _Domain]:
    """The panel of each run, by its letter, in the runs' order: of those without a plane too."""
    there = {item.run.letter for item in data.shown} | {run.letter for run in data.without}
    letters = [letter for letter in data.letters if letter in there]
    return dict(zip(letters, panel_domains(len(letters)), strict=True))


def _height(panels: int, panel_px: int = _PANEL_PX) -> int:
    rows = -(-panels // panel_columns(panels))
    return 70 + rows * panel_px + (rows - 1) * 50


def _words(data: ComparedPlanes, domains: Mapping[str, _Domain], mode: Mode) -> list[dict[str, Any]]:
    """Which run each panel is of, and what stands in the panel of a run that has no such plane."""
    ground = GROUND[mode]
    said = f"This run has no plane<br>{plain(pair_words(data.pair))}.<br>Ask for it: New run → Lines and planes."
    found = []
    for item in data.shown:
        grid = item.drawing.grid
        progress = f" · {grid.progress.rstrip('.')}" if grid.progress else ""
        more = f"<span style='color:{ground.muted}'>  {plain(grid.variant)}{progress}</span>"
        found.append(_title(item.run, domains[item.run.letter], ground.text, more))
    for run in data.without:
        across, upward = domains[run.letter]
        found += [
            _title(run, domains[run.letter], ground.text),
            {"x": sum(across) / 2, "y": sum(upward) / 2, "xref": "paper", "yref": "paper", "xanchor": "center",
             "yanchor": "middle", "showarrow": False, "font": {"size": 12.5, "color": ground.second}, "text": said},
        ]  # fmt: skip
    return found


def _title(run: ComparedResult, domain: _Domain, colour: str, more: str = "") -> dict[str, Any]:
    across, upward = domain
    return {
        "x": across[0], "y": upward[1], "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom",
        "yshift": 3, "showarrow": False, "font": {"size": 12, "color": colour},
        "text": f"<b>{run.letter}</b>  {plain(short_name(run.name))}{more}",
    }  # fmt: skip


def _frames(data: ComparedPlanes, domains: Mapping[str, _Domain], mode: Mode) -> list[dict[str, Any]]:
    return [
        {"type": "rect", "xref": "paper", "yref": "paper", "x0": across[0], "x1": across[1], "y0": upward[0],
         "y1": upward[1], "line": {"color": GROUND[mode].strong, "width": 1, "dash": "dash"}, "layer": "below"}
        for across, upward in (domains[run.letter] for run in data.without)
    ]  # fmt: skip


def describe_compared_planes(data: ComparedPlanes) -> str:
    """What is shared, and what is missing."""
    linked = "cameras are linked" if data.view == "surface" else "pan and zoom are linked"
    said = [f"One colour range; {linked}."]
    if len(data.shown) < len(data.planes):
        said.append(f"3-D shows the first {MOST_SURFACES} runs.")
    if data.without:
        said.append(f"No such plane: {', '.join(run.letter for run in data.without)}.")
    said += [f"{item.run.letter}: {words}" for item in data.shown if (words := measured_words(item.drawing.grid.plane))]
    return " ".join([*said, *data.notes])


def tabulate_compared_planes(data: ComparedPlanes) -> DataTable:
    """One row a measured point of each run's plane."""
    rows: list[tuple[Any, ...]] = []
    columns: Sequence[str] = ()
    sourced = any(item.drawing.grid.plane.estimated is not None for item in data.planes)
    for item in data.planes:
        table = tabulate_plane(item.drawing, sourced)
        columns = table.columns
        rows += [(f"{item.run.letter} {item.run.name}", item.drawing.grid.variant, *row) for row in table.rows]
    return DataTable(("run", "variant", *columns), rows)


figure(
    Chart(
        "compare-planes", "Planes", gather_compared_planes, draw_compared_planes, describe_compared_planes,
        tabulate_compared_planes, many=True,
    )
)  # fmt: skip
