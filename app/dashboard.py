"""The dashboard: frame, routing, and the callbacks that every page shares."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash import set_props as set_dash_props
from dash.development.base_component import Component
from fastapi import FastAPI

from app.components.chart_card import register_chart_cards
from app.components.route_link import route_link
from app.components.state_page import empty_state, error_state
from app.components.top_bar import register_top_bar, top_bar
from app.live import live_layout, register_live
from app.routing import Page, Services, Visit, current_user, find_pages, in_thread, parse_query, route
from app.theme import mantine_theme, page_sheet
from quant_lens_engine.errors import InternalFault, QuantLensError
from quant_lens_engine.schema import ErrorBody
from worker.settings import Settings
from worker.store import Store

log = logging.getLogger(__name__)

_ASSETS = Path(__file__).parent / "assets"

_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
<link rel="icon" type="image/svg+xml" href="/assets/favicon.svg">
<style>__SHEET__</style>
<script src="/assets/first_paint.js"></script>
{%css%}
</head>
<body>
{%app_entry%}
<footer>
{%config%}
{%scripts%}
{%renderer%}
</footer>
</body>
</html>"""


def create_dashboard(server: FastAPI, store: Store, settings: Settings) -> Dash:
    """The dashboard on ``server``. Everything it loads comes from this server; nothing from the internet."""
    services = Services(store, settings)
    pages = find_pages()
    dashboard = Dash(
        __name__,
        server=server,
        assets_folder=str(_ASSETS),
        assets_ignore=r"first_paint\.js",
        serve_locally=True,
        suppress_callback_exceptions=True,
        update_title="",
        title="Quant Lens",
        index_string=_INDEX.replace("__SHEET__", page_sheet()),
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        on_error=_tell_error,
    )
    dashboard.layout = _frame(pages)
    _register_router(dashboard, pages, services)
    register_top_bar(dashboard, services)
    register_chart_cards(dashboard)
    register_live(dashboard, store)
    for page in pages:
        if page.register is not None:
            page.register(dashboard, services)
    # Dash does this at the first request of its own paths; a deep link that comes before would get no assets.
    dashboard._setup_server()
    return dashboard


def page_for(pages: Sequence[Page], services: Services, pathname: str, search: str) -> tuple[Component, Page | None]:
    """The layout of an address; where it cannot be drawn, a page that says why."""
    found = route(pages, pathname)
    if found is None:
        body = empty_state("There is no such page", f"Nothing lives at {pathname}.", _to_runs())
        return html.Div(body, className="page"), None
    page, params = found
    visit = Visit(services, current_user(), params, parse_query(search), search)
    try:
        return page.layout(visit), page
    except QuantLensError as error:
        shown = ErrorBody.model_validate(error.as_dict())
        return html.Div(error_state(shown, _to_runs()), className="page"), page


def _frame(pages: Sequence[Page]) -> dmc.MantineProvider:
    return dmc.MantineProvider(
        [
            html.A("Skip to content", href="#page", className="skip-link"),
            top_bar(pages),
            html.Main(html.Div(className="page page-skeleton"), id="page", tabIndex=-1),
            dmc.NotificationContainer(id="notices", position="top-right", autoClose=6000),
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="page-facts"),
            dcc.Store(id="color-scheme", data="light"),
            live_layout(),
            *(store for page in pages for store in page.lasting),
        ],
        theme=mantine_theme(),
        defaultColorScheme="auto",
    )


def _register_router(dashboard: Dash, pages: Sequence[Page], services: Services) -> None:
    @dashboard.callback(
        Output("page", "children"),
        Output("page-facts", "data"),
        Input("url", "pathname"),
        State("url", "search"),
    )
    @in_thread
    def show_page(pathname: str | None, search: str | None) -> tuple[Any, Any]:
        if pathname is None:
            return no_update, no_update
        layout, page = page_for(pages, services, pathname, search or "")
        facts = {"name": page.name, "section": page.section or page.name, "title": page.title} if page else {}
        return layout, facts

    dashboard.clientside_callback(
        ClientsideFunction("quantLensShell", "enter"), Output("page", "aria-label"), Input("page-facts", "data")
    )


def _to_runs() -> html.A:
    return route_link("Go to the runs", "/", "button")


def _tell_error(error: Exception) -> None:
    """A callback failed: say so in a notice, leave the page as it is."""
    if not isinstance(error, QuantLensError):
        log.error("a page's callback failed", exc_info=error)
        error = InternalFault("The server could not answer.", hint="Reload the page; the server's log has the reason.")
    notice = {
        "action": "show",
        "title": error.message,
        "message": error.hint,
        "color": "red",
        "id": error.code,
    }
    set_dash_props("notices", {"sendNotifications": [notice]})
