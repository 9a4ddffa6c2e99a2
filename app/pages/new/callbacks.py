"""The New page's callbacks: the cards of what is chosen, the schemes, the sum of it all, and Run."""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update
from dash.exceptions import PreventUpdate

from app.components import caution, error_state
from app.pages.new.architectures import architecture_options, differences_table
from app.pages.new.assessment import assessment, name_of
from app.pages.new.builder_callbacks import register_builder
from app.pages.new.cards import calibration_card, data_card, model_card
from app.pages.new.checking import Check
from app.pages.new.choosing import checkpoint_of, data_of
from app.pages.new.data_view import baseline_view, preview
from app.pages.new.draft import Draft
from app.pages.new.landscapes import DEFAULT_SAMPLING
from app.pages.new.parts import part_options
from app.pages.new.plan import Plan, plan_of
from app.pages.new.scheme_callbacks import register_schemes
from app.pages.new.schemes import hidden_counts
from app.pages.new.source_callbacks import register_sources
from app.pages.new.task_callbacks import register_tasks
from app.pages.new.tasks import USUAL, suggested_task
from app.routing import Services, current_user, in_thread
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import Capabilities, ErrorBody
from quant_lens_engine.schema.recipe import known_recipes
from worker import queue

FIELDS = {
    "name": "new-name", "model": "new-model", "data": "new-data", "part": "new-part",
    "adapter": "new-adapter", "architecture": "new-architecture", "task": "new-task",
    "text_length": "new-text-length", "packing": "new-packing",
    "layout": "new-layout", "scale": "new-scale", "mean": "new-mean", "std": "new-std", "limit": "new-limit",
    "batch_size": "new-batch", "calibration": "new-calibration", "calibration_limit": "new-calibration-limit",
    "schemes": "new-schemes", "preset": "new-preset", "checkpoints": "new-checkpoints",
    "along": "new-along",
    "plane": "new-plane", "points": "new-points", "sampling": "new-sampling",
    "tolerance": "new-tolerance", "seed": "new-seed",
    "device": "new-device", "dtype": "new-dtype", "base": "new-base",
}  # fmt: skip
STORES = {"model", "data", "calibration", "base"}


def register_new_page(app: Dash, services: Services) -> None:
    """Add them all to ``app``."""
    register_sources(app, services)
    register_tasks(app, services)
    _register_cards(app, services)
    _register_data_cards(app)
    register_schemes(app, services)
    register_builder(app, services)
    _register_overview(app)
    _register_plan(app, services)
    _register_run(app, services)


def _field_inputs() -> list[Input]:
    return [Input(id_, "data" if field in STORES else "value") for field, id_ in FIELDS.items()]


def draft_of(values: tuple[Any, ...] | list[Any]) -> Draft:
    """The draft from the fields' values, in the order of ``FIELDS``."""
    given = dict(zip(FIELDS, values, strict=True))
    for text in ("name", "scale", "mean", "std"):
        given[text] = given[text] or ""
    for number in ("limit", "batch_size", "calibration_limit", "text_length", "seed"):
        given[number] = given[number] if isinstance(given[number], int) else None
    given["layout"] = given["layout"] or None
    for choice in ("part", "adapter", "task", "packing"):
        given[choice] = given[choice] or ""
    given["architecture"] = given["architecture"] or "auto"
    given["schemes"] = tuple(given["schemes"] or ())
    given["checkpoints"] = tuple(given["checkpoints"] or ())
    given["along"] = tuple(given["along"] or ()) or ("random",)
    given["plane"], given["points"] = given["plane"] or "variants", given["points"] or ""
    given["sampling"] = given["sampling"] or DEFAULT_SAMPLING
    given["tolerance"] = float(given["tolerance"]) if isinstance(given["tolerance"], int | float) else None
    given["base"] = given["base"] or {}
    return Draft(**given)


def settled_draft(values: tuple[Any, ...] | list[Any], found: dict[str, Any] | None) -> Draft:
    """The draft, with the task that its files suggest where the user has chosen none."""
    draft = draft_of(values)
    return draft if draft.task else draft.changed(task=suggested_task(found or {}) or "")


def _register_cards(app: Dash, services: Services) -> None:
    @app.callback(
        Output("new-zone-model", "hidden"),
        Output("new-card-model", "children"),
        Output("new-architecture-block", "hidden"),
        Output("new-architecture-options", "children"),
        Input("new-found", "data"),
        State("new-model", "data"),
        State("new-architecture", "value"),
    )
    @in_thread
    def show_model(found: dict[str, Any] | None, source: Any, architecture: str) -> tuple[Any, ...]:
        if not source:
            return False, None, True, []
        known = (found or {}).get("model")
        checkpoint = checkpoint_of(known)
        if checkpoint is None or not checkpoint.architectures:
            return True, model_card(source, known), True, []
        facts = services.store.capabilities.read().architectures
        return True, model_card(source, known), False, architecture_options(checkpoint, facts, architecture)

    @app.callback(
        Output("new-part", "data"),
        Output("new-part-block", "hidden"),
        Input("new-found", "data"),
    )
    def show_parts(found: dict[str, Any] | None) -> tuple[Any, ...]:
        checkpoint = checkpoint_of((found or {}).get("model"))
        return part_options(checkpoint), checkpoint is None or len(checkpoint.parts) < 2

    @app.callback(
        Output("new-differences", "children"),
        Input("new-architecture", "value"),
        Input("new-found", "data"),
    )
    @in_thread
    def show_differences(architecture: str | None, found: dict[str, Any] | None) -> Any:
        checkpoint = checkpoint_of((found or {}).get("model"))
        if checkpoint is None:
            return None
        chosen = next((match for match in checkpoint.architectures if match.architecture == architecture), None)
        if chosen is None and not any(match.fits for match in checkpoint.architectures):
            chosen = next(iter(checkpoint.architectures), None)
        return differences_table(chosen) if chosen is not None and not chosen.fits else None


def _register_data_cards(app: Dash) -> None:
    @app.callback(
        Output("new-zone-data", "hidden"),
        Output("new-card-data", "children"),
        Output("new-data-facts", "hidden"),
        Output("new-transform", "hidden"),
        Input("new-found", "data"),
        State("new-data", "data"),
    )
    def show_data(found: dict[str, Any] | None, source: Any) -> tuple[Any, ...]:
        if not source:
            return False, None, True, True
        known = (found or {}).get("data")
        data = data_of(known)
        usable = data is not None or known is None
        as_it_is = "example" in source or (data is not None and data.x_dtype == "text")
        return True, data_card(source, known), not usable, not usable or as_it_is

    @app.callback(
        Output("new-zone-calibration", "hidden"),
        Output("new-card-calibration", "children"),
        Input("new-found", "data"),
        State("new-calibration", "data"),
    )
    def show_calibration(found: dict[str, Any] | None, source: Any) -> tuple[Any, ...]:
        return (True, calibration_card(source, (found or {}).get("calibration"))) if source else (False, None)

    @app.callback(
        Output("new-preview", "children"),
        Input("new-found", "data"),
        *_field_inputs(),
    )
    def show_preview(found: dict[str, Any] | None, *values: Any) -> Any:
        data = data_of((found or {}).get("data"))
        if data is None:
            return None
        try:
            return preview(data, draft_of(values).transform())
        except ValueError:  # a number that is none is told beside its field
            return no_update

    @app.callback(Output("new-baseline", "children"), Input("new-check", "data"), State("new-draft", "data"))
    def show_baseline(check: Check | None, kept: dict[str, Any] | None) -> Any:
        return baseline_view(check, ((kept or {}).get("question") or {}).get("task", USUAL))


def _register_overview(app: Dash) -> None:
    @app.callback(
        Output("new-draft", "data"),
        Output("new-query", "data"),
        Output({"type": "new-problem", "field": ALL}, "children"),
        Output({"type": "new-step", "name": ALL}, "data-done"),
        Output({"type": "new-swatch", "scheme": ALL}, "style"),
        Output({"type": "new-swatch", "scheme": ALL}, "hidden"),
        Output({"type": "new-more", "family": ALL}, "children"),
        Output("new-schemes-count", "children"),
        Output("new-calibration-block", "hidden"),
        Output("new-calibration-whose", "children"),
        Output("new-calibration-hint", "children"),
        Output("new-calibration-warning", "children"),
        Output("new-limit-hint", "children"),
        Output("new-transform-said", "children"),
        Output("new-name", "placeholder"),
        Input("new-found", "data"),
        *_field_inputs(),
        State("new-offered", "data"),
    )
    def assess(found: Any, *values: Any) -> tuple[Any, ...]:
        """What the fields say together; no more than that, so that it is there as fast as one types."""
        written, offered = draft_of(values[:-1]), Capabilities.model_validate(values[-1])
        draft = settled_draft(values[:-1], found)
        seen = assessment(draft, found or {}, offered.algorithms)
        problems, steps, swatches, _, more = ([item["id"] for item in group] for group in ctx.outputs_list[2:7])
        waiting = hidden_counts(offered.schemes, draft.schemes)
        return (
            {"question": seen.question, "problems": seen.told_beside_button},
            written.query(),
            [seen.problems.get(id_["field"]) for id_ in problems],
            [str(seen.done.get(id_["name"], False)).lower() for id_ in steps],
            [seen.swatches.get(id_["scheme"], {}) for id_ in swatches],
            [id_["scheme"] not in seen.swatches for id_ in swatches],
            [f"{waiting[id_['family']]} more" for id_ in more],
            f"{len(known_recipes(draft.schemes))} chosen",
            not seen.calibration.shown,
            seen.calibration.whose,
            seen.calibration.hint,
            caution(seen.calibration.warning),
            seen.limit_hint,
            seen.transform_said,
            name_of(draft, found or {}),
        )


def _register_plan(app: Dash, services: Services) -> None:
    @app.callback(
        Output({"type": "new-preset-time", "name": ALL}, "children"),
        Output("new-summary", "children"),
        Output("new-run-note", "children"),
        Output("new-start", "disabled"),
        Output("new-copies", "children"),
        Input("new-draft", "data"),
        Input("new-check", "data"),
        Input("uploading", "data"),
        State("new-found", "data"),
        *[State(item.component_id, item.component_property) for item in _field_inputs()],
    )
    @in_thread
    def sum_up(
        kept: Any, check: Check | None, uploading: list[str] | None, found: Any, *values: Any
    ) -> tuple[Any, ...]:
        """What would be run and for how long, as far as the baseline check has told it."""
        draft = settled_draft(values, found)
        plan: Plan = plan_of(services, draft, found or {}, check)
        problems = (kept or {}).get("problems") or []
        note = f"Waits for the upload of {' and '.join(uploading)}." if uploading else next(iter(problems), "")
        times = [plan.preset_times.get(item["id"]["name"], "") for item in ctx.outputs_list[0]]
        return times, plan.summary, note, bool(problems or uploading or plan.spec is None), plan.copies

    app.clientside_callback(
        ClientsideFunction("quantLensNew", "remember"), Output("new-query", "id"), Input("new-query", "data")
    )


def _register_run(app: Dash, services: Services) -> None:
    @app.callback(
        Output("url", "href"),
        Output("new-run-error", "children"),
        Input("new-start", "n_clicks"),
        State("new-found", "data"),
        *[State(item.component_id, item.component_property) for item in _field_inputs()],
        prevent_initial_call=True,
        running=[(Output("new-start", "disabled"), True, False)],
    )
    @in_thread
    def run(clicks: int | None, found: dict[str, Any] | None, *values: Any) -> tuple[Any, Any]:
        if not clicks:  # the button has only just been drawn
            raise PreventUpdate
        draft = settled_draft(values, found)
        named = draft if draft.name else draft.changed(name=name_of(draft, found or {}))
        try:
            record = queue.submit(services.store, named.spec(), current_user().name)
        except QuantLensError as error:
            return no_update, error_state(ErrorBody.model_validate(error.as_dict()))
        except ValueError as error:
            return no_update, html.Div(str(error), className="ql-problem")
        return f"/runs/{record.id}", None
