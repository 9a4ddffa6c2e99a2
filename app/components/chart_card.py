"""A chart in its card: title, one sentence, and at the right show as table, export, enlarge.

A page puts :func:`chart_card` into its layout and later writes :func:`chart_data` into the store
``{"part": "chart-data", "chart": name}``; ``assets/chart_card.js`` draws the figure of the present colour scheme, fills
the table beside it, and serves the buttons without asking the server.
"""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import MATCH, ClientsideFunction, Dash, Input, Output, dcc, html

from app.components.card import card_head
from app.components.icon import icon
from quant_lens_engine.figures import DataTable, Drawing

_EXPORTS = {"png": "PNG picture", "svg": "SVG drawing", "csv": "CSV, the numbers", "json": "JSON, the numbers"}


def chart_card(
    name: str,
    *,
    title: str,
    sentence: str = "",
    controls: Any = None,
    height: int = 320,
    foot: bool = False,
    read_out: bool = False,
    keys: str = "",
    turntable: bool = False,
    class_name: str = "",
) -> html.Section:
    """The card of one chart, with a skeleton until its data comes.

    Args:
        name: unique on the page.
        title: of the card.
        sentence: shown until the data brings its own.
        controls: switches between the title and the buttons.
        height: of the chart in pixels; kept while it loads, so nothing jumps.
        foot: a line under the chart for the data's note.
        read_out: at the right of that line, the numbers under the pointer (``assets/read_out.js``, by
            ``layout.meta.readOut``).
        keys: what arrow keys do while the chart has the focus, in words; empty: it takes none
            (``assets/read_out.js``, ``assets/cameras.js``).
        turntable: the export menu offers an animation of one turn (``assets/turntable.js``).
        class_name: more CSS classes.
    """
    head = card_head(
        title,
        html.Span(sentence, id={"part": "chart-sentence", "chart": name}),
        [*([controls] if controls is not None else []), _buttons(name, title, turntable)],
    )
    graph = dcc.Graph(
        id={"part": "chart", "chart": name},
        figure={"data": [], "layout": {"autosize": True}},
        config={"displayModeBar": False, "responsive": True, "doubleClick": "reset"},
        style={"minHeight": height},
        className="chart-graph",
        responsive=True,
    )
    body = html.Div(
        [
            graph,
            html.Div(className="skeleton chart-skeleton"),
            html.Div(className="chart-table", tabIndex=0),
        ],
        className="chart-body",
        style={"minHeight": height},
        **({"tabIndex": 0, "role": "group", "aria-label": f"{title}: {keys}"} if keys else {}),
    )
    parts = [head, body, *([_foot(read_out)] if foot or read_out else [])]
    return html.Section(
        [*parts, dcc.Store(id={"part": "chart-data", "chart": name})],
        id={"part": "chart-card", "chart": name},
        className=f"card chart-card waiting {class_name}".strip(),
        **{"aria-label": title},
    )


def chart_data(drawing: Drawing, filename: str = "", *, nothing: str = "") -> dict[str, Any]:
    """What ``chart-data`` takes: the figure in both modes, the sentence, the numbers behind it.

    Args:
        drawing: of ``quant_lens_engine.figures.draw_both``.
        filename: of exports, without its ending.
        nothing: why there is nothing to draw and never will be; without it an empty card keeps its skeleton.
    """
    return {
        "light": drawing.light,
        "dark": drawing.dark,
        "sentence": drawing.sentence,
        "table": _table(drawing.table),
        "note": drawing.note,
        "filename": filename or drawing.name,
        "nothing": nothing if drawing.light is None else "",
    }


def register_chart_cards(dashboard: Dash) -> None:
    """The one callback that draws every chart of every page."""
    dashboard.clientside_callback(
        ClientsideFunction("quantLensCharts", "draw"),
        Output({"part": "chart", "chart": MATCH}, "figure"),
        Output({"part": "chart-sentence", "chart": MATCH}, "children"),
        Input({"part": "chart-data", "chart": MATCH}, "data"),
        Input("color-scheme", "data"),
    )


def _foot(read_out: bool) -> html.Div:
    parts = [html.Span(className="chart-note")]
    if read_out:
        parts.append(html.Span("Point at the chart to read it.", className="read-out", **{"aria-live": "polite"}))
    return html.Div(parts, className="chart-foot")


def _buttons(name: str, title: str, turntable: bool) -> html.Div:
    turn = dmc.MenuItem("WebM animation, one turn", **{"data-turntable": name})
    exports = dmc.Menu(
        [
            dmc.MenuTarget(_button("download", f"Export {title}")),
            dmc.MenuDropdown(
                [
                    dmc.MenuItem(label, **{"data-chart-action": kind, "data-chart": name})
                    for kind, label in _EXPORTS.items()
                ]
                + ([turn] if turntable else [])
            ),
        ],
        position="bottom-end",
        shadow="md",
    )
    return html.Div(
        [
            _button("table-2", f"Show {title} as a table", action="table", chart=name),
            exports,
            _button("maximize-2", f"Enlarge {title}", action="enlarge", chart=name),
        ],
        className="icon-buttons",
    )


def _button(icon_name: str, label: str, action: str = "", chart: str = "") -> dmc.ActionIcon:
    said: dict[str, str] = {"aria-label": label}
    if action:
        said |= {"data-chart-action": action, "data-chart": chart, "aria-pressed": "false"}
    # A title, not a Tooltip: inside a menu's target a second wrapper would take the click.
    return dmc.ActionIcon(icon(icon_name), **said)


def _table(table: DataTable) -> dict[str, Any]:
    return {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}
