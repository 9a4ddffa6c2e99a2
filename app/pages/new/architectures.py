"""Which architecture the checkpoint belongs to: cards of those that were compared, and the keys that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components import icon
from quant_lens_engine.schema import ArchitectureFacts, ArchitectureMatch, CheckpointInspection, numbers

SHOWN_MATCHES = 6
SHOWN_DIFFERENCES = 12

KIND_WORDS = {"missing": "missing", "unexpected": "unexpected", "shape": "shape differs"}
KIND_CLASSES = {"missing": "collapsed", "unexpected": "muted", "shape": "caution"}


def architecture_options(
    inspection: CheckpointInspection, known: Sequence[ArchitectureFacts], chosen: str
) -> list[dmc.RadioCard]:
    """A card for each architecture, best match first; the chosen one is always among them."""
    sources = {facts.name: facts for facts in known}
    matches = inspection.architectures
    shown = [match for index, match in enumerate(matches) if index < SHOWN_MATCHES or match.architecture == chosen]
    return [_option(match, sources.get(match.architecture)) for match in shown]


def best_architecture(inspection: CheckpointInspection) -> str | None:
    """The one architecture that fits; None where none does, and where several do: only the user knows which it is."""
    fitting = [match.architecture for match in inspection.architectures if match.fits]
    return fitting[0] if len(fitting) == 1 else None


def _option(match: ArchitectureMatch, facts: ArchitectureFacts | None) -> dmc.RadioCard:
    plugin = [html.Span(f"plug-in {facts.source}", className="ql-plugin")] if facts and _is_plugin(facts) else []
    head = html.Div(
        [
            dmc.RadioIndicator(size="xs"),
            html.Span(match.architecture, className="ql-choice-name"),
            html.Span(f"{match.matched} / {max(match.wanted, match.found)} keys", className="ql-choice-fact"),
        ],
        className="ql-choice-head",
    )
    sentence = html.Div([how_it_fits(match), *plugin], className="ql-choice-sentence")
    return dmc.RadioCard(
        [head, sentence],
        value=match.architecture,
        className="ql-choice",
        attributes={"card": {"title": facts.description if facts else "", "aria-label": match.architecture}},
    )


def _is_plugin(facts: ArchitectureFacts) -> bool:
    return facts.source != "built-in"


def how_it_fits(match: ArchitectureMatch) -> str:
    """``all shapes equal``, or what differs."""
    if match.problem:
        return match.problem
    if match.fits:
        return "all shapes equal"
    parts = [
        f"{count} {words}"
        for count, words in (
            (match.missing, "missing"), (match.unexpected, "unexpected"), (match.shape_differs, "of another shape"),
        )
        if count
    ]  # fmt: skip
    return ", ".join(parts) or "does not fit"


def differences_table(match: ArchitectureMatch) -> html.Div:
    """Key by key, what the file has and what the architecture wants; the first dozen, the rest on demand."""
    differences = match.differences
    total = match.missing + match.unexpected + match.shape_differs
    rows = [_difference_row(item) for item in differences]
    head = html.Thead(
        html.Tr([html.Th("Key"), html.Th("In the file"), html.Th(f"{match.architecture} wants"), html.Th("")])
    )
    table = [html.Table([head, html.Tbody(rows[:SHOWN_DIFFERENCES])], className="ql-keys")]
    if len(rows) > SHOWN_DIFFERENCES:
        table.append(
            html.Details(
                [
                    html.Summary([icon("chevron-down", 14), f"Show {len(rows) - SHOWN_DIFFERENCES} more"]),
                    html.Table(html.Tbody(rows[SHOWN_DIFFERENCES:]), className="ql-keys"),
                ]
            )
        )
    if total > len(rows):
        table.append(html.P(f"{numbers.count(total)} keys differ; {len(rows)} are listed.", className="ql-hint"))
    return html.Div(table, className="ql-keys-frame", tabIndex=0, role="region", **{"aria-label": "Key differences"})


def _difference_row(item: Any) -> html.Tr:
    return html.Tr(
        [
            html.Td(html.Code(item.key)),
            html.Td(html.Code(shape_text(item.found))),
            html.Td(html.Code(shape_text(item.wanted))),
            html.Td(KIND_WORDS[item.kind], className=KIND_CLASSES[item.kind]),
        ]
    )


def shape_text(shape: Sequence[int] | None) -> str:
    """``64 × 3 × 7 × 7``; a dash where there is no such key, ``scalar`` for a number."""
    if shape is None:
        return "–"
    return " × ".join(map(str, shape)) if shape else "scalar"
