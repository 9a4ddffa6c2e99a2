"""The callbacks of the comparison. The address is the view: controls change it, and everything is drawn from it."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component

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
from quant_lens_engine.figures import ComparedResult, draw_both
from quant_lens_engine.schema import TERMINAL_STATES, RunRecord, RunResult
from worker.store import NotFound, Store

Pair = tuple[RunRecord, RunResult]

_OFFERED = 100


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
        Output("compare-body", "hidden"),
        Output("compare-nothing", "hidden"),
        Output("compare-nothing", "children"),
        Output("compare-notes", "children"),
        Output("compare-overline", "children"),
        Output("compare-table", "children"),
        Output("compare-settings", "children"),
        Output({"part": "chart-data", "chart": CHART}, "data"),
        Output({"part": "chart-data", "chart": DENSITY}, "data"),
        Output({"part": "chart-data", "chart": PLANES}, "data"),
        Output({"part": "chart-data", "chart": DIFFERENCE}, "data"),
        Output("compare-variant", "data"),
        Output("compare-variant", "value"),
        Output("compare-baseline", "data"),
        Output("compare-baseline", "value"),
        Output("compare-landscape", "value"),
        Output("compare-lambda", "value"),
        Output("compare-density", "value"),
        Output("compare-add", "data"),
        Output("compare-json", "href"),
        Output("compare-clock", "disabled"),
        Output("compare-drawn", "data"),
        Input("url", "search"),
        Input("compare-clock", "n_intervals"),
        State("url", "pathname"),
    )
    @in_thread
    def draw(search: str | None, _: int | None, pathname: str) -> Any:
        if pathname != "/compare":
            return (no_update,) * 22
        view = CompareView.from_search(search or "")
        pairs, missing = load_runs(store, view)
        offered = _offered(store, {record.id for record, _ in pairs})
        if not pairs:
            nothing = _nothing(bool(offered), missing)
            return (True, False, nothing, None, "", None, None, None, None, None, None, [], None, [], None, "smooth",
                    "linear", "log", offered, "/api/v1/compare", True, None)  # fmt: skip
        choices = variant_choices([result for _, result in pairs])
        known = {choice.value for choice in choices}
        choice = view.variant if view.variant in known else default_choice(choices)
        rows = compared_rows(pairs, view, choice)
        baseline = rows[0].record.id
        comparison = compare_runs(pairs, baseline)
        compared = [_compared(row) for row in rows if row.variant]
        drawing = draw_both(CHART, compared, landscape=view.landscape)
        ended = all(record.state in TERMINAL_STATES for record, _ in pairs)
        spectra = draw_both(DENSITY, compared, scale=view.density, horizontal=view.horizontal)
        densities = chart_data(spectra, f"compare-density-{choice}",
                               nothing="No run has a density of this variant." if ended else "")  # fmt: skip
        ids = ",".join(record.id for record, _ in pairs)
        return (
            False,
            True,
            None,
            _notes(comparison, missing),
            _overline(rows),
            metrics_table(rows),
            _settings(comparison, rows),
            chart_data(drawing, f"compare-{choice}-{view.landscape}"),
            densities,
            *_planes(compared, f"{choice}-{view.landscape}", view, ended),
            [{"value": item.value, "label": item.label} for item in choices],
            choice,
            [{"value": row.record.id, "label": f"{row.letter} · {row.name}"} for row in _by_letter(rows)],
            baseline,
            view.landscape,
            view.horizontal,
            view.density,
            offered,
            f"/api/v1/compare?runs={ids}&baseline={baseline}",
            ended,
            {
                "variant": choice,
                "baseline": baseline,
                "landscape": view.landscape,
                "horizontal": view.horizontal,
                "density": view.density,
            },
        )


def _planes(compared: Sequence[ComparedResult], name: str, view: CompareView, ended: bool) -> list[dict[str, Any]]:
    """The planes side by side, and what each differs by from the baseline's."""
    return [
        chart_data(draw_both(chart, compared, landscape=view.landscape), f"{chart}-{name}",
                   nothing=nothing if ended else "")
        for chart, nothing in (
            (PLANES, "No run has measured a plane in this landscape."),
            (DIFFERENCE, "Needs the baseline's plane and another run's."),
        )
    ]  # fmt: skip


def _register_controls(dashboard: Dash) -> None:
    @dashboard.callback(
        Output("url", "search", allow_duplicate=True),
        Output("compare-add", "value"),
        Input("compare-variant", "value"),
        Input("compare-baseline", "value"),
        Input("compare-landscape", "value"),
        Input("compare-lambda", "value"),
        Input("compare-density", "value"),
        Input("compare-add", "value"),
        Input({"part": "compare-remove", "run": ALL}, "n_clicks"),
        State("url", "search"),
        State("compare-drawn", "data"),
        prevent_initial_call=True,
    )
    def change(
        variant: str | None, baseline: str | None, landscape: Any, horizontal: Any, density: Any, added: str | None,
        removed: list[int | None], search: str | None, drawn: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        view, trigger = CompareView.from_search(search or ""), ctx.triggered_id
        if trigger == "compare-add" and added:
            return view.with_run(added).search(), None
        if isinstance(trigger, dict) and any(removed):
            return view.without_run(trigger["run"]).search(), no_update
        chosen = {"variant": variant, "baseline": baseline, "landscape": landscape, "horizontal": horizontal,
                  "density": density}  # fmt: skip
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
