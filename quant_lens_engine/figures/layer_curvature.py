"""Where the curvature sits: λmax and trace of each layer's own block of the Hessian, a bar a variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.spectra import key, known_curvatures
from quant_lens_engine.figures.tokens import GROUND, MONO, Mode
from quant_lens_engine.figures.variant_style import VariantStyle
from quant_lens_engine.schema import Eigenvalue, LayerCurvature, RunResult, numbers

LayerMeasure = Literal["trace", "lambda", "per-parameter"]
LAYER_MEASURES: dict[LayerMeasure, str] = {"trace": "Tr H", "lambda": "λmax", "per-parameter": "Tr H / n"}
MOST_LAYERS = 25

_TITLES: dict[LayerMeasure, str] = {
    "trace": "trace of the layer's block  Tr H<sub>ℓ</sub>",
    "lambda": "largest eigenvalue of the layer's block  λmax(H<sub>ℓ</sub>)",
    "per-parameter": "trace per parameter  Tr H<sub>ℓ</sub> / n<sub>ℓ</sub>",
}
_BAR_PX, _GAP_PX, _LEAST_ROW_PX = 9, 10, 26
_LONGEST_NAME = 28


@dataclass(frozen=True)
class LayerValue:
    """A number of one layer with its interval; the number is None where it was not measured."""

    value: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class LayerCurvatures:
    """Every layer of every variant that has any; ``order`` is the largest layer first."""

    measure: LayerMeasure
    variants: list[tuple[VariantStyle, dict[str, LayerCurvature]]]
    order: list[str]
    unit: str = "nats"

    @property
    def shown(self) -> list[str]:
        """The layers that are drawn."""
        return self.order[:MOST_LAYERS]

    @property
    def height(self) -> int:
        """Of the figure, in pixels."""
        row = max(_LEAST_ROW_PX, _BAR_PX * len(self.variants) + _GAP_PX)
        return max(200, 84 + row * len(self.shown))

    def value(self, layer: LayerCurvature | None) -> LayerValue:
        """What the measure says of a layer."""
        return LayerValue() if layer is None else layer_value(layer, self.measure)


def layer_value(layer: LayerCurvature, measure: LayerMeasure) -> LayerValue:
    """One measure of a layer, with its interval."""
    found = layer.lambda_max if measure == "lambda" else layer.trace
    if found is None or found.value is None:
        return LayerValue()
    share = 1 / max(layer.parameters, 1) if measure == "per-parameter" else 1.0
    lower, upper = (None if edge is None else share * edge for edge in (found.lower, found.upper))
    return LayerValue(share * found.value, lower, upper)


def gather_layers(result: RunResult, measure: LayerMeasure = "trace") -> LayerCurvatures | None:
    """The layers of the variants for which the measure is known; None where it is for none."""
    measure = measure if measure in get_args(LayerMeasure) else "trace"
    variants = [
        (style, {layer.name: layer for layer in curvature.layers})
        for style, curvature in known_curvatures(result)
        if any(layer_value(layer, measure).value is not None for layer in curvature.layers)
    ]
    if not variants:
        return None
    largest: dict[str, float] = {}
    for _, layers in variants:
        for name, layer in layers.items():
            value = layer_value(layer, measure).value
            if value is not None:
                largest[name] = max(largest.get(name, value), value)
    order = sorted(largest, key=lambda name: -largest[name])
    return LayerCurvatures(measure, variants, order, loss_unit(result.task))


def draw_layers(data: LayerCurvatures, mode: Mode) -> FigureSpec:
    """Horizontal bars from zero, the layer with the largest value on top, a variant's bars in the run's order."""
    several = len(data.variants) > 1
    title = f"{_TITLES[data.measure]}  ({data.unit})"
    margin = {"l": 60, "r": 28, "t": 28 if several else 8, "b": 42}
    return framed(
        mode,
        [_bars(data, style, layers, mode) for style, layers in data.variants],
        height=data.height,
        margin=margin,
        barmode="group",
        bargap=_GAP_PX / max(_LEAST_ROW_PX, _BAR_PX * len(data.variants) + _GAP_PX),
        bargroupgap=0.08,
        showlegend=several,
        legend=key(mode),
        xaxis=x_axis(mode, title, zeroline=True, zerolinecolor=GROUND[mode].axis, zerolinewidth=1),
        yaxis=y_axis(mode, "", range=[len(data.shown) - 0.5, -0.5], categoryorder="array",
                     categoryarray=data.shown, tickvals=data.shown, ticktext=[_short(name) for name in data.shown],
                     showgrid=False, ticksuffix=" ",
                     tickfont={"family": MONO, "size": 11, "color": GROUND[mode].second}),
        uirevision=f"layers-{data.measure}",
    )  # fmt: skip


def _bars(data: LayerCurvatures, style: VariantStyle, layers: dict[str, LayerCurvature], mode: Mode) -> dict[str, Any]:
    values = [data.value(layers.get(name)) for name in data.shown]
    return {
        "type": "bar",
        "orientation": "h",
        "name": plain(style.label),
        "y": data.shown,
        "x": [item.value for item in values],
        "marker": {"color": style.fill[mode], "line": {"width": 0}},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_reach(item.value, item.upper) for item in values],
            "arrayminus": [_reach(item.lower, item.value) for item in values],
            "color": GROUND[mode].text,
            "thickness": 1,
            "width": 2,
        },
        "customdata": [_hover(style, name, item) for name, item in zip(data.shown, values, strict=True)],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _reach(low: float | None, high: float | None) -> float:
    return 0.0 if low is None or high is None else max(high - low, 0.0)


def _hover(style: VariantStyle, name: str, item: LayerValue) -> str:
    lines = [f"<b>{plain(name)}</b>  {plain(style.name)}", numbers.exact(item.value)]
    if item.lower is not None and item.upper is not None:
        lines.append(f"{numbers.number(item.lower, digits=4)} to {numbers.number(item.upper, digits=4)}")
    return "<br>".join(lines)


def _short(name: str) -> str:
    return plain(name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}")


def describe_layers(data: LayerCurvatures) -> str:
    """Which layer holds most of it; how many are only in the table."""
    style, layers = data.variants[0]
    known = {name: value for name, layer in layers.items() if (value := data.value(layer).value) is not None}
    top = max(known, key=lambda name: known[name])
    total = sum(known.values())
    if data.measure == "trace" and total > 0 and len(known) > 1 and min(known.values()) >= 0:
        said = f"{top} holds {numbers.percent(known[top] / total, digits=2)} of the layers' trace ({style.name})"
    else:
        said = f"{top} has the largest ({style.name})"
    hidden = len(data.order) - len(data.shown)
    more = f"; the {MOST_LAYERS} largest of {len(data.order)}, all in the table" if hidden > 0 else ""
    return f"{said}{more}.{_intervals(data)}"


def _intervals(data: LayerCurvatures) -> str:
    """At which confidence the error bars hold; nothing where no layer has one."""
    found = (
        layer.lambda_max if data.measure == "lambda" else layer.trace
        for _, layers in data.variants
        for layer in layers.values()
    )
    sure = next((item.confidence for item in found if item is not None and item.confidence is not None), None)
    return "" if sure is None else f" Error bars: {numbers.percent(sure, digits=2)}."


def tabulate_layers(data: LayerCurvatures) -> DataTable:
    """One row a layer and variant, with every measure."""
    columns = ("layer", "variant", "parameters", "trace", "trace_standard_error", "trace_per_parameter", "lambda_max",
               "lambda_max_lower", "lambda_max_upper")  # fmt: skip
    rows = []
    for name in data.order:
        for style, layers in data.variants:
            layer = layers.get(name)
            if layer is None:
                continue
            found = layer.lambda_max or Eigenvalue()
            rows.append(
                (
                    name, style.name, layer.parameters, layer.trace.value, layer.trace.standard_error,
                    layer_value(layer, "per-parameter").value, found.value, found.lower,
                    found.upper,
                )
            )  # fmt: skip
    return DataTable(columns, rows)


figure(Chart("layer-curvature", "Curvature by layer", gather_layers, draw_layers, describe_layers, tabulate_layers))
