"""The page's frame; what changes is drawn again when it has changed."""

from __future__ import annotations

import contextlib
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component
from plotly.io.json import to_json_plotly

from app.pages.server.software import formats_card, versions_card
from app.pages.server.storage import storage_card, users_card
from app.pages.server.workers import queue_card, workers_card
from app.routing import Services, Visit, current_user, in_thread
from quant_lens_engine.schema import RunState, digest
from worker.settings import Settings
from worker.store import NotFound, Store, StoreUnavailable, User
from worker.store.capabilities import FETCH_QUEUE

_PERIOD_MS = 3000


def server_layout(visit: Visit) -> Component:
    """Everything as it stands, and a clock."""
    body = _cards(visit.services, visit.user)
    return html.Div(
        [
            html.Div(html.H1("Server"), className="page-head"),
            html.Div(body, id="server-body", className="server-cards"),
            dcc.Store(id="server-shown", data=_digest(body)),
            dcc.Interval(id="server-clock", interval=_PERIOD_MS),
        ],
        className="page server-page",
    )


def register_server_page(dashboard: Dash, services: Services) -> None:
    """Keep it up to date. A page that would look the same is left alone: focus and selection stay."""

    @dashboard.callback(
        Output("server-body", "children"),
        Output("server-shown", "data"),
        Input("server-clock", "n_intervals"),
        State("server-shown", "data"),
        prevent_initial_call=True,
    )
    @in_thread
    def show(_: int | None, shown: str | None) -> tuple[Any, Any]:
        try:
            body = _cards(services, current_user())
        except StoreUnavailable:  # the bar at the top says so
            return no_update, no_update
        now = _digest(body)
        return (no_update, no_update) if now == shown else (body, now)


def _cards(services: Services, user: User) -> list[Component]:
    store, settings = services.store, services.settings
    capabilities = store.capabilities.read()
    cards = [
        workers_card(capabilities.workers),
        html.Div(
            [
                queue_card(_lengths(store, settings), _active_states(store)),
                versions_card(capabilities, settings, store.server_version()),
            ],
            className="card-grid server-pair",
        ),
        storage_card(store.files.sizes(), settings),
        formats_card(capabilities.formats, trusted=capabilities.trusted_formats),
    ]
    if settings.auth == "token" and user.admin:
        cards.append(users_card(store.users.list()))
    return cards


def _lengths(store: Store, settings: Settings) -> dict[str, int]:
    lengths = store.capabilities.queue_lengths()
    return {queue: length for queue, length in lengths.items() if settings.hub or length or queue != FETCH_QUEUE}


def _active_states(store: Store) -> list[RunState]:
    found: list[RunState] = []
    for run_id in store.runs.active():
        with contextlib.suppress(NotFound):  # it may be deleted meanwhile
            found.append(store.runs.get(run_id).state)
    return found


def _digest(body: list[Component]) -> str:
    return digest(to_json_plotly(body))[:16]
