"""Links between our pages: real addresses, opened without loading the page anew (``assets/shell.js``)."""

from __future__ import annotations

from typing import Any

from dash import html


def route_link(children: Any, href: str, class_name: str = "", **attributes: Any) -> html.A:
    """A link inside the dashboard. Unlike ``dcc.Link`` it takes ``aria-*`` and ``data-*``."""
    return html.A(children, href=href, className=class_name or None, **{"data-route": "", **attributes})
