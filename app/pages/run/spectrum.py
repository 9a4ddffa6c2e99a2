"""The tab "Spectrum": every number of the curvature, and the charts behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from app.components import chart_card, density_switches, segmented, table_card, value_cell, variant_name
from quant_lens_engine.figures import LAYER_MEASURES, METRICS, Metric, VariantStyle, loss_unit
from quant_lens_engine.schema import Curvature, ProbeEstimate, RunRecord, RunResult, Variant, numbers
from quant_lens_engine.schema.curvature_notes import derivative_words

ROWS = (
    "lambda_max", "lambda_max_spread", "lambda_min", "trace", "effective_rank", "negative_eigenvalues",
    "positive_eigenvalues", "relative_lambda_max", "relative_trace", "adaptive_rise", "plain_rise",
)  # fmt: skip
"""The metrics that the card shows, each a row; one that no variant has, and none is to have, is left out."""

_SHARPNESS = {"relative_lambda_max", "relative_trace", "adaptive_rise", "plain_rise"}

_INTERVALS = {
    "effective_rank": "effective_rank",
    "negative_eigenvalues": "negative",
    "positive_eigenvalues": "positive",
}
"""Where a row shows an interval instead of an error, and the field that has it."""

_COUNTS = {"negative_eigenvalues", "positive_eigenvalues"}
"""Intervals of whole numbers."""

_NAME_PX, _COLUMN_PX = 210, 165
"""Columns have the same width from the start: nothing moves when a variant's numbers come."""

_NOTHING = {
    "sharpness": "No variant has a curvature.",
    "lines": "No line was measured in this landscape.",
    "density": "No density was measured: the run asked for none, or no variant has a curvature.",
    "eigenvalues": "No eigenvalue was measured: no variant has a curvature.",
    "convergence": "No Lanczos process was recorded: no variant has a curvature.",
    "layer-curvature": "Not measured for any layer: the run did not ask for it, or no variant has a curvature.",
}


def why_nothing(chart: str, result: RunResult) -> str:
    """Why an ended run has nothing for a chart; in the engine's own words where it gave any."""
    reasons = [item.curvature.reason for item in result.variants if item.curvature and item.curvature.reason]
    measured = any(item.curvature and item.curvature.lambda_max.value is not None for item in result.variants)
    return _NOTHING[chart] if measured or not reasons else f"{_NOTHING[chart]} {reasons[0]}"


def spectrum_charts(density: str, horizontal: str, layers: str) -> list[Any]:
    """The charts' cards, with the switches as the address has them."""
    waits = "Once the first curvature is known."
    return [
        chart_card("density", title="Spectral density", sentence=waits, height=360,
                   controls=density_switches("run", density, horizontal)),
        html.Div(
            [
                chart_card("eigenvalues", title="Eigenvalues at both ends", sentence=waits, height=340),
                chart_card("convergence", title="Convergence of λmax", sentence=waits, height=340),
            ],
            className="card-grid ql-spectrum-pair",
        ),
        chart_card("layer-curvature", title="Curvature by layer", sentence=waits, height=220,
                   controls=segmented("run-layers", "Measure", layers, LAYER_MEASURES)),
    ]  # fmt: skip


def numbers_card(record: RunRecord, result: RunResult, styles: Mapping[str, VariantStyle]) -> html.Section:
    """Every number of the curvature, a variant a column; what is still to come is a skeleton."""
    waits = {
        stage.variant
        for stage in record.progress.stages
        if stage.stage == "curvature" and stage.state in {"waiting", "running"}
    }
    head = html.Thead(
        html.Tr([
            html.Th("Number", scope="col"),
            *(html.Th(variant_name(styles[item.name]), className="num", scope="col") for item in result.variants),
        ])
    )  # fmt: skip
    rows = [_metric_row(METRICS[key].of(result.task), result, waits) for key in _shown_rows(record, result, waits)]
    rows += _how_rows(result, waits)
    return table_card(
        html.Table(
            [head, html.Tbody(rows)],
            className="data-table ql-numbers",
            style={"minWidth": _NAME_PX + _COLUMN_PX * len(result.variants)},
        ),
        title="Curvature in numbers",
        sentence=_sentence(result),
    )


def _shown_rows(record: RunRecord, result: RunResult, waits: set[str | None]) -> list[str]:
    """Without the numbers that nobody asked for."""
    if waits:
        asked = record.spec.get("analyses", {}).get("curvature", {}).get("sharpness", True)
        return [key for key in ROWS if asked or key not in _SHARPNESS]
    return [
        key for key in ROWS
        if key == "lambda_max" or any(METRICS[key].read(result, item).value is not None for item in result.variants)
    ]  # fmt: skip


def _how_rows(result: RunResult, waits: set[str | None]) -> list[html.Tr]:
    """What the numbers cost, and how they were come by."""
    rows = [
        _row("Products", "Hessian-vector products over the whole sample, and what they were spent on.", "",
             [_products(item, waits) for item in result.variants]),
        _row("Started from", "The variant whose eigenvectors Lanczos started from.", "",
             [_text(item, waits, _start) for item in result.variants]),
        _row("Derivative", "Exact: by differentiating twice. Finite difference: an operator has no second derivative.",
             "", [_text(item, waits, _derivative) for item in result.variants]),
    ]  # fmt: skip
    if any(item.curvature and item.curvature.lowered for item in result.variants):
        rows.append(
            _row("For want of memory", "What was given up; the numbers are the same but for rounding.", "",
                 [_text(item, waits, _lowered) for item in result.variants])
        )  # fmt: skip
    return rows


def _sentence(result: RunResult) -> str:
    rows = f" over all {numbers.count(result.data.samples)} samples" if result.data.samples else ""
    unit = loss_unit(result.task)
    return f"∇²L at each variant's own weights{rows}; λ and Tr H in {unit}. Meanings and every digit on hover."


def _row(label: str, meaning: str, unit: str, cells: Sequence[Any]) -> html.Tr:
    words: list[Any] = [html.Span(label, className="column-help", title=meaning)]
    words += [html.Span(unit, className="unit")] if unit else []
    return html.Tr([html.Th(words, scope="row"), *cells])


def _metric_row(metric: Metric, result: RunResult, waits: set[str | None]) -> html.Tr:
    meaning = metric.meaning + (f" ±: {metric.error_meaning}." if metric.error_meaning else "")
    unit = "" if metric.unit in metric.label.lower() else metric.unit
    return _row(metric.label, meaning, unit, [_cell(metric, result, item, waits) for item in result.variants])


def _cell(metric: Metric, result: RunResult, variant: Variant, waits: set[str | None]) -> html.Td:
    measurement = metric.read(result, variant)
    if measurement.value is None and variant.name in waits:
        return _skeleton()
    field = _INTERVALS.get(metric.key)
    estimate = getattr(variant.curvature, field) if field and variant.curvature else None
    if measurement.value is None or estimate is None:
        return value_cell(metric, measurement)
    return _interval_cell(metric, estimate)


def _interval_cell(metric: Metric, estimate: ProbeEstimate) -> html.Td:
    """``248  155 to 350``: a count's interval is far from symmetric."""
    title = f"{numbers.exact(estimate.value)}; {numbers.exact(estimate.lower)} to {numbers.exact(estimate.upper)}"
    if estimate.confidence is not None:
        title += f" at {numbers.percent(estimate.confidence, digits=2)}"
    shown, span = _counted(estimate) if metric.key in _COUNTS else _ranged(estimate)
    parts = [html.Span(shown, className="value")]
    if span:
        parts.append(html.Span(f" {span}", className="spread"))
    return html.Td(html.Span(parts, title=title), className="num")


def _counted(estimate: ProbeEstimate) -> tuple[str, str]:
    value = None if estimate.value is None else round(estimate.value)
    return numbers.count(value), numbers.count_span(estimate.lower, estimate.upper)


def _ranged(estimate: ProbeEstimate) -> tuple[str, str]:
    if estimate.lower is None or estimate.upper is None:
        return numbers.number(estimate.value), ""
    return numbers.number(estimate.value), f"{numbers.number(estimate.lower)} to {numbers.number(estimate.upper)}"


def _products(variant: Variant, waits: set[str | None]) -> html.Td:
    curvature = variant.curvature
    if curvature is None:
        return _skeleton() if variant.name in waits else _absent("")
    spent = [html.Span(f"{part} {_spent(count)}") for part, count in curvature.products.items()]
    total = html.Span(_spent(curvature.hvps), className="value", title=numbers.exact(curvature.hvps))
    return html.Td([total, html.Span(spent, className="parts")], className="num")


def _spent(products: float) -> str:
    """A layer's product counts as its share of the parameters, so a sum need not be whole."""
    return numbers.count(round(products)) if float(products).is_integer() else numbers.number(products)


def _text(variant: Variant, waits: set[str | None], read: Any) -> html.Td:
    curvature = variant.curvature
    if curvature is None:
        return _skeleton() if variant.name in waits else _absent("")
    said, title = read(curvature)
    return html.Td(html.Span(said, title=title), className="num said") if said else _absent(title)


def _start(curvature: Curvature) -> tuple[str, str]:
    if curvature.started_from is None:
        return "random", "a random vector, from the seed"
    return curvature.started_from, f"the eigenvectors of {curvature.started_from}"


def _derivative(curvature: Curvature) -> tuple[str, str]:
    attention = f", {curvature.attention} attention" if curvature.attention else ""
    title = derivative_words(curvature) or "differentiated twice"
    if curvature.derivative == "exact":
        return f"exact{attention}", title
    return f"finite difference ({curvature.without_second_derivative}){attention}", title


def _lowered(curvature: Curvature) -> tuple[str, str]:
    return "; ".join(curvature.lowered), "given up for want of memory" if curvature.lowered else "nothing was given up"


def _skeleton() -> html.Td:
    return html.Td(html.Span(className="skeleton line"), className="num")


def _absent(reason: str) -> html.Td:
    return html.Td(html.Span(numbers.ABSENT, className="absent", title=reason or "not available"), className="num")
