"""Runs: the table of every run of the server."""

from dash import dcc

from app.pages.runs.callbacks import register_runs_page
from app.pages.runs.layout import runs_layout
from app.routing import Page

PAGE = Page(
    name="runs",
    path="/",
    title="Runs",
    layout=runs_layout,
    register=register_runs_page,
    nav="Runs",
    order=10,
    lasting=(dcc.Store(id="runs-selected", data=[]),),  # the way back from a run finds the ticks again
)
