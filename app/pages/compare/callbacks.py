"""The callbacks of the comparison. The address is the view: controls change it, and everything is drawn from it."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from app.compare import RunComparison, compare_runs
from app.components.card import card_head
from app.components.chart_card import chart_data
from app.components.icon import icon
from app.components.route_link import route_link
from app.components.state_page import empty_state
from app.pages.compare.choice import default_choice, pick_variant, variant_choices
from app.pages.compare.layout import CHART, DENSITY, DIFFERENCE, PLANES
from app.pages.compare.tables import ComparedRow, metrics_table, settings_table
from app.routing import Services, in_thread
from app.view_state import CompareView
from quant_lens_engine.figures import ComparedResult, draw_both, pair_words, plane_pairs
from quant_lens_engine.schema import TERMINAL_STATES, RunRecord, RunResult
from worker.store import NotFound, Store

Pair = tuple[RunRecord, RunResult]

_OFFERED = 100
CONTROLS = {
    "variant": "compare-variant", "baseline": "compare-baseline", "landscape": "compare-landscape",
    "horizontal": "compare-lambda", "density": "compare-density", "pair": "compare-pair",
    "planes": "compare-planes-view",
}  # fmt: skip
"""Of each field of the view the control that sets it."""


def register_compare_page(dashboard: Dash, services: Services) -> None:
    """Add the page's callbacks."""
    _register_drawing(dashboard, services.store)
    _register_controls(dashboard)


def load_runs(store: Store, view: CompareView) -> tuple[list[Pair], list[str]]:
    """The runs of a view with their results, in the view's order; and the ids that are no longer there."""
    pairs, missing = [], []
    for run_id in view.runs:
        try:
            pairs.append((store.runs.get(run_id), store.results.result(run_id)))
        except NotFound:
            missing.append(run_id)
    return pairs, missing


def compared_rows(pairs: Sequence[Pair], view: CompareView, choice: str | None) -> list[ComparedRow]:
    """The rows, baseline on top; letters follow the order of the address, so they stay when the baseline changes."""
    baseline = view.baseline if any(record.id == view.baseline for record, _ in pairs) else pairs[0][0].id
    rows = [
        ComparedRow(
            letter=string.ascii_uppercase[place % 26],
            record=record,
            result=result,
            variant=pick_variant(result, choice) if choice else None,
            baseline=record.id == baseline,
        )
        for place, (record, result) in enumerate(pairs)
    ]
    return sorted(rows, key=lambda row: not row.baseline)


def _register_drawing(dashboard: Dash, store: Store) -> None:
    @dashboard.callback(
        output=_drawn_parts(),
        inputs=[Input("url", "search"), Input("compare-clock", "n_intervals")],
        state=[State("url", "pathname")],
    )
    @in_thread
    def draw(search: str | None, _: int | None, pathname: str) -> dict[str, Any]:
        if pathname != "/compare":
            raise PreventUpdate
        return draw_comparison(store, CompareView.from_search(search or ""))


def _drawn_parts() -> dict[str, Output]:
    charts = {
        name: Output({"part": "chart-data", "chart": name}, "data") for name in (CHART, DENSITY, PLANES, DIFFERENCE)
    }
    choices = {
        f"{name}-data": Output(f"compare-{name}", "data") for name in ("variant", "baseline", "pair", "add")
    }  # fmt: skip
    values = {name: Output(control, "value") for name, control in CONTROLS.items()}
    return charts | choices | values | {
        "body-hidden": Output("compare-body", "hidden"),
        "nothing-hidden": Output("compare-nothing", "hidden"),
        "nothing": Output("compare-nothing", "children"),
        "notes": Output("compare-notes", "children"),
        "overline": Output("compare-overline", "children"),
        "table": Output("compare-table", "children"),
        "settings": Output("compare-settings", "children"),
        "json": Output("compare-json", "href"),
        "ended": Output("compare-clock", "disabled"),
        "drawn": Output("compare-drawn", "data"),
    }  # fmt: skip


def draw_comparison(store: Store, view: CompareView) -> dict[str, Any]:
    """Everything on the page, by the names of its parts."""
    pairs, missing = load_runs(store, view)
    offered = _offered(store, {record.id for record, _ in pairs})
    if not pairs:
        return _empty(offered, missing)
    choices = variant_choices([result for _, result in pairs])
    known = {choice.value for choice in choices}
    choice = view.variant if view.variant in known else default_choice(choices)
    rows = compared_rows(pairs, view, choice)
    baseline = rows[0].record.id
    comparison = compare_runs(pairs, baseline)
    ended = all(record.state in TERMINAL_STATES for record, _ in pairs)
    directions = plane_pairs([result for _, result in pairs])
    shown = replace(view, variant=choice, baseline=baseline,
                    pair=view.pair if view.pair in directions else next(iter(directions), ""))  # fmt: skip
    ids = ",".join(record.id for record, _ in pairs)
    chosen = {name: getattr(shown, name) for name in CONTROLS}
    return chosen | _charts([_compared(row) for row in rows if row.variant], shown, ended) | {
        "body-hidden": False,
        "nothing-hidden": True,
        "nothing": None,
        "notes": _notes(comparison, missing),
        "overline": _overline(rows),
        "table": metrics_table(rows),
        "settings": _settings(comparison, rows),
        "variant-data": [{"value": item.value, "label": item.label} for item in choices],
        "baseline-data": [
            {"value": row.record.id, "label": f"{row.letter} · {row.name}"} for row in _by_letter(rows)
        ],
        "pair-data": [{"value": pair, "label": pair_words(pair)} for pair in directions],
        "add-data": offered,
        "json": f"/api/v1/compare?runs={ids}&baseline={baseline}",
        "ended": ended,
        "drawn": chosen,
    }  # fmt: skip


def _empty(offered: list[dict[str, str]], missing: Sequence[str]) -> dict[str, Any]:
    plain = CompareView()
    return dict.fromkeys(_drawn_parts()) | {name: getattr(plain, name) for name in CONTROLS} | {
        "body-hidden": True, "nothing-hidden": False, "nothing": _nothing(bool(offered), missing), "overline": "",
        "variant-data": [], "baseline-data": [], "pair-data": [], "add-data": offered, "json": "/api/v1/compare",
        "ended": True,
    }  # fmt: skip


def _charts(compared: Sequence[ComparedResult], view: CompareView, ended: bool) -> dict[str, Any]:
    name = f"{view.variant}-{view.landscape}"
    planes = {"landscape": view.landscape, "pair": view.pair}
    options: dict[str, tuple[dict[str, Any], str]] = {
        CHART: ({"landscape": view.landscape}, "No run has a line of this variant."),
        DENSITY: ({"scale": view.density, "horizontal": view.horizontal}, "No run has a density of this variant."),
        PLANES: (planes | {"view": view.planes}, "No run has measured a plane in this landscape."),
        DIFFERENCE: (planes, "Needs the baseline's plane and another run's."),
    }
    return {
        chart: chart_data(draw_both(chart, compared, **chosen), f"{chart}-{name}", nothing=nothing if ended else "")
        for chart, (chosen, nothing) in options.items()
    }


def _register_controls(dashboard: Dash) -> None:
    @dashboard.callback(
        output=[Output("url", "search", allow_duplicate=True), Output("compare-add", "value")],
        inputs={
            "chosen": {name: Input(control, "value") for name, control in CONTROLS.items()},
            "added": Input("compare-add", "value"),
            "removed": Input({"part": "compare-remove", "run": ALL}, "n_clicks"),
        },
        state={"search": State("url", "search"), "drawn": State("compare-drawn", "data")},
        prevent_initial_call=True,
    )
    def change(
        chosen: dict[str, Any], added: str | None, removed: list[int | None], search: str | None,
        drawn: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        view, trigger = CompareView.from_search(search or ""), ctx.triggered_id
        if trigger == "compare-add" and added:
            return view.with_run(added).search(), None
        if isinstance(trigger, dict) and any(removed):
            return view.without_run(trigger["run"]).search(), no_update
        changed = {key: value for key, value in chosen.items() if value and drawn and value != drawn[key]}
        # A control that the drawing has just set says nothing new: a default stays out of the address.
        if not changed or isinstance(trigger, dict) or trigger == "compare-add":
            return no_update, no_update
        return replace(view, **changed).search(), no_update


def _compared(row: ComparedRow) -> ComparedResult:
    name = row.variant.name if row.variant else ""
    return ComparedResult(row.letter, row.name, row.result, name, row.baseline)


def _by_letter(rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    return sorted(rows, key=lambda row: row.letter)


def _offered(store: Store, taken: set[str]) -> list[dict[str, str]]:
    page = store.runs.page(limit=_OFFERED)
    return [{"value": record.id, "label": record.name or record.id} for record in page.items if record.id not in taken]


def _overline(rows: Sequence[ComparedRow]) -> list[Component | str]:
    models = sorted({row.result.model.architecture or "" for row in rows} - {""})
    return [f"{len(rows)} run{'s' if len(rows) > 1 else ''} · ", html.Code(", ".join(models))] if models else []


def _notes(comparison: RunComparison, missing: Sequence[str]) -> list[Component]:
    notes = [*comparison.notes]
    if missing:
        notes.append(f"No longer here: {', '.join(missing)}. It may have been deleted.")
    if len(comparison.runs) == 1:
        notes.append("Add a second run to see differences.")
    return [html.P([icon("info", 15), note], className="note") for note in notes]


def _settings(comparison: RunComparison, rows: Sequence[ComparedRow]) -> list[Component]:
    count = len(comparison.settings)
    if len(rows) == 1:
        sentence = "With a second run, only what differs stands here."
    else:
        sentence = f"{count} of {comparison.settings_total}. The rest are equal."
    text = "\n".join(
        "\t".join([item.setting, *(str(item.values.get(row.record.id)) for row in rows)])
        for item in comparison.settings
    )
    copy = html.Button(
        icon("copy"), className="icon-button", type="button", title="Copy", **{"data-copy": text, "aria-label": "Copy"}
    )
    head = card_head("Settings that differ", sentence, copy if count else None)
    if not count:
        return [head]
    return [head, html.Div(settings_table(comparison, rows), className="table-frame", tabIndex=0)]


def _nothing(any_runs: bool, missing: Sequence[str]) -> Component:
    gone = f" Not here any more: {', '.join(missing)}." if missing else ""
    if not any_runs:
        return empty_state(
            "Nothing to compare yet", f"There are no runs.{gone}", route_link("Go to the runs", "/", "button primary")
        )
    return empty_state(
        "Choose runs to compare",
        f"Tick two or more runs in the table, then Compare.{gone}",
        route_link("Go to the runs", "/", "button primary"),
    )
