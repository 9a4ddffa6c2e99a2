"""The right column: what would be run, how long it would take, and the same as a command and as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from app.components import icon
from app.pages.new.tasks import USUAL
from quant_lens_engine.schema import Analyses, Calibration, Capabilities, RunSpec, WorkerFacts, numbers, plan_stages
from quant_lens_engine.schema.estimate import Estimate

SHOWN_STAGES = 5


def facts_view(spec: RunSpec, available: int | None, device: str) -> html.Dl:
    """Variants, stages, samples, seed, device."""
    stages = sum(1 for _ in plan_stages(spec))
    used = _samples_used(spec, available)
    batches = -(-used // spec.data.batch_size) if used else None
    samples = numbers.count(used) if used else "all"
    if available and used:
        samples += f" of {numbers.count(available)}, {batches} batches"
    return _definitions(
        [
            ("Variants", f"FP32 + {len(spec.schemes)}"),
            ("Stages", str(stages)),
            ("Samples", samples),
            ("Seed", str(spec.seed)),
            ("Device", device),
        ]
    )


def estimate_view(estimate: Estimate | None, starts: str) -> html.Div:
    """The time in total and by stage; a line of why where it cannot be said yet."""
    if estimate is None:
        body: list[Any] = [html.Div("The baseline check tells.", className="ql-hint")]
    else:
        parts = sorted(estimate.by_stage.items(), key=lambda item: -item[1])[:SHOWN_STAGES]
        longest = max((seconds for _, seconds in parts), default=0.0) or 1.0
        bars = [
            html.Div(
                [
                    html.Span(stage, className="ql-bar-name"),
                    html.Span(html.Span(style={"width": f"{100 * seconds / longest:.1f}%"}), className="ql-bar"),
                    html.Span(numbers.duration(seconds), className="ql-bar-value"),
                ],
                className="ql-bar-row",
            )
            for stage, seconds in parts
        ]
        total = numbers.duration(estimate.total_s)
        body = [
            html.Div([html.Span("about ", className="muted"), total], className="ql-estimate"),
            *bars,
            *(html.Div(f"{sentence[:1].upper()}{sentence[1:]}.", className="ql-hint") for sentence in estimate.assumed),
        ]  # fmt: skip
    return html.Div(
        [html.Div("Estimate", className="ql-label"), *body, _definitions([("Starts", starts)])],
        className="ql-estimate-block",
    )


def device_text(spec: RunSpec, workers: Sequence[WorkerFacts]) -> str:
    """``auto → cuda:0``."""
    device = spec.execution.device
    if device != "auto":
        return device
    found = {name for worker in runners(workers) for name in worker.devices}
    gpus = sorted(name for name in found if name.startswith("cuda"))
    return f"auto → {gpus[0]}" if gpus else "auto → cpu" if found else "auto"


def starts_text(capabilities: Capabilities, waiting: int) -> str:
    """When a worker would take the run."""
    workers = runners(capabilities.workers)
    if not workers:
        return "when a worker is there"
    free = sum(worker.run_id is None for worker in workers)
    if waiting:
        return f"after {waiting} waiting run{'s' if waiting > 1 else ''}"
    return "now" if free else "when a worker is free"


def runners(workers: Sequence[WorkerFacts]) -> list[WorkerFacts]:
    """The workers that take runs; others only look at files."""
    return [worker for worker in workers if "runs" in worker.queues or not worker.queues]


def copies(spec: RunSpec, filenames: Mapping[str, str]) -> list[Any]:
    """Buttons that put the same run on the clipboard: as a command, and as the body of ``POST /api/v1/runs``."""
    return [
        _copy("square-terminal", "Copy as CLI", command_of(spec, filenames)),
        _copy(
            "copy",
            "Copy RunSpec",
            json.dumps(spec.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False),
        ),
    ]


def command_of(spec: RunSpec, filenames: Mapping[str, str]) -> str:
    """``quant-lens analyze …`` for the same numbers on this or another machine; files go by their name."""
    parts = ["quant-lens", "analyze", filenames.get("model", "MODEL"), "--data", filenames.get("data", "DATA")]
    if spec.task != USUAL:
        parts += ["--task", spec.task]
    if spec.model.part:
        parts += ["--part", spec.model.part]
    if spec.model.adapter:
        parts += ["--adapter", filenames.get("adapter", "ADAPTER")]
    if spec.model.architecture != "auto":
        parts += ["--architecture", spec.model.architecture]
    transform = spec.data.transform.model_dump(mode="json", exclude_defaults=True)
    if transform:
        parts += ["--transform", json.dumps(transform)]
    if text := spec.data.text.model_dump(mode="json", exclude_defaults=True):
        parts += ["--text", json.dumps(text)]
    for scheme in spec.schemes:
        parts += ["--scheme", scheme.name]
    parts += ["--preset", spec.analyses.preset]
    usual = Analyses.model_validate({"preset": spec.analyses.preset})
    for analysis in ("curvature", "line", "plane"):
        before = getattr(usual, analysis).model_dump(mode="json")
        asked = getattr(spec.analyses, analysis).model_dump(mode="json")
        if changed := {key: value for key, value in asked.items() if value != before[key]}:
            parts += [f"--{analysis}", json.dumps(changed, ensure_ascii=False)]
    if spec.data.limit is not None:
        parts += ["--limit", str(spec.data.limit)]
    calibration = spec.data.calibration
    if calibration.file is not None:
        parts += ["--calibration", filenames.get("calibration", "CALIBRATION")]
    if calibration != Calibration(file=calibration.file):
        parts += ["--calibration-limit", str(calibration.limit)]
    if spec.seed:
        parts += ["--seed", str(spec.seed)]
    return shlex.join(parts)


def _samples_used(spec: RunSpec, available: int | None) -> int | None:
    limits = [value for value in (spec.data.limit, available) if value]
    return min(limits) if limits else None


def _copy(icon_name: str, words: str, text: str) -> html.Button:
    return html.Button([icon(icon_name, 14), words], type="button", className="button quiet", **{"data-copy": text})


def _definitions(pairs: Sequence[tuple[str, str]]) -> html.Dl:
    return html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in pairs], className="ql-definitions")
