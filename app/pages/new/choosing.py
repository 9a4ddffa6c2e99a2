"""What a click, a drop or a finished upload means for the model and the data that are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant_lens_engine.schema import CheckpointInspection, DataInspection, Examples, Inspection
from worker.store import FileRecord, Store

Source = dict[str, Any]
OTHER = {"model": "data", "data": "model", "calibration": "data"}


def choose(
    trigger: str | Mapping[str, str], value: Any, chosen: Mapping[str, Source | None], examples: Examples
) -> dict[str, Source | None]:
    """The model and data after an event.

    Args:
        trigger: the id of the component that changed.
        value: what it changed to; nothing where a button has only just been drawn.
        chosen: model and data so far.
        examples: what ships with the server.

    Example:
        >>> choose("new-stored-data", "ab12", {"model": None, "data": None}, Examples())
        {'model': None, 'data': {'file': 'ab12'}}
    """
    after = dict(chosen)
    if not value:
        return after
    if isinstance(trigger, str):
        kind = trigger.rpartition("-")[2]
        after[kind] = _uploaded(value) if trigger.startswith("uploaded-") else {"file": value}
        return after
    kind = trigger["kind"]
    match trigger["type"]:
        case "new-example":
            after[kind] = {"example": trigger["name"]}
            if kind == "model" and after["data"] is None and examples.data:
                after["data"] = {"example": examples.data[0]}  # an example model goes with the example's data
        case "new-remove":
            after[kind] = None
        case "new-swap":
            after[OTHER[kind]], after[kind] = after[kind], None
    return after


def look_at(store: Store, source: Source | None, inspections: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is known of a chosen source: the file's record, or an example's inspection; None where nothing is.

    The list of tensors, which may be very long, is replaced by its length.
    """
    if source is None:
        return None
    if "example" in source:
        inspection = inspections.get(source["example"])
        return {"state": "done", "inspection": _short(inspection)} if inspection else None
    if "file" not in source:
        return None
    record = store.files.find(source["file"])
    return {"state": "missing"} if record is None else _record_facts(record)


def is_waiting(found: Mapping[str, Any] | None) -> bool:
    """Whether a worker has yet to say what is in the file."""
    return found is not None and found["state"] in {"waiting", "running"}


def checkpoint_of(found: Mapping[str, Any] | None) -> CheckpointInspection | None:
    """The inspection, where the file is a checkpoint."""
    inspection = inspection_of(found)
    return inspection if isinstance(inspection, CheckpointInspection) else None


def data_of(found: Mapping[str, Any] | None) -> DataInspection | None:
    """The inspection, where the file is data."""
    inspection = inspection_of(found)
    return inspection if isinstance(inspection, DataInspection) else None


def inspection_of(found: Mapping[str, Any] | None) -> Inspection | None:
    """The inspection as a record."""
    known = (found or {}).get("inspection")
    if not known:
        return None
    kinds: Sequence[type[CheckpointInspection | DataInspection]] = (CheckpointInspection, DataInspection)
    kind = kinds[0] if known.get("kind") == "checkpoint" else kinds[1]
    return kind.model_validate(known)


def _uploaded(value: Mapping[str, Any]) -> Source:
    return {"file": value["sha256"], "filename": value["filename"], "size": value["size"]}


def _record_facts(record: FileRecord) -> dict[str, Any]:
    return {
        "state": record.inspection_state,
        "filename": record.filename,
        "size_bytes": record.size_bytes,
        "error": record.error.model_dump(mode="json") if record.error else None,
        "inspection": _short(record.inspection),
    }


def _short(inspection: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if inspection is None:
        return None
    return {**inspection, "tensors": [], "tensor_count": len(inspection.get("tensors") or [])}
