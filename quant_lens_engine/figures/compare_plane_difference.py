"""A run's plane minus the baseline's: diverging colours centred on zero, only where both mean the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.compare_lines import ComparedResult, short_name
from quant_lens_engine.figures.compare_planes import compared_grids, panel_domains
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.plane_grid import Grid, PlaneGrid, turned
from quant_lens_engine.figures.plane_hover import INTERPOLATED, MEASURED
from quant_lens_engine.figures.same_directions import directions_differ
from quant_lens_engine.figures.tokens import DIVERGING, GROUND, TICK_SIZE, Mode, colour_scale
from quant_lens_engine.schema import Landscape

_NEAR = 1e-6


@dataclass(frozen=True)
class PlaneDifference:
    """One run's difference, ``[alpha][beta]``; where there is none, why; and what has to be known of one there is.

    ``sources`` says of each point whether both losses are measured; empty: all are.
    """

    run: ComparedResult
    alphas: list[float]
    betas: list[float]
    values: Grid
    refusal: str = ""
    note: str = ""
    sources: list[list[str]] = field(default_factory=list)

    def source(self, place: int, other: int) -> str:
        """``measured``, or that a loss is interpolated."""
        return self.sources[place][other] if self.sources else MEASURED


@dataclass(frozen=True)
class PlaneDifferences:
    """The difference of every run from the baseline."""

    baseline: ComparedResult
    items: list[PlaneDifference]
    unit: str

    @property
    def drawn(self) -> list[PlaneDifference]:
        """Those that could be taken."""
        return [item for item in self.items if not item.refusal]

    @property
    def largest(self) -> float:
        """The end of the colour scale, on both sides of zero."""
        known = [abs(v) for item in self.drawn for row in item.values for v in row if v is not None]
        return max(known, default=1.0) or 1.0


def gather_differences(
    runs: Sequence[ComparedResult], landscape: Landscape = "smooth", pair: str = ""
) -> PlaneDifferences | None:
    """Every run that has a plane against the baseline's; None where the baseline, or every other run, has none."""
    found = compared_grids(runs, landscape, pair)
    base = next(((run, grid) for run, grid in found if run.baseline), None)
    others = [(run, grid) for run, grid in found if not run.baseline]
    if base is None or not others:
        return None
    items = []
    for run, grid in others:
        refusal = why_not(run, grid, *base)
        values = [] if refusal else _minus(grid.plane.loss, base[1].plane.loss)
        notes = [] if refusal else [_another_checkpoint(run, base[0]), _interpolated_words((run, grid), base)]
        note, sources = "; ".join(filter(None, notes)), [] if refusal else _sources(grid, base[1])
        items.append(PlaneDifference(run, grid.plane.alphas, grid.plane.betas, values, refusal, note, sources))
    return PlaneDifferences(base[0], items, base[1].unit)


def why_not(run: ComparedResult, grid: PlaneGrid, base_run: ComparedResult, base: PlaneGrid) -> str:
    """Why two planes have no difference; empty where they have."""
    one, two = grid.plane, base.plane
    if (grid.variant == run.variant) != (base.variant == base_run.variant):
        return "one of the two is of the float model's network: the variant's was not measured"
    if one.directions != two.directions or one.origin != two.origin or one.units != two.units:
        return "its directions are others"
    if len(one.alphas) != len(two.alphas) or not _close(one.alphas, two.alphas) or not _close(one.betas, two.betas):
        return "its grid is another; ask for both with the same plane.distance and plane.steps"
    if reason := directions_differ(run.result, one, base_run.result, two):
        return reason
    if one.landscape != two.landscape:
        return "its landscape is another"
    if grid.unit != base.unit:
        return "its loss is another"
    return ""


def _another_checkpoint(run: ComparedResult, base: ComparedResult) -> str:
    if run.result.model.sha256 == base.result.model.sha256:
        return ""
    return "another checkpoint, each around its own weights along the same draw"


def _interpolated_words(*found: tuple[ComparedResult, PlaneGrid]) -> str:
    said = [f"of {run.letter} {grid.plane.estimates}" for run, grid in found if grid.plane.estimates]
    return "; ".join(said)


def _sources(*grids: PlaneGrid) -> list[list[str]]:
    """Of every point, by the worse of the two."""
    plane = grids[0].plane
    if all(grid.plane.estimated is None for grid in grids):
        return []
    return [
        [
            INTERPOLATED if any(grid.interpolated(place, other) for grid in grids) else MEASURED
            for other in range(len(plane.betas))
        ]
        for place in range(len(plane.alphas))
    ]


def _close(one: Sequence[float], two: Sequence[float]) -> bool:
    reach = max((abs(value) for value in two), default=1.0) or 1.0
    return len(one) == len(two) and all(abs(a - b) <= _NEAR * reach for a, b in zip(one, two, strict=True))


def _minus(one: Grid, two: Grid) -> Grid:
    return [
        [None if a is None or b is None else a - b for a, b in zip(row, other, strict=True)]
        for row, other in zip(one, two, strict=True)
    ]


def draw_differences(data: PlaneDifferences, mode: Mode) -> FigureSpec:
    """One panel a run; cells as they are, a gap where one of the two has none."""
    ground, drawn = GROUND[mode], data.drawn
    if not drawn:
        note = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False,
                "text": "<br>".join(f"{item.run.letter}: no difference, {item.refusal}" for item in data.items),
                "font": {"size": 12.5, "color": ground.second}}  # fmt: skip
        return framed(mode, [], height=120, annotations=[note], xaxis={"visible": False}, yaxis={"visible": False})
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    notes: list[dict[str, Any]] = []
    domains = panel_domains(max(len(drawn), 2))
    for place, (item, (across, upward)) in enumerate(zip(drawn, domains, strict=False)):
        suffix = "" if place == 0 else str(place + 1)
        traces.append(
            {
                "type": "heatmap", "x": item.alphas, "y": item.betas, "z": turned(item.values), "zsmooth": False,
                "coloraxis": "coloraxis", "xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "hoverongaps": False,
                **_hover(item, data.unit),
            }
        )  # fmt: skip
        first = place == 0
        layout[f"xaxis{suffix}"] = x_axis(
            mode, "α", domain=list(across), anchor=f"y{suffix}", showgrid=False, nticks=4, constrain="domain",
            range=[item.alphas[0], item.alphas[-1]], automargin=False, **({} if first else {"matches": "x"}),
        )  # fmt: skip
        layout[f"yaxis{suffix}"] = y_axis(
            mode, "β" if first else "", domain=list(upward), anchor=f"x{suffix}", showgrid=False, nticks=4,
            range=[item.betas[0], item.betas[-1]], automargin=False, constrain="domain",
            constraintoward="top", scaleanchor=f"x{suffix}",
            **({} if first else {"matches": "y"}),
        )  # fmt: skip
        notes.append(_title(f"{item.run.letter} − {data.baseline.letter}", item.run.name, across[0], upward[1], mode))
    reach = data.largest
    axis = {
        "cmin": -reach, "cmax": reach, "cmid": 0, "colorscale": colour_scale(DIVERGING[mode]),
        "colorbar": {"title": {"text": f"ΔL ({data.unit})", "side": "top", "font": {"size": TICK_SIZE}},
                     "thickness": 10, "outlinewidth": 0, "x": 1.015, "ypad": 0, "nticks": 7,
                     "tickfont": {"size": TICK_SIZE, "color": ground.muted}, "tickformat": "+.2~g"},
    }  # fmt: skip
    return framed(
        mode, traces, height=370, margin={"l": 56, "r": 70, "t": 26, "b": 44}, coloraxis=axis, dragmode="pan",
        uirevision="compare-planes-difference", annotations=notes, **layout,
    )  # fmt: skip


def _hover(item: PlaneDifference, unit: str) -> dict[str, Any]:
    parts = ["α %{x:.4g}   β %{y:.4g}", f"<b>%{{z:+.4g}}</b> {unit}"]
    if not item.sources:
        return {"hovertemplate": "<br>".join(parts) + "<extra></extra>"}
    words = [list(column) for column in zip(*item.sources, strict=True)]
    return {"customdata": words, "hovertemplate": "<br>".join([*parts, "%{customdata}"]) + "<extra></extra>"}


def _title(letters: str, name: str, x: float, y: float, mode: Mode) -> dict[str, Any]:
    return {
        "x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 3,
        "showarrow": False, "font": {"size": 12, "color": GROUND[mode].text},
        "text": f"<b>{letters}</b>  {plain(short_name(name))}",
    }  # fmt: skip


def describe_differences(data: PlaneDifferences) -> str:
    """What is subtracted, and which runs could not be."""
    said = [f"Each run's loss minus {data.baseline.letter}'s, point by point. Blue is lower, so better."]
    said += [f"{item.run.letter}: none, {item.refusal}." for item in data.items if item.refusal]
    said += [f"{item.run.letter}: {item.note}." for item in data.items if item.note]
    return " ".join(said)


def tabulate_differences(data: PlaneDifferences) -> DataTable:
    """One row a point; a run without a difference has one row that says why."""
    rows: list[tuple[Any, ...]] = [
        (f"{item.run.letter} {item.run.name}", alpha, beta, item.values[place][other], item.source(place, other), "")
        for item in data.drawn
        for place, alpha in enumerate(item.alphas)
        for other, beta in enumerate(item.betas)
    ]
    rows += [
        (f"{item.run.letter} {item.run.name}", None, None, None, "", item.refusal)
        for item in data.items
        if item.refusal
    ]
    return DataTable(("run", "alpha", "beta", "delta_loss", "source", "reason"), rows)


figure(
    Chart(
        "compare-plane-difference", "Planes, difference from the baseline", gather_differences, draw_differences,
        describe_differences, tabulate_differences, many=True,
    )
)  # fmt: skip
