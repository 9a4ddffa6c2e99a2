"""The frame of the runs page; its rows come by callback."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from app.components.badge import STATE_WORDS
from app.components.icon import icon
from app.components.route_link import route_link
from app.components.state_page import empty_state
from app.pages.runs.grid import runs_grid
from app.routing import Visit
from app.view_state import RunsView

EXAMPLE_SPEC: dict[str, Any] = {
    "name": "example: digits-cnn, 8 to 2 bits",
    "model": {"example": "digits-cnn"},
    "data": {"example": "digits"},
    "schemes": ["int8", "int4", "int3", "int2"],
    "analyses": {"preset": "standard"},
}
"""What *Try it with the example model* runs."""

SHOWN_WORDS = {"smallest": "smallest variant", "smallest-safe": "smallest safe variant", "sharpest": "sharpest variant"}

_SEARCH_HELP = (
    ("int4", "a word: in name, id, owner, tags, model and schemes"),
    ("state:done", "queued, running, done, failed, cancelled, lost"),
    ("tag:prod", "also owner:, id:; name:, scheme:, model:, data: find parts"),
    ("not tag:old", "turned round"),
    ("(int4 OR int3) tag:prod", "alternatives; side by side means both"),
    ('"release 2.3"', "words with spaces"),
)


def runs_layout(visit: Visit) -> Component:
    """Title, bar, table with skeleton rows, selection bar."""
    view = RunsView.from_search(visit.search)
    return html.Div(
        [
            html.Div(
                [
                    html.H1(["Runs", html.Span(id="runs-count", className="beside")]),
                    route_link(
                        [icon("plus"), "New run", html.Kbd("N")],
                        "/new",
                        "button primary",
                        id="new-run",
                        **{"data-key": "n"},
                    ),
                ],
                className="page-head",
            ),
            html.Div([_bar(view), _table()], id="runs-body"),
            html.Div(id="runs-empty", hidden=True),
            html.Div(_selection_bar(), id="selection-bar", className="selection-bar", hidden=True, role="region",
                     **{"aria-label": "Selected runs"}),
            _tag_dialog(),
            _delete_dialog(),
            dcc.Store(id="runs-address"),
            dcc.Store(id="runs-grid-heard", data=False),
            dcc.Store(id="runs-found"),
            dcc.Store(id="runs-limit", data=100),
            dcc.Store(id="runs-changed"),
            dcc.Interval(id="runs-clock", interval=30_000),
        ],
        className="page",
    )  # fmt: skip


def no_runs() -> Component:
    """An empty server: one button."""
    schemes = ", ".join(EXAMPLE_SPEC["schemes"])
    return empty_state(
        "No runs yet",
        "A run takes a checkpoint and some data, quantizes it in the schemes that you choose, "
        "and measures what changed.",
        html.Button(
            [icon("play"), "Try it with the example model"],
            id="try-example",
            className="button primary large",
            type="button",
        ),
        html.P(f"{EXAMPLE_SPEC['model']['example']} · {schemes} · under a minute", className="muted"),
        html.Div(
            [
                route_link("New run with your own model", "/new"),
                html.Span("or", className="muted"),
                html.Code("quant-lens submit model.safetensors --data val.npz --scheme int8"),
            ],
            className="button-row",
        ),
        picture=html.Div(className="empty-picture", role="presentation"),
    )


def _bar(view: RunsView) -> html.Div:
    states = [{"value": "", "label": "Any state"}]
    states += [{"value": state, "label": word} for state, word in STATE_WORDS.items()]
    states += [{"value": "ARCHIVED", "label": "Archived"}]
    return html.Div(
        [
            html.Div(
                [
                    dmc.TextInput(
                        id="runs-q",
                        value=view.q,
                        debounce=300,
                        placeholder="Search: state:done tag:prod int4",
                        leftSection=icon("search", 15),
                        rightSection=_search_aside(),
                        rightSectionPointerEvents="all",
                        rightSectionWidth=116,
                        inputProps={"data-escape": "blur"},
                        attributes={"input": {"data-key": "/", "data-escape": "blur", "aria-label": "Search runs"}},
                    ),
                    html.Div(id="runs-q-error", className="search-error", role="alert"),
                ],
                className="runs-search",
            ),
            dmc.Select(id="runs-state", data=states, value=view.state or "", w=132, h=30, **{"aria-label": "State"}),
            html.Div(className="spring"),
            html.Label(
                [
                    "Show",
                    dmc.Select(
                        id="runs-show",
                        data=[{"value": key, "label": words} for key, words in SHOWN_WORDS.items()],
                        value=view.show,
                        w=176,
                        h=30,
                        **{"aria-label": "Variant shown"},
                    ),
                ],
                className="labelled",
            ),
        ],
        className="bar",
    )


def _search_aside() -> html.Div:
    rows = [html.Tr([html.Td(html.Code(example)), html.Td(words)]) for example, words in _SEARCH_HELP]
    return html.Div(
        [
            html.Span(id="runs-match"),
            dmc.Popover(
                [
                    dmc.PopoverTarget(
                        dmc.ActionIcon(icon("circle-question-mark", 15), size=22, **{"aria-label": "How to search"})
                    ),
                    dmc.PopoverDropdown(html.Table(html.Tbody(rows), className="data-table")),
                ],
                position="bottom-end",
                shadow="md",
            ),
            html.Kbd("/"),
        ],
        className="search-aside",
    )


def _table() -> html.Section:
    skeleton = html.Div(
        [html.Span(className="skeleton") for _ in range(6)], id="runs-skeleton", className="grid-skeleton"
    )
    return html.Section(
        [
            runs_grid(),
            skeleton,
            html.Div(id="runs-nothing", className="nothing-found", hidden=True),
            html.Div(
                [
                    html.Span(id="runs-more-text"),
                    html.Button("Show more", id="runs-more", className="button", type="button"),
                ],
                id="runs-more-row",
                className="more-runs",
                hidden=True,
            ),
        ],
        className="card runs-table",
        **{"aria-label": "Runs"},
    )


def _selection_bar() -> list[Component]:
    def button(icon_name: str, word: str, button_id: str, key: str = "", primary: bool = False) -> html.Button:
        said = {"data-key": key} if key else {}
        shown_key = [html.Kbd("Esc" if key == "escape" else key.upper())] if key else []
        return html.Button(
            [icon(icon_name), html.Span(word, id=f"{button_id}-word"), *shown_key],
            id=button_id,
            className="button primary" if primary else "button",
            type="button",
            **said,
        )

    return [
        html.Span(id="selected-count", className="count", role="status"),
        html.Span(id="selected-names", className="names"),
        button("git-compare-arrows", "Compare", "selected-compare", "c", primary=True),
        button("tag", "Tag", "selected-tag"),
        button("archive", "Archive", "selected-archive"),
        button("trash", "Delete", "selected-delete"),
        button("x", "", "selected-clear", "escape"),
    ]


def _tag_dialog() -> dmc.Modal:
    return dmc.Modal(
        [
            dmc.TagsInput(id="tag-values", label="Tags of the selected runs", maxTags=20, data=[],
                          description="A tag that only some of them have is kept on those."),
            html.Div(html.Button("Save tags", id="tag-save", className="button primary", type="button"),
                     className="button-row dialog-buttons"),
        ],
        id="tag-dialog",
        title="Tag",
        size="sm",
    )  # fmt: skip


def _delete_dialog() -> dmc.Modal:
    return dmc.Modal(
        [
            html.P(id="delete-words"),
            html.Div(
                html.Button([icon("trash"), "Delete for good"], id="delete-confirm", className="button danger",
                            type="button"),
                className="button-row dialog-buttons",
            ),
        ],
        id="delete-dialog",
        title="Delete",
        size="sm",
    )  # fmt: skip
