"""What each layer's output reaches: smallest to largest value, 99.8 % of the values, mean and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from quant_lens_engine.figures.activation_layers import (
    VariantLayers,
    known_layers,
    layer_rows,
    offsets,
    padded,
    row_axis,
    row_lines,
    rows_height,
    rows_left_out,
    segments,
)
from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, vertical_line, x_axis
from quant_lens_engine.figures.spectra import key
from quant_lens_engine.figures.tokens import GROUND, Mode, transparent
from quant_lens_engine.schema import OutputStatistics, RunResult, numbers

RangeScale = Literal["value", "sigma"]
RANGE_SCALES: dict[RangeScale, str] = {"value": "Values", "sigma": "In σ of FP32"}

_TITLES: dict[RangeScale, str] = {
    "value": "output  y  (the activation's own unit)",
    "sigma": "output  (y − μ) / σ,  μ and σ of FP32's output",
}


@dataclass(frozen=True)
class ActivationRanges:
    """The variants that are drawn, the float model first, and the layers."""

    scale: RangeScale
    variants: list[VariantLayers]
    shown: list[str]
    total: int

    def place(self, name: str, value: float | None) -> float | None:
        """Where a value of a layer stands; None where its scale has no meaning."""
        if value is None or self.scale == "value":
            return value
        ruler = self.variants[0].layers.get(name)
        known = None if ruler is None else ruler.output
        if known is None or known.mean is None or not known.std:
            return None
        return (value - known.mean) / known.std


def gather_ranges(result: RunResult, variant: str = "", scale: RangeScale = "value") -> ActivationRanges | None:
    """The layers of the float model and of one variant; None where neither is measured."""
    variants = known_layers(result, variant)
    if not variants:
        return None
    shown, total = layer_rows(variants)
    return ActivationRanges(scale if scale in get_args(RangeScale) else "value", variants, shown, total)


def draw_ranges(data: ActivationRanges, mode: Mode) -> FigureSpec:
    """A row a layer: a thin line from the smallest to the largest value, a thick one for 99.8 % of them, a mark at the
    mean with ticks at one standard deviation."""
    traces = []
    for variant, offset in zip(data.variants, offsets(len(data.variants)), strict=True):
        traces += _marks(data, variant, offset, mode)
    return framed(
        mode,
        traces,
        height=rows_height(data.shown),
        margin={"l": 60, "r": 20, "t": 28, "b": 42},
        showlegend=True,
        legend=key(mode),
        xaxis=x_axis(mode, _TITLES[data.scale], range=_range(data)),
        yaxis=row_axis(mode, data.shown),
        shapes=[*row_lines(mode, data.shown), vertical_line(0, GROUND[mode].axis, 1)],
        uirevision=f"ranges-{data.scale}",
    )


def _marks(data: ActivationRanges, variant: VariantLayers, offset: float, mode: Mode) -> list[dict[str, Any]]:
    outputs = [_output(variant, name) for name in data.shown]
    colour, style = variant.style.fill[mode], variant.style

    def spans(low: str, high: str) -> list[tuple[float | None, float | None]]:
        return [
            (data.place(name, getattr(item, low)), data.place(name, getattr(item, high)))
            for name, item in zip(data.shown, outputs, strict=True)
        ]

    whole, most = segments(spans("minimum", "maximum"), offset), segments(spans("low_percentile", "high_percentile"),
                                                                          offset)  # fmt: skip
    quiet = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False, "legendgroup": style.name}
    deviations = [
        (place + offset, data.place(name, item.mean + side * item.std))
        for place, (name, item) in enumerate(zip(data.shown, outputs, strict=True))
        if item.mean is not None and item.std is not None
        for side in (-1, 1)
    ]
    return [
        quiet | {"x": whole[0], "y": whole[1], "line": {"color": colour, "width": 1.2}},
        quiet | {"x": most[0], "y": most[1], "line": {"color": transparent(colour, 0.35), "width": 7}},
        quiet
        | {"mode": "markers", "x": [x for _, x in deviations], "y": [y for y, _ in deviations],
           "marker": {"symbol": "line-ns", "size": 9, "line": {"width": 1.4, "color": colour}}},
        {
            "type": "scatter",
            "mode": "markers",
            "name": plain(style.label),
            "legendgroup": style.name,
            "x": [data.place(name, item.mean) for name, item in zip(data.shown, outputs, strict=True)],
            "y": [place + offset for place in range(len(data.shown))],
            "marker": {"symbol": style.marker, "size": 7, "color": colour, "line": {"width": 1, "color": colour}},
            "customdata": [_hover(variant, name) for name in data.shown],
            "hovertemplate": "%{customdata}<extra></extra>",
        },
    ]  # fmt: skip


def _range(data: ActivationRanges) -> list[float]:
    """All that is drawn, with some room."""
    return padded(
        data.place(name, end)
        for variant in data.variants
        for name in data.shown
        for end in (_output(variant, name).minimum, _output(variant, name).maximum)
    )


def _output(variant: VariantLayers, name: str) -> OutputStatistics:
    layer = variant.layers.get(name)
    return OutputStatistics() if layer is None or layer.output is None else layer.output


def _hover(variant: VariantLayers, name: str) -> str:
    output, layer = _output(variant, name), variant.layers.get(name)
    lines = [
        f"<b>{plain(name)}</b>  {plain(variant.style.name)}",
        f"{numbers.number(output.minimum, digits=4)} to {numbers.number(output.maximum, digits=4)}",
        f"99.8 % in {numbers.number(output.low_percentile)} to {numbers.number(output.high_percentile)}",
        f"mean {numbers.number(output.mean)}, σ {numbers.number(output.std)}",
    ]
    if layer is not None and layer.input is not None:
        given = layer.input
        lines.append(f"input {numbers.number(given.minimum)} to {numbers.number(given.maximum)}")
        if given.low is not None:
            clipped = numbers.percent(given.clipped_share)
            lines.append(f"range {numbers.number(given.low)} to {numbers.number(given.high)}, clips {clipped}")
    return "<br>".join(lines)


def describe_ranges(data: ActivationRanges) -> str:
    """Whose range has grown or shrunk most; how the marks are read."""
    how = "Thin: all values; thick: 99.8 % of them; ticks: mean ± σ."
    left_out = rows_left_out(len(data.shown), data.total)
    if len(data.variants) == 1:
        return f"{how}{left_out}"
    base, variant = data.variants
    changes = {}
    for name in variant.layers:
        before, after = _width(base, name), _width(variant, name)
        if before and after:
            changes[name] = after / before
    if not changes:
        return f"{how}{left_out}"
    most = max(changes, key=lambda name: max(changes[name], 1 / changes[name]))
    if 0.995 < changes[most] < 1.005:
        found = f"{variant.style.name} keeps FP32's ranges."
    else:
        found = f"{variant.style.name}: the range of {most} is {numbers.number(changes[most])} × FP32's."
    return f"{found} {how}{left_out}"


def _width(variant: VariantLayers, name: str) -> float | None:
    output = _output(variant, name)
    return None if output.minimum is None or output.maximum is None else output.maximum - output.minimum


def tabulate_ranges(data: ActivationRanges) -> DataTable:
    """One row a layer and variant, in the activation's own unit."""
    columns = ("layer", "kind", "variant", "minimum", "p0.1", "mean", "std", "p99.9", "maximum", "channels",
               "non_finite", "input_minimum", "input_maximum", "range_low", "range_high", "clipped_share")  # fmt: skip
    rows = []
    for name in data.variants[-1].layers:
        for variant in data.variants:
            layer, output = variant.layers.get(name), _output(variant, name)
            if layer is None:
                continue
            given = layer.input
            rows.append((
                name, layer.kind, variant.style.name, output.minimum, output.low_percentile, output.mean, output.std,
                output.high_percentile, output.maximum, output.channels, output.non_finite,
                *((None,) * 5 if given is None else
                  (given.minimum, given.maximum, given.low, given.high, given.clipped_share)),
            ))  # fmt: skip
    return DataTable(columns, rows)


figure(Chart("activation-ranges", "Activation ranges by layer", gather_ranges, draw_ranges, describe_ranges,
             tabulate_ranges))  # fmt: skip
