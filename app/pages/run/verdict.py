"""What a run says, first in one sentence: which variants are safe, and the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from app.components import card, icon, variant_name, verdict_badge, verdict_mark
from quant_lens_engine.figures import VariantStyle
from quant_lens_engine.schema import Comparison, RunRecord, RunResult
from quant_lens_engine.schema.summary import verdict_sentence

LEVELS = ("safe", "caution", "degraded", "collapsed")


def verdict_card(result: RunResult, styles: dict[str, VariantStyle]) -> html.Section | None:
    """The sentence, the evidence, and the smallest variant that is safe; None before any verdict is given."""
    given = [item for item in result.comparisons if item.verdict is not None]
    if not given:
        return None
    best = min((item.verdict.level for item in given if item.verdict), key=LEVELS.index)
    summary = verdict_sentence(result)
    sentence = html.P([html.Strong(summary.lead), f" {summary.rest}"], className="verdict-sentence")
    evidence = html.P(summary.evidence, className="verdict-evidence") if summary.evidence else None
    words = html.Div([part for part in (sentence, evidence, _reasons(given)) if part is not None])
    row = html.Div([verdict_mark(best), words], className="verdict-row ql-verdict-words")
    aside = _suggestion(result, given, styles)
    return card(html.Div([row, aside], className="ql-verdict-columns"), class_name=f"verdict-card {best}")


def _reasons(given: Sequence[Comparison]) -> html.Details:
    rows = [
        html.Li(
            [
                verdict_badge(item.verdict.level, item.variant),
                html.Span([html.Span(text) for text in (*item.verdict.reasons, *item.verdict.signals)]),
            ]
        )
        for item in given
        if item.verdict is not None
    ]
    summary = html.Summary([icon("chevron-right", 14), "Reasons, variant by variant"])
    return html.Details([summary, html.Ul(rows, className="ql-reasons")], className="ql-details")


def _suggestion(result: RunResult, given: Sequence[Comparison], styles: dict[str, VariantStyle]) -> html.Div:
    """The smallest safe variant, where there is one."""
    safe = [item.variant for item in given if item.verdict and item.verdict.level == "safe"]
    sized = [(result.variant(name).size_bytes or 0, name) for name in safe]
    body: list[Any] = [html.Div("Suggested", className="ql-label")]
    if sized:
        smallest = variant_name(styles[min(sized)[1]])
        body.append(html.Div([smallest, html.Span("the smallest safe one", className="muted")], className="row-8"))
    else:
        body.append(html.Div("none of these is safe", className="muted"))
    body.append(dcc.Link("Rules and evidence", href="/help#verdict", className="button quiet ql-flush"))
    return html.Div(body, className="ql-suggestion")


def failures_card(record: RunRecord) -> html.Section | None:
    """Stages that have no result although the run went on."""
    if not record.failures:
        return None
    rows = [
        html.Tr(
            [
                html.Td(failure.stage),
                html.Td(failure.variant or "–"),
                html.Td(failure.message),
                html.Td(html.Code(failure.code)),
            ]
        )
        for failure in record.failures
    ]
    head = html.Thead(html.Tr([html.Th("Stage"), html.Th("Variant"), html.Th("What happened"), html.Th("Code")]))
    table = html.Div(html.Table([head, html.Tbody(rows)], className="data-table wrap"), className="table-frame")
    sentence = "The rest of the run is not touched by these."
    return card(table, title="Stages without a result", sentence=sentence, class_name="table-card")
