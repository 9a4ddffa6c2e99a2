"""Spectral densities of one variant in several runs, over each other: the baseline is grey and solid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.compare_lines import ComparedResult, run_colour, short_name
from quant_lens_engine.figures.density import (
    Densities,
    DensityCurve,
    DensityScale,
    densities,
    density_band,
    density_curve,
    density_layout,
    density_trace,
    peak_label,
)
from quant_lens_engine.figures.frame import FigureSpec, framed, plain
from quant_lens_engine.figures.lambda_axis import LambdaScale
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.spectra import known_curvatures
from quant_lens_engine.figures.tokens import GROUND, RUN_MARKERS, Mode

_MARKS = 12
"""Places along the axis where a curve that is high enough shows its run's marker."""


@dataclass(frozen=True)
class ComparedCurve:
    """One run's curve, with the run's marker and where along the axis it begins to show it, as a share of a step."""

    run: ComparedResult
    curve: DensityCurve
    marker: str
    phase: float


@dataclass(frozen=True)
class ComparedDensities:
    """The runs whose variant has a density, in the order of the comparison, and the axes that show all of them."""

    items: list[ComparedCurve]
    shared: Densities


def gather_compared_densities(
    runs: Sequence[ComparedResult], scale: DensityScale = "log", horizontal: LambdaScale = "linear"
) -> ComparedDensities | None:
    """The density of each run's variant; None where no run has one."""
    items = []
    for place, run in enumerate(runs):
        known = {style.name: (style, curvature) for style, curvature in known_curvatures(run.result)}
        curve = density_curve(*known[run.variant]) if run.variant in known else None
        if curve is not None:
            items.append(ComparedCurve(run, curve, RUN_MARKERS[place % len(RUN_MARKERS)], place / len(runs)))
    if not items:
        return None
    unit = loss_unit(*(item.run.result.task for item in items))
    return ComparedDensities(items, densities([item.curve for item in items], scale, horizontal, unit))


def draw_compared_densities(data: ComparedDensities, mode: Mode) -> FigureSpec:
    """Bands, then curves with a few marks each; each labelled with its run at its largest eigenvalue."""
    shared = data.shared
    traces, labels = [], []
    for item in data.items:
        traces += density_band(item.curve, run_colour(item.run, item.curve.style, mode), shared)
    for item in data.items:
        style, colour = item.curve.style, run_colour(item.run, item.curve.style, mode)
        name = f"{item.run.letter} {plain(style.label)}"
        dash = "solid" if item.run.baseline else style.dash
        traces += [density_trace(item.curve, name, colour, dash, shared.axis), _marks(item, shared, colour, mode)]
        text = f"{item.run.letter}  {short_name(item.run.name)}"
        labels.append(peak_label(item.curve, shared, text, run_colour(item.run, style, mode, ink=True)))
    longest = max(len(short_name(item.run.name)) for item in data.items) + 3
    revision = f"compare-density-{shared.scale}-{shared.horizontal}"
    return framed(mode, traces, uirevision=revision, **density_layout(mode, shared, labels, longest))


def _marks(item: ComparedCurve, shared: Densities, colour: str, mode: Mode) -> dict[str, Any]:
    """The run's marker at λmax and here and there before it, where the curve can be seen."""
    axis, density, floor = shared.axis, item.curve.density, shared.y_range[0]
    top = item.curve.curvature.lambda_max.value
    spots: dict[int, float] = {}
    for x, y in zip(density.x, density.y, strict=True):
        step = int((axis.share(x) * _MARKS - item.phase) // 1)
        if y > 3 * floor and y > item.curve.at(spots.get(step, x)) * (step in spots):
            spots[step] = x
    if top is not None:
        spots[int((axis.share(top) * _MARKS - item.phase) // 1)] = top
    places = list(spots.values())
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [axis.place(x) for x in places],
        "y": [item.curve.at(x) or None for x in places],
        "marker": {"symbol": item.marker, "size": 8, "color": GROUND[mode].surface,
                   "line": {"width": 1.6, "color": colour}},
        "hoverinfo": "skip",
    }  # fmt: skip


def describe_compared_densities(data: ComparedDensities) -> str:
    """How the curves are read."""
    said = "Colour and dash: variant. Marker: run, the last at λmax."
    return f"{said} Grey: the baseline." if any(item.run.baseline for item in data.items) else said


def tabulate_compared_densities(data: ComparedDensities) -> DataTable:
    """One row a point of a run's curve: each has a grid of its own."""
    rows = [
        (f"{item.run.letter} {item.run.name}", item.curve.style.name, x, y)
        for item in data.items
        for x, y in zip(item.curve.density.x, item.curve.density.y, strict=True)
    ]
    return DataTable(("run", "variant", "lambda", "density"), rows)


figure(
    Chart(
        "compare-density", "Spectral density", gather_compared_densities, draw_compared_densities,
        describe_compared_densities, tabulate_compared_densities, many=True,
    )
)  # fmt: skip
