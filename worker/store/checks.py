"""Baseline checks: what a model does with data before anyone asks for a run. Kept for a day."""

from __future__ import annotations

from typing import Any, Literal

from quant_lens_engine.schema import ErrorBody, Record
from worker.store import keys
from worker.store.connection import Client
from worker.store.errors import NotFound

_KEPT_S = 86400


class CheckRecord(Record):
    """One check. ``result`` is the engine's ``BaselineCheck`` once it is ``done``; ``spec`` is what was checked."""

    key: str
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    spec: dict[str, Any] = {}
    result: dict[str, Any] | None = None
    error: ErrorBody | None = None


class Checks:
    """Baseline checks by their key (see ``worker.queue.check``)."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def find(self, key: str) -> CheckRecord | None:
        """The check, or None."""
        known = self._client.get(keys.check(key))
        return None if known is None else CheckRecord.model_validate_json(known)

    def get(self, key: str) -> CheckRecord:
        """The check.

        Raises:
            NotFound: there is no such check, or it is older than a day.
        """
        record = self.find(key)
        if record is None:
            raise NotFound(f"there is no check {key[:64]!r}", hint="ask for it again")
        return record

    def put(self, record: CheckRecord) -> None:
        """Keep the check as it stands."""
        self._client.set(keys.check(record.key), record.model_dump_json(), ex=_KEPT_S)
