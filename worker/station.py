"""A worker process' own place: its identity, its heartbeat, its idle engine process, and the order to stop."""

from __future__ import annotations

import compileall
import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import Capabilities, WorkerFacts
from worker import chores, sandbox, trust
from worker.checkpoints import Checkpoints
from worker.engine import Engine
from worker.file_sweep import LOOK_EVERY_S, FileSweep
from worker.hub import leftovers
from worker.reaper import Reaper
from worker.schedule import Claim, Schedule
from worker.settings import Settings
from worker.spare import Spare
from worker.store import Store, StoreUnavailable, open_store
from worker.store.capabilities import FETCH_QUEUE
from worker.store.clock import iso, server_time

log = logging.getLogger(__name__)

_TICK_S = 1.0
_BEAT_EVERY = 3
_ENGINE_START_S = 120.0
_DEAF_S = 7.0
_AFTER_THE_START_S = 4.0
_SWEEP_EVERY_S = 15.0


class Station:
    """What the tasks of one worker process share. It works on one job at a time."""

    def __init__(self, settings: Settings, queues: Sequence[str]) -> None:
        self.settings = settings
        self.stopping = threading.Event()
        self.store: Store = open_store(settings, self.stopping.is_set)  # a worker waits for Redis to come back
        self.id = f"{socket.gethostname()}-{queues[0]}-{os.getpid()}-{secrets.token_hex(2)}"
        self.schedule = Schedule(self.store, self.id)
        self.facts = WorkerFacts(
            id=self.id,
            hostname=socket.gethostname(),
            queues=list(queues),
            devices=["cpu"],
            cores=os.cpu_count() or 1,
            memory_bytes=sandbox.machine_memory_bytes(),
        )
        self._jobs_dir = settings.jobs_dir.absolute() / self.id
        self.checkpoints = Checkpoints(settings)
        self._reaper = Reaper(self.store, self.id)
        self._held: Claim | tuple[str, str] | None = None
        self._deaf_since: float | None = None
        self._spare = Spare(settings, self._jobs_dir, looks_at_files="inspect" in queues)
        self._computes = self.facts.queues != [FETCH_QUEUE]  # else no engine process, and no walls
        if self._computes:
            threading.Thread(target=self._survey_walls, daemon=True, name="walls").start()  # while Celery comes up

    def open(self) -> None:
        """Begin to beat, and find out (beside the first messages) what the engine can do."""
        self._remove_leftovers()
        self.checkpoints.sweep()
        with contextlib.suppress(StoreUnavailable):
            self.facts.started_at = iso(server_time(self.store.client)) or ""
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()
        if self._computes:
            threading.Thread(target=self._record_capabilities, daemon=True, name="capabilities").start()
        chores.start("files", FileSweep(self.store, self.id).take_turn, LOOK_EVERY_S, self.stopping)
        if FETCH_QUEUE in self.facts.queues:
            chores.start("leftovers", lambda: leftovers.sweep(self.store), _SWEEP_EVERY_S, self.stopping)

    def close(self) -> None:
        """End the idle engine process and leave the list of workers."""
        self.stopping.set()
        self._spare.end()
        sandbox.remove_tree(self._jobs_dir)
        with contextlib.suppress(StoreUnavailable):
            self.store.capabilities.leave(self.id)

    def take_engine(self) -> Engine:
        """A fresh engine process for one job, the idle one where there is one. Who takes it ends it."""
        return self._spare.take()

    def warm_up(self) -> None:
        """Start the engine process of the next job, which then need not wait for the imports."""
        if not self.stopping.is_set():
            self._spare.prepare()

    @contextlib.contextmanager
    def holding(self, held: Claim | tuple[str, str]) -> Iterator[None]:
        """Have the heartbeat renew a claim, or a job with its token, for the length of a block."""
        self._held = held
        self.facts.state, self.facts.run_id = "busy", held.run_id if isinstance(held, Claim) else None
        try:
            yield
        finally:
            self._held = None
            self.facts.state, self.facts.run_id = "idle", None

    def _survey_walls(self) -> None:
        survey = sandbox.survey(self.settings)
        self.facts.sandbox = survey.facts
        self.facts.refuses_uploads = survey.shortfall(self.settings.sandbox_minimum)
        log.info("sandbox: %s", ", ".join(survey.facts))
        for name, reason in survey.missing.items():
            log.info("sandbox without %s: %s", name, reason)
        self.facts.problems = self._problems()
        for problem in self.facts.problems:
            log.error("%s", problem)

    def _problems(self, *more: str) -> list[str]:
        lacking = sandbox.survey(self.settings).problem(self.settings.sandbox_minimum)
        return [*filter(None, (lacking, trust.problem(self.settings))), *more]

    def _beat(self) -> None:
        tick = 0
        while not self.stopping.wait(_TICK_S):
            try:
                self._renew()
                if tick % _BEAT_EVERY == 0:
                    self.store.capabilities.beat(self.facts)
                    self._reaper.sweep()
                    self._hear()
                    self._spare.keep_up()
            except StoreUnavailable:
                log.warning("the store does not answer; trying again")
            except Exception:
                log.exception("heartbeat")
            tick += 1

    def _hear(self) -> None:
        """Begin anew when messages wait and none comes.

        An acknowledgement that is lost with the connection stays in kombu's count of reserved messages (5.7), so that
        a consumer of one message at a time waits for ever. It also shortens Celery's pauses after an outage.
        """
        lengths = self.store.capabilities.queue_lengths()
        if self._held is not None or not any(lengths[queue] for queue in self.facts.queues):
            self._deaf_since = None
            return
        self._deaf_since = self._deaf_since or time.monotonic()
        if time.monotonic() - self._deaf_since > _DEAF_S:
            log.error("messages wait and none comes: the worker begins anew")
            self.close()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _renew(self) -> None:
        held = self._held
        if isinstance(held, Claim):
            self.schedule.renew(held)
        elif held is not None:
            self.store.jobs.renew(*held, self.settings.lease_s)

    def _record_capabilities(self) -> None:
        pause_s = 1.0
        compileall.compile_dir(str(sandbox.ENGINE), quiet=2)  # engine processes write nothing, so not this either
        if self.store.capabilities.is_recorded():  # by an earlier start: let web page and first job have the processor
            self.stopping.wait(_AFTER_THE_START_S)
        while not self.stopping.is_set():
            if self._held is not None:
                self.stopping.wait(_TICK_S)
                continue
            try:
                with self._spare.asked() as engine:
                    facts = self._ask_capabilities(engine)
                self._write_capabilities(facts)
                return
            except QuantLensError as error:
                log.warning("what the engine can do is not known yet: %s", error.message)
                self.facts.problems = self._problems(error.message)
            self.stopping.wait(pause_s)
            pause_s = min(2 * pause_s, 60.0)

    def _ask_capabilities(self, engine: Engine) -> dict[str, object]:
        engine.send({"op": "capabilities"} | trust.foreign_code(self.settings))
        deadline = time.monotonic() + _ENGINE_START_S
        while time.monotonic() < deadline and not self.stopping.is_set():
            message = engine.receive(0.2)
            if message is not None and message["type"] == "capabilities":
                return message
        raise QuantLensError("the engine process did not answer in time")

    def _write_capabilities(self, message: dict[str, object]) -> None:
        devices, problems = message.get("devices"), message.get("problems")
        self.facts.devices = list(map(str, devices)) if isinstance(devices, list) else ["cpu"]
        self.facts.problems = self._problems(*(map(str, problems) if isinstance(problems, list) else ()))
        facts = Capabilities.model_validate(message["facts"])
        facts.limits = {"max_upload_bytes": self.settings.max_upload_bytes, "quota_bytes": self.settings.quota_bytes}
        self.store.capabilities.write(facts)
        self.store.capabilities.beat(self.facts)

    def _remove_leftovers(self) -> None:
        """Folders of workers of this machine that are no more."""
        folder = self._jobs_dir.parent
        for old in folder.glob(f"{socket.gethostname()}-*-*-*") if folder.is_dir() else ():
            pid = old.name.rsplit("-", 2)[1]
            if pid.isdigit() and not _is_running(int(pid)):
                self.checkpoints.rescue(old)
                sandbox.remove_tree(old)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
