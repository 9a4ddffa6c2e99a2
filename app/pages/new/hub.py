"""A model from the hub by its id: the field beside the other ways, how far it is, and what it becomes."""

from __future__ import annotations

import time
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from app.components import icon
from app.components.sentence import as_sentence
from app.routing import Services, current_user, in_thread
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import ErrorBody, numbers
from worker import queue
from worker.hub.names import parse_asked
from worker.store import FetchRecord, NotFound, Store
from worker.store.capabilities import FETCH_QUEUE

_LOOK_MS = 500
_NOT_NOW_MS = 3_600_000


def hub_field() -> html.Div:
    """Where an id is typed, and below it what comes."""
    field = dmc.TextInput(
        id="new-hub-id", placeholder="owner/name or owner/name@revision", w=300,
        debounce=True,  # Enter then brings its text along
        attributes={"input": {"aria-label": "A model of the hub by its id", "spellCheck": "false", "maxLength": 300}},
    )  # fmt: skip
    button = html.Button([icon("download", 14), "Fetch"], id="new-hub-fetch", type="button", className="button")
    return html.Div(
        [
            html.Div([html.Span("or from the hub", className="ql-label"), field, button], className="row-8"),
            html.Div(id="new-hub-row"),  # not live: a screen reader would read out every percent
            # The key of the fetch, so that a reload finds it again; what it became goes the way of an upload.
            dcc.Store(id="new-hub-key", storage_type="session"),
            dcc.Interval(id="new-wait-hub", interval=_LOOK_MS, disabled=True),
        ],
        className="ql-hub",
    )


def hub_row(record: FetchRecord, is_served: bool) -> html.Div:
    """A fetch that is under way, or that came to nothing.

    Args:
        record: the fetch.
        is_served: whether a worker that fetches is alive.
    """
    asked = record.repo if record.revision == "main" else f"{record.repo}@{record.revision}"
    part = record.bytes_done / record.bytes_total if record.bytes_total else 0.0
    facts, percent = "", f"{int(100 * part)} %"
    if record.bytes_total:
        facts = f"{numbers.size(record.bytes_done)} of {numbers.size(record.bytes_total)}"
    failed = record.state == "failed"
    actions = [_act("again", "Try again", f"Fetch {asked} again")] if failed else []
    actions.append(_act("cancel", "×", f"Forget {asked}" if failed else f"Cancel the fetch of {asked}"))
    head = [
        html.Span(asked, className="ql-upload-name", title=asked),
        html.Span(facts, className="ql-upload-facts"),
        *actions,
    ]
    bar = html.Div(
        html.Div(className="ql-upload-fill", style={"transform": f"scaleX({part:.4f})"}), className="ql-upload-bar",
        role="progressbar", **{"aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": int(100 * part),
                               "aria-label": f"Fetch of {asked}"},
    )  # fmt: skip
    meter = html.Div([bar, html.Span(percent, className="ql-upload-percent")], className="ql-upload-meter")
    note = html.Div(_note(record, is_served), className="ql-upload-note", **({"role": "alert"} if failed else {}))
    return html.Div([html.Div(head, className="ql-upload-head"), meter, note], className="ql-upload",
                    **{"data-state": "failed" if failed else "sending"})  # fmt: skip


def problem_row(error: ErrorBody) -> html.Div:
    """What was refused before it began."""
    return html.Div(_told(error), className="ql-problem", role="alert")


def register_hub(app: Dash, services: Services) -> None:
    """Fetch, follow, cancel. Only where the server is allowed out: elsewhere there is no such field."""

    @app.callback(
        Output("new-hub-key", "data"),
        Output("new-hub-row", "children"),
        Output("new-wait-hub", "disabled"),
        Output("uploaded-model", "data"),
        Output("new-hub-id", "value"),
        Input("new-hub-fetch", "n_clicks"),
        Input("new-hub-id", "n_submit"),
        Input({"type": "new-hub-act", "name": "again"}, "n_clicks", allow_optional=True),
        Input({"type": "new-hub-act", "name": "cancel"}, "n_clicks", allow_optional=True),
        Input("new-wait-hub", "n_intervals"),
        State("new-hub-id", "value"),
        State("new-hub-key", "data"),
        State("new-model", "data"),
        running=[(Output("new-wait-hub", "interval"), _NOT_NOW_MS, _LOOK_MS)],
    )
    @in_thread
    def follow(*values: Any) -> tuple[Any, ...]:
        typed, key, chosen = values[-3:]
        act = _act_of(ctx.triggered_id)
        store = services.store
        try:
            if act in {"new-hub-fetch", "new-hub-id"}:
                if not (typed or "").strip():
                    raise PreventUpdate
                record: FetchRecord = queue.fetch(store, *parse_asked(typed), current_user().name)
            elif not key:
                return None, None, True, no_update, no_update
            else:
                # The browser may have the key of whoever was signed in before.
                record = store.fetches.get(key, owner=current_user().name)
            if act == "again" and record.has_ended:
                record = queue.fetch(store, record.repo, record.revision, record.owner)
            if act == "cancel":
                queue.cancel_fetch(store, key)
                return None, None, True, no_update, no_update
        except NotFound:
            return None, None, True, no_update, no_update
        except QuantLensError as error:
            return None, problem_row(ErrorBody.model_validate(error.as_dict())), True, no_update, no_update
        if record.state == "done":
            file = {"sha256": record.sha256, "filename": record.filename, "size": record.bytes_total, "at": time.time()}
            return None, None, True, no_update if chosen is not None else file, ""  # what was chosen meanwhile stays
        return record.key, hub_row(record, _is_served(store)), record.has_ended, no_update, no_update


def _act(name: str, text: str, label: str) -> html.Button:
    id_ = {"type": "new-hub-act", "name": name}
    return html.Button(text, id=id_, type="button", className=f"ql-upload-{name}", **{"aria-label": label})


def _act_of(trigger: Any) -> str:
    return str(trigger.get("name")) if isinstance(trigger, dict) else str(trigger)


def _is_served(store: Store) -> bool:
    return any(FETCH_QUEUE in worker.queues for worker in store.capabilities.workers())


def _note(record: FetchRecord, is_served: bool) -> str:
    if record.error is not None:
        return _told(record.error)
    if not is_served:
        return "No worker fetches: `quant-lens worker --queue fetch` starts one."
    if record.state == "waiting":
        return "Waits for the worker that fetches."
    if record.bytes_total is None:
        return "Asks the hub what there is."
    if record.bytes_done >= record.bytes_total:
        return "All is here; one file is made of it."
    return f"Commit {(record.commit or '')[:8]}. It goes on when this page is left."


def _told(error: ErrorBody) -> str:
    return f"{as_sentence(error.message)} {as_sentence(error.hint)}".rstrip()
