"""The tab "Landscape": planes through the run's models, the way to each, and what their basins are like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, html

from app.components import chart_card, helped_heads, segmented, table_card, value_cell, variant_name
from app.components.sentence import as_sentence
from quant_lens_engine.figures import (
    COLOUR_RANGES,
    LOSS_SCALES,
    METRICS,
    VariantStyle,
    loss_unit,
    pair_words,
)
from quant_lens_engine.schema import FLOAT_VARIANT, Plane, RunRecord, RunResult, numbers, parse_run_spec, planned_planes

PLANE_LANDSCAPES = {"smooth": "Smooth", "deployed": "Deployed"}
VIEWS = {"flat": "2-D", "both": "2-D + 3-D"}
BASIN_ROWS = ("basin_width", "basin_asymmetry", "epsilon_sharpness", "roughness", "barrier")
"""The metrics of the basin, each a column."""

_PLANE = {
    "landscape": "run-plane-landscape", "pair": "run-pair", "variant": "run-network", "scale": "run-loss-scale",
    "colours": "run-colours",
}  # fmt: skip
LANDSCAPE_CHARTS: dict[str, dict[str, str]] = {
    "plane": _PLANE,
    "plane-surface": _PLANE | {"view": "run-view"},
    "path": {"scale": "run-loss-scale"},
}
"""The charts of this tab; of each the options that a switch sets, and the switch."""

_SIDE_PX = 560
_POINT_HEADS = (
    ("Model", ""),
    ("α", "Coordinate of its projection along the first direction."),
    ("β", "The same along the second."),
    ("L", "Its own evaluated loss."),
    ("ΔL", "Minus FP32's, on the same rows."),
    ("‖Δw‖ / ‖w‖", "How far its weights are from where the plane stands."),
    ("Out of plane", "Distance of its weights from the plane, in ‖w‖; 0: it lies on it."),
)


def landscape_controls(record: RunRecord, chosen: Mapping[str, str]) -> html.Section:
    """Which plane, whose network, and how its loss is drawn. A run that asked for no plane has nothing to choose."""
    pairs, networks = plane_choices(record)
    pair = chosen.get("pair", "")
    network = chosen.get("network", "")
    options = [{"value": key, "label": pair_words(key)} for key in pairs]
    return html.Section(
        [
            _labelled("Landscape", segmented("run-plane-landscape", "Landscape of the plane", chosen["plane"],
                                             PLANE_LANDSCAPES)),
            dmc.Select(id="run-pair", label="Directions", data=options, allowDeselect=False, w=260,
                       value=pair if pair in pairs else next(iter(pairs), None), placeholder="no plane"),
            dmc.Select(id="run-network", label="Network", data=networks, allowDeselect=False, w=170,
                       value=network if network in networks else next(iter(networks), None), placeholder="no plane"),
            _labelled("Scale", segmented("run-loss-scale", "Scale of the loss", chosen["scale"], LOSS_SCALES)),
            _labelled("Colour range", segmented("run-colours", "Colour range", chosen["colours"], COLOUR_RANGES)),
            _labelled("View", segmented("run-view", "View", chosen["view"], VIEWS)),
        ],
        className="card ql-controls",
        **{"aria-label": "What is shown"},
    )  # fmt: skip


def _labelled(words: str, control: Any) -> html.Div:
    return html.Div([html.Span(words, className="ql-control-label"), control], className="ql-control")


def plane_choices(record: RunRecord) -> tuple[list[str], list[str]]:
    """The pairs of directions and the networks that the run asked for, measured or not."""
    spec = parse_run_spec(record.spec)
    planned = planned_planes(spec.analyses.plane, [scheme.name for scheme in spec.schemes])
    pairs = list(dict.fromkeys("~".join(plane.directions) for plane in planned))
    return pairs, list(dict.fromkeys(plane.variant for plane in planned))


def landscape_charts(view: str) -> html.Div:
    """The charts' cards: the surface has one where it is asked for, else the path stands in its place."""
    waits = "Rows come in as workers finish them, once the variants are measured."
    later = "Once the first path is measured."
    return html.Div(
        [
            chart_card("plane", title="Loss over two directions", sentence=waits, height=_SIDE_PX),
            chart_card("plane-surface", title="The same plane in 3-D", sentence=waits, height=_SIDE_PX),
            chart_card("path", title="From FP32 to each variant", sentence=later, height=320),
        ],
        className=f"card-grid ql-plane-pair {view}",
        id="run-planes",
    )


def register_landscape(app: Dash) -> None:
    """The surface's card comes and goes at once, without asking the server."""
    app.clientside_callback(
        "view => `card-grid ql-plane-pair ${view || 'flat'}`",
        Output("run-planes", "className"),
        Input("run-view", "value"),
    )


def why_no_landscape(chart: str, result: RunResult, record: RunRecord, view: str, ended: bool) -> str:
    """Why there is nothing for a chart of this tab; nothing while it may still come."""
    if chart == "plane-surface" and view != "both":
        return "Choose 2-D + 3-D to draw the surface."
    if chart == "path":
        return "No path was measured: the run did not ask for it, or no variant has one." if ended else ""
    if not any(item.stage == "plane" for item in record.progress.stages):
        return "The run asked for no plane. New run → Lines and planes asks for one."
    if not ended and any(item.stage == "plane" and item.state in {"waiting", "running"}
                         for item in record.progress.stages):  # fmt: skip
        return ""
    failed = next((item for item in result.failures if item.stage == "plane"), None)
    if failed is not None:
        return f"The plane has no result: {failed.message}"
    return "No such plane was measured: choose another network or landscape."


def landscape_tables(result: RunResult, styles: Mapping[str, VariantStyle]) -> Any:
    """Where the models are on each plane, and each variant's basin."""
    first: dict[str, Plane] = {}
    for variant in result.variants:
        for plane in variant.planes:
            if plane.points:
                first.setdefault("~".join(plane.directions), plane)
    cards = [_points_card(key, plane, styles, loss_unit(result.task)) for key, plane in first.items()]
    return html.Div([*cards, _basin_card(result, styles)], className="ql-landscape-tables")


def _points_card(key: str, plane: Plane, styles: Mapping[str, VariantStyle], unit: str) -> html.Section:
    base = next((point.loss for point in plane.points if point.name == FLOAT_VARIANT), None)
    rows = []
    for point in plane.points:
        change = None if point.loss is None or base is None else point.loss - base
        name = variant_name(styles[point.name]) if point.name in styles else point.name
        cells = (
            numbers.number(point.alpha), numbers.number(point.beta), numbers.number(point.loss),
            numbers.ABSENT if point.name == FLOAT_VARIANT else numbers.number(change, signed=True),
            numbers.number(point.shift), numbers.number(point.distance),
        )  # fmt: skip
        rows.append(
            html.Tr([html.Th(name, scope="row"), *(html.Td(text, className="num", title=unit) for text in cells)])
        )
    said = f"{pair_words(key)}. {as_sentence(plane.distance_choice)}"
    return table_card(_table(_POINT_HEADS, rows), title="Points", sentence=said)


def _basin_card(result: RunResult, styles: Mapping[str, VariantStyle]) -> html.Section:
    shown = [METRICS[name].of(result.task) for name in BASIN_ROWS]
    rows = [
        html.Tr(
            [
                html.Th(variant_name(styles[item.name]), scope="row"),
                *(value_cell(metric, metric.read(result, item)) for metric in shown),
            ]
        )
        for item in result.variants
    ]
    heads = [("Variant", ""), *((metric.head, metric.meaning) for metric in shown)]
    return table_card(
        _table(heads, rows), title="Basins", sentence="Along the shared random directions; the barrier on the way from "
        "FP32. A wide basin forgives the next perturbation.",
    )  # fmt: skip


def _table(heads: Iterable[tuple[str, str]], rows: list[html.Tr]) -> html.Table:
    return html.Table([helped_heads(heads), html.Tbody(rows)], className="data-table ql-places")
