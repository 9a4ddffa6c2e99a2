"""What runs here and what it understands: versions, limits, formats."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from dash import html

from app.components.card import table_card
from quant_lens_engine.schema import Capabilities, FormatFacts, numbers
from quant_lens_engine.version import __version__
from worker.settings import Settings

_KINDS = {"checkpoint": "models", "data": "data"}


def versions_card(capabilities: Capabilities, settings: Settings, store_version: str) -> html.Section:
    """What is installed, and what this server allows."""
    minimum = ", ".join(settings.sandbox_minimum) or "what each machine has"
    facts = (
        ("Quant Lens, this page", __version__),
        ("Quant Lens, the workers' engine", capabilities.engine_version or "no worker has said it yet"),
        ("Python, this page", platform.python_version()),
        ("Store", store_version),
        ("Largest upload", numbers.size(settings.max_upload_bytes)),
        ("Walls demanded by this page's settings", minimum),
        ("Models from the hub", "fetched by their id" if settings.hub else "off (QUANT_LENS_HUB)"),
        ("Sign-in", "tokens" if settings.auth == "token" else "none: one user, on this machine"),
    )
    rows = [html.Tr([html.Td(what), html.Td(found)]) for what, found in facts]
    table = html.Table(html.Tbody(rows), className="data-table wrap")
    return table_card(table, title="Versions and limits", sentence="quant-lens doctor examines the machine itself.")


def formats_card(formats: Sequence[FormatFacts], *, trusted: bool) -> html.Section:
    """What a worker's engine reads; what is not in the list is refused, with the way to bring the same file.

    Args:
        formats: all that are known, those that are code included.
        trusted: whether these are read, within the walls.
    """
    rows = [
        html.Tr(
            [
                html.Td(html.B(one.name)),
                html.Td(_KINDS.get(one.kind, one.kind)),
                html.Td(_extensions(one)),
                html.Td(one.description),
                html.Td(_how(one, trusted=trusted)),
            ]
        )
        for one in sorted(formats, key=lambda one: (one.kind, one.name))
    ]
    head = html.Thead(html.Tr([html.Th(word) for word in ("Format", "Of", "Extensions", "What it is", "Read")]))
    table = html.Table([head, html.Tbody(rows)], className="data-table wrap server-formats")
    code = next((one for one in formats if one.is_code), None)
    programs = f", but for files that are programs, which are {_how(code, trusted=trusted)}" if code else ""
    rest = "what is not listed is refused, with a way out"
    sentence = f"Read without running anything that a file brings{programs}; {rest}."
    return table_card(table, title="Formats", sentence=sentence)


def _how(one: FormatFacts, *, trusted: bool) -> str:
    if not one.is_code:
        return "as data"
    return "run within the walls" if trusted else "refused"


def _extensions(one: FormatFacts) -> html.Code | html.Span:
    return html.Code(", ".join(one.extensions)) if one.extensions else html.Span("by content", className="muted")
