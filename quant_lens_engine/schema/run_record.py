"""The run's record: what the server knows of a run, and what ``GET /runs/{id}`` answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from quant_lens_engine.schema.base import MaybeFloat, Record
from quant_lens_engine.schema.run_result import StageFailure
from quant_lens_engine.schema.stages import StageKey

RunState = Literal["QUEUED", "RUNNING", "DONE", "FAILED", "CANCELLED", "LOST"]
StageState = Literal["waiting", "running", "done", "failed", "skipped"]

TERMINAL_STATES: frozenset[str] = frozenset({"DONE", "FAILED", "CANCELLED", "LOST"})


class ErrorBody(Record):
    """The one shape of an error."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


_WORST_FIRST: tuple[StageState, ...] = ("failed", "skipped")


class StageProgress(Record):
    """One stage of a run as it stands: ``done`` of ``total`` units of work, and what it is at.

    ``part`` says which piece of a stage that comes in pieces (rows of a plane).
    """

    stage: str
    variant: str | None = None
    part: str | None = None
    state: StageState = "waiting"
    done: int = 0
    total: int = 0
    note: str = ""
    from_store: bool = False
    elapsed_s: MaybeFloat = None
    worker: str | None = None

    @property
    def key(self) -> StageKey:
        """The stage's name."""
        return StageKey(self.stage, self.variant, self.part)


def whole_stages(stages: Sequence[StageProgress]) -> list[StageProgress]:
    """Stages as a reader thinks of them: the pieces of one are one, at the place of the first.

    Example:
        >>> pieces = [StageProgress(stage="plane", variant="FP32", part="0.00", state="done", done=1, total=1),
        ...           StageProgress(stage="plane", variant="FP32", part="0.01")]
        >>> [(stage.state, stage.done, stage.total) for stage in whole_stages(pieces)]
        [('running', 1, 2)]
    """
    found: dict[tuple[str, str | None], list[StageProgress]] = {}
    for stage in stages:
        found.setdefault((stage.stage, stage.variant), []).append(stage)
    return [pieces[0] if pieces[0].part is None else _joined(pieces) for pieces in found.values()]


def _joined(pieces: Sequence[StageProgress]) -> StageProgress:
    ended = [piece for piece in pieces if piece.state in ("done", "failed", "skipped")]
    running = [piece for piece in pieces if piece.state == "running"]
    state: StageState = "running" if running or ended else "waiting"
    if len(ended) == len(pieces):
        worst = {piece.state for piece in ended}
        state = next((state for state in _WORST_FIRST if state in worst), "done")
    spent = [piece.elapsed_s for piece in pieces if piece.elapsed_s is not None]
    speaker = max(running or ended or pieces, key=lambda piece: piece.done)
    return StageProgress(
        stage=pieces[0].stage, variant=pieces[0].variant, state=state, done=len(ended), total=len(pieces),
        note=speaker.note, from_store=bool(ended) and all(piece.from_store for piece in ended),
        elapsed_s=sum(spent) if spent else None, worker=speaker.worker,
    )  # fmt: skip


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
