"""The table of variants: every number with its error, filled in as stages are committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from app.components import icon, table_card, value_cell, variant_name, verdict_badge
from app.pages.run.making import making_details, overlap_note
from quant_lens_engine.figures import METRICS, Metric, VariantStyle
from quant_lens_engine.schema import (
    FLOAT_VARIANT,
    AlgorithmFacts,
    Comparison,
    Curvature,
    RunRecord,
    RunResult,
    StageProgress,
    Variant,
    numbers,
)
from quant_lens_engine.schema.curvature_notes import reason_words

COLUMNS: dict[str, str] = {
    "effective_bits": "evaluate", "size_bytes": "evaluate", "loss": "evaluate", "delta_loss": "evaluate",
    "accuracy": "evaluate", "delta_accuracy": "evaluate", "mean_iou": "evaluate", "f1": "evaluate",
    "lambda_max": "curvature", "sharpness_ratio": "curvature",
    "trace": "curvature", "basin_width": "line", "top1_agreement": "evaluate",
}  # fmt: skip
"""Each column's metric, and the stage that it comes from."""

OF_TASKS = {"mean_iou": {"segmentation"}, "f1": {"multi-label", "token-classification"}}
"""Columns that have a meaning for some tasks alone."""

WIDE_ONLY = frozenset({"top1_agreement"})
"""Left out on a narrow page; the downloads have it."""
NOT_OF_FLOAT = frozenset({"delta_loss", "delta_accuracy", "sharpness_ratio", "top1_agreement"})
SIGNAL_RATIO = 1.5


def variants_card(
    record: RunRecord,
    result: RunResult,
    styles: Mapping[str, VariantStyle],
    algorithms: Sequence[AlgorithmFacts] = (),
) -> html.Section:
    """The card; while the run works, what is still to come is a skeleton."""
    metrics = {key: METRICS[key].of(result.task) for key in COLUMNS if result.task in OF_TASKS.get(key, {result.task})}
    head = html.Thead(
        html.Tr([html.Th("Variant"), html.Th("Verdict"), *(_column_head(metric) for metric in metrics.values())])
    )
    states = {(stage.variant, stage.stage): stage for stage in record.progress.stages}
    rows = [_row(result, variant, metrics, styles, states) for variant in result.variants]
    download = html.A(
        icon("download", 16), href=f"/api/v1/runs/{record.id}/export.csv", className="icon-link", download="",
        title="Download as CSV", **{"aria-label": "Download the table as CSV"},
    )  # fmt: skip
    card = table_card(
        html.Table([head, html.Tbody(rows)], className="data-table ql-variants"),
        title="Variants",
        sentence=_sentence(record, result),
        actions=download,
    )
    note, details = overlap_note(result), making_details(result, styles, algorithms)
    if note is not None:
        card.children.insert(1, html.Div(note, className="ql-card-note"))
    if details is not None:
        card.children.append(details)
    return card


def _sentence(record: RunRecord, result: RunResult) -> str:
    if record.state == "RUNNING":
        return (
            "Numbers appear as each stage is committed. A verdict is given when evaluate and curvature are both done."
        )
    rows = f"Same {numbers.count(result.data.samples)} samples for each. " if result.data.samples else ""
    return rows + "± is one standard error; for λmax the farther end of its interval. Every digit on hover."


def _column_head(metric: Metric) -> html.Th:
    title = metric.meaning + (f" ±: {metric.error_meaning}." if metric.error_meaning else "")
    head = metric.label if metric.unit in {"bits", "×"} else metric.head
    cell = html.Th(html.Span(head, className="column-help", title=title), className="num", scope="col")
    return _fit(cell, metric.key)


def _row(
    result: RunResult,
    variant: Variant,
    metrics: Mapping[str, Metric],
    styles: Mapping[str, VariantStyle],
    states: Mapping[tuple[str | None, str], StageProgress],
) -> html.Tr:
    comparison = result.comparison(variant.name)
    cells: list[Any] = [
        html.Th(variant_name(styles[variant.name]), scope="row"),
        html.Td(_verdict(variant, comparison, states)),
    ]
    for key, metric in metrics.items():
        stage = states.get((variant.name, COLUMNS[key]))
        never = variant.name == FLOAT_VARIANT and key in NOT_OF_FLOAT
        cell = _cell(result, variant, metric, waits=not never and _to_come(stage, key, states))
        cells.append(_fit(cell, key))
    return html.Tr(cells)


def _cell(result: RunResult, variant: Variant, metric: Metric, *, waits: bool) -> html.Td:
    measurement = metric.read(result, variant)
    if measurement.value is None and waits:
        return html.Td(html.Span(className="skeleton line"), className="num")
    curvature = variant.curvature if metric.key == "lambda_max" and measurement.value is not None else None
    if curvature is not None and not curvature.converged:
        return _not_converged(curvature)
    return value_cell(metric, measurement, _class_of(metric.key, measurement.value, measurement.error))


def _fit(cell: Any, key: str) -> Any:
    if key in WIDE_ONLY:
        cell.className += " wide-only"
    return cell


def _to_come(stage: StageProgress | None, key: str, states: Mapping[tuple[str | None, str], StageProgress]) -> bool:
    waits = {"waiting", "running"}
    float_curvature = states.get((FLOAT_VARIANT, "curvature"))
    if key == "sharpness_ratio" and float_curvature is not None and float_curvature.state in waits:
        return True
    return stage is not None and stage.state in waits


def _verdict(
    variant: Variant, comparison: Comparison | None, states: Mapping[tuple[str | None, str], StageProgress]
) -> Any:
    if comparison is None:
        return html.Span(numbers.ABSENT, className="absent")
    if comparison.verdict is not None:
        return verdict_badge(comparison.verdict.level, title=" ".join(comparison.verdict.reasons))
    stage = states.get((variant.name, "verdict"))
    if stage is None or stage.state in {"waiting", "running"}:
        return verdict_badge(None)
    return html.Span("none", className="absent", title="the stages that it rests on have no result")


def _not_converged(curvature: Curvature) -> html.Td:
    """What Lanczos reached is a lower bound of λmax."""
    found = curvature.lambda_max
    title = f"{numbers.exact(found.value)}; residual {numbers.exact(found.residual)}. {reason_words(curvature)}"
    return html.Td(
        html.Span(
            [
                html.Span(f"≥ {numbers.number(found.value)}", className="value"),
                html.Span(" not converged", className="spread"),
            ],
            title=title,
        ),
        className="num",
    )


def _class_of(key: str, value: float | None, error: float | None) -> str:
    """Colour only where a metric has a direction and the change is outside its error."""
    if value is None:
        return ""
    if key == "sharpness_ratio":
        return "signal" if value > SIGNAL_RATIO else ""
    worse = {"delta_loss": 1, "delta_accuracy": -1}.get(key)
    if worse is None or abs(value) <= 2 * (error or 0.0) or value == 0:
        return ""
    return "worse" if value * worse > 0 else "better"
