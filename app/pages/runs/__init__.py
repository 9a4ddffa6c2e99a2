"""Runs: the table of every run of the server."""

from app.pages.runs.callbacks import register_runs_page
from app.pages.runs.layout import runs_layout
from app.routing import Page

PAGE = Page(name="runs", path="/", title="Runs", layout=runs_layout, register=register_runs_page, nav="Runs", order=10)
