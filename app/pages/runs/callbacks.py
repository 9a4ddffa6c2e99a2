"""The callbacks of the runs page: rows, selection, and what is done with the selected runs."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from app.auth import require_owner
from app.pages.runs.layout import EXAMPLE_SPEC, no_runs
from app.pages.runs.rows import run_rows
from app.routing import Services, current_user, in_thread
from app.view_state import CompareView, RunsView
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import numbers, parse_run_spec
from worker import queue
from worker.store import BadQuery, Conflict, RunPage, Store

Row = dict[str, Any]

_MOST_ROWS = 500


def register_runs_page(dashboard: Dash, services: Services) -> None:
    """Add the page's callbacks."""
    _register_rows(dashboard, services)
    _register_selection(dashboard)
    _register_edits(dashboard, services)
    _register_delete(dashboard, services)

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
    @dashboard.callback(
        Output("runs-grid", "rowData"),
        Output("runs-grid", "selectedRows"),
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
    )
    @in_thread
    def show_rows(
        q: str, state: str, show: Any, limit: int, _live: Any, _changed: Any, _clock: Any, selected: list[Row],
        empty_shown: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        view = RunsView.from_search(RunsView(q or "", state or None, show).search())  # type: ignore[arg-type]  # checked
        try:
            page = find_runs(services.store, view, limit)
        except BadQuery as error:
            return (*(no_update,) * 2, f"{_sentence(error.message)} {_sentence(error.hint)}", *(no_update,) * 10)
        rows = run_rows(page.items, services.store.results.summaries([run.id for run in page.items]), view.show)
        filtered = ctx.triggered_id in {"runs-q", "runs-state", "runs-limit", None}
        ids = {row["id"] for row in rows}
        kept = {"ids": [item["id"] for item in selected if item["id"] in ids]}
        nothing = not page.total and not view.filtered
        total = f"{numbers.count(page.total)}"
        more = len(rows) < page.total
        return (
            rows,
            kept if filtered and selected else no_update,
            "",
            f"{total} match" if view.q.strip() else "",
            ""
            if nothing
            else f"{total} {'archived ' if view.state == 'ARCHIVED' else ''}{'run' if page.total == 1 else 'runs'}",
            nothing,
            not nothing,
            no_runs() if nothing and not empty_shown else no_update,  # kept while hidden: its button may be at work
            nothing or bool(rows),
            "" if rows else "No run fits this search and filter.",
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


def _register_selection(dashboard: Dash) -> None:
    @dashboard.callback(
        Output("runs-selected", "data"),
        Output("runs-grid-heard", "data"),
        Input("runs-grid", "selectedRows"),
        State("runs-grid", "rowData"),
        State("runs-selected", "data"),
        State("runs-grid-heard", "data"),
        prevent_initial_call=True,
    )
    def remember(chosen: Any, rows: list[Row] | None, before: list[Row], heard: bool) -> Any:
        # A grid that has just been made says that nothing is ticked, before it is told what was.
        if not chosen and not heard:
            return no_update, no_update
        after = merge_selection(before, chosen, rows or [])
        same = [item["id"] for item in after] == [item["id"] for item in before]
        return no_update if same else after, True if isinstance(chosen, list) else no_update

    @dashboard.callback(
        Output("selection-bar", "hidden"),
        Output("selected-count", "children"),
        Output("selected-names", "children"),
        Output("selected-compare-word", "children"),
        Output("selected-compare", "disabled"),
        Output("selected-compare", "title"),
        Output("selected-archive-word", "children"),
        Input("runs-selected", "data"),
        State("runs-state", "value"),
    )
    def show_selection(selected: list[Row], state: str) -> tuple[Any, ...]:
        count = len(selected)
        return (
            not selected,
            f"{count} selected",
            " · ".join(item["name"] for item in selected),
            f"Compare {count}" if count > 1 else "Compare",
            count < 2,
            "" if count > 1 else "Tick a second run to compare",
            "Restore" if state == "ARCHIVED" else "Archive",
        )

    @dashboard.callback(
        Output("runs-grid", "selectedRows", allow_duplicate=True),
        Output("runs-selected", "data", allow_duplicate=True),
        Input("selected-clear", "n_clicks"),
        prevent_initial_call=True,
    )
    def clear(clicks: int | None) -> Any:
        return ([], []) if clicks else (no_update, no_update)

    @dashboard.callback(
        Output("url", "href", allow_duplicate=True),
        Input("selected-compare", "n_clicks"),
        State("runs-selected", "data"),
        prevent_initial_call=True,
    )
    def compare(clicks: int | None, selected: list[Row]) -> Any:
        # Oldest first: the baseline is what was there before.
        ordered = sorted(selected, key=lambda item: item["created_at"])
        ids = tuple(item["id"] for item in ordered)
        return f"/compare{CompareView(ids, ids[0]).search()}" if clicks and len(ids) > 1 else no_update


def merge_selection(before: list[Row], chosen: Any, rows: list[Row]) -> list[Row]:
    """The selection after the grid said what is ticked: runs that a filter hides stay selected.

    Args:
        before: the selection so far, in the order of ticking.
        chosen: the grid's ticked rows; while the grid is being told, ``{"ids": […]}``.
        rows: the rows that the grid shows.
    """
    if isinstance(chosen, dict):
        return before
    ticked = {row["id"]: row for row in chosen or []}
    visible = {row["id"] for row in rows}
    kept = [item for item in before if item["id"] in ticked or item["id"] not in visible]
    known = {item["id"] for item in kept}
    return kept + [
        {key: row[key] for key in ("id", "name", "owner", "created_at", "tags", "active")}
        for run_id, row in ticked.items()
        if run_id not in known
    ]


def _register_edits(dashboard: Dash, services: Services) -> None:
    store = services.store

    @dashboard.callback(
        Output("tag-dialog", "opened"),
        Output("tag-values", "value"),
        Input("selected-tag", "n_clicks"),
        State("runs-selected", "data"),
        prevent_initial_call=True,
    )
    def open_tags(clicks: int | None, selected: list[Row]) -> Any:
        return (True, shared_tags(selected)) if clicks else (no_update, no_update)

    @dashboard.callback(
        Output("tag-dialog", "opened", allow_duplicate=True),
        Output("runs-changed", "data"),
        Input("tag-save", "n_clicks"),
        State("tag-values", "value"),
        State("runs-selected", "data"),
        prevent_initial_call=True,
    )
    @in_thread
    def save_tags(clicks: int | None, tags: list[str] | None, selected: list[Row]) -> Any:
        if not clicks:
            raise PreventUpdate
        removed = set(shared_tags(selected)) - set(tags or [])
        for record in _own(store, selected):
            kept = [tag for tag in record.tags if tag not in removed]
            store.runs.edit(record.id, tags=list(dict.fromkeys([*kept, *(tags or [])])))
        return False, f"tags {clicks}"

    @dashboard.callback(
        Output("runs-changed", "data", allow_duplicate=True),
        Output("runs-grid", "selectedRows", allow_duplicate=True),
        Output("runs-selected", "data", allow_duplicate=True),
        Input("selected-archive", "n_clicks"),
        State("runs-selected", "data"),
        State("runs-state", "value"),
        prevent_initial_call=True,
    )
    @in_thread
    def archive(clicks: int | None, selected: list[Row], state: str) -> Any:
        if not clicks:
            raise PreventUpdate
        for record in _own(store, selected):
            store.runs.edit(record.id, archived=state != "ARCHIVED")
        return f"archive {clicks}", [], []


def _register_delete(dashboard: Dash, services: Services) -> None:
    store = services.store

    @dashboard.callback(
        Output("delete-dialog", "opened"),
        Output("delete-words", "children"),
        Input("selected-delete", "n_clicks"),
        State("runs-selected", "data"),
        prevent_initial_call=True,
    )
    def ask(clicks: int | None, selected: list[Row]) -> Any:
        if not clicks:
            return no_update, no_update
        names = ", ".join(item["name"] for item in selected)
        what = "this run" if len(selected) == 1 else f"these {len(selected)} runs"
        return True, f"Delete {what} with everything they found? {names}. There is no way back; archiving hides them."

    @dashboard.callback(
        Output("delete-dialog", "opened", allow_duplicate=True),
        Output("runs-changed", "data", allow_duplicate=True),
        Output("runs-grid", "selectedRows", allow_duplicate=True),
        Output("runs-selected", "data", allow_duplicate=True),
        Input("delete-confirm", "n_clicks"),
        State("runs-selected", "data"),
        prevent_initial_call=True,
    )
    @in_thread
    def delete(clicks: int | None, selected: list[Row]) -> Any:
        if not clicks:
            raise PreventUpdate
        records = _own(store, selected)
        active = [record.name or record.id for record in records if record.state in {"QUEUED", "RUNNING"}]
        if active:
            raise Conflict(f"not ended yet: {', '.join(active)}", hint="Cancel them first. Nothing was deleted.")
        for record in records:
            store.runs.delete(record.id)
        return False, f"delete {clicks}", [], []


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def shared_tags(selected: list[Row]) -> list[str]:
    """Tags that every selected run has."""
    if not selected:
        return []
    return [tag for tag in selected[0]["tags"] if all(tag in item["tags"] for item in selected)]


def _own(store: Store, selected: list[Row]) -> list[Any]:
    """The selected runs as they stand, if the user may change all of them; nobody's work is half done."""
    user = current_user()
    records = []
    for item in selected:
        try:
            records.append(store.runs.get(item["id"]))
        except QuantLensError:
            continue  # deleted by someone else meanwhile
    for record in records:
        require_owner(user, record.owner, f"the run {record.name or record.id}")
    return records
