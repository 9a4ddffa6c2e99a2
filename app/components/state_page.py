"""What a page shows when it has nothing to show: why, and what to do next."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from app.components.badge import verdict_mark
from app.components.card import card
from app.components.icon import icon
from app.components.sentence import as_sentence
from quant_lens_engine.schema import ErrorBody


def empty_state(title: str, sentence: str, *actions: Any, picture: Any = None) -> html.Div:
    """Nothing here yet, and the way to something."""
    return html.Div(
        [
            *([picture] if picture is not None else []),
            html.H2(title),
            html.P(sentence),
            *actions,
        ],
        className="empty-state",
    )


def error_state(error: ErrorBody, *actions: Any, title: str = "") -> html.Section:
    """What happened, to which input, what to do: the same words as from the API, which stand below."""
    body = [
        html.P(title or as_sentence(error.message), className="verdict-sentence"),
        html.P(as_sentence(error.hint), className="verdict-evidence") if error.hint else None,
        html.Div(list(actions), className="button-row") if actions else None,
        html.Details(
            [html.Summary("The same from the API"), html.Pre(_as_json(error), tabIndex=0)], className="api-error"
        ),
    ]
    return card(
        html.Div(
            [verdict_mark("collapsed"), html.Div([part for part in body if part is not None])], className="verdict-row"
        ),
        class_name="verdict-card collapsed",
    )


def caution(text: Any) -> html.P | None:
    """A sentence to heed, which is no error; None where there is nothing to say."""
    return html.P([icon("triangle-alert", 14), html.Span(text)], className="caution-note") if text else None


def _as_json(error: ErrorBody) -> str:
    text = json.dumps({"error": error.model_dump(mode="json")}, indent=2, ensure_ascii=False)
    return text if len(text) < 6000 else text[:6000] + "\n…"
