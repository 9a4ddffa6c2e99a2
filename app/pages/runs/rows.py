"""From runs to the rows of the table: plain values, each number with the text that is shown for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.components.badge import STATE_WORDS
from app.components.top_bar import initials_of
from app.components.variant_name import swatch_style
from app.view_state import Shown
from quant_lens_engine.figures import scheme_styles
from quant_lens_engine.figures.metrics import METRICS, Measurement
from quant_lens_engine.schema import RunRecord, StageKey, numbers
from quant_lens_engine.schema.recipe import known_recipes
from worker.store import RunSummary, VariantSummary

CELL_KEYS = {
    "name_key": ("name", "about"),
    "state_key": ("state", "fraction", "state_note"),
    "age_key": ("created_at", "age"),
}
"""AG Grid draws a cell again only when its value changes: the value of a cell is all that stands in it."""

_NUMBERS = ("sharpness_ratio", "delta_loss", "delta_accuracy", "effective_bits")


def run_rows(
    records: Sequence[RunRecord], summaries: Mapping[str, RunSummary], shown: Shown, now: datetime | None = None
) -> list[dict[str, Any]]:
    """The table's rows.

    Args:
        records: the runs, in order.
        summaries: what each has found so far, by id.
        shown: which variant's numbers stand in the columns.
        now: for ages.
    """
    now = now or datetime.now(UTC)
    return [_row(record, summaries.get(record.id), shown, now) for record in records]


def shown_variant(variants: Sequence[VariantSummary], shown: Shown) -> VariantSummary | None:
    """The variant whose numbers represent a run; None while none is measured."""
    measured = [variant for variant in variants if variant.effective_bits is not None]
    if shown == "smallest-safe":
        measured = [variant for variant in measured if variant.verdict == "safe"]
    if shown == "sharpest":
        return max(measured, key=lambda variant: variant.sharpness_ratio or 0.0, default=None)
    return min(measured, key=lambda variant: variant.effective_bits or 0.0, default=None)


def age_text(created_at: str, now: datetime) -> str:
    """``6 min``, ``2 d``: how long ago.

    Example:
        >>> age_text("2026-01-01T00:00:00Z", datetime(2026, 1, 3, tzinfo=UTC))
        '2 d'
    """
    seconds = (now - datetime.fromisoformat(created_at)).total_seconds()
    if seconds < 60:
        return "now"
    for unit, length, until in (("min", 60, 3600), ("h", 3600, 86400), ("d", 86400, 86400 * 60)):
        if seconds < until:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // (86400 * 30))} mo"


def _row(record: RunRecord, summary: RunSummary | None, shown: Shown, now: datetime) -> dict[str, Any]:
    variants = summary.variants if summary else []
    chosen = shown_variant(variants, shown)
    styles = scheme_styles(known_recipes(record.spec.get("schemes", [])))
    labels = {name: style.label for name, style in styles.items()}
    model = (summary.model if summary else None) or _source(record, "model")
    row = {
        "id": record.id,
        "name": record.name or record.id,
        "about": " · ".join(filter(None, [model, _data_text(record, summary), _preset(record)])),
        "state": record.state,
        **_state(record, now),
        "verdicts": [
            {"name": variant.name, "label": labels.get(variant.name, variant.name), "level": variant.verdict}
            for variant in variants
            if variant.verdict or record.state not in {"FAILED", "LOST"}
        ],
        "variant": chosen.name if chosen else None,
        "variant_label": labels.get(chosen.name, chosen.name) if chosen else None,
        "swatch": swatch_style(styles[chosen.name]) if chosen and chosen.name in styles else None,
        **_numbers(chosen),
        "tags": record.tags,
        "owner": record.owner,
        "initials": initials_of(record.owner),
        "created_at": record.created_at,
        "age": age_text(record.created_at, now),
        "active": record.state in {"QUEUED", "RUNNING"},
    }
    return row | {key: "\n".join(str(row[part]) for part in parts) for key, parts in CELL_KEYS.items()}


def _numbers(variant: VariantSummary | None) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for key in _NUMBERS:
        metric, value = METRICS[key], getattr(variant, key) if variant else None
        measurement = Measurement(value)
        cells[key] = value
        cells[f"{key}_text"] = metric.written(measurement)[0]
        cells[f"{key}_title"] = metric.exactly(measurement) if value is not None else ""
    return cells


def _state(record: RunRecord, now: datetime) -> dict[str, Any]:
    progress = record.progress
    said: dict[str, Any] = {"state_word": STATE_WORDS[record.state], "fraction": None, "state_note": ""}
    if record.state == "RUNNING":
        said["fraction"] = progress.fraction
        said["state_note"] = _at_work(record)
    elif record.state == "QUEUED":
        said["state_note"] = "waits for a worker"
    elif record.state == "FAILED":
        said["state_note"] = record.error.message if record.error else "see the run"
    elif record.state == "LOST":
        said["state_note"] = record.error.message if record.error else "its worker fell silent"
    else:
        took = _seconds(record, now)
        failed = f", {len(record.failures)} stages failed" if record.failures else ""
        said["state_note"] = f"{'after ' if record.state == 'CANCELLED' else ''}{numbers.duration(took)}{failed}"
    return said


def _at_work(record: RunRecord) -> str:
    running = [stage for stage in record.progress.stages if stage.state == "running"]
    left = f" · {numbers.duration(record.progress.eta_s)} left" if record.progress.eta_s is not None else ""
    if not running:
        return f"{record.progress.stages_done} of {record.progress.stages_total} stages{left}"
    stage = running[-1]
    count = f" · {stage.done}/{stage.total}" if stage.total else ""
    return f"{' '.join(str(StageKey(stage.stage, stage.variant)).split('/'))}{count}{left}"


def _seconds(record: RunRecord, now: datetime) -> float | None:
    if record.started_at is None:
        return None
    end = datetime.fromisoformat(record.finished_at) if record.finished_at else now
    return (end - datetime.fromisoformat(record.started_at)).total_seconds()


def _source(record: RunRecord, part: str) -> str:
    source = record.spec.get(part, {})
    name = source.get("example") or source.get("path") or source.get("architecture")
    return str(name) if name and name != "auto" else str(source.get("file") or "")[:8]


def _data_text(record: RunRecord, summary: RunSummary | None) -> str:
    """The rows that were used, once they are known; until then at most so many as asked for."""
    rows = (summary.samples if summary else None) or record.spec.get("data", {}).get("limit")
    return f"{_source(record, 'data')} {numbers.count(rows)}" if rows else _source(record, "data")


def _preset(record: RunRecord) -> str:
    return str(record.spec.get("analyses", {}).get("preset", ""))
