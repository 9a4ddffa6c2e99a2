"""What every step of the New page is made of: its card, the place of what is wrong with a field, and uploads."""

from __future__ import annotations

from typing import Any

from dash import html

from app.components import icon

STEPS = {"model": "Model", "data": "Data", "schemes": "Schemes", "analyses": "Analyses"}


def step_card(name: str, *body: Any, beside: Any = None) -> html.Section:
    """A numbered card; the number becomes a tick when nothing is left to do in it."""
    number = list(STEPS).index(name) + 1
    mark = html.Span(
        [html.Span(str(number), className="ql-step-number"), icon("check", 12)],
        id={"type": "new-step", "name": name}, className="ql-step", **{"aria-hidden": "true"},
    )  # fmt: skip
    head = html.Div([mark, html.H2(STEPS[name], className="card-title"), beside], className="ql-step-head")
    return html.Section([head, *body], className="card ql-step-card", **{"aria-label": STEPS[name]})


def problem_line(field: str) -> html.Div:
    """Where it is told what is wrong with a field."""
    return html.Div(id={"type": "new-problem", "field": field}, className="ql-problem", role="alert")


def upload_rows(kind: str) -> html.Div:
    """Where the uploads of a kind are shown."""
    return html.Div(id=f"new-rows-{kind}", **{"data-ql-rows": kind})
