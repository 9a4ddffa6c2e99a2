"""What is known of an uploaded file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from quant_lens_engine.schema import ErrorBody, Record
from worker.store.clock import iso

_UNREADABLE = ErrorBody(
    code="invalid_result",
    message="what is known of this file cannot be read",
    hint="delete the file and upload it again",
)

InspectionState = Literal["waiting", "running", "done", "failed"]


class FileRecord(Record):
    """An uploaded file. ``inspection`` is a ``CheckpointInspection`` or ``DataInspection`` once it is ``done``."""

    sha256: str
    size_bytes: int
    filename: str
    owner: str
    created_at: str
    inspection: dict[str, Any] | None = None
    inspection_state: InspectionState = "waiting"
    error: ErrorBody | None = None


def file_record(fields: Mapping[str, str]) -> FileRecord | None:
    """The record that the fields of a file's hash in Redis stand for; None where there is no such file."""
    if "sha256" not in fields:
        return None
    inspection, error, state = None, None, fields["inspection_state"]
    try:
        inspection = _inspection(fields.get("inspection"))
        error = ErrorBody.model_validate_json(fields["error"]) if fields.get("error") else None
    except (ValueError, RecursionError):  # one file's record must not take the list of all files with it
        state, error = "failed", _UNREADABLE
    return FileRecord(
        sha256=fields["sha256"],
        size_bytes=int(fields["size_bytes"]),
        filename=fields["filename"],
        owner=fields["owner"],
        created_at=iso(fields["created_at"]) or "",
        inspection=inspection,
        inspection_state=state,
        error=error,
    )


def _inspection(text: str | None) -> dict[str, Any] | None:
    found = json.loads(text) if text else None
    if found is not None and not isinstance(found, dict):
        raise ValueError("an inspection is a JSON object")
    return found
