"""The top bar: pages, how the workers are, the colour scheme, help, and who is signed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from app.components.icon import icon
from app.components.route_link import route_link
from app.routing import Page, Services, current_user, in_thread
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import WorkerFacts

_STATUS_PERIOD_MS = 5000


def top_bar(pages: Sequence[Page]) -> html.Header:
    """The bar; its status and user are filled in by callbacks."""
    links = [route_link(page.nav, page.path, "nav-link", id=f"nav-{page.name}") for page in pages if page.nav]
    return html.Header(
        [
            route_link([html.Span(className="brand-mark"), html.Span("Quant Lens")], "/", "brand"),
            html.Nav(links, className="nav", **{"aria-label": "Pages"}),
            html.Div(className="spring"),
            html.Div(id="server-status", className="server-status", role="status"),
            dmc.ColorSchemeToggle(
                lightIcon=icon("moon", 17),
                darkIcon=icon("sun", 17),
                color="gray",
                variant="subtle",
                size=30,
                id="scheme-toggle",
                **{"aria-label": "Switch between light and dark"},
            ),
            route_link(
                icon("circle-question-mark", 17),
                "/help",
                "icon-link",
                title="How to read the numbers",
                **{"aria-label": "How to read the numbers"},
            ),
            html.Div(id="signed-in", className="signed-in"),
            dcc.Interval(id="status-clock", interval=_STATUS_PERIOD_MS),
        ],
        className="top-bar",
    )


def register_top_bar(dashboard: Dash, services: Services) -> None:
    """Keep status and user up to date."""

    @dashboard.callback(Output("server-status", "children"), Input("status-clock", "n_intervals"))
    @in_thread
    def show_status(_: int | None) -> list[Component]:
        try:
            workers = services.store.capabilities.read().workers
            queued = sum(services.store.capabilities.queue_lengths().values())
        except QuantLensError:
            return [html.Span(className="status-dot away"), html.Span("the store does not answer")]
        return server_status(workers, queued)

    @dashboard.callback(Output("signed-in", "children"), Input("url", "pathname"))
    @in_thread
    def show_user(_: str | None) -> Any:
        return signed_in(current_user().name, services.settings.auth == "token")


def server_status(workers: Sequence[WorkerFacts], queued: int) -> list[Component]:
    """``● 2 workers · 1 × H100 · 1 queued``; a worker that takes no runs (only inspections) is not counted.

    Where none has the walls that are demanded it says ``uploads refused``.
    """
    runners = [worker for worker in workers if "runs" in worker.queues or not worker.queues]
    if not runners:
        return [html.Span(className="status-dot away"), html.Span("no worker: runs wait")]
    gpus = sorted({device for worker in runners for device in worker.devices if device.startswith("cuda")})
    busy = sum(worker.run_id is not None for worker in runners)
    parts = [f"{len(runners)} worker{'s' if len(runners) > 1 else ''}"]
    parts += [f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}"] if gpus else []
    parts.append(f"{busy} busy" if busy else "idle")
    parts += [f"{queued} queued"] if queued else []
    refused = [worker.refuses_uploads for worker in runners if worker.refuses_uploads is not None]
    if len(refused) == len(runners):
        parts.append("uploads refused")
        return [html.Span(className="status-dot away"), html.Span(" · ".join(parts), title=f"because {refused[0]}")]
    return [html.Span(className="status-dot well"), html.Span(" · ".join(parts))]


def signed_in(name: str, can_leave: bool) -> Component:
    """The user's initials; with a menu to sign out where there is something to sign out of."""
    initials = html.Span(initials_of(name), className="avatar", title=f"signed in as {name}")
    if not can_leave:
        return initials
    return dmc.Menu(
        [
            dmc.MenuTarget(html.Button(initials, className="bare", **{"aria-label": f"{name}: account"})),
            dmc.MenuDropdown(
                [
                    dmc.MenuLabel(f"signed in as {name}"),
                    html.Form(
                        html.Button([icon("log-out"), "Sign out"], type="submit", className="menu-button"),
                        action="/logout",
                        method="POST",
                    ),
                ]
            ),
        ],
        position="bottom-end",
        shadow="md",
    )


def initials_of(name: str) -> str:
    """Two letters for a name.

    Example:
        >>> initials_of("mara.klein"), initials_of("ci")
        ('MK', 'CI')
    """
    words = [word for word in name.replace(".", " ").replace("-", " ").replace("_", " ").split() if word]
    letters = words[0][0] + words[1][0] if len(words) > 1 else name[:2]
    return letters.upper()
