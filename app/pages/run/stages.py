"""The stages of a run: a grid of live cells while it works, a thin strip once it has ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dash import html

from app.components import card, icon, variant_name
from app.pages.run.header import moment
from quant_lens_engine.figures import VariantStyle
from quant_lens_engine.schema import FLOAT_VARIANT, VARIANT_STAGES, RunRecord, StageProgress, numbers, whole_stages

COLUMNS = (*VARIANT_STAGES, "plane", "verdict")
RUN_STAGES = ("inspect",)
EARLIEST_ETA = 0.03
"""Before so much is done an estimate is a guess."""


def stage_card(record: RunRecord, styles: dict[str, VariantStyle], waiting_for: str) -> html.Section:
    """The card of a run that has not ended: how far, what is at work, and a cell a stage.

    Args:
        record: the run.
        styles: of its variants.
        waiting_for: what a queued run waits for, in words.
    """
    progress = record.progress
    percent = f"{100 * progress.fraction:.0f} %"
    told = progress.eta_s is not None and progress.fraction >= EARLIEST_ETA
    left = f"about {_roughly(progress.eta_s or 0.0)} left" if told else ""
    if record.state == "QUEUED":
        headline: list[Any] = [html.Strong("Queued"), html.Span(waiting_for, className="muted")]
    else:
        headline = [html.Strong(f"Running {percent}"), html.Span(left, className="muted")]
    head = html.Div(
        [
            html.Div(
                [
                    html.H2(headline, className="card-title ql-stage-headline"),
                    html.P(_counts(record), className="card-sentence"),
                ]
            ),
            html.Span([html.Span(className="state-dot running"), "live"], className="state-pill ql-live"),
        ],
        className="card-head",
    )
    bar = html.Div(
        html.Span(style={"width": percent.replace(" ", "")}), className="progress", role="progressbar",
        **{"aria-valuenow": f"{100 * progress.fraction:.0f}", "aria-label": "Progress of the run"},
    )  # fmt: skip
    at_work = [] if record.state == "QUEUED" else [_at_work(progress.stages)]
    body = html.Div([_grid(progress.stages, styles), *at_work], className="ql-stage-body")
    return card(head, bar, body, class_name="ql-stage-card")


def _roughly(seconds: float) -> str:
    """An estimate is not said to the tenth."""
    return f"{max(1, round(seconds))} s" if seconds < 60 else numbers.duration(5.0 * round(seconds / 5))


def _counts(record: RunRecord) -> list[Any]:
    progress = record.progress
    stored = sum(stage.from_store for stage in progress.stages)
    words: list[Any] = [f"{progress.stages_done} of {progress.stages_total} stages done"]
    if stored:
        words.append(f", {stored} from the store")
    workers = sorted({machine(stage.worker) for stage in progress.stages if stage.worker})
    if record.started_at:
        words += [". Started ", moment(record.started_at)]
        if workers:
            words.append(f" on {' and '.join(workers)}")
    return [*words, "."]


def machine(worker: str) -> str:
    """The machine's name out of a worker's.

    Example:
        >>> machine("gpu-01-runs-28666-0df3"), machine("gpu-01")
        ('gpu-01', 'gpu-01')
    """
    return re.sub(r"-(runs|inspect)-\d+-[0-9a-f]+$", "", worker)


def _grid(stages: Sequence[StageProgress], styles: dict[str, VariantStyle]) -> html.Div:
    stages = whole_stages(stages)
    by_key = {(stage.variant, stage.stage): stage for stage in stages}
    variants = list(dict.fromkeys(stage.variant for stage in stages if stage.variant))
    columns = [kind for kind in COLUMNS if any(stage.stage == kind for stage in stages)]
    head = html.Thead(html.Tr([html.Th(html.Span("stage", className="visually-hidden")), *map(html.Th, columns)]))
    rows = []
    for kind in RUN_STAGES:
        stage = by_key.get((None, kind))
        if stage is not None:
            cell = html.Td(_cell(stage), colSpan=len(columns))
            rows.append(html.Tr([html.Th(kind, scope="row", className="ql-stage-run"), cell]))
    for variant in variants:
        name = variant_name(styles[variant]) if variant in styles else html.Span(variant)
        cells = [html.Td(_cell(by_key.get((variant, kind)), variant)) for kind in columns]
        rows.append(html.Tr([html.Th(name, scope="row"), *cells]))
    return html.Div(html.Table([head, html.Tbody(rows)], className="ql-stage-grid"), className="ql-stage-frame")


def _cell(stage: StageProgress | None, variant: str = "") -> html.Div:
    if stage is None:
        none = "–" if variant == FLOAT_VARIANT else ""
        return html.Div(none, className="ql-cell none")
    title = f"{stage.stage}{f' · {stage.variant}' if stage.variant else ''}: {stage.state}"
    if stage.elapsed_s is not None:
        title += f", {numbers.duration(stage.elapsed_s)}"
    if stage.from_store:
        title += ", from the store"
    if stage.state == "running":
        percent = 100 * stage.done / stage.total if stage.total else 0.0
        return html.Div(
            [html.Span(className="ql-cell-fill", style={"width": f"{percent:.0f}%"}), html.Span(f"{percent:.0f} %")],
            className="ql-cell running",
            title=f"{title}. {stage.note}",
        )
    signs = {"done": "archive" if stage.from_store else "check", "failed": "x", "skipped": "minus"}
    sign = icon(signs[stage.state], 13, label=stage.state) if stage.state in signs else ""
    return html.Div(sign, className=f"ql-cell {stage.state}", title=title)


def _at_work(stages: Sequence[StageProgress]) -> html.Div:
    running = [stage for stage in stages if stage.state == "running"]
    if not running:
        return html.Div(html.P("Between two stages.", className="ql-hint"), className="ql-at-work")
    return html.Div([_stage_bar(stage) for stage in running], className="ql-at-work")


def _stage_bar(stage: StageProgress) -> html.Div:
    name = f"{stage.stage} · {stage.variant}" if stage.variant else stage.stage
    percent = 100 * stage.done / stage.total if stage.total else 0.0
    count = f"{stage.done} of {stage.total}" if stage.total else ""
    words = " · ".join(filter(None, (count, stage.note)))
    return html.Div(
        [
            html.Div(
                [
                    html.Code(machine(stage.worker or ""), title=stage.worker or ""),
                    html.Strong(name),
                    html.Span(words, className="ql-at-work-note", title=words),
                    html.Span(_left(stage), className="ql-at-work-left"),
                ],
                className="ql-at-work-head",
            ),
            html.Div(
                html.Span(style={"width": f"{percent:.1f}%"}), className="progress", role="progressbar",
                **{"aria-valuenow": f"{percent:.0f}", "aria-label": name},
            ),
        ]
    )  # fmt: skip


def _left(stage: StageProgress) -> str:
    """The time left of one stage at its pace so far; nothing while that says little."""
    if stage.elapsed_s is None or not stage.total or stage.done < max(1, 0.05 * stage.total):
        return ""
    return _roughly(stage.elapsed_s * (stage.total - stage.done) / stage.done)


def stage_strip(record: RunRecord, products: float) -> html.Div:
    """Ten words and a thin bar a kind of stage, as wide as the share of time that it took.

    Args:
        record: a run that has ended.
        products: Hessian-vector products of the whole run.
    """
    progress = record.progress
    spent: dict[str, float] = {}
    for stage in progress.stages:
        if stage.state in {"done", "failed"}:
            spent[stage.stage] = spent.get(stage.stage, 0.0) + (stage.elapsed_s or 0.0)
    stored = sum(stage.from_store for stage in progress.stages)
    words = [numbers.duration(_wall(record)) if _wall(record) is not None else ""]
    words += [f"{numbers.count(round(products))} Hessian-vector products"] if products else []
    words += [f"{stored} stages from the store"] if stored else []
    total = sum(spent.values()) or 1.0
    parts = [
        html.Div(
            [
                html.Span(className="ql-strip-bar"),
                html.Span(kind),
                html.Span(numbers.duration(seconds), className="muted"),
            ],
            className="ql-strip-part",
            style={"flexGrow": max(seconds / total, 0.04)},
        )
        for kind, seconds in spent.items()
    ]
    well = progress.stages_done == progress.stages_total
    headline = html.Div(
        [
            icon("check" if well else "minus", 14),
            html.Strong(f"{progress.stages_done} of {progress.stages_total} stages"),
            html.Span(" · ".join(filter(None, words)), className="muted"),
        ],
        className="ql-strip-head",
    )
    return html.Div([headline, html.Div(parts, className="ql-strip-parts")], className="ql-strip")


def _wall(record: RunRecord) -> float | None:
    if not record.started_at or not record.finished_at:
        return None
    started, finished = (datetime.fromisoformat(text) for text in (record.started_at, record.finished_at))
    return (finished - started).total_seconds()
