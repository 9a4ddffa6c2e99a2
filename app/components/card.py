"""Cards: the one frame around everything on a page."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from dash import html


def card(
    *children: Any, title: str = "", sentence: Any = "", actions: Any = None, class_name: str = ""
) -> html.Section:
    """A card with a title, one sentence under it, and actions at the right.

    Args:
        children: the body.
        title: in a few words.
        sentence: what is found here, or how it is read; one line.
        actions: components at the right of the head.
        class_name: more CSS classes.
    """
    head = [card_head(title, sentence, actions)] if title else []
    return html.Section([*head, *children], className=f"card {class_name}".strip())


def card_head(title: str, sentence: Any = "", actions: Any = None) -> html.Div:
    """A card's head."""
    parts = [
        html.H2(title, className="card-title"),
        html.Div([] if actions is None else actions, className="card-actions"),
    ]
    if sentence:
        parts.append(html.P(sentence, className="card-sentence"))
    return html.Div(parts, className="card-head")


def table_card(
    table: Any, *, title: str, sentence: Any = "", actions: Any = None, class_name: str = ""
) -> html.Section:
    """A card around an ``html.Table`` that reaches from edge to edge; a narrow page scrolls inside it."""
    # A scrolling region must be reachable by keyboard.
    frame = html.Div(table, className="table-frame", tabIndex=0, role="region", **{"aria-label": title})
    return card(frame, title=title, sentence=sentence, actions=actions, class_name=f"table-card {class_name}".strip())


def helped_heads(heads: Iterable[tuple[str, str]], numeric: Collection[str] | None = None) -> html.Thead:
    """The head of a table: each column's name, with its meaning on hover, if any.

    Args:
        heads: names and meanings.
        numeric: the names of the columns that hold numbers; None: all but the first.
    """
    cells = [
        html.Th(
            html.Span(words, className="column-help" if meaning else "", title=meaning), scope="col",
            className="num" if (place > 0 if numeric is None else words in numeric) else "",
        )
        for place, (words, meaning) in enumerate(heads)
    ]  # fmt: skip
    return html.Thead(html.Tr(cells))


def section_title(text: str) -> html.H2:
    """A heading between cards."""
    return html.H2(text, className="section-title")
