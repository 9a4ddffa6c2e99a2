"""Compare: one variant of several runs, side by side with a baseline."""

from app.pages.compare.callbacks import register_compare_page
from app.pages.compare.layout import compare_layout
from app.routing import Page

PAGE = Page(
    name="compare",
    path="/compare",
    title="Compare",
    layout=compare_layout,
    register=register_compare_page,
    nav="Compare",
    order=30,
)
