"""The selected runs: which they are, and what is done with them."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, no_update
from dash.exceptions import PreventUpdate

from app.auth import require_owner
from app.routing import Services, current_user, in_thread
from app.view_state import CompareView
from quant_lens_engine.errors import QuantLensError
from worker.store import Conflict, Store

Row = dict[str, Any]


def register_selection(dashboard: Dash, services: Services) -> None:
    """Add the callbacks of the selection bar and its dialogs."""
    _register_ticks(dashboard)
    _register_edits(dashboard, services)
    _register_delete(dashboard, services)


def _register_ticks(dashboard: Dash) -> None:
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
        # A grid that has just been made says that nothing is ticked, before it is told what was. The answer is given
        # all the same: with no answer Dash would drop the callbacks that wait for it, and the bar would stay hidden.
        if not chosen and not heard:
            return before, no_update
        return merge_selection(before, chosen, rows or []), True if isinstance(chosen, list) else no_update

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
        if len(selected) == 1:
            return True, f"Delete “{names}” with everything it found? There is no way back; archiving only hides it."
        count = len(selected)
        return (
            True,
            f"Delete {count} runs with everything they found? There is no way back; archiving only hides them. "
            f"They are: {names}.",
        )

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
