"""The page's frame: four cards and the summary, with every field in place before anything is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from app.components import icon
from app.pages.new.adapters import adapter_field
from app.pages.new.builder import builder
from app.pages.new.data_form import data_step
from app.pages.new.draft import Draft
from app.pages.new.form_parts import problem_line, step_card, upload_rows
from app.pages.new.hub import hub_field
from app.pages.new.landscapes import landscape_fields
from app.pages.new.schemes import scheme_groups
from app.pages.new.source_callbacks import LOOK_MS, WAIT_MS
from app.pages.new.sources import source_zone
from quant_lens_engine.schema import PRESET_DESCRIPTIONS, Capabilities
from worker.settings import Settings
from worker.store import FileRecord


def new_form(
    draft: Draft, capabilities: Capabilities, files: Mapping[str, Sequence[FileRecord]], settings: Settings
) -> html.Div:
    """The whole page for a draft."""
    limit_bytes = settings.max_upload_bytes
    return html.Div(
        [
            html.H1("New run", className="page-title"),
            html.Div(
                [
                    html.Div(
                        [
                            _model_card(draft, capabilities, files["model"], settings),
                            data_step(draft, capabilities, files["data"], limit_bytes),
                            _schemes_card(draft, capabilities),
                            _analyses_card(draft, capabilities, files["model"]),
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
        dcc.Interval(id="new-wait-found", interval=LOOK_MS, disabled=True),
        dcc.Interval(id="new-wait-check", interval=WAIT_MS, disabled=True),
    ]


def _model_card(
    draft: Draft, capabilities: Capabilities, files: Sequence[FileRecord], settings: Settings
) -> html.Section:
    from_the_hub = [hub_field()] if settings.hub else []
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
    part = html.Div(
        [
            html.Label("Part of the checkpoint", className="ql-label", htmlFor="new-part"),
            dmc.Select(
                id="new-part",
                value=draft.part or None,
                data=[draft.part] if draft.part else [],
                placeholder="the likeliest",
                clearable=True,
            ),
        ],
        id="new-part-block",
        hidden=True,
    )
    return step_card(
        "model",
        source_zone("model", capabilities.examples.models, files, settings.max_upload_bytes, *from_the_hub),
        upload_rows("model"),
        html.Div(id="new-card-model"),
        problem_line("model"),
        part,
        adapter_field(draft.adapter, files),
        problem_line("adapter"),
        architecture,
    )


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
    return step_card(
        "schemes",
        dmc.CheckboxGroup(
            html.Div(groups, id="new-scheme-groups", className="ql-scheme-groups"),
            id="new-schemes",
            value=list(draft.schemes),
        ),
        foot,
        html.Div(id="new-custom-problem", className="ql-problem", role="alert"),
        problem_line("schemes"),
        beside=html.Span(id="new-schemes-count", className="ql-hint"),
    )


def _analyses_card(draft: Draft, capabilities: Capabilities, checkpoints: Sequence[FileRecord]) -> html.Section:
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
    return step_card(
        "analyses",
        dmc.RadioGroup(html.Div(cards, className="ql-choices"), id="new-preset", value=draft.preset),
        html.P(id="new-analyses-kept", className="ql-hint", hidden=True),
        landscape_fields(
            draft.plane, draft.points, draft.sampling, draft.tolerance, draft.along, draft.checkpoints, checkpoints
        ),
        problem_line("checkpoints"),
        problem_line("tolerance"),
        html.Details(
            [
                html.Summary([icon("chevron-right", 14), "Seed, batch size, device"]),
                html.Div(fields, className="ql-fields"),
                problem_line("seed"),
                problem_line("batch_size"),
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
