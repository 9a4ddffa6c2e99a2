"""How far each layer's output is from a bell: share of outliers, kurtosis, and how unlike its channels' ranges are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from quant_lens_engine.figures.activation_layers import (
    VariantLayers,
    known_layers,
    layer_rows,
    row_axis,
    rows_height,
    rows_left_out,
)
from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, vertical_line, x_axis
from quant_lens_engine.figures.spectra import key
from quant_lens_engine.figures.tokens import GROUND, Mode
from quant_lens_engine.schema import LayerActivation, RunResult, numbers

OutlierMeasure = Literal["share", "kurtosis", "channels"]
OUTLIER_MEASURES: dict[OutlierMeasure, str] = {"share": "Outliers", "kurtosis": "Kurtosis", "channels": "Channels"}

_FIELDS = {"share": "outlier_share", "kurtosis": "kurtosis", "channels": "channel_range_ratio"}
_TITLES: dict[OutlierMeasure, str] = {
    "share": "values beyond 6 σ of FP32's output  (%)",
    "kurtosis": "kurtosis of the output  (3: normal distribution)",
    "channels": "widest channel's range / median channel's",
}
_LEAST_SHARE = 0.01
"""Percent that the axis of shares shows at least."""
_REFERENCE: dict[OutlierMeasure, float] = {"share": 0.0, "kurtosis": 3.0, "channels": 1.0}


@dataclass(frozen=True)
class Outliers:
    """One measure of the float model's layers and of a variant's."""

    measure: OutlierMeasure
    variants: list[VariantLayers]
    shown: list[str]
    total: int

    def value(self, layer: LayerActivation | None) -> float | None:
        """What the measure says of a layer; a share in percent."""
        if layer is None or layer.output is None:
            return None
        found: float | None = getattr(layer.output, _FIELDS[self.measure])
        return 100 * found if found is not None and self.measure == "share" else found


def gather_outliers(result: RunResult, variant: str = "", measure: OutlierMeasure = "share") -> Outliers | None:
    """The layers of the float model and of one variant; None where neither is measured."""
    variants = known_layers(result, variant)
    if not variants:
        return None
    shown, total = layer_rows(variants)
    return Outliers(measure if measure in get_args(OutlierMeasure) else "share", variants, shown, total)


def draw_outliers(data: Outliers, mode: Mode) -> FigureSpec:
    """Horizontal bars from zero, a row a layer, the float model's bar above the variant's."""
    return framed(
        mode,
        [_bars(data, variant, mode) for variant in data.variants],
        height=rows_height(data.shown),
        margin={"l": 60, "r": 28, "t": 28, "b": 42},
        barmode="group",
        bargap=0.35,
        bargroupgap=0.08,
        showlegend=True,
        legend=key(mode),
        xaxis=x_axis(mode, _TITLES[data.measure], rangemode="tozero", range=_range(data)),
        yaxis=row_axis(mode, data.shown),
        shapes=[vertical_line(_REFERENCE[data.measure], GROUND[mode].axis, 1)],
        uirevision=f"outliers-{data.measure}",
    )


def _bars(data: Outliers, variant: VariantLayers, mode: Mode) -> dict[str, Any]:
    values = [data.value(variant.layers.get(name)) for name in data.shown]
    unit = " %" if data.measure == "share" else ""
    return {
        "type": "bar",
        "orientation": "h",
        "name": plain(variant.style.label),
        "y": list(range(len(data.shown))),
        "x": values,
        "marker": {"color": variant.style.fill[mode], "line": {"width": 0}},
        "text": [numbers.number(value) for value in values] if len(data.shown) <= 20 else None,
        "textposition": "outside",
        "textfont": {"size": 11, "color": GROUND[mode].muted},
        "cliponaxis": False,
        "customdata": [
            f"<b>{plain(name)}</b>  {plain(variant.style.name)}<br>{numbers.exact(value)}{unit}"
            for name, value in zip(data.shown, values, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _range(data: Outliers) -> list[float]:
    """From zero, with room for the numbers beside the bars; a share of a few in a million does not fill the chart."""
    known = [data.value(variant.layers.get(name)) for variant in data.variants for name in data.shown]
    least = _LEAST_SHARE if data.measure == "share" else 1.0
    return [0.0, 1.14 * max([least, *(value for value in known if value is not None)])]


def describe_outliers(data: Outliers) -> str:
    """Which layer has most, in which network."""
    known = [
        (value, name, variant.style.name)
        for variant in data.variants
        for name, layer in variant.layers.items()
        if (value := data.value(layer)) is not None
    ]
    left_out = rows_left_out(len(data.shown), data.total)
    if not known:
        return f"Not defined for any layer.{left_out}"
    value, name, whose = max(known)
    shown = numbers.number(value)
    if data.measure == "share":
        if value == 0:
            return f"No value of any layer is further than 6 σ from its mean.{left_out}"
        return f"{name} has most: {shown} % of {whose}'s values are beyond 6 σ of FP32's output.{left_out}"
    if data.measure == "kurtosis":
        return f"{name} has the heaviest tails: {shown} in {whose}; 3 is a normal distribution.{left_out}"
    return f"{name}'s widest channel is {shown} × its median one ({whose}): what one scale a tensor wastes.{left_out}"


def tabulate_outliers(data: Outliers) -> DataTable:
    """One row a layer and variant, with every measure."""
    columns = ("layer", "variant", "values", "outlier_share", "kurtosis", "channels", "channel_range_ratio")
    rows = [
        (name, variant.style.name, layer.output.elements, layer.output.outlier_share, layer.output.kurtosis,
         layer.output.channels, layer.output.channel_range_ratio)
        for name in data.variants[-1].layers
        for variant in data.variants
        if (layer := variant.layers.get(name)) is not None and layer.output is not None
    ]  # fmt: skip
    return DataTable(columns, rows)


figure(Chart("activation-outliers", "Outliers by layer", gather_outliers, draw_outliers, describe_outliers,
             tabulate_outliers))  # fmt: skip
