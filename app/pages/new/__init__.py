"""New run: from a checkpoint and data to a run, with everything that can be known before it starts."""

from __future__ import annotations

from dash.development.base_component import Component

from app.pages.new.callbacks import register_new_page
from app.pages.new.draft import Draft
from app.pages.new.form import new_form
from app.routing import Page, Visit

SHOWN_FILES = 100


def new_layout(visit: Visit) -> Component:
    """The page; ``?from=<run>`` repeats a run, other keys are the draft's own (see :class:`Draft`)."""
    store, settings = visit.services.store, visit.services.settings
    repeated = visit.query.get("from")
    if repeated:
        record = store.runs.get(repeated)
        draft = Draft.from_spec(record.spec, name=record.name)
    else:
        draft = Draft.from_query(visit.search)
    files = {
        "model": store.files.list(kind="checkpoint")[:SHOWN_FILES],
        "data": store.files.list(kind="data")[:SHOWN_FILES],
    }
    return new_form(draft, store.capabilities.read(), files, settings)


PAGE = Page(
    name="new", path="/new", title="New run", layout=new_layout, register=register_new_page, nav="New", order=20
)
