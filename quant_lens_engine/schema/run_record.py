"""The run's record: what the server knows of a run, and what ``GET /runs/{id}`` answers."""

from __future__ import annotations

from typing import Any, Literal

from quant_lens_engine.schema.base import MaybeFloat, Record
from quant_lens_engine.schema.run_result import StageFailure

RunState = Literal["QUEUED", "RUNNING", "DONE", "FAILED", "CANCELLED", "LOST"]
StageState = Literal["waiting", "running", "done", "failed", "skipped"]

TERMINAL_STATES: frozenset[str] = frozenset({"DONE", "FAILED", "CANCELLED", "LOST"})


class ErrorBody(Record):
    """The one shape of an error."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


class StageProgress(Record):
    """One stage of a run as it stands: ``done`` of ``total`` units of work, and what it is at."""

    stage: str
    variant: str | None = None
    state: StageState = "waiting"
    done: int = 0
    total: int = 0
    note: str = ""
    from_store: bool = False
    elapsed_s: MaybeFloat = None
    worker: str | None = None


class RunProgress(Record):
    """How far a run is: ``fraction`` 0 to 1, ``eta_s`` null until it can be said."""

    fraction: float = 0.0
    eta_s: MaybeFloat = None
    stages_done: int = 0
    stages_total: int = 0
    stages: list[StageProgress] = []


class RunRecord(Record):
    """A run. Times are ISO 8601 in UTC; ``version`` grows with every change, so that a reader can tell."""

    id: str
    name: str = ""
    owner: str = "local"
    state: RunState = "QUEUED"
    progress: RunProgress = RunProgress()
    error: ErrorBody | None = None
    attempt: int = 0
    retry_of: str | None = None
    spec: dict[str, Any] = {}
    created_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    tags: list[str] = []
    note: str = ""
    archived: bool = False
    failures: list[StageFailure] = []
    version: int = 0


class RunEvent(Record):
    """One thing that happened to a run; ``id`` is ordered, so that a reader can go on from the last it saw.

    ``kind`` is ``state`` (data: state, error), ``stage`` (data: a StageProgress with state done, failed or skipped),
    ``progress`` (data: a StageProgress that is running) or ``edit`` (data: name, tags, note, archived).
    """

    id: str = ""
    kind: Literal["state", "stage", "progress", "edit"]
    at: str = ""
    data: dict[str, Any] = {}
