"""The tables of the comparison: metrics with their differences from the baseline, and the settings that differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dash import html

from app.compare import ComparedValue, RunComparison, compare_values
from app.components.badge import verdict_badge
from app.components.icon import icon
from app.components.route_link import route_link
from app.components.value import value_cell
from app.components.variant_name import variant_name
from app.pages.runs.rows import age_text
from quant_lens_engine.figures import METRICS, Measurement, Metric, variant_styles
from quant_lens_engine.schema import RunRecord, RunResult, Variant, numbers

COLUMNS = (
    "effective_bits", "size_bytes", "loss", "accuracy", "mean_iou", "f1", "lambda_max", "sharpness_ratio", "trace",
    "effective_rank", "relative_lambda_max", "adaptive_rise", "basin_width", "top1_agreement",
)  # fmt: skip

WIDE_ONLY = frozenset({"effective_rank", "relative_lambda_max", "adaptive_rise"})
"""Left out on a narrow page; the downloads have them."""


@dataclass(frozen=True)
class ComparedRow:
    """A run of the comparison; ``variant`` is None where it has none of the chosen kind."""

    letter: str
    record: RunRecord
    result: RunResult
    variant: Variant | None
    baseline: bool

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.record.name or self.record.id


def metrics_table(rows: Sequence[ComparedRow]) -> html.Table:
    """One row a run, the baseline on top; under each number its difference, coloured by the metric's direction."""
    tasks = [row.result.task for row in rows]
    metrics = [
        METRICS[key].of(*tasks) for key in COLUMNS if any(_read(METRICS[key], row).value is not None for row in rows)
    ]
    reference = next(row for row in rows if row.baseline)
    head = [html.Th("Run"), html.Th("Variant"), html.Th("Verdict")]
    head += [
        html.Th(html.Span(metric.head, className="column-help", title=metric.meaning), className=_class_of(metric))
        for metric in metrics
    ]
    head.append(html.Th(html.Span("Remove", className="visually-hidden")))
    return html.Table(
        [
            html.Thead(html.Tr(head)),
            html.Tbody([_metrics_row(row, metrics, reference) for row in rows]),
        ],
        className="data-table compare-table",
        id="compare-metrics",
    )


def settings_table(comparison: RunComparison, rows: Sequence[ComparedRow]) -> html.Table:
    """Only what differs; a value that is not the baseline's is bold."""
    head = [html.Th("Setting"), *(html.Th(_letter(row)) for row in rows)]
    baseline = comparison.baseline
    body = [
        html.Tr(
            [
                html.Td(html.Code(difference.setting)),
                *(_setting_cell(difference.values.get(row.record.id), difference.values, baseline) for row in rows),
            ]
        )
        for difference in comparison.settings
    ]
    return html.Table([html.Thead(html.Tr(head)), html.Tbody(body)], className="data-table settings-table")


def delta_text(metric: Metric, compared: ComparedValue, reference: float | None) -> str:
    """The difference as it stands under a number: in per cent of the baseline where the metric says so.

    Example:
        >>> delta_text(METRICS["accuracy"], ComparedValue(delta=0.006), 0.93)
        '+0.600'
    """
    if compared.delta is None:
        return ""
    if compared.delta == 0 or _is_nothing(compared):
        return "0"
    if metric.relative and reference:
        return f"{numbers.number(100 * compared.delta / abs(reference), signed=True)}{numbers.THIN_SPACE}%"
    if metric.form == "size":
        return f"{'+' if compared.delta > 0 else numbers.MINUS}{numbers.size(abs(compared.delta))}"
    return numbers.number(compared.delta * metric.scale, signed=True)


def _is_nothing(compared: ComparedValue) -> bool:
    """A difference within its error that would not change the number as it is written; the title has its digits."""
    delta, value = abs(compared.delta or 0.0), abs(compared.value or 0.0)
    return compared.better is None and delta <= (compared.delta_uncertainty or 0.0) and delta < 5e-4 * value


def _metrics_row(row: ComparedRow, metrics: Sequence[Metric], reference: ComparedRow) -> html.Tr:
    name = [route_link(row.name, f"/runs/{row.record.id}", "run-link")]
    name += [html.Span("baseline", className="pill")] if row.baseline else []
    age = age_text(row.record.created_at, datetime.now(UTC))
    about = f"{age if age == 'now' else f'{age} ago'} · {row.record.owner}"
    cells = [
        html.Td(
            html.Div(
                [_letter(row), html.Div([html.Div(name), html.Span(about, className="cell-note")])],
                className="compared-run",
            ),
            **{"data-exact": row.name},
        ),
        _variant_cell(row),
        _verdict_cell(row),
    ]
    cells += [_metric_cell(metric, row, reference) for metric in metrics]
    cells.append(html.Td(_remove_button(row), className="row-action"))
    return html.Tr(cells)


def _class_of(metric: Metric) -> str:
    return "num wide-only" if metric.key in WIDE_ONLY else "num"


def _metric_cell(metric: Metric, row: ComparedRow, reference: ComparedRow) -> html.Td:
    measurement = _read(metric, row)
    wide = "wide-only" if metric.key in WIDE_ONLY else ""
    if measurement.value is None:
        cell = value_cell(metric, measurement)
        cell.className = _class_of(metric)
        return cell
    # The error stands in the title: five columns of ± would hide the differences that this table is for.
    cell = value_cell(metric, Measurement(measurement.value, note=measurement.note), wide)
    cell.children.title = metric.exactly(measurement)
    setattr(cell, "data-exact", str(measurement.value))
    if row.baseline:
        return cell
    base = _read(metric, reference)
    compared = compare_values(metric, measurement, base)
    colour = {True: "delta better", False: "delta worse", None: "delta"}[compared.better]
    cell.children = [
        cell.children,
        html.Span(delta_text(metric, compared, base.value), className=colour, title=_delta_title(metric, compared)),
    ]
    return cell


def _delta_title(metric: Metric, compared: ComparedValue) -> str:
    if compared.delta is None:
        return "the baseline has no such number"
    unit = f" {metric.unit}" if metric.unit else ""
    error = "" if compared.delta_uncertainty is None else f" ± {numbers.exact(compared.delta_uncertainty)}"
    verdict = {True: "better", False: "worse", None: "within its error" if metric.direction else "no direction"}
    said = "no difference" if compared.delta == 0 else verdict[compared.better]
    return f"{numbers.exact(compared.delta)}{error}{unit}: {said}"


def _variant_cell(row: ComparedRow) -> html.Td:
    if row.variant is None:
        return html.Td(html.Span("not in this run", className="absent"))
    style = variant_styles(row.result.variants)[row.variant.name]
    return html.Td(variant_name(style), **{"data-exact": row.variant.name})


def _verdict_cell(row: ComparedRow) -> html.Td:
    if row.variant is None or row.variant.scheme is None:
        return html.Td(html.Span(numbers.ABSENT, className="absent"))
    comparison = row.result.comparison(row.variant.name)
    verdict = comparison.verdict if comparison else None
    reasons = " ".join(verdict.reasons) if verdict else "not given yet"
    level = verdict.level if verdict else None
    return html.Td(verdict_badge(level, title=reasons), **{"data-exact": level or ""})


def _letter(row: ComparedRow) -> html.Span:
    return html.Span(row.letter, className="letter baseline" if row.baseline else "letter", title=row.name)


def _remove_button(row: ComparedRow) -> html.Button:
    return html.Button(
        icon("x", 14),
        id={"part": "compare-remove", "run": row.record.id},
        className="icon-button",
        type="button",
        title="Take out of the comparison",
        **{"aria-label": f"Take {row.name} out of the comparison"},
    )


def _setting_cell(value: Any, values: Mapping[str, Any], baseline: str) -> html.Td:
    differs = value != values.get(baseline)
    text = setting_text(value)
    shown = f"{text[:4]}…{text[-4:]}" if len(text) == 64 else text
    return html.Td(html.Code(shown, title=text), className="differs" if differs else "")


def setting_text(value: Any) -> str:
    """A setting's value, short.

    Example:
        >>> setting_text(["int8", "int4"]), setting_text(None), setting_text(1e-05)
        ('int8, int4', '–', '1e-05')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value)) or numbers.ABSENT
    return numbers.ABSENT if value is None else value if isinstance(value, str) else json.dumps(value)


def _read(metric: Metric, row: ComparedRow) -> Measurement:
    return Measurement(None) if row.variant is None else metric.read(row.result, row.variant)
