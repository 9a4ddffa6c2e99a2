"""Inspections and baseline checks: what an engine process is asked, and where its answer is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from quant_lens_engine.schema import CheckpointInspection, DataInspection, ErrorBody, RunSpec
from quant_lens_engine.schema.baseline import BaselineCheck
from worker.answer_check import checked
from worker.sources import local_files
from worker.store import Store


class Question(Protocol):
    """What is asked, and where the answer goes."""

    @property
    def job(self) -> str:
        """``inspect:<sha256>`` or ``check:<key>``."""

    def request(self, store: Store) -> Mapping[str, Any] | None:
        """What the engine is asked, but for :func:`worker.trust.foreign_code`; None where the answer is there already,
        or nobody wants it any more."""

    def begin(self, store: Store) -> None:
        """Say that it is being worked on."""

    def answer(self, store: Store, result: object) -> None:
        """Keep the answer.

        Raises:
            InternalFault: ``invalid_result``; it is not what was asked for.
        """

    def fail(self, store: Store, error: ErrorBody) -> None:
        """Keep why there is none."""


class Inspection:
    """What is in an uploaded file?"""

    def __init__(self, sha256: str) -> None:
        self._sha256 = sha256
        self.job = f"inspect:{sha256}"

    def request(self, store: Store) -> Mapping[str, Any] | None:
        """Nothing where the file is gone, or was inspected."""
        record = store.files.find(self._sha256)
        if record is None or record.inspection_state in {"done", "failed"}:
            return None
        path = str(store.files.local_path(self._sha256))
        return {"op": "inspect_file", "path": path, "filename": record.filename}

    def begin(self, store: Store) -> None:
        """On the file's record."""
        store.files.set_inspection(self._sha256, "running")

    def answer(self, store: Store, result: object) -> None:
        """On the file's record."""
        is_data = isinstance(result, Mapping) and result.get("kind") == "data"
        found = checked(DataInspection if is_data else CheckpointInspection, result)
        store.files.set_inspection(self._sha256, "done", inspection=found.model_dump(mode="json"))

    def fail(self, store: Store, error: ErrorBody) -> None:
        """On the file's record."""
        store.files.set_inspection(self._sha256, "failed", error=error)


class Check:
    """What does the float model do on some rows?"""

    def __init__(self, key: str) -> None:
        self._key = key
        self.job = f"check:{key}"

    def request(self, store: Store) -> Mapping[str, Any] | None:
        """Nothing where the check was made, or is forgotten."""
        record = store.checks.find(self._key)
        if record is None or record.state in {"done", "failed"}:
            return None
        spec = RunSpec.model_validate(record.spec)
        files = local_files(store, spec)
        return {"op": "check", "spec": spec.model_dump(mode="json"), "files": files}

    def begin(self, store: Store) -> None:
        """On the check's record."""
        self._change(store, state="running")

    def answer(self, store: Store, result: object) -> None:
        """On the check's record."""
        self._change(store, state="done", result=checked(BaselineCheck, result).model_dump(mode="json"))

    def fail(self, store: Store, error: ErrorBody) -> None:
        """On the check's record."""
        self._change(store, state="failed", error=error)

    def _change(self, store: Store, **changes: Any) -> None:
        record = store.checks.find(self._key)
        if record is not None:
            store.checks.put(record.model_copy(update=changes))


def give_up(store: Store, job: str, error: ErrorBody) -> None:
    """Keep why a job has no end, whatever it is: ``inspect:``, ``check:`` or ``fetch:``."""
    kind, _, subject = job.partition(":")
    if kind == "fetch":
        store.fetches.fail(subject, error)
    else:
        (Inspection(subject) if kind == "inspect" else Check(subject)).fail(store, error)
