"""The callbacks of the runs page: rows, selection, and what is done with the selected runs."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from app.pages.runs.layout import EXAMPLE_SPEC, no_runs
from app.pages.runs.rows import run_rows
from app.pages.runs.selection import Row, register_selection
from app.routing import Services, current_user, in_thread
from app.view_state import RunsView
from quant_lens_engine.schema import numbers, parse_run_spec
from worker import queue
from worker.store import BadQuery, RunPage, Store

_MOST_ROWS = 500


def register_runs_page(dashboard: Dash, services: Services) -> None:
    """Add the page's callbacks."""
    _register_rows(dashboard, services)
    register_selection(dashboard, services)

    @dashboard.callback(
        Output("url", "href", allow_duplicate=True),
        Input("try-example", "n_clicks"),
        prevent_initial_call=True,
        running=[(Output("try-example", "disabled"), True, False)],
    )
    @in_thread
    def try_example(clicks: int | None) -> str:
        if not clicks:
            raise PreventUpdate
        record = queue.submit(services.store, parse_run_spec(EXAMPLE_SPEC), current_user().name)
        return f"/runs/{record.id}"


def find_runs(store: Store, view: RunsView, limit: int) -> RunPage:
    """The runs of a view.

    Raises:
        BadQuery: the search is not understood.
    """
    archived = view.state == "ARCHIVED"
    state = None if view.state == "ARCHIVED" else view.state
    return store.runs.page(view.q, state=state, archived=archived, limit=min(limit, _MOST_ROWS))


def _register_rows(dashboard: Dash, services: Services) -> None:
    store = services.store

    @dashboard.callback(
        Output("runs-found", "data"),
        Output("runs-q-error", "children"),
        Output("runs-match", "children"),
        Output("runs-count", "children"),
        Output("runs-body", "hidden"),
        Output("runs-empty", "hidden"),
        Output("runs-empty", "children"),
        Output("runs-nothing", "hidden"),
        Output("runs-nothing", "children"),
        Output("runs-more-row", "hidden"),
        Output("runs-more-text", "children"),
        Output("runs-skeleton", "hidden"),
        Input("runs-q", "value"),
        Input("runs-state", "value"),
        Input("runs-show", "value"),
        Input("runs-limit", "data"),
        Input("live-version", "data"),
        Input("runs-changed", "data"),
        Input("runs-clock", "n_intervals"),
        State("runs-selected", "data"),
        State("runs-empty", "children"),
        State("runs-grid-heard", "data"),
    )
    @in_thread
    def show_rows(
        q: str, state: str, show: Any, limit: int, _live: Any, _changed: Any, _clock: Any, selected: list[Row],
        empty_shown: Any,
        heard: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        view = RunsView.from_search(RunsView(q or "", state or None, show).search())  # type: ignore[arg-type]  # checked
        try:
            page = find_runs(store, view, limit)
        except BadQuery as error:
            return (no_update, f"{_sentence(error.message)} {_sentence(error.hint)}", *(no_update,) * 10)
        rows = run_rows(page.items, store.results.summaries([run.id for run in page.items]), view.show)
        # A live refresh leaves the ticks alone; other rows, or a grid that has just been made, are told of them.
        other_rows = not heard or ctx.triggered_id in {"runs-q", "runs-state", "runs-limit"}
        ids = {row["id"] for row in rows}
        kept = {"ids": [item["id"] for item in selected if item["id"] in ids]}
        archived = 0 if page.total or view.filtered else store.runs.page(archived=True, limit=1).total
        nothing = not page.total and not view.filtered and not archived
        total = f"{numbers.count(page.total)}"
        more = len(rows) < page.total
        return (
            {"rows": rows, "ticked": kept if other_rows and selected else None},
            "",
            f"{total} match" if view.q.strip() else "",
            ""
            if nothing
            else f"{total} {'archived ' if view.state == 'ARCHIVED' else ''}{'run' if page.total == 1 else 'runs'}",
            nothing,
            not nothing,
            no_runs() if nothing and not empty_shown else no_update,  # kept while hidden: its button may be at work
            nothing or bool(rows),
            "" if rows else "Every run is archived." if archived else "No run fits this search and filter.",
            not more,
            f"The {len(rows)} newest of {total}. Sorting and selecting reach these."
            + ("" if len(rows) < _MOST_ROWS else " Search to reach older ones."),
            True,
        )

    @dashboard.callback(
        Output("runs-address", "data"),
        Input("runs-q", "value"),
        Input("runs-state", "value"),
        Input("runs-show", "value"),
        prevent_initial_call=True,
    )
    def address(q: str, state: str, show: Any) -> str:
        return RunsView(q or "", state or None, show or "smallest").search()  # type: ignore[arg-type]  # Select's data

    dashboard.clientside_callback(
        ClientsideFunction("quantLensRuns", "showRows"),
        Output("runs-grid", "rowData"),
        Output("runs-grid", "selectedRows"),
        Input("runs-found", "data"),
        State("runs-grid", "rowData"),
        prevent_initial_call=True,
    )
    dashboard.clientside_callback(
        ClientsideFunction("quantLensRuns", "keepAddress"),
        Output("runs-address", "clear_data"),
        Input("runs-address", "data"),
        prevent_initial_call=True,
    )

    @dashboard.callback(
        Output("runs-limit", "data"),
        Input("runs-more", "n_clicks"),
        State("runs-limit", "data"),
        prevent_initial_call=True,
    )
    def show_more(clicks: int | None, limit: int) -> Any:
        return min(limit + 200, _MOST_ROWS) if clicks else no_update


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
