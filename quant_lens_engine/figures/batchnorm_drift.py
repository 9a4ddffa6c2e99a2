"""How far BatchNorm's running statistics are from the data's: shift of the mean and ratio of the variances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.activation_layers import (
    MOST_ROWS,
    offsets,
    padded,
    row_axis,
    row_lines,
    rows_height,
    rows_left_out,
    segments,
    shown_variants,
)
from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, x_axis
from quant_lens_engine.figures.spectra import exponents, key, lambda_ticks
from quant_lens_engine.figures.tokens import GROUND, Mode
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import FLOAT_VARIANT, NormalizationDrift, RunResult, numbers

_PANELS = ((0.0, 0.47), (0.53, 1.0))
_LEAST_FACTOR = 1.2
"""The axis of ratios spans at least so much on either side of 1."""


@dataclass(frozen=True)
class Drifts:
    """The normalisations of the float model and of a variant, by name."""

    variants: list[tuple[VariantStyle, dict[str, NormalizationDrift]]]
    shown: list[str]

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.variants[-1][1])


def gather_drift(result: RunResult, variant: str = "") -> Drifts | None:
    """The normalisations that were measured; None where there are none."""
    styles = variant_styles(result.variants)
    found = []
    for item in shown_variants(result, variant):
        layers = (
            {layer.name: layer for layer in item.batchnorm.layers if layer.reason is None} if item.batchnorm else {}
        )
        if layers:
            found.append((styles[item.name], layers))
    if not found:
        return None
    last = found[-1][1]
    worst = sorted(last, key=lambda name: -(last[name].mean_shift_rms or 0.0))[:MOST_ROWS]
    return Drifts(found, [name for name in last if name in set(worst)])


def draw_drift(data: Drifts, mode: Mode) -> FigureSpec:
    """Two panels over the same rows: shift of the mean from 0, ratio of the variances around 1."""
    traces = []
    for (style, layers), offset in zip(data.variants, offsets(len(data.variants)), strict=True):
        traces += _shifts(data, style, layers, offset, mode) + _ratios(data, style, layers, offset, mode)
    ground = GROUND[mode]
    span = _ratio_span(data)
    axes: dict[str, Any] = {
        "xaxis": x_axis(mode, "shift of the mean  |μ<sub>data</sub> − μ<sub>running</sub>| / σ<sub>running</sub>  (σ)",
                        domain=list(_PANELS[0]), range=_shift_range(data)),
        "xaxis2": x_axis(mode, "ratio of the variances  σ²<sub>data</sub> / σ²<sub>running</sub>  (log)",
                         domain=list(_PANELS[1]), type="log", range=exponents(span), **lambda_ticks(*span)),
    }  # fmt: skip
    lines = [
        {"type": "line", "xref": ref, "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1,
         "line": {"width": 1.2, "color": ground.axis}}
        for ref, at in (("x", 0), ("x2", 1))
    ]  # fmt: skip
    return framed(
        mode,
        traces,
        height=rows_height(data.shown),
        margin={"l": 60, "r": 20, "t": 28, "b": 46},
        showlegend=True,
        legend=key(mode),
        **axes,
        yaxis=row_axis(mode, data.shown),
        shapes=[*row_lines(mode, data.shown), *lines],
        uirevision="batchnorm",
    )


def _shifts(
    data: Drifts, style: VariantStyle, layers: dict[str, NormalizationDrift], offset: float, mode: Mode
) -> list[dict[str, Any]]:
    rows = [layers.get(name, NormalizationDrift(name=name)) for name in data.shown]
    line = segments([(0.0, item.mean_shift_worst) for item in rows], offset)
    marker = _marker(style, mode)
    return [
        _line(style, line, mode, "x"),
        _points(style, rows, [item.mean_shift_rms for item in rows], offset, marker, "x", named=True),
        _points(style, rows, [item.mean_shift_worst for item in rows], offset,
                marker | {"symbol": "line-ns", "size": 10, "line": {"width": 2, "color": style.fill[mode]}}, "x"),
    ]  # fmt: skip


def _ratios(
    data: Drifts, style: VariantStyle, layers: dict[str, NormalizationDrift], offset: float, mode: Mode
) -> list[dict[str, Any]]:
    rows = [layers.get(name, NormalizationDrift(name=name)) for name in data.shown]
    line = segments([(item.variance_ratio_min, item.variance_ratio_max) for item in rows], offset)
    return [
        _line(style, line, mode, "x2"),
        _points(style, rows, [item.variance_ratio for item in rows], offset, _marker(style, mode), "x2"),
    ]


def _line(style: VariantStyle, line: tuple[list[Any], list[Any]], mode: Mode, axis: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": line[0], "y": line[1], "xaxis": axis, "hoverinfo": "skip",
        "showlegend": False, "legendgroup": style.name, "line": {"color": style.fill[mode], "width": 1.4},
    }  # fmt: skip


def _marker(style: VariantStyle, mode: Mode) -> dict[str, Any]:
    colour = style.fill[mode]
    return {"symbol": style.marker, "size": 8, "color": colour, "line": {"width": 1, "color": colour}}


def _points(
    style: VariantStyle, rows: list[NormalizationDrift], values: list[float | None], offset: float,
    marker: dict[str, Any], axis: str, *, named: bool = False,
) -> dict[str, Any]:  # fmt: skip
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(style.label),
        "legendgroup": style.name,
        "showlegend": named,
        "x": values,
        "y": [place + offset for place in range(len(rows))],
        "xaxis": axis,
        "marker": marker,
        "customdata": [_hover(style, item) for item in rows],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hover(style: VariantStyle, item: NormalizationDrift) -> str:
    low, high = numbers.number(item.variance_ratio_min), numbers.number(item.variance_ratio_max)
    return "<br>".join(
        [
            f"<b>{plain(item.name)}</b>  {plain(style.name)}",
            f"mean: {numbers.number(item.mean_shift_rms)} σ rms, {numbers.number(item.mean_shift_worst)} σ at channel "
            f"{item.worst_channel}",
            f"variance: × {numbers.number(item.variance_ratio)} ({low} to {high})",
        ]
    )


def _shift_range(data: Drifts) -> list[float]:
    return padded(layers[name].mean_shift_worst for _, layers in data.variants for name in data.shown if name in layers)


def _ratio_span(data: Drifts) -> tuple[float, float]:
    """Around 1, the same factor to both sides."""
    ratios = [
        end
        for _, layers in data.variants
        for name in data.shown
        if (item := layers.get(name)) is not None
        for end in (item.variance_ratio_min, item.variance_ratio_max, item.variance_ratio)
        if end is not None and end > 0
    ]
    most = max((abs(math.log(ratio)) for ratio in ratios), default=0.0)
    factor = math.exp(1.08 * max(most, math.log(_LEAST_FACTOR)))
    return 1 / factor, factor


def describe_drift(data: Drifts) -> str:
    """Which normalisation has drifted most under the variant, and whether the float model's have."""
    style, layers = data.variants[-1]
    worst = max(layers.values(), key=lambda item: item.mean_shift_rms or 0.0)
    said = f"{style.name}: {worst.name} has drifted most, by {numbers.number(worst.mean_shift_rms)} σ rms"
    base, known = data.variants[0]
    if base.name == FLOAT_VARIANT and len(data.variants) > 1 and worst.name in known:
        said += f" (FP32 {numbers.number(known[worst.name].mean_shift_rms)})"
    how = "Mark: rms over channels, geometric mean; line: to the worst channel, from smallest to largest."
    return f"{said}. {how}{rows_left_out(len(data.shown), data.total, 'that have drifted most')}"


def tabulate_drift(data: Drifts) -> DataTable:
    """One row a normalisation and variant."""
    columns = ("layer", "variant", "channels", "mean_shift_rms", "mean_shift_worst", "worst_channel",
               "variance_ratio", "variance_ratio_min", "variance_ratio_max")  # fmt: skip
    rows = [
        (name, style.name, item.channels, item.mean_shift_rms, item.mean_shift_worst, item.worst_channel,
         item.variance_ratio, item.variance_ratio_min, item.variance_ratio_max)
        for name in data.variants[-1][1]
        for style, layers in data.variants
        if (item := layers.get(name)) is not None
    ]  # fmt: skip
    return DataTable(columns, rows)


figure(Chart("batchnorm-drift", "BatchNorm: running statistics and the data's", gather_drift, draw_drift,
             describe_drift, tabulate_drift))  # fmt: skip
