"""The tab "Landscape": planes through the run's models, lines around them, the way to each, and their basins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import Dash, Input, Output, html

from app.components import chart_card
from app.pages.run.landscape_controls import (
    LINE_SWITCHES,
    PLANE_SWITCHES,
    VIEWS,
    line_controls,
    plane_controls,
)
from app.routing import Visit
from quant_lens_engine.schema import RunRecord, RunResult, StageProgress

LANDSCAPE_CHARTS: dict[str, dict[str, str]] = {
    "plane": PLANE_SWITCHES,
    "plane-surface": PLANE_SWITCHES | {"view": "run-view"},
    "landscape-lines": LINE_SWITCHES,
    "path": {"scale": "run-line-scale", "clip": "run-line-clip"},
    "plane-overview": {},
}
"""The cards with charts of the landscape, here and in the overview; of each the options that a switch sets, and the
switch."""

_SIDE_PX = 560
_SURFACE_PX = 470
_LINES_PX = 360
_TURN = "arrow keys turn it, plus and minus zoom"


def landscape_tab(record: RunRecord, visit: Visit, points: Any, basins: Any) -> html.Div:
    """Planes above, lines below, each under its switches; every place is taken from the start, so nothing moves."""
    waits = "Rows come in as workers finish them, once the variants are measured."
    view = visit.choice("view", VIEWS)
    return html.Div(
        [
            plane_controls(record, visit),
            html.Div(
                [
                    chart_card("plane", title="Loss over two directions", sentence=waits, height=_SIDE_PX,
                               read_out=True, keys="arrow keys move over it", class_name="ql-at-plane"),
                    chart_card("plane-surface", title="The same plane in 3-D", sentence=waits, height=_SURFACE_PX,
                               controls=html.Span("drag to turn", className="muted ql-aside"), foot=True, keys=_TURN,
                               turntable=True, class_name="ql-at-surface"),
                    html.Div([points], className="ql-at-points"),
                    html.Div([basins], className="ql-at-basins"),
                ],
                className=f"card-grid ql-planes {view}",
                id="run-planes",
            ),
            line_controls(record, visit),
            html.Div(
                [
                    chart_card("landscape-lines", title="Loss along one direction", height=_LINES_PX, foot=True,
                               sentence="Once the first line is measured."),
                    chart_card("path", title="From FP32 to each variant", height=_LINES_PX, foot=True,
                               sentence="Once the first path is measured."),
                ],
                className="card-grid ql-line-pair",
            ),
        ],
        className="ql-landscape",
    )  # fmt: skip


def overview_plane(record: RunRecord) -> html.Div:
    """The card of the overview; hidden for a run that asked for no plane."""
    link = html.Button("Landscape", id="run-to-landscape", type="button", className="button quiet ql-flush",
                       title="The plane with its switches, in 3-D, and the lines")  # fmt: skip
    card = chart_card(
        "plane-overview", title="Plane", sentence="Rows come in once the variants are measured.", controls=link
    )
    return html.Div(card, hidden=not _plane_stages(record), className="ql-overview-plane")


def register_landscape(app: Dash) -> None:
    """The surface's card comes and goes, and the overview leads here, without asking the server."""
    app.clientside_callback(
        "view => `card-grid ql-planes ${view || 'flat'}`",
        Output("run-planes", "className"),
        Input("run-view", "value"),
    )
    app.clientside_callback(
        "clicks => (clicks ? 'landscape' : window.dash_clientside.no_update)",
        Output("run-tab", "value"),
        Input("run-to-landscape", "n_clicks"),
        prevent_initial_call=True,
    )


def why_no_landscape(chart: str, result: RunResult, record: RunRecord, view: str, ended: bool) -> str:
    """Why there is nothing for a chart of the landscape; nothing while it may still come."""
    if chart == "plane-surface" and view != "both":
        return "Choose 2-D + 3-D to draw the surface."
    if chart == "path":
        return "No path was measured: the run did not ask for it, or no variant has one." if ended else ""
    if chart == "landscape-lines":
        return "No such line was measured: choose another landscape, direction or quantity." if ended else ""
    stages = _plane_stages(record)
    if not stages:
        return "The run asked for no plane. New run → Lines and planes asks for one."
    if not ended and any(item.state in {"waiting", "running"} for item in stages):
        return ""
    failed = next((item for item in result.failures if item.stage == "plane"), None)
    if failed is not None:
        return f"The plane has no result: {failed.message}"
    return "No such plane was measured: choose another network or landscape."


def _plane_stages(record: RunRecord) -> Sequence[StageProgress]:
    return [item for item in record.progress.stages if item.stage == "plane"]
