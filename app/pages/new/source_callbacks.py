"""The New page's callbacks around model and data: choose them, look into them, suggest what goes with them, check."""

from __future__ import annotations

from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, no_update

from app.pages.new.architectures import best_architecture
from app.pages.new.checking import Check, follow_check
from app.pages.new.choosing import checkpoint_of, choose, data_of, is_waiting, look_at
from app.pages.new.hub import register_hub
from app.pages.new.written_numbers import scale_text
from app.routing import Services, in_thread

KINDS = ("model", "data", "calibration")
LOOK_MS, WAIT_MS = 250, 700
_NOT_NOW_MS = 3_600_000
"""While an answer is on its way nobody asks again: the later call would take its place, and on a busy server, where
answers take longer than a period, none would ever arrive."""


def register_sources(app: Dash, services: Services) -> None:
    """Add them all to ``app``."""
    # One callback for each: a call that comes while the same callback is at work takes its place, and two uploads
    # may well end at one moment.
    for kind in KINDS:
        _register_choice(app, services, kind)
    _register_looking(app, services)
    _register_suggestions(app)
    if services.settings.hub:
        register_hub(app, services)


def _register_choice(app: Dash, services: Services, kind: str) -> None:
    @app.callback(
        Output(f"new-{kind}", "data"),
        Output(f"new-stored-{kind}", "value"),
        Input(f"uploaded-{kind}", "data"),
        Input(f"new-stored-{kind}", "value"),
        Input({"type": "new-example", "kind": ALL, "name": ALL}, "n_clicks"),
        Input({"type": "new-remove", "kind": ALL}, "n_clicks"),
        Input({"type": "new-swap", "kind": ALL}, "n_clicks"),
        *[State(f"new-{one}", "data") for one in KINDS],
        prevent_initial_call=True,
    )
    @in_thread
    def choose_source(*values: Any) -> tuple[Any, Any]:
        before = dict(zip(KINDS, values[-len(KINDS) :], strict=True))
        examples = services.store.capabilities.read().examples
        after = before
        for event in ctx.triggered:
            after = choose(ctx.triggered_prop_ids[event["prop_id"]], event["value"], after, examples)
        return after[kind] if after[kind] != before[kind] else no_update, None


def _register_looking(app: Dash, services: Services) -> None:
    @app.callback(
        Output("new-found", "data"),
        Output("new-wait-found", "disabled"),
        *[Input(f"new-{kind}", "data") for kind in KINDS],
        Input("new-wait-found", "n_intervals"),
        State("new-found", "data"),
        running=[(Output("new-wait-found", "interval"), _NOT_NOW_MS, LOOK_MS)],
    )
    @in_thread
    def look(model: Any, data: Any, calibration: Any, _: int | None, before: Any) -> tuple[Any, bool]:
        """What is in the chosen files, asked again and again until a worker has said so."""
        inspections = services.store.capabilities.read().examples.inspections
        found: dict[str, Any] = {
            "model": look_at(services.store, model, inspections),
            "data": look_at(services.store, data, inspections),
            "calibration": look_at(services.store, calibration, inspections),
            "of": [model, data, calibration],
        }
        waits = any(is_waiting(found[kind]) for kind in KINDS)
        return found if found != before else no_update, not waits

    @app.callback(
        Output("new-check", "data"),
        Output("new-wait-check", "disabled"),
        Input("new-draft", "data"),
        Input("new-wait-check", "n_intervals"),
        State("new-check", "data"),
        running=[(Output("new-wait-check", "interval"), _NOT_NOW_MS, WAIT_MS)],
    )
    @in_thread
    def check(draft: dict[str, Any] | None, _: int | None, before: Check | None) -> tuple[Any, bool]:
        after = follow_check(services.store, (draft or {}).get("question"), before)
        waits = after is not None and after["state"] in {"waiting", "running"}
        return after if after != before else no_update, not waits


def _register_suggestions(app: Dash) -> None:
    @app.callback(
        Output("new-architecture", "value"),
        Output("new-part", "value"),
        Output("new-layout", "value"),
        Output("new-scale", "value"),
        Output("new-told", "data"),
        Input("new-found", "data"),
        State("new-model", "data"),
        State("new-data", "data"),
        State("new-architecture", "value"),
        State("new-layout", "value"),
        State("new-scale", "value"),
        State("new-told", "data"),
    )
    def suggest(
        found: Any, model: Any, data: Any, architecture: Any, layout: Any, scale: Any, told: dict[str, Any]
    ) -> tuple[Any, ...]:
        """What the files suggest is put into the fields, once for each file: what the user changes then stays."""
        after = dict(told)
        answers: list[Any] = [no_update, no_update, no_update, no_update]
        checkpoint = checkpoint_of((found or {}).get("model"))
        if checkpoint is not None and told["architecture_for"] != model:
            after["architecture_for"] = model
            names = {match.architecture for match in checkpoint.architectures}
            if told["architecture_for"] is not None or architecture not in names:
                answers[0] = best_architecture(checkpoint) or "auto"
            if told["architecture_for"] is not None:
                answers[1] = None
        inspection = data_of((found or {}).get("data"))
        if inspection is not None and told["suggested_for"] != data:
            after["suggested_for"] = data
            unsaid = not layout and not scale
            if (told["suggested_for"] is not None or unsaid) and "example" not in (data or {}):
                answers[2] = inspection.suggested_layout or ""
                answers[3] = scale_text(inspection.suggested_scale)
        return (*answers, after if after != told else no_update)
