"""The Run page's callbacks: follow the run, switch what charts show, and everything that is done to a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, no_update, set_props
from dash.exceptions import PreventUpdate

from app.auth.ownership import require_owner
from app.live import RUN_TOPIC
from app.pages.run.activations import register_activations
from app.pages.run.landscape import register_landscape
from app.pages.run.landscape_controls import NOTHING_SHOWN
from app.pages.run.view import CHARTS, OVERVIEW_CHARTS, SECTIONS, RunView, read_view
from app.routing import Services, current_user, in_thread
from quant_lens_engine.schema import RunRecord, parse_run_spec
from worker import queue

_SWITCHES = tuple(dict.fromkeys(switch for options in CHARTS.values() for switch in options.values()))
"""Every switch of the page; ``run_page.js`` has the address' parameter of each."""


def register_run_page(app: Dash, services: Services) -> None:
    """Add them all to ``app``."""
    _register_following(app, services)
    _register_actions(app, services)
    register_activations(app, services)
    register_landscape(app)


def _view(services: Services, run_id: str, pair: str = "") -> RunView:
    user = current_user()
    return read_view(services.store, run_id, user.name, user.admin, pair)


def _said(value: Any) -> str:
    """What a switch says, as a word; an empty list is not the same as nothing said."""
    if isinstance(value, list):
        return ",".join(value) or NOTHING_SHOWN
    return "" if value is None else str(value)


def _register_following(app: Dash, services: Services) -> None:
    @app.callback(
        *[Output(f"run-{part}", "children") for part in SECTIONS],
        *[Output({"part": "chart-data", "chart": name}, "data") for name in CHARTS],
        Output("run-charts", "hidden"),
        Output("run-drawn", "data"),
        Input("live-version", "data"),
        *[Input(switch, "value") for switch in _SWITCHES],
        State("run-id", "data"),
        State("run-drawn", "data"),
    )
    @in_thread
    def refresh(heard: dict[str, str] | None, *given: Any) -> tuple[Any, ...]:
        """Draw what has changed since this browser was last told."""
        *switched, run_id, drawn = given
        if heard and heard["topic"] != f"{RUN_TOPIC}{run_id}" and drawn.get("lines"):
            raise PreventUpdate  # news of another page, on its way when this one was opened
        chosen = {switch: _said(value) for switch, value in zip(_SWITCHES, switched, strict=True)}
        view = _view(services, run_id, chosen["run-pair"])
        options = {name: {key: chosen[switch] for key, switch in known.items()} for name, known in CHARTS.items()}
        keys = view.keys() | {name: ".".join([view.committed, *options[name].values()]) for name in CHARTS}
        if keys == drawn:
            raise PreventUpdate
        sections = [no_update if drawn.get(part) == keys[part] else view.draw(part) for part in SECTIONS]
        charts = {
            name: no_update if drawn.get(name) == keys[name] else view.chart(name, **options[name]) for name in CHARTS
        }
        return (*sections, *charts.values(), _hidden(view, charts), keys)

    app.clientside_callback(
        ClientsideFunction("quantLensRun", "remember"),
        Output("run-id", "id"),
        Input("run-tab", "value"),
        *[Input(switch, "value") for switch in _SWITCHES],
        State("run-variant", "data"),
        State("run-pair", "data"),
        State("run-network", "data"),
        State("run-line-kind", "data"),
    )


def _hidden(view: RunView, charts: Mapping[str, Any]) -> Any:
    """Whether an ended run has nothing for the charts of its overview."""
    shown = [charts[name] for name in OVERVIEW_CHARTS]
    if any(chart is no_update for chart in shown):
        return no_update
    return view.ended and not any(chart["light"] for chart in shown)


def _register_actions(app: Dash, services: Services) -> None:
    @app.callback(
        Input("run-asked", "data"),
        State("run-id", "data"),
        prevent_initial_call=True,
    )
    @in_thread
    def act(asked: dict[str, str] | None, run_id: str) -> None:
        """Everything that a button of this page does to the run; buttons come and go with its state."""
        if not asked or asked["act"] not in _ACTS:
            raise PreventUpdate
        _ACTS[asked["act"]](services, run_id, asked["of"])

    @app.callback(Input("run-edit-save", "n_clicks"), *_editor_fields(State), prevent_initial_call=True)
    @in_thread
    def save(clicks: int | None, name: str, tags: list[str], note: str, run_id: str) -> None:
        if not clicks:
            raise PreventUpdate
        _own(services, run_id)
        services.store.runs.edit(run_id, name=name or "", tags=tags or [], note=note or "")
        set_props("run-edit-modal", {"opened": False})


def _editor_fields(kind: type[State]) -> list[State]:
    return [*(kind(f"run-edit-{field}", "value") for field in ("name", "tags", "note")), kind("run-id", "data")]


def _cancel(services: Services, run_id: str, _: str) -> None:
    _own(services, run_id)
    queue.cancel(services.store, run_id)


def _retry(services: Services, run_id: str, _: str) -> None:
    _go_to(queue.retry(services.store, run_id, current_user().name))


def _retry_as(services: Services, run_id: str, architecture: str) -> None:
    """The same specification with the architecture that the button is of."""
    spec = dict(services.store.runs.get(run_id).spec)
    spec["model"] = {**spec["model"], "architecture": architecture, "options": {}}
    _go_to(queue.submit(services.store, parse_run_spec(spec), current_user().name, retry_of=run_id))


def _archive(services: Services, run_id: str, _: str) -> None:
    record = _own(services, run_id)
    services.store.runs.edit(run_id, archived=not record.archived)


def _edit(services: Services, run_id: str, _: str) -> None:
    record = services.store.runs.get(run_id)
    for field, value in (("name", record.name), ("tags", record.tags), ("note", record.note)):
        set_props(f"run-edit-{field}", {"value": value})
    set_props("run-edit-modal", {"opened": True})


def _ask_to_delete(_: Services, __: str, ___: str) -> None:
    set_props("run-delete-modal", {"opened": True})


def _keep(_: Services, __: str, ___: str) -> None:
    set_props("run-delete-modal", {"opened": False})


def _delete(services: Services, run_id: str, _: str) -> None:
    _own(services, run_id)
    services.store.runs.delete(run_id)
    set_props("url", {"href": "/"})


_ACTS: dict[str, Callable[[Services, str, str], None]] = {
    "cancel": _cancel,
    "retry": _retry,
    "retry-as": _retry_as,
    "archive": _archive,
    "edit": _edit,
    "delete": _ask_to_delete,
    "keep": _keep,
    "delete-sure": _delete,
}


def _go_to(record: RunRecord) -> None:
    set_props("url", {"href": f"/runs/{record.id}"})


def _own(services: Services, run_id: str) -> RunRecord:
    record = services.store.runs.get(run_id)
    require_owner(current_user(), record.owner, f"run {run_id}")
    return record
