"""The step of the data: samples, the baseline check, the task, texts, the transform, and calibration rows."""

from __future__ import annotations

from collections.abc import Sequence

import dash_mantine_components as dmc
from dash import html

from app.components import icon
from app.pages.new.draft import LAYOUTS, Draft
from app.pages.new.form_parts import problem_line, step_card, upload_rows
from app.pages.new.sources import calibration_zone, source_zone
from app.pages.new.tasks import task_field
from app.pages.new.texts import text_fields
from quant_lens_engine.schema import Capabilities
from worker.store import FileRecord


def data_step(draft: Draft, capabilities: Capabilities, files: Sequence[FileRecord], limit_bytes: int) -> html.Section:
    """The card, with every field in place before a file is chosen."""
    samples = html.Div(
        [
            dmc.NumberInput(
                id="new-limit", label="Samples used", value=draft.limit, min=1, step=256, w=130, allowDecimal=False,
                thousandSeparator=" ",
            ),
            html.Div(id="new-limit-hint", className="ql-hint"),
            problem_line("limit"),
        ],
        className="ql-samples",
    )  # fmt: skip
    baseline = html.Div(
        [html.Div("Baseline check", className="ql-label", id="new-baseline-label"), html.Div(id="new-baseline")],
        className="ql-baseline",
        role="status",
    )
    preview = html.Div(id="new-preview", className="ql-preview")
    facts = html.Div([preview, samples, baseline], className="ql-data-facts", id="new-data-facts", hidden=True)
    return step_card(
        "data",
        source_zone("data", capabilities.examples.data, files, limit_bytes),
        upload_rows("data"),
        html.Div(id="new-card-data"),
        problem_line("data"),
        facts,
        task_field(draft.task, capabilities.tasks),
        text_fields(draft.text_length, draft.packing),
        problem_line("text_length"),
        _transform(draft),
        _calibration(draft, files),
    )


def _calibration(draft: Draft, files: Sequence[FileRecord]) -> html.Div:
    """Below the data, and only where a chosen recipe looks at rows; a file dropped on it is taken for them."""
    rows = dmc.NumberInput(
        id="new-calibration-limit", value=draft.calibration_limit, min=1, step=64, w=100, allowDecimal=False,
        thousandSeparator=" ", attributes={"input": {"aria-label": "Calibration rows"}},
    )  # fmt: skip
    return html.Div(
        [
            html.Div(
                [html.Span("Calibration rows"), " ", html.Span(id="new-calibration-whose")],
                className="ql-label",
            ),
            upload_rows("calibration"),
            html.Div(id="new-card-calibration"),
            html.Div(
                [rows, html.Span(id="new-calibration-hint"), html.Span(className="spring"), calibration_zone(files)],
                className="ql-calibration-rows",
            ),
            html.Div(id="new-calibration-warning", role="status"),
            problem_line("calibration"),
            problem_line("calibration_limit"),
        ],
        id="new-calibration-block",
        className="ql-calibration",
        hidden=True,
        **{"data-ql-drop": "calibration"},
    )


def _transform(draft: Draft) -> html.Details:
    fields = [
        dmc.Select(
            id="new-layout", label="Layout", value=draft.layout or "",
            data=[{"value": "", "label": "as it is"}, *({"value": name, "label": name} for name in LAYOUTS)], w=110,
        ),
        dmc.TextInput(id="new-scale", label="Scale", value=draft.scale, w=110, debounce=True, placeholder="1"),
        dmc.TextInput(id="new-mean", label="Mean", value=draft.mean, w=190, debounce=True, placeholder="0 or one each"),
        dmc.TextInput(id="new-std", label="Std", value=draft.std, w=190, debounce=True, placeholder="1 or one each"),
    ]  # fmt: skip
    return html.Details(
        [
            html.Summary([icon("chevron-right", 14), "Transform ", html.Span(id="new-transform-said")]),
            html.Div(fields, className="ql-fields"),
            html.P(
                ["x becomes ", html.Code("(x · scale − mean) / std"), ", with channels first. One number serves every "
                 "channel. Suggested from the file; a wrong one shows in the baseline check."],
                className="ql-hint",
            ),
            problem_line("scale"),
            problem_line("mean"),
            problem_line("std"),
        ],
        className="ql-details",
        id="new-transform",
        hidden=True,
        open=bool(draft.mean or draft.std),
    )  # fmt: skip
