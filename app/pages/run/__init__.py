"""A run: the verdict first, then every number, as they come and for ever after."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from app.components import chart_card, segmented
from app.pages.run.activations import activation_charts, activation_controls, drift_chart
from app.pages.run.callbacks import register_run_page
from app.pages.run.header import run_act
from app.pages.run.landscape import landscape_tab, overview_plane
from app.pages.run.landscape_controls import PLANE_LANDSCAPES
from app.pages.run.spectrum import spectrum_charts
from app.pages.run.view import SECTIONS, RunView, read_view
from app.routing import Page, Visit
from quant_lens_engine.figures import (
    DENSITY_SCALES,
    LAMBDA_SCALES,
    LANDSCAPES,
    LAYER_MEASURES,
    OUTLIER_MEASURES,
    RANGE_SCALES,
)

TABS = {
    "overview": "Overview",
    "landscape": "Landscape",
    "spectrum": "Spectrum",
    "activations": "Activations & BatchNorm",
    "settings": "Data & settings",
}


def run_layout(visit: Visit) -> Component:
    """The page with everything that is known at this moment; charts follow at once by their callback."""
    view = read_view(visit.services.store, visit.params["run_id"], visit.user.name, visit.user.admin,
                     visit.query.get("pair", ""))  # fmt: skip
    asked = visit.query.get("tab", "")
    tab = asked if asked in TABS else "overview"
    landscape = visit.choice("landscape", LANDSCAPES)
    density, horizontal = visit.choice("density", DENSITY_SCALES), visit.choice("lambda", LAMBDA_SCALES)
    charts = spectrum_charts(density, horizontal, visit.choice("layers", LAYER_MEASURES))
    flow = _activations(view, visit)
    drawn = {part: html.Div(view.draw(part), id=f"run-{part}") for part in SECTIONS}
    overview = [drawn[part] for part in ("progress", "failure", "verdict", "variants")]
    overview += [_charts(view, landscape), drawn["failures"]]
    return html.Div(
        [
            drawn["head"],
            drawn["strip"],
            dmc.Tabs(
                [
                    dmc.TabsList([dmc.TabsTab(words, value=name) for name, words in TABS.items()]),
                    dmc.TabsPanel(html.Div(overview, className="ql-run-parts"), value="overview"),
                    dmc.TabsPanel(
                        landscape_tab(view.record, visit, drawn["points"], drawn["basins"]), value="landscape"
                    ),
                    dmc.TabsPanel(
                        html.Div([drawn["spectrum"], *charts], className="ql-run-parts"),
                        value="spectrum",
                    ),
                    dmc.TabsPanel(
                        html.Div([*flow, drawn["batchnorm"]], className="ql-run-parts"),
                        value="activations",
                    ),
                    dmc.TabsPanel(drawn["settings"], value="settings"),
                ],
                id="run-tab",
                value=tab,
                className="ql-run-tabs",
            ),
            dcc.Store(id="run-id", data=view.record.id),
            dcc.Store(id="run-drawn", data=view.keys()),
            dcc.Store(id="run-asked"),
            _editor(),
            _deletion(),
        ],
        className="page ql-run-page",
    )


def _charts(view: RunView, landscape: str) -> html.Div:
    switch = segmented("run-landscape", "Landscape", landscape, PLANE_LANDSCAPES)
    bars = len(view.result.variants)
    return html.Div(
        [
            chart_card("sharpness", title="Sharpness", sentence="λmax of each variant, once its curvature is known.",
                       height=max(300, 60 + 52 * bars)),
            chart_card("lines", title="Loss along shared directions", sentence="Once the first line is measured.",
                       controls=switch, height=max(300, 60 + 52 * bars)),
            overview_plane(view.record),
        ],
        id="run-charts",
        className="card-grid ql-run-charts",
    )  # fmt: skip


def _activations(view: RunView, visit: Visit) -> list[Any]:
    query, result = visit.query, view.result
    scale, measure = visit.choice("range", RANGE_SCALES), visit.choice("outliers", OUTLIER_MEASURES)
    return [
        activation_controls(result, query.get("variant", ""), query.get("layer", "")),
        *activation_charts(result, scale, measure),
        drift_chart(result),
    ]


def _editor() -> dmc.Modal:
    fields: list[Any] = [
        dmc.TextInput(id="run-edit-name", label="Name", attributes={"input": {"maxLength": 200}}),
        dmc.TagsInput(id="run-edit-tags", label="Tags", maxTags=20, placeholder="press Enter after each"),
        dmc.Textarea(id="run-edit-note", label="Note", autosize=True, minRows=3),
        html.Div(
            html.Button("Save", id="run-edit-save", type="button", className="button primary"),
            className="button-row end",
        ),
    ]
    return dmc.Modal(
        html.Div(fields, className="ql-editor"), id="run-edit-modal", title="Name, tags, note", opened=False
    )


def _deletion() -> dmc.Modal:
    words = "The run and every stage result that no other run uses are removed. Uploaded files stay."
    buttons = [
        html.Button("Keep it", **run_act("keep"), type="button", className="button"),
        html.Button("Delete", **run_act("delete-sure"), type="button", className="button danger"),
    ]
    return dmc.Modal(
        [html.P(words), html.Div(buttons, className="button-row end")],
        id="run-delete-modal",
        title="Delete this run?",
        opened=False,
    )


PAGE = Page(
    name="run", path="/runs/{run_id}", title="Run", layout=run_layout, register=register_run_page, section="runs"
)
