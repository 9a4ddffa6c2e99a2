"""What a run found: as far as it is known, at any time; and the same to take away."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Response

from app.api.access import StoreOf
from quant_lens_engine.figures import html_report
from quant_lens_engine.figures.metrics import METRICS
from quant_lens_engine.schema import AlgorithmStep, RunRecord, RunResult, Variant

router = APIRouter(prefix="/runs/{run_id}", tags=["results"])


@router.get("/result")
def read_result(run_id: str, store: StoreOf) -> RunResult:
    """The result; 200 from the start, and what is not finished is null."""
    return store.results.result(run_id)


@router.get("/export.json", response_class=Response)
def export_json(run_id: str, store: StoreOf) -> Response:
    """The result as a file."""
    record = store.runs.get(run_id)
    text = store.results.result(run_id).model_dump_json(indent=2)
    return _download(text, record, "json", "application/json")


@router.get("/export.csv", response_class=Response)
def export_csv(run_id: str, store: StoreOf) -> Response:
    """One row a variant: every number with its error, in the stored units (accuracy 0 to 1, size in bytes)."""
    record = store.runs.get(run_id)
    return _download(table_of(store.results.result(run_id)), record, "csv", "text/csv; charset=utf-8")


@router.get("/export.html", response_class=Response)
def export_html(run_id: str, store: StoreOf) -> Response:
    """One self-contained page with the charts, the table and the settings; it opens without a network."""
    record = store.runs.get(run_id)
    report = html_report(store.results.result(run_id), title=record.name or record.id)
    return _download(report, record, "html", "text/html; charset=utf-8")


def table_of(result: RunResult) -> str:
    """The result as CSV, one row a variant; what has no value is empty.

    Example:
        >>> table_of(RunResult(variants=[Variant(name="FP32", effective_bits=32)])).splitlines()[1][:9]
        'FP32,32.0'
    """
    rows = [dict(_row(result, variant)) for variant in result.variants]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["variant"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(result: RunResult, variant: Variant) -> Iterator[tuple[str, Any]]:
    yield "variant", variant.name
    for metric in METRICS.values():
        measured = metric.read(result, variant)
        yield metric.key, measured.value
        if metric.error_meaning:
            yield f"{metric.key}_error", measured.error
    comparison = result.comparison(variant.name)
    yield "verdict", comparison.verdict.level if comparison and comparison.verdict else None
    scheme = variant.scheme or {}
    yield "scheme", scheme.get("name")
    yield "algorithms", "; ".join(AlgorithmStep.model_validate(step).text for step in variant.algorithms)
    yield "layer_choice", "; ".join(":".join([word, *names]) for word, names in variant.layer_choice.items())
    yield "quantized_layers", variant.quantized_layers
    yield "skipped_layers", len(variant.skipped_layers) if variant.evaluation else None
    yield "rounded_activations", len(variant.activations) if variant.evaluation else None
    yield "calibration_samples", result.data.calibration_samples if variant.calibrated_by else None
    yield "overlap", result.data.overlap if variant.calibrated_by else None
    yield "notes", " ".join(variant.notes)


def _download(text: str, record: RunRecord, extension: str, media_type: str) -> Response:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", record.name).strip("-.")[:60]
    name = "-".join(part for part in ("quant-lens", plain, record.id) if part)
    headers = {"Content-Disposition": f'attachment; filename="{name}.{extension}"'}
    return Response(text, media_type=media_type, headers=headers)
