"""Small labels: a verdict, a run's state, a tag. Colour never says anything that word and shape don't."""

from __future__ import annotations

from dash import html

from app.components.icon import icon
from quant_lens_engine.schema import RunState, VerdictLevel

STATE_WORDS: dict[str, str] = {
    "QUEUED": "Queued",
    "RUNNING": "Running",
    "DONE": "Done",
    "FAILED": "Failed",
    "CANCELLED": "Cancelled",
    "LOST": "Lost",
}


def verdict_badge(level: VerdictLevel | None, variant: str = "", title: str = "") -> html.Span:
    """A verdict with its shape; a dashed outline where it is not given yet."""
    if level is None:
        return html.Span([variant or "pending", " …" if variant else ""], className="verdict pending", title=title)
    words = [html.Span(variant, className="verdict-variant"), " "] if variant else []
    return html.Span([icon(f"verdict-{level}", 12), *words, level], className=f"verdict {level}", title=title)


def verdict_mark(level: VerdictLevel | None, size: int = 20) -> html.Span:
    """The shape alone, for the head of a card that says the word itself."""
    return html.Span(icon(f"verdict-{level}", size) if level else "", className=f"verdict-mark {level or 'pending'}")


def run_state_badge(state: RunState) -> html.Span:
    """A run's state in a pill."""
    return html.Span([run_state_dot(state), STATE_WORDS[state]], className=f"state-pill {state.lower()}")


def run_state_dot(state: RunState) -> html.Span:
    """A run's state as a shape: disc, ring, diamond, bar."""
    return html.Span(className=f"state-dot {state.lower()}", **{"aria-hidden": "true"})


def tag_badge(tag: str) -> html.Span:
    """A tag."""
    return html.Span(tag, className="tag")
