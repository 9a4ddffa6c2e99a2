"""Spectral densities of one variant in several runs, over each other: the baseline is grey and solid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from quant_lens_engine.figures.spectra import known_curvatures
from quant_lens_engine.figures.tokens import Mode


@dataclass(frozen=True)
class ComparedDensities:
    """The runs whose variant has a density, in the order of the comparison."""

    curves: list[tuple[ComparedResult, DensityCurve]]
    shared: Densities
    """The axes, which show all of them."""


def gather_compared_densities(
    runs: Sequence[ComparedResult], scale: DensityScale = "log", horizontal: LambdaScale = "linear"
) -> ComparedDensities | None:
    """The density of each run's variant; None where no run has one."""
    curves = []
    for run in runs:
        known = {style.name: (style, curvature) for style, curvature in known_curvatures(run.result)}
        curve = density_curve(*known[run.variant]) if run.variant in known else None
        if curve is not None:
            curves.append((run, curve))
    if not curves:
        return None
    return ComparedDensities(curves, densities([curve for _, curve in curves], scale, horizontal))


def draw_compared_densities(data: ComparedDensities, mode: Mode) -> FigureSpec:
    """Bands, then curves; each labelled with its run at its largest eigenvalue."""
    shared = data.shared
    traces = [
        trace for run, curve in data.curves for trace in density_band(curve, run_colour(run, curve.style, mode), shared)
    ]
    labels = []
    for run, curve in data.curves:
        dash = "solid" if run.baseline else curve.style.dash
        name = f"{run.letter} {plain(curve.style.label)}"
        traces.append(density_trace(curve, name, run_colour(run, curve.style, mode), dash, shared.axis))
        text = f"{run.letter}  {short_name(run.name)}"
        labels.append(peak_label(curve, shared, text, run_colour(run, curve.style, mode, ink=True)))
    longest = max(len(short_name(run.name)) for run, _ in data.curves) + 3
    revision = f"compare-density-{shared.scale}-{shared.horizontal}"
    return framed(mode, traces, uirevision=revision, **density_layout(mode, shared, labels, longest))


def describe_compared_densities(data: ComparedDensities) -> str:
    """How the curves are read."""
    said = "The letter says the run; each label stands at λmax."
    return f"{said} Grey: the baseline." if any(run.baseline for run, _ in data.curves) else said


def tabulate_compared_densities(data: ComparedDensities) -> DataTable:
    """One row a point of a run's curve: each has a grid of its own."""
    rows = [
        (f"{run.letter} {run.name}", curve.style.name, x, y)
        for run, curve in data.curves
        for x, y in zip(curve.density.x, curve.density.y, strict=True)
    ]
    return DataTable(("run", "variant", "lambda", "density"), rows)


figure(
    Chart(
        "compare-density", "Spectral density", gather_compared_densities, draw_compared_densities,
        describe_compared_densities, tabulate_compared_densities, many=True,
    )
)  # fmt: skip
