"""Spectral density: which eigenvalues the Hessian of every variant has, and how many of each, with the band."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Any, Literal

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, vertical_line, x_axis, y_axis
from quant_lens_engine.figures.lambda_axis import LAMBDA_SCALES, LambdaAxis, LambdaScale, lambda_axis
from quant_lens_engine.figures.loss_axis import log_ticks
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.smooth_curve import refined
from quant_lens_engine.figures.spectra import LETTER_PX, PeakLabel, exponents, known_curvatures, peak_annotations
from quant_lens_engine.figures.tokens import GROUND, Mode, transparent
from quant_lens_engine.figures.variant_style import VariantStyle
from quant_lens_engine.schema import FLOAT_VARIANT, Curvature, Density, RunResult, numbers

DensityScale = Literal["log", "linear"]
DENSITY_SCALES: dict[DensityScale, str] = {"log": "Log density", "linear": "Linear density"}
HEIGHT = 360

_BAND_OPACITY = 0.12
_FAINTEST = 0.1
"""A log axis starts at a tenth of what one single eigenvalue shows: below that are only the tails of the Gaussian."""
_CLOSE = 0.006
"""Points of a curve stand no further apart than this share of the axis: some five pixels."""
_PLOT_PX = (900.0, HEIGHT - 50.0)


@dataclass(frozen=True)
class DensityCurve:
    """One variant's density; ``single`` is the height that one eigenvalue of all of them has."""

    style: VariantStyle
    density: Density
    curvature: Curvature
    single: float

    def at(self, x: float) -> float:
        """The density at the grid's point nearest to ``x``."""
        place = min(bisect.bisect_left(self.density.x, x), len(self.density.x) - 1)
        return self.density.y[place]


@dataclass(frozen=True)
class Densities:
    """The densities in the run's order, and the scales of the vertical and the horizontal axis."""

    scale: DensityScale
    curves: list[DensityCurve]
    horizontal: LambdaScale = "linear"
    unit: str = "nats"

    @property
    def axis(self) -> LambdaAxis:
        """From the smallest to the largest eigenvalue of all of them, zero included."""
        return lambda_axis(
            self.horizontal,
            min(curve.density.x[0] for curve in self.curves),
            max(curve.density.x[-1] for curve in self.curves),
            [curve.density.width or 0.0 for curve in self.curves],
            self.unit,
        )

    @property
    def y_range(self) -> tuple[float, float]:
        """In data units."""
        high = max(max([*curve.density.y, *curve.density.high]) for curve in self.curves) or 1.0
        if self.scale == "linear":
            return 0.0, 1.04 * high
        return min(high / 100, _FAINTEST * min(curve.single for curve in self.curves)), 2 * high


def density_curve(style: VariantStyle, curvature: Curvature) -> DensityCurve | None:
    """The curve of a variant; None where no density was measured."""
    density = curvature.density
    if density is None or len(density.x) < 2 or len(density.x) != len(density.y):
        return None
    width, rows = density.width or (density.x[-1] - density.x[0]) / 100 or 1.0, curvature.dimension or 1000
    return DensityCurve(style, density, curvature, 1 / (rows * width * math.sqrt(2 * math.pi)))


def gather_density(
    result: RunResult, scale: DensityScale = "log", horizontal: LambdaScale = "linear"
) -> Densities | None:
    """The densities of the variants that have one; None where none has."""
    found = [density_curve(style, curvature) for style, curvature in known_curvatures(result)]
    curves = [curve for curve in found if curve is not None]
    return densities(curves, scale, horizontal, loss_unit(result.task)) if curves else None


def densities(curves: list[DensityCurve], scale: DensityScale, horizontal: LambdaScale, unit: str) -> Densities:
    """Curves on the axes that were asked for; on the usual ones where there are no such axes."""
    return Densities(
        scale if scale in DENSITY_SCALES else "log",
        curves,
        horizontal if horizontal in LAMBDA_SCALES else "linear",
        unit,
    )


def draw_density(data: Densities, mode: Mode) -> FigureSpec:
    """Bands first, then the curves, each labelled at the peak of its largest eigenvalue."""
    traces = [trace for curve in data.curves for trace in density_band(curve, curve.style.fill[mode], data)]
    traces += [
        density_trace(curve, plain(curve.style.label), curve.style.fill[mode], curve.style.dash, data.axis)
        for curve in data.curves
    ]
    labels = [peak_label(curve, data, curve.style.label, curve.style.ink[mode]) for curve in data.curves]
    longest = max(len(curve.style.label) for curve in data.curves)
    return framed(
        mode,
        traces,
        uirevision=f"density-{data.scale}-{data.horizontal}",
        **density_layout(mode, data, labels, longest),
    )


def density_layout(mode: Mode, data: Densities, labels: list[PeakLabel], longest: int) -> dict[str, Any]:
    """The layout of every chart of densities: both axes, zero, labels at the peaks of λmax."""
    log = data.scale == "log"
    return {
        "height": HEIGHT,
        "left": 60,
        "right": 24 + round(LETTER_PX * longest),
        "shapes": [vertical_line(0, GROUND[mode].axis)],
        "annotations": peak_annotations(labels, *_PLOT_PX),
        "xaxis": x_axis(mode, data.axis.title, **data.axis.plotly()),
        "yaxis": y_axis(mode, "density  (share per λ, log)" if log else "density  (share per λ)",
                        **_density_axis(data)),
    }  # fmt: skip


def _density_axis(data: Densities) -> dict[str, Any]:
    if data.scale == "linear":
        return {"type": "linear", "range": list(data.y_range)}
    ticks = log_ticks(*data.y_range)
    words = [numbers.number(tick, digits=1) for tick in ticks]
    return {"type": "log", "range": exponents(data.y_range), "tickvals": ticks, "ticktext": words}


def peak_label(curve: DensityCurve, data: Densities, text: str, colour: str) -> PeakLabel:
    """The label of a curve at its largest eigenvalue, on whichever scale."""
    axis, (low, high) = data.axis, data.y_range
    top = curve.curvature.lambda_max.value
    x = curve.density.x[-1] if top is None else top
    y = min(max(curve.at(x), low), high)
    if data.scale == "log":
        low, high, y = math.log10(low), math.log10(high), math.log10(y)
    return PeakLabel((axis.share(x), (y - low) / (high - low)), (axis.place(x), y), text, colour)


def density_trace(curve: DensityCurve, name: str, colour: str, dash: str, axis: LambdaAxis) -> dict[str, Any]:
    """The curve; a zero has no place on a log axis."""
    xs, ys = _smooth(curve.density.x, curve.density.y, axis)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [axis.place(x) for x in xs],
        "y": [value if value > 0 else None for value in ys],
        "customdata": xs,
        "line": {"width": 2, "color": colour, "dash": dash},
        "hovertemplate": f"<b>{name}</b><br>λ %{{customdata:.4g}}<br>density %{{y:.3g}}<extra></extra>",
        "connectgaps": False,
    }


def density_band(curve: DensityCurve, colour: str, data: Densities) -> list[dict[str, Any]]:
    """The band over start vectors, without an edge; nothing for a single run."""
    density = curve.density
    if len(density.low) != len(density.x) or len(density.high) != len(density.x):
        return []
    floor = data.y_range[0] / 10 if data.scale == "log" else 0.0
    above, high = _smooth(density.x, [max(value, floor) for value in density.high], data.axis)
    below, low = _smooth(density.x, [max(value, floor) for value in density.low], data.axis)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [data.axis.place(x) for x in [*above, *below[::-1]]],
            "y": [*high, *low[::-1]],
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": transparent(colour, _BAND_OPACITY),
            "hoverinfo": "skip",
        }
    ]


def _smooth(x: list[float], y: list[float], axis: LambdaAxis) -> tuple[list[float], list[float]]:
    left, right = axis.range
    return refined(x, y, axis.place, (right - left) * _CLOSE)


def describe_density(data: Densities) -> str:
    """How many eigenvalues are clearly negative, what the band is, and what a log axis does to areas."""
    curve = next((item for item in data.curves if item.style.name == FLOAT_VARIANT), data.curves[0])
    runs, sure = curve.density.runs, curve.density.confidence
    said = [_negative(curve)]
    banded = bool(curve.density.low) and sure is not None
    said.append(
        f"Band: {numbers.percent(sure, digits=2)} over {runs} random starts." if banded else "One random start."
    )
    if data.horizontal == "symlog":
        said.append("Heights are per unit of λ: areas compare on the linear axis only.")
    return " ".join(part for part in said if part)


def _negative(curve: DensityCurve) -> str:
    """``FP32: about 24 (4 to 44) of 2 410 λ are clearly negative.``"""
    counted = curve.curvature.negative
    if counted is None or counted.value is None:
        return ""
    span = numbers.count_span(counted.lower, counted.upper)
    if span and counted.confidence is not None:
        span += f" at {numbers.percent(counted.confidence, digits=2)}"
    value, rows = numbers.count(round(counted.value)), numbers.count(curve.curvature.dimension)
    return f"{curve.style.name}: about {value}{f' ({span})' if span else ''} of {rows} λ are clearly negative."


def tabulate_density(data: Densities) -> DataTable:
    """One row a point of a variant's curve: each has a grid of its own."""
    rows = []
    for curve in data.curves:
        density = curve.density
        banded = len(density.low) == len(density.x) == len(density.high)
        for place, (x, y) in enumerate(zip(density.x, density.y, strict=True)):
            band = (density.low[place], density.high[place]) if banded else (None, None)
            rows.append((curve.style.name, x, y, *band))
    return DataTable(("variant", "lambda", "density", "low", "high"), rows)


figure(Chart("density", "Spectral density", gather_density, draw_density, describe_density, tabulate_density))
