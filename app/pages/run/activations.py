"""The tab "Activations & BatchNorm": what flows through the layers of a variant, and whether its normalisations still
know their data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html
from dash.exceptions import PreventUpdate

from app.components import caution, chart_card, helped_heads, segmented, table_card, value_with_error, variant_name
from app.components.sentence import as_sentence
from app.routing import Services, in_thread
from quant_lens_engine.figures import OUTLIER_MEASURES, RANGE_SCALES, VariantStyle, loss_unit
from quant_lens_engine.schema import FLOAT_VARIANT, Reestimation, RunRecord, RunResult, Variant, numbers

ACTIVATION_CHARTS: dict[str, dict[str, str]] = {
    "activation-sqnr": {"variant": "run-variant"},
    "activation-outliers": {"variant": "run-variant", "measure": "run-outliers"},
    "activation-ranges": {"variant": "run-variant", "scale": "run-range"},
    "activation-histogram": {"variant": "run-variant", "layer": "run-layer"},
    "batchnorm-drift": {"variant": "run-variant"},
}
"""The charts of this tab; of each the options that a switch sets, and the switch."""

_ROW_PX, _FRAME_PX = 30, 96
_WAITING = {"waiting", "running"}
_HEADS = (
    ("Variant", ""),
    ("L before", "Loss of the whole sample with the running statistics that the checkpoint brought."),
    ("L after", "The same with statistics taken anew, layer by layer, at the variant's own weights."),
    ("ΔL", "After minus before; ± is paired over rows. Below zero: new statistics help."),
    ("Accuracy before (%)", "With the checkpoint's running statistics."),
    ("after (%)", "With statistics taken anew."),
    ("Δ (points)", "After minus before; ± is paired over rows."),
)


def activation_controls(result: RunResult, variant: str, layer: str) -> html.Section:
    """Which variant, and which layer's distribution."""
    names = variant_choices(result)
    layers = layer_choices(result)
    return html.Section(
        [
            dmc.Select(id="run-variant", label="Variant", data=names, allowDeselect=False, w=220,
                       value=variant if variant in names else names[0]),
            dmc.Select(id="run-layer", label="Layer of the distribution", data=layers, searchable=True, clearable=True,
                       value=layer or None, placeholder="lowest SQNR", nothingFoundMessage="no such layer", w=260),
            html.P("Each layer's output on all rows of the sample, beside FP32's. Layers stand as they run.",
                   className="ql-controls-said"),
        ],
        className="card ql-controls",
        **{"aria-label": "What is shown"},
    )  # fmt: skip


def variant_choices(result: RunResult) -> list[str]:
    """The variants that can be held against the float model, which stands last."""
    names = [item.name for item in result.variants]
    return [name for name in names if name != FLOAT_VARIANT] + [FLOAT_VARIANT]


def layer_choices(result: RunResult) -> list[str]:
    """The layers with a distribution, as they run; none while nothing is measured."""
    for item in result.variants:
        known = [] if item.activation_statistics is None else item.activation_statistics.layers
        if layers := [layer.name for layer in known if layer.output is not None]:
            return layers
    return []


def activation_charts(result: RunResult, range_scale: str, measure: str) -> list[Any]:
    """The charts' cards above those of BatchNorm."""
    waits = "Once the variant's activations are measured."
    tall = _height(len(layer_choices(result)))
    return [
        html.Div(
            [
                chart_card("activation-sqnr", title="Signal to quantization noise", sentence=waits, height=tall),
                chart_card("activation-outliers", title="Outliers", sentence=waits, height=tall,
                           controls=segmented("run-outliers", "Outlier measure", measure, OUTLIER_MEASURES)),
            ],
            className="card-grid ql-activation-pair",
        ),
        chart_card("activation-ranges", title="Activation ranges", sentence=waits, height=tall,
                   controls=segmented("run-range", "Horizontal axis of ranges", range_scale, RANGE_SCALES)),
        chart_card("activation-histogram", title="Distribution of one layer's output", sentence=waits, height=320),
    ]  # fmt: skip


def drift_chart(result: RunResult) -> html.Section:
    """The card of BatchNorm's drift."""
    counts = [len(item.batchnorm.layers) for item in result.variants if item.batchnorm is not None]
    return chart_card("batchnorm-drift", title="BatchNorm: running statistics and the data's",
                      sentence="Once the variant's normalisations are measured.",
                      height=_height(max(counts, default=0)))  # fmt: skip


def _height(rows: int) -> int:
    return max(220, _FRAME_PX + _ROW_PX * min(rows, 40))


def why_no_activations(chart: str, result: RunResult, record: RunRecord, ended: bool) -> str:
    """Why there is nothing for a chart of this tab and never will be; nothing while it may still come."""
    stage = "batchnorm" if chart == "batchnorm-drift" else "activations"
    if not any(item.stage == stage for item in record.progress.stages):
        return f"The run did not ask for {_named(stage)}."
    reasons = [found.reason for item in result.variants if (found := _record(item, stage)) is not None and found.reason]
    if reasons and (ended or reasons[0] == "the model has no batch normalisation"):
        return as_sentence(reasons[0])
    if not ended:
        return ""
    failed = next((item for item in result.failures if item.stage == stage), None)
    if failed is not None:
        words = _named(stage)
        return f"{words[0].upper()}{words[1:]} of {failed.variant} have no result: {failed.message}"
    if chart == "activation-sqnr" and any(_record(item, stage) is not None for item in result.variants):
        return "Choose a quantized variant whose layers have lost something: FP32 is what SQNR compares with."
    return as_sentence(f"{_named(stage)} were not measured before the run ended")


def _named(stage: str) -> str:
    return "BatchNorm statistics" if stage == "batchnorm" else "activation statistics"


def _record(variant: Variant, stage: str) -> Any:
    return variant.batchnorm if stage == "batchnorm" else variant.activation_statistics


def reestimation_card(record: RunRecord, result: RunResult, styles: Mapping[str, VariantStyle]) -> Any:
    """What new running statistics do to the loss of each variant; nothing for a model without BatchNorm."""
    waits = {
        stage.variant for stage in record.progress.stages if stage.stage == "batchnorm" and stage.state in _WAITING
    }
    effects = {item.name: item.batchnorm.reestimation for item in result.variants if item.batchnorm is not None}
    known = {name: effect for name, effect in effects.items() if effect is not None}
    without = any(item.batchnorm is not None and not item.batchnorm.layers for item in result.variants)
    if without or not (known or waits):
        return []
    classes = any(effect.accuracy_before is not None for effect in known.values()) or not known
    heads = _HEADS if classes else _HEADS[:4]
    rows = [
        html.Tr([
            html.Th(variant_name(styles[item.name]), scope="row"),
            *_cells(known.get(item.name), item.name in waits, len(heads) - 1, loss_unit(result.task)),
        ])
        for item in result.variants
    ]  # fmt: skip
    card = table_card(
        html.Table([helped_heads(heads), html.Tbody(rows)], className="data-table ql-reestimation"),
        title="Re-estimating BatchNorm",
        sentence=_said(known, result),
    )
    if any(effect.overlap for effect in known.values()):
        note = caution("The new statistics are of rows that the loss is measured on: it comes out better than it would "
                       "on new rows. Calibration rows are drawn where a scheme of the run needs them.")  # fmt: skip
        card.children.insert(1, html.Div(note, className="ql-card-note"))
    return card


def _cells(effect: Reestimation | None, waits: bool, columns: int, unit: str) -> list[html.Td]:
    if effect is None or effect.reason:
        if waits:
            return [html.Td(html.Span(className="skeleton line"), className="num") for _ in range(columns)]
        reason = "not measured" if effect is None else str(effect.reason)
        absent = html.Span(numbers.ABSENT, className="absent", title=reason)
        return [html.Td(absent, className="num") for _ in range(columns)]
    found = [
        (value_with_error(effect.loss_before, unit=unit), ""),
        (value_with_error(effect.loss_after, unit=unit), ""),
        (value_with_error(effect.delta_loss, effect.delta_loss_standard_error, unit=unit, signed=True),
         _better(effect.delta_loss, effect.delta_loss_standard_error, -1)),
        (value_with_error(_hundred(effect.accuracy_before), unit="%"), ""),
        (value_with_error(_hundred(effect.accuracy_after), unit="%"), ""),
        (value_with_error(_hundred(effect.delta_accuracy), _hundred(effect.delta_accuracy_standard_error),
                          unit="points", signed=True),
         _better(effect.delta_accuracy, effect.delta_accuracy_standard_error, 1)),
    ]  # fmt: skip
    return [html.Td(shown, className=f"num {kind}".strip()) for shown, kind in found[:columns]]


def _hundred(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _better(change: float | None, error: float | None, wanted: int) -> str:
    """Colour only where the change is outside its error."""
    if not change or abs(change) <= 2 * (error or 0.0):
        return ""
    return "better" if change * wanted > 0 else "worse"


def _said(known: Mapping[str, Reestimation], result: RunResult) -> str:
    """The finding: where new statistics change the loss by more than its error."""
    if not known:
        return "Once the first normalisations are measured."
    sizes = sorted({effect.rows for effect in known.values()})
    how = f"Statistics of {' or '.join(numbers.count(size) for size in sizes)} rows, layer by layer; weights stay."
    clear = [
        (effect.delta_loss, name) for name, effect in known.items()
        if _better(effect.delta_loss, effect.delta_loss_standard_error, -1) == "better"
    ]  # fmt: skip
    if not clear:
        return f"No variant gains more than twice its error. {how}"
    change, name = min((value, name) for value, name in clear if value is not None)
    return f"{name} gains most: its loss falls by {numbers.number(-change)} {loss_unit(result.task)}. {how}"


def register_activations(app: Dash, services: Services) -> None:
    """The layers to choose from, once they are known."""

    @app.callback(
        Output("run-layer", "data"),
        Input("run-drawn", "data"),
        State("run-id", "data"),
        State("run-layer", "data"),
    )
    @in_thread
    def fill(_: Any, run_id: str, known: list[Any]) -> list[str]:
        if known:
            raise PreventUpdate
        layers = layer_choices(services.store.results.result(run_id))
        if not layers:
            raise PreventUpdate
        return layers
