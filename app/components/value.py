"""Numbers on a page: short to read, exact on hover, the error muted behind them."""

from __future__ import annotations

from dash import html

from quant_lens_engine.figures.metrics import Measurement, Metric
from quant_lens_engine.schema import numbers


def value_with_error(
    value: float | None, error: float | None = None, *, unit: str = "", signed: bool = False, note: str = ""
) -> html.Span:
    """``18.5 ± 1.1``, with every digit and the unit in its title."""
    shown, spread = numbers.measured(value, error, signed=signed)
    title = numbers.exact(value) + (f" ± {numbers.exact(error)}" if spread else "") + (f" {unit}" if unit else "")
    parts = [html.Span(shown, className="value")]
    if spread:
        parts.append(html.Span(f" ± {spread}", className="spread"))
    if note:
        parts.append(html.Span(f" {note}", className="spread"))
        title = f"{title}; {note}"
    return html.Span(parts, title=title, className="measured" if value is not None else "measured absent")


def value_cell(metric: Metric, measurement: Measurement | None, class_name: str = "") -> html.Td:
    """A numeric table cell of a metric, in the metric's own unit and way of writing."""
    if measurement is None or measurement.value is None:
        reason = measurement.note if measurement else ""
        return html.Td(html.Span(numbers.ABSENT, className="absent", title=reason or "not available"), className="num")
    shown, spread = metric.written(measurement)
    parts = [html.Span(shown, className="value")]
    if spread:
        parts.append(html.Span(f" ± {spread}", className="spread"))
    if measurement.note:
        parts.append(html.Span(f" {measurement.note}", className="spread"))
    return html.Td(html.Span(parts, title=metric.exactly(measurement)), className=f"num {class_name}".strip())
