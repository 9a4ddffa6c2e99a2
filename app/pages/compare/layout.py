"""The frame of the comparison; tables and charts come by callback from the address."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from app.components.card import card
from app.components.chart_card import chart_card
from app.components.icon import icon
from app.components.segmented import density_switches, segmented
from app.routing import Visit
from quant_lens_engine.figures import LANDSCAPES, PLANE_VIEWS

CHART = "compare-lines"
DENSITY = "compare-density"
PLANES = "compare-planes"
DIFFERENCE = "compare-plane-difference"


def compare_layout(_: Visit) -> Component:
    """Head with the selectors, table, lines, settings."""
    return html.Div(
        [
            _head(),
            html.Div(id="compare-notes"),
            html.Div(id="compare-nothing", hidden=True),
            html.Div(
                [
                    card(
                        html.Div(
                            html.Div(className="skeleton chart-skeleton", style={"display": "block"}),
                            id="compare-table",
                            className="table-frame",
                            tabIndex=0,
                            role="region",
                            style={"minHeight": 150},
                            **{"aria-label": "Metrics of each run"},
                        ),
                        title="Metrics",
                        sentence="Deltas are against the baseline. Green is better and red is worse in the direction "
                        "that the metric declares; grey has no direction or lies within its error.",
                        actions=_add_run(),
                        class_name="table-card",
                    ),
                    html.Div(
                        [
                            chart_card(
                                CHART,
                                title="Loss along shared directions",
                                sentence="Colour and dash: variant. Marker: run.",
                                controls=segmented("compare-landscape", "Landscape", "smooth", LANDSCAPES),
                            ),
                            html.Section(id="compare-settings", className="card table-card"),
                        ],
                        className="card-grid compare-grid",
                    ),
                    html.Div(
                        chart_card(
                            DENSITY,
                            title="Spectral density",
                            sentence="Once a density is known.",
                            height=360,
                            controls=density_switches("compare", "log", "linear"),
                        ),
                        className="compare-density",
                    ),
                    html.Div(
                        chart_card(
                            PLANES,
                            title="Planes",
                            sentence="One colour scale; pan and zoom are linked.",
                            height=380,
                            controls=_plane_controls(),
                            keys="in 3-D arrow keys turn all of them, plus and minus zoom",
                            class_name="linked-cameras",
                        ),
                        className="compare-density",
                    ),
                    html.Div(
                        chart_card(
                            DIFFERENCE,
                            title="Planes, difference from the baseline",
                            sentence="Run minus baseline, where grid and directions agree.",
                            height=120,  # the last on the page, and there may be nothing to draw
                        ),
                        className="compare-density",
                    ),
                ],
                id="compare-body",
            ),
            dcc.Store(id="compare-drawn"),
            dcc.Interval(id="compare-clock", interval=2500, disabled=True),
        ],
        className="page",
    )


def _plane_controls() -> html.Div:
    linked = html.Span([icon("link", 13), "linked"], className="pill ql-linked",
                       title="What is done to one is done to all: pan and zoom, or turn and zoom")  # fmt: skip
    return html.Div(
        [
            dmc.Select(id="compare-pair", data=[], w=230, h=28, allowDeselect=False, **{"aria-label": "Directions"}),
            segmented("compare-planes-view", "View of the planes", "flat", PLANE_VIEWS),
            linked,
        ],
        className="chart-switches compare-planes-controls",
    )


def _head() -> html.Div:
    return html.Div(
        [
            html.Div([html.Div(id="compare-overline", className="overline"), html.H1("Compare")]),
            html.Div(
                [
                    html.Label(
                        ["Variant", dmc.Select(id="compare-variant", data=[], w=190, h=30)], className="labelled"
                    ),
                    html.Label(
                        ["Baseline", dmc.Select(id="compare-baseline", data=[], w=210, h=30)], className="labelled"
                    ),
                    html.Button(
                        [icon("share-2"), "Share"],
                        className="button",
                        type="button",
                        title="Copy the link of this view",
                        **{"data-copy": "address"},
                    ),
                    dmc.Menu(
                        [
                            dmc.MenuTarget(
                                html.Button([icon("download"), "Export"], className="button", type="button")
                            ),
                            dmc.MenuDropdown(
                                [
                                    dmc.MenuItem("CSV, this table", **{"data-export-table": "compare-metrics"}),
                                    dmc.MenuItem(
                                        "JSON, everything compared", id="compare-json", href="/api/v1/compare",
                                        target="_blank",
                                    ),
                                ]
                            ),
                        ],
                        position="bottom-end",
                        shadow="md",
                    ),
                ],
                className="button-row compare-controls",
            ),
        ],
        className="page-head",
    )  # fmt: skip


def _add_run() -> dmc.Select:
    return dmc.Select(
        id="compare-add",
        data=[],
        value=None,
        searchable=True,
        placeholder="Add run",
        leftSection=icon("plus", 14),
        nothingFoundMessage="No other run",
        w=220,
        h=30,
        **{"aria-label": "Add a run to the comparison"},
    )
