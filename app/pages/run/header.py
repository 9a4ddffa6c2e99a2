"""The head of a run's page: where we are, what it is, how it stands, and what can be done with it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from app.components import icon, run_state_badge, tag_badge
from quant_lens_engine.schema import TERMINAL_STATES, RunRecord, RunResult, numbers


def run_head(record: RunRecord, result: RunResult, *, may_change: bool) -> html.Div:
    """Breadcrumb, name, state, facts; actions at the right."""
    title = html.Div(
        [
            html.H1(title_of(record)),
            run_state_badge(record.state),
            *[tag_badge(tag) for tag in record.tags],
            *([tag_badge("archived")] if record.archived else []),
        ],
        className="ql-run-title",
    )
    words = [
        html.Nav(
            [dcc.Link("Runs", href="/"), " / ", html.Code(model_name(record, result))],
            className="overline",
            **{"aria-label": "Breadcrumb"},
        ),
        title,
        html.Div(_facts(record, result), className="facts"),
    ]
    if record.note:
        words.append(html.P(record.note, className="ql-run-said"))
    return html.Div(
        [html.Div(words, className="ql-run-words"), html.Div(_actions(record, may_change), className="button-row")],
        className="page-head ql-run-head",
    )


def run_act(act: str, of: str = "") -> dict[str, str]:
    """What makes a button do something to the run; the callback is in :mod:`app.pages.run.callbacks`.

    The page hears the click itself (``assets/run_page.js``), not Dash: a button that is drawn again between a click and
    its callback would take the click with it.
    """
    return {"data-act": act, "data-of": of}


def title_of(record: RunRecord) -> str:
    """The run's name, or what stands in for one."""
    return record.name or f"Run {record.id}"


def model_name(record: RunRecord, result: RunResult) -> str:
    """The architecture once it is known, before that what was asked for."""
    model = record.spec.get("model", {})
    asked = model.get("example") or (model.get("architecture") if model.get("architecture") != "auto" else None)
    return result.model.architecture or asked or "uploaded model"


def data_name(record: RunRecord) -> str:
    """The example's name, or the first characters of the file's hash."""
    data = record.spec.get("data", {})
    return data.get("example") or (data.get("path") or "").rpartition("/")[2] or f"file {str(data.get('file'))[:8]}"


def _facts(record: RunRecord, result: RunResult) -> list[html.Span]:
    model = model_name(record, result)
    if result.model.parameters:
        model += f" · {numbers.amount(result.model.parameters)} parameters"
    samples = result.data.samples or record.spec.get("data", {}).get("limit")
    data = data_name(record) + (f", {numbers.count(samples)} samples" if samples else "")
    if result.data.calibration_samples:
        data += f", calibrated on {numbers.count(result.data.calibration_samples)}"
    execution = result.execution
    device = " · ".join(str(execution[key]) for key in ("device", "dtype") if execution.get(key))
    who = f" by {record.owner}" if record.owner != "local" else ""
    facts = [
        _fact("box", model, result.model.sha256 or ""),
        _fact("database", f"{data}, seed {record.spec.get('seed', 0)}", result.data.sha256 or ""),
        _fact("cpu", device, "where and in which numbers") if device else None,
        html.Span([icon("clock", 13), html.Span([moment(record.created_at), who])]),
        _fact("hash", record.id, "the run's id"),
    ]
    if record.retry_of:
        link = dcc.Link(record.retry_of, href=f"/runs/{record.retry_of}")
        facts.append(html.Span([icon("rotate-ccw", 13), html.Span(["retry of ", link])]))
    return [fact for fact in facts if fact is not None]


def _fact(icon_name: str, text: str, title: str = "") -> html.Span:
    return html.Span([icon(icon_name, 13), html.Span(text)], title=title)


def moment(iso: str) -> html.Time:
    """A point in time; ``assets/run_page.js`` keeps its words (``14 min ago``) true while the page is open."""
    try:
        shown = f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        shown = iso
    return html.Time(shown, dateTime=iso, title=shown, **{"data-ago": iso})


def _actions(record: RunRecord, may_change: bool) -> list[Any]:
    running = record.state not in TERMINAL_STATES
    measured = record.state != "FAILED"
    compare = dcc.Link(
        [icon("git-compare-arrows", 15), "Compare"], href=f"/compare?runs={record.id}", className="button"
    )
    actions: list[Any] = [
        *([compare] if measured else []),
        html.Button(
            [icon("share-2", 15), "Share"], type="button", className="button", title="Copy the link to this view",
            **{"data-copy": "address"},
        ),
    ]  # fmt: skip
    if running:
        actions.append(
            html.Button(
                [icon("circle-stop", 15), "Cancel"], type="button", className="button danger", **run_act("cancel"),
                disabled=not may_change, title="" if may_change else f"Only {record.owner} or an administrator cancels",
            )
        )  # fmt: skip
    else:
        actions += [_exports(record.id)] if measured else []
        if record.state in {"FAILED", "LOST", "CANCELLED"}:
            actions.append(
                html.Button([icon("rotate-ccw", 15), "Retry"], **run_act("retry"), type="button", className="button")
            )
    actions.append(_more(record, may_change, running))
    return actions


def _exports(run_id: str) -> dmc.Menu:
    kinds = {"html": "HTML report, one file", "csv": "CSV, a row a variant", "json": "JSON, everything"}
    items = [
        dmc.MenuItem(words, href=f"/api/v1/runs/{run_id}/export.{kind}", target="_blank")
        for kind, words in kinds.items()
    ]
    target = html.Button([icon("download", 15), "Export"], type="button", className="button")
    return dmc.Menu([dmc.MenuTarget(target), dmc.MenuDropdown(items)], position="bottom-end", shadow="md")


def _more(record: RunRecord, may_change: bool, running: bool) -> dmc.Menu:
    owner = None if may_change else f"Only {record.owner} or an administrator may"
    items: list[Any] = [
        dmc.MenuItem("Duplicate and change", leftSection=icon("copy", 14), href=f"/new?from={record.id}")
    ]
    if record.state == "DONE":
        items.append(dmc.MenuItem("Run again", leftSection=icon("rotate-ccw", 14), **run_act("retry")))
    items += [
        dmc.MenuItem("Name, tags, note", leftSection=icon("pencil", 14), **run_act("edit"), disabled=not may_change),
        dmc.MenuItem(
            "Put back into the table" if record.archived else "Archive",
            leftSection=icon("archive-restore" if record.archived else "archive", 14),
            **run_act("archive"),
            disabled=not may_change,
        ),
        dmc.MenuDivider(),
        dmc.MenuItem(
            "Delete",
            leftSection=icon("trash", 14),
            **run_act("delete"),
            disabled=running or not may_change,
            color="red",
        ),
    ]
    if owner:
        items.append(dmc.MenuLabel(owner))
    target = html.Button(icon("ellipsis", 15), type="button", className="button ql-square", **{"aria-label": "More"})
    return dmc.Menu([dmc.MenuTarget(target), dmc.MenuDropdown(items)], position="bottom-end", shadow="md")
