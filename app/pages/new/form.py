"""The page's frame: four cards and the summary, with every field in place before anything is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from app.components import icon
from app.pages.new.builder import builder
from app.pages.new.draft import LAYOUTS, Draft
from app.pages.new.landscapes import landscape_fields
from app.pages.new.schemes import scheme_groups
from app.pages.new.sources import calibration_zone, source_zone
from quant_lens_engine.schema import PRESET_DESCRIPTIONS, Capabilities
from worker.store import FileRecord

STEPS = {"model": "Model", "data": "Data", "schemes": "Schemes", "analyses": "Analyses"}
WAIT_MS = 700


def new_form(
    draft: Draft, capabilities: Capabilities, files: Mapping[str, Sequence[FileRecord]], limit_bytes: int
) -> html.Div:
    """The whole page for a draft."""
    return html.Div(
        [
            html.H1("New run", className="page-title"),
            html.Div(
                [
                    html.Div(
                        [
                            _model_card(draft, capabilities, files["model"], limit_bytes),
                            _data_card(draft, capabilities, files["data"], limit_bytes),
                            _schemes_card(draft, capabilities),
                            _analyses_card(draft, capabilities),
                        ],
                        className="ql-new-cards",
                    ),
                    _summary_card(draft),
                ],
                className="ql-new-columns",
            ),
            html.Div(className="visually-hidden", role="status", **{"data-ql-announce": "", "aria-live": "polite"}),
            *_memory(draft, capabilities),
            builder(capabilities),
        ],
        className="page ql-new",
        **{"data-ql-limit": str(limit_bytes)},
    )


def _memory(draft: Draft, capabilities: Capabilities) -> list[Any]:
    offered = capabilities.model_dump(mode="json", include={"schemes", "algorithms"})
    return [
        dcc.Store(id="new-offered", data=offered),
        dcc.Store(id="new-calibration", data=draft.calibration),
        dcc.Store(id="uploaded-calibration"),
        dcc.Store(id="new-model", data=draft.model),
        dcc.Store(id="new-data", data=draft.data),
        dcc.Store(id="new-found"),
        dcc.Store(id="new-check"),
        dcc.Store(id="new-draft"),
        dcc.Store(id="new-query"),
        dcc.Store(id="new-base", data=draft.base),
        dcc.Store(id="new-told", data={"suggested_for": None, "architecture_for": None}),
        dcc.Store(id="uploaded-model"),
        dcc.Store(id="uploaded-data"),
        dcc.Store(id="uploading", data=[]),
        dcc.Interval(id="new-wait-found", interval=WAIT_MS, disabled=True),
        dcc.Interval(id="new-wait-check", interval=WAIT_MS, disabled=True),
    ]


def _step(name: str, *body: Any, beside: Any = None) -> html.Section:
    number = list(STEPS).index(name) + 1
    mark = html.Span(
        [html.Span(str(number), className="ql-step-number"), icon("check", 12)],
        id={"type": "new-step", "name": name}, className="ql-step", **{"aria-hidden": "true"},
    )  # fmt: skip
    head = html.Div([mark, html.H2(STEPS[name], className="card-title"), beside], className="ql-step-head")
    return html.Section([head, *body], className="card ql-step-card", **{"aria-label": STEPS[name]})


def _problem(field: str) -> html.Div:
    return html.Div(id={"type": "new-problem", "field": field}, className="ql-problem", role="alert")


def _rows(kind: str) -> html.Div:
    return html.Div(id=f"new-rows-{kind}", **{"data-ql-rows": kind})


def _model_card(
    draft: Draft, capabilities: Capabilities, files: Sequence[FileRecord], limit_bytes: int
) -> html.Section:
    architecture = html.Div(
        [
            html.Div("Architectures whose keys match", className="ql-label", id="new-architecture-label"),
            dmc.RadioGroup(
                html.Div(id="new-architecture-options", className="ql-choices"),
                id="new-architecture",
                value=draft.architecture,
                attributes={"root": {"aria-labelledby": "new-architecture-label"}},
            ),
            html.Div(id="new-differences"),
        ],
        id="new-architecture-block",
        hidden=True,
    )
    return _step(
        "model",
        source_zone("model", capabilities.examples.models, files, limit_bytes),
        _rows("model"),
        html.Div(id="new-card-model"),
        _problem("model"),
        architecture,
    )


def _data_card(draft: Draft, capabilities: Capabilities, files: Sequence[FileRecord], limit_bytes: int) -> html.Section:
    samples = html.Div(
        [
            dmc.NumberInput(
                id="new-limit", label="Samples used", value=draft.limit, min=1, step=256, w=130, allowDecimal=False,
                thousandSeparator=" ",
            ),
            html.Div(id="new-limit-hint", className="ql-hint"),
            _problem("limit"),
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
    return _step(
        "data",
        source_zone("data", capabilities.examples.data, files, limit_bytes),
        _rows("data"),
        html.Div(id="new-card-data"),
        _problem("data"),
        facts,
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
            _rows("calibration"),
            html.Div(id="new-card-calibration"),
            html.Div(
                [rows, html.Span(id="new-calibration-hint"), html.Span(className="spring"), calibration_zone(files)],
                className="ql-calibration-rows",
            ),
            html.Div(id="new-calibration-warning", role="status"),
            _problem("calibration"),
            _problem("calibration_limit"),
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
            _problem("scale"),
            _problem("mean"),
            _problem("std"),
        ],
        className="ql-details",
        id="new-transform",
        hidden=True,
        open=bool(draft.mean or draft.std),
    )  # fmt: skip


def _schemes_card(draft: Draft, capabilities: Capabilities) -> html.Section:
    named = html.Div(
        [
            dmc.TextInput(
                id="new-custom", placeholder="int4-g64-asym, w8a8+gptq", w=210,
                debounce=True,  # Enter then brings its text along
                attributes={"input": {"aria-label": "A scheme by its name", "spellCheck": "false"}},
            ),
            html.Button([icon("plus", 14), "Add scheme"], id="new-custom-add", type="button", className="button"),
            html.Button(
                [icon("sliders-horizontal", 14), "Custom scheme"], id="new-build", type="button", className="button",
                title="Choose format, activations, algorithms and layers", **{"aria-haspopup": "dialog"},
            ),
        ],
        className="row-8",
    )  # fmt: skip
    foot = html.Div(
        [
            html.Span("The number is effective bits per weight, scales included.", className="ql-hint"),
            html.Span(className="spring"),
            named,
        ],
        className="ql-schemes-foot",
    )
    groups = scheme_groups(capabilities.schemes, draft.schemes, capabilities.algorithms)
    return _step(
        "schemes",
        dmc.CheckboxGroup(
            html.Div(groups, id="new-scheme-groups", className="ql-scheme-groups"),
            id="new-schemes",
            value=list(draft.schemes),
        ),
        foot,
        html.Div(id="new-custom-problem", className="ql-problem", role="alert"),
        _problem("schemes"),
        beside=html.Span(id="new-schemes-count", className="ql-hint"),
    )


def _analyses_card(draft: Draft, capabilities: Capabilities) -> html.Section:
    cards = [
        dmc.RadioCard(
            [
                html.Div(
                    [
                        dmc.RadioIndicator(size="xs"),
                        html.Span(name, className="ql-choice-name"),
                        html.Span(id={"type": "new-preset-time", "name": name}, className="ql-choice-fact"),
                    ],
                    className="ql-choice-head",
                ),
                html.Div(sentence, className="ql-choice-sentence"),
            ],
            value=name,
            className="ql-choice",
            attributes={"card": {"aria-label": name}},
        )
        for name, sentence in PRESET_DESCRIPTIONS.items()
    ]
    devices = ["auto", "cpu", *sorted({d for worker in capabilities.workers for d in worker.devices if d != "cpu"})]
    fields = [
        dmc.NumberInput(id="new-seed", label="Seed", value=draft.seed, min=0, w=110, allowDecimal=False),
        dmc.NumberInput(id="new-batch", label="Batch size", value=draft.batch_size, min=1, w=110, allowDecimal=False),
        dmc.Select(id="new-device", label="Device", value=draft.device, data=devices, w=120),
        dmc.Select(id="new-dtype", label="Numbers", value=draft.dtype, data=["float32", "float64"], w=120),
    ]
    return _step(
        "analyses",
        dmc.RadioGroup(html.Div(cards, className="ql-choices"), id="new-preset", value=draft.preset),
        html.P(id="new-analyses-kept", className="ql-hint", hidden=True),
        landscape_fields(draft.plane, draft.points, draft.along),
        html.Details(
            [
                html.Summary([icon("chevron-right", 14), "Seed, batch size, device"]),
                html.Div(fields, className="ql-fields"),
                _problem("seed"),
                _problem("batch_size"),
            ],
            className="ql-details",
        ),
    )


def _summary_card(draft: Draft) -> html.Aside:
    run = html.Button(
        ["Run ", html.Kbd("Ctrl ↵")], id="new-start", type="button", className="button primary ql-run", disabled=True,
        **{"data-key": "ctrl+enter"},
    )  # fmt: skip
    return html.Aside(
        html.Div(
            [
                dmc.TextInput(
                    id="new-name",
                    label="Name",
                    value=draft.name,
                    placeholder="of the run",
                    attributes={"input": {"maxLength": 200}},
                ),
                html.Div(id="new-summary"),
                html.Div(id="new-run-note", className="ql-run-note"),
                run,
                html.Div(id="new-run-error", role="alert"),
                html.Div(id="new-copies", className="ql-copies"),
            ],
            className="card ql-summary",
        ),
        className="ql-new-side",
        **{"aria-label": "Summary"},
    )
