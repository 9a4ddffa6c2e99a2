"""The tables of the tab "Landscape": where the models are on a plane, and what each variant's basin is like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dash import html

from app.components import helped_heads, table_card, value_cell, variant_name
from quant_lens_engine.figures import METRICS, VariantStyle, loss_unit, pair_words
from quant_lens_engine.schema import FLOAT_VARIANT, BasinRatio, Plane, RunResult, basin_words, numbers

BASIN_ROWS = ("basin_width", "basin_asymmetry", "epsilon_sharpness", "roughness", "barrier")
"""The metrics of the basin, each a column."""

_POINT_HEADS = (
    ("Model", ""),
    ("α", "Coordinate of its projection along the first direction."),
    ("β", "The same along the second."),
    ("L", "Its own evaluated loss."),
    ("ΔL", "Minus FP32's, on the same rows."),
    ("‖Δw‖ / ‖w‖", "How far its weights are from where the plane stands."),
    ("Out of plane", "Distance of its weights from the plane, in ‖w‖; 0: it lies on it."),
)


def points_table(result: RunResult, styles: Mapping[str, VariantStyle], pair: str = "") -> html.Section | None:
    """Where the models are on the planes along a pair of directions; the first pair that has points where none is
    named. None before a plane has any."""
    planes = [plane for variant in result.variants for plane in variant.planes if plane.points]
    chosen = [plane for plane in planes if "~".join(plane.directions) == pair] or ([] if pair else planes)
    return _points_card(chosen[0], styles, loss_unit(result.task)) if chosen else None


def _points_card(plane: Plane, styles: Mapping[str, VariantStyle], unit: str) -> html.Section:
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
    return table_card(
        _table(_POINT_HEADS, rows), title="Points", sentence=f"On {pair_words('~'.join(plane.directions))}."
    )


def basin_table(result: RunResult, styles: Mapping[str, VariantStyle]) -> html.Section:
    """Each variant's basin, in numbers."""
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
        _table(heads, rows), title="Basins",
        sentence=[
            "Along the shared random directions; the barrier on the way from FP32.",
            *([html.Br(), told] if (told := basin_words(_ratios(result))) else []),
        ],
    )  # fmt: skip


def _ratios(result: RunResult) -> dict[str, BasinRatio]:
    verdicts = ((item.variant, item.verdict) for item in result.comparisons)
    return {name: verdict.basin for name, verdict in verdicts if verdict is not None and verdict.basin is not None}


def _table(heads: Iterable[tuple[str, str]], rows: list[html.Tr]) -> html.Table:
    return html.Table([helped_heads(heads), html.Tbody(rows)], className="data-table ql-places")
