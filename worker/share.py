"""A share of a run: claim a unit, have an engine process compute its stages, commit each, claim the next."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from quant_lens_engine.errors import InternalFault, QuantLensError
from quant_lens_engine.schema import (
    PAYLOADS,
    ErrorBody,
    InspectPayload,
    Record,
    RunSpec,
    StageKey,
    StageProgress,
    stage_fingerprint,
)
from worker import trust
from worker.answer_check import checked_error
from worker.engine import Engine, EngineDied
from worker.queue import announce_run
from worker.schedule import Claim, can_take
from worker.sources import local_files
from worker.station import Station
from worker.store import NotFound
from worker.store.runs import named_files
from worker.watch import OverLimit, Stopped, answers, error_body

log = logging.getLogger(__name__)

_REPORT_EVERY_S = 0.2
_AFTER_CRASH_S = 0.5
_INSPECT = StageKey("inspect")


class RunShare:
    """What this worker does of one run, until there is nothing left to claim."""

    def __init__(self, station: Station, run_id: str) -> None:
        self._station = station
        self._store = station.store
        self._schedule = station.schedule
        self._run_id = run_id
        self._engine: Engine | None = None

    def work(self) -> None:
        """Claim and compute. Nothing claimable (a duplicate message, a run that has ended) is no error."""
        if not self._is_for_us():
            return
        try:
            while (claim := self._schedule.claim(self._run_id)) is not None:
                with self._station.holding(claim):
                    self._complete(claim)
                self._invite(claim)
        except Stopped:
            log.info("run %s: left (%s)", self._run_id, "worker ends" if self._station.stopping.is_set() else "over")
        finally:
            self._end_engine()
            self._station.warm_up()

    def _is_for_us(self) -> bool:
        try:
            spec = RunSpec.model_validate(self._store.runs.get(self._run_id).spec)
            inspect = self._store.results.payloads(self._run_id).get(_INSPECT)
        except NotFound:
            return False
        fixed = inspect.execution.get("device") if isinstance(inspect, InspectPayload) else None
        device = str(fixed or spec.execution.device)
        others = [worker for worker in self._store.capabilities.workers() if "runs" in worker.queues]
        needs = bool(named_files(spec.model_dump(mode="json")))
        mine = can_take(device, self._station.facts, opens_uploads=needs)
        return mine or not any(can_take(device, worker, opens_uploads=needs) for worker in others)

    def _complete(self, claim: Claim) -> None:
        until = time.monotonic() + self._station.settings.run_time_limit_s
        try:
            pending = self._what_the_store_lacks(claim)
            if pending and (blocker := self._schedule.blocked_by(claim)) is not None:
                for key in pending:
                    self._schedule.skip(claim, key, f"{blocker} has no result")
                return
            while pending:
                try:
                    self._compute(claim, pending, until)
                except OverLimit as limit:
                    self._schedule.fail(claim, pending[0], error_body(limit))
                    self._end_engine()
                pending = self._schedule.pending(claim)
                self._check(claim)
        except EngineDied as death:
            log.warning("run %s, %s: %s", self._run_id, claim.unit.id, death.message)
            self._end_engine()
            self._schedule.release(claim, crashed=True)
            self._station.stopping.wait(_AFTER_CRASH_S)
        except Stopped:
            self._end_engine()
            if self._station.stopping.is_set():
                self._schedule.release(claim, crashed=False)
                announce_run(self._store, self._run_id)
            raise

    def _what_the_store_lacks(self, claim: Claim) -> list[StageKey]:
        pending = self._schedule.pending(claim)
        if pending == [_INSPECT]:
            return pending
        inspect = self._schedule.known(claim)[_INSPECT]
        assert isinstance(inspect, InspectPayload)
        return [key for key in pending if self._schedule.reuse(claim, key, inspect) == "absent"]

    def _compute(self, claim: Claim, pending: Sequence[StageKey], until: float) -> None:
        try:
            engine = self._opened_engine(claim)
        except QuantLensError as error:
            if isinstance(error, EngineDied):
                raise
            for key in pending:
                self._schedule.fail(claim, key, error_body(error))
            return
        known = {str(key): payload.model_dump(mode="json") for key, payload in self._schedule.needed(claim).items()}
        fingerprints = self._fingerprints(claim, pending)
        folders = {str(key): engine.checkpoint(name) for key, name in fingerprints.items()}
        stages = [str(key) for key in pending]
        engine.send({"op": "unit", "stages": stages, "known": known, "checkpoints": folders})
        commits = _Commits(self._station, claim, pending, fingerprints)
        for message in answers(engine, until=until, is_stopped=lambda: self._is_stopped(claim)):
            commits.take(message)
            if message is not None and message["type"] == "unit_done":
                break
        commits.fail_the_rest()

    def _opened_engine(self, claim: Claim) -> Engine:
        if self._engine is None:
            files = local_files(self._store, claim.spec)
            inspect = self._schedule.known(claim).get(_INSPECT)
            request = trust.foreign_code(self._station.settings) | {
                "op": "open",
                "spec": claim.spec.model_dump(mode="json"),
                "files": files,
                "execution": inspect.execution if isinstance(inspect, InspectPayload) else None,
            }
            engine = self._station.take_engine()
            try:
                engine.send(request)
            except QuantLensError:
                engine.end()
                raise
            self._engine = engine
        return self._engine

    def _fingerprints(self, claim: Claim, pending: Sequence[StageKey]) -> dict[StageKey, str]:
        inspect = self._schedule.known(claim).get(_INSPECT)
        if not isinstance(inspect, InspectPayload):
            return {}
        return {key: stage_fingerprint(claim.spec, inspect, key) for key in pending}

    def _end_engine(self) -> None:
        if self._engine is not None:
            self._engine.end()
            self._engine = None

    def _invite(self, claim: Claim) -> None:
        """Ask idle workers to join for what has become free: the variants after ``inspect``, the pieces of a plane
        after the variants that it goes through. A worker that comes for nothing goes again."""
        others = self._schedule.claimable(claim) - 1  # this worker takes one itself
        if others < 1:
            return
        workers = self._store.capabilities.workers()
        idle = sum(w.state == "idle" and "runs" in w.queues and w.id != self._station.id for w in workers)
        for _ in range(min(idle, others)):
            announce_run(self._store, self._run_id)

    def _is_stopped(self, claim: Claim) -> bool:
        return claim.over is not None or self._station.stopping.is_set()

    def _check(self, claim: Claim) -> None:
        if self._is_stopped(claim):
            raise Stopped


def _check_subject(spec: RunSpec, payload: Record) -> None:
    """What was measured is what was asked for: a process that runs a file's code may say anything, and the results of
    others are found by these hashes.

    Raises:
        ValueError: it names another file.
    """
    if not isinstance(payload, InspectPayload):
        return
    for asked, told in ((spec.model.file, payload.model.sha256), (spec.data.file, payload.data.sha256)):
        if asked is not None and asked != told:
            raise ValueError(f"it tells of the file {told}, not of {asked}")


def _told_error(message: dict[str, Any]) -> ErrorBody:
    try:
        return checked_error(message)
    except InternalFault as fault:
        return error_body(fault)


class _Commits:
    """The stages of a unit, ended one after the other as the engine answers."""

    def __init__(
        self, station: Station, claim: Claim, pending: Sequence[StageKey], fingerprints: Mapping[StageKey, str]
    ) -> None:
        self._schedule = station.schedule
        self._checkpoints = station.checkpoints
        self._fingerprints = fingerprints
        self._worker = station.id
        self._claim = claim
        self._left = list(pending)
        self._began = time.monotonic()
        self._reported = 0.0
        self._news: StageProgress | None = None

    def take(self, message: dict[str, Any] | None) -> None:
        """One answer of the engine, or its silence (then news that was held back goes out).

        Raises:
            EngineDied: its messages are not those of an engine.
        """
        try:
            self._take(message)
        except (LookupError, TypeError, ValueError) as error:
            raise EngineDied(f"the engine process broke the protocol ({type(error).__name__})") from error

    def _take(self, message: dict[str, Any] | None) -> None:
        kind = None if message is None else message["type"]
        if message is not None and kind == "progress":
            self._note(message)
        elif message is not None and kind in {"result", "failed"}:
            key = StageKey.parse(message["stage"])
            if key in self._left:
                self._news = None
                self._end(key, message)
        self._report()

    def fail_the_rest(self) -> None:
        """What the engine has passed over has no result."""
        for key in self._left:
            self._schedule.fail(self._claim, key, error_body(InternalFault(f"the engine gave no result for {key}")))

    def _end(self, key: StageKey, message: dict[str, Any]) -> None:
        elapsed_s = time.monotonic() - self._began
        if message["type"] == "failed":
            self._schedule.fail(self._claim, key, _told_error(message), elapsed_s)
        else:
            try:
                payload = PAYLOADS[key.kind].model_validate(message["payload"])
                _check_subject(self._claim.spec, payload)
            except (LookupError, ValueError, RecursionError) as error:
                log.error("%s: the engine's answer is not a result: %s", key, error)
                fault = InternalFault(f"the engine's answer for {key} is not a result", code="invalid_result")
                self._schedule.fail(self._claim, key, error_body(fault), elapsed_s)
            else:
                self._schedule.commit(self._claim, key, payload, elapsed_s)
        if key in self._fingerprints:
            self._checkpoints.forget(self._fingerprints[key])
        self._left.remove(key)
        self._began = time.monotonic()

    def _note(self, message: dict[str, Any]) -> None:
        key = StageKey.parse(message["stage"])
        if key in self._left:
            self._news = StageProgress(
                stage=key.kind, variant=key.variant, part=key.part, state="running", done=message["done"],
                total=message["total"],
                note=str(message.get("note", ""))[:200], worker=self._worker,
                elapsed_s=round(time.monotonic() - self._began, 3),
            )  # fmt: skip

    def _report(self) -> None:
        now = time.monotonic()
        if self._news is not None and now - self._reported >= _REPORT_EVERY_S:
            self._schedule.report(self._claim, self._news)
            self._reported, self._news = now, None
