"""Everything that the numbers depend on, in plain words and as the RunSpec itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dash import html

from app.components import card, icon
from app.components.sentence import as_sentence
from app.pages.run.header import data_name, model_name
from quant_lens_engine.schema import (
    CurvatureOptions,
    RunRecord,
    RunResult,
    RunSpec,
    numbers,
    parse_run_spec,
    planned_planes,
)

Pairs = Sequence[tuple[str, Any]]

_LAYER_EIGENVALUES = {"none": "of no variant", "float": "of the float model", "all": "of every variant"}


def settings_view(record: RunRecord, result: RunResult) -> html.Div:
    """The tab "Data & settings"."""
    spec = parse_run_spec(record.spec)
    text = json.dumps(spec.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False)
    copy = html.Button([icon("copy", 14), "Copy"], type="button", className="button", **{"data-copy": text})
    return html.Div(
        [
            html.Div(
                [
                    _block("Model", "What was quantized.", _model(record, result, spec)),
                    _block("Data", "The same rows for every variant.", _data(record, result, spec)),
                    _block("Analyses", f"Preset {spec.analyses.preset}.", _analyses(spec)),
                    _block("Execution", "Fixed before the first stage; digits depend on it.", _execution(result, spec)),
                ],
                className="ql-settings",
            ),
            *_notes(result),
            card(
                html.Pre(text, className="ql-json", tabIndex=0),
                title="RunSpec",
                sentence="POST it to /api/v1/runs and the same digits come back at an equal execution block.",
                actions=copy,
            ),
        ]
    )


def _notes(result: RunResult) -> list[html.Section]:
    """What opening the files brought to light; nothing where there is nothing to say."""
    if not result.notes:
        return []
    items = [html.Li(as_sentence(note)) for note in result.notes]
    return [card(html.Ul(items, className="ql-notes"), title="Notes", sentence="What opening the files showed.")]


def _model(record: RunRecord, result: RunResult, spec: RunSpec) -> Pairs:
    model = result.model
    return [
        ("Architecture", model_name(record, result)),
        ("Source", _source(spec.model.file, spec.model.example, spec.model.path)),
        ("Part", spec.model.part),
        ("LoRA adapter", _hash(spec.model.adapter) if spec.model.adapter else None),
        ("Format", model.format),
        ("Loaded as", "trusted code: the file was run to read it" if model.trusted_code else None),
        ("Parameters", numbers.count(model.parameters) if model.parameters else None),
        ("Size", numbers.size(model.size_bytes) if model.size_bytes else None),
        ("SHA-256", _hash(model.sha256)),
        ("Options", json.dumps(spec.model.options) if spec.model.options else None),
        ("Task", spec.task),
    ]


def _data(record: RunRecord, result: RunResult, spec: RunSpec) -> Pairs:
    data, transform = result.data, spec.data.transform
    available = f" of {numbers.count(data.available)}" if data.available else ""
    calibration = _calibration(result, spec)
    return [
        ("Data", data_name(record)),
        ("Source", _source(spec.data.file, spec.data.example, spec.data.path)),
        ("Samples", f"{numbers.count(data.samples)}{available}" if data.samples else numbers.count(spec.data.limit)),
        ("Batch size", numbers.count(spec.data.batch_size)),
        ("Classes", numbers.count(data.classes) if data.classes else None),
        ("Layout", transform.layout or "as it is"),
        ("Scale", numbers.exact(transform.scale)),
        ("Mean", ", ".join(map(numbers.exact, transform.mean)) or None),
        ("Std", ", ".join(map(numbers.exact, transform.std)) or None),
        ("Calibration", calibration),
        ("SHA-256", _hash(data.sha256)),
        ("Calibration SHA-256", _hash(data.calibration_sha256)),
    ]


def _calibration(result: RunResult, spec: RunSpec) -> str | None:
    """How many rows, and whose; nothing where no recipe looked at any."""
    data = result.data
    if not data.calibration_samples:
        return None
    rows = f"{numbers.count(data.calibration_samples)} rows"
    if spec.data.calibration.file:
        return f"{rows} of a file of their own"
    return f"{rows}, measured ones among them" if data.overlap else f"{rows} that are not measured"


def _analyses(spec: RunSpec) -> Pairs:
    curvature, line = spec.analyses.curvature, spec.analyses.line
    return [
        ("Schemes", ", ".join(scheme.name for scheme in spec.schemes)),
        ("Eigenvalues", f"{curvature.top} largest, {curvature.bottom} smallest"),
        ("Aimed at", f"{curvature.tolerance:g} relative, {curvature.max_products} products at most"),
        ("Trace", f"to {numbers.percent(curvature.trace_error)} of itself, {curvature.trace_probes} probes at most"),
        ("Density", _density(curvature)),
        ("Layers", f"λmax of each layer: {_LAYER_EIGENVALUES[curvature.layer_eigenvalues]}"),
        ("Sharpness", f"in norms of filters, ρ = {curvature.radius:g}" if curvature.sharpness else "not asked for"),
        ("Confidence", f"{numbers.percent(curvature.confidence, digits=2)} for every interval"),
        (
            "Lines",
            f"{', '.join(line.kinds)}; {line.directions} random, {line.points} points, {_span(line.distance)}",
        ),
        ("Planes", _planes(spec)),
        ("Seed", str(spec.seed)),
    ]


def _span(distance: float | None) -> str:
    return "as far as the float loss doubles" if distance is None else f"−{distance:g} to {distance:g}"


def _planes(spec: RunSpec) -> str:
    options = spec.analyses.plane
    planned = planned_planes(options, [scheme.name for scheme in spec.schemes])
    if not planned:
        return "not asked for"
    pairs = dict.fromkeys(" × ".join(plane.directions) for plane in planned)
    return f"{'; '.join(pairs)}: {options.points} × {options.points} points, {_span(options.distance)}"


def _density(curvature: CurvatureOptions) -> str:
    runs = curvature.density_runs
    return f"{runs} random starts, {curvature.density_steps} products each" if runs else "not asked for"


def _execution(result: RunResult, spec: RunSpec) -> Pairs:
    found = result.execution or spec.execution.model_dump(mode="json", exclude_none=True)
    return [*((key.replace("_", " "), str(value)) for key, value in found.items()), ("engine", result.engine_version)]


def _source(file: str | None, example: str | None, path: str | None) -> str:
    return "uploaded file" if file else f"example {example}" if example else f"path {path}"


def _hash(sha256: str | None) -> Any:
    return html.Code(sha256, className="ql-hash") if sha256 else None


def _block(title: str, sentence: str, pairs: Pairs) -> html.Section:
    rows = [html.Div([html.Dt(name), html.Dd(value)]) for name, value in pairs if value not in (None, "")]
    return card(html.Dl(rows, className="ql-definitions"), title=title, sentence=sentence)
