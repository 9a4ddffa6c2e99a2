"""A worker process' own place: its identity, its heartbeat, its warm engine process, and the order to stop."""

from __future__ import annotations

import compileall
import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import Capabilities, WorkerFacts
from worker import sandbox
from worker.checkpoints import Checkpoints
from worker.engine import Engine
from worker.reaper import Reaper
from worker.schedule import Claim, Schedule
from worker.settings import Settings
from worker.store import Store, StoreUnavailable, open_store
from worker.store.clock import iso, server_time

log = logging.getLogger(__name__)

_TICK_S = 1.0
_BEAT_EVERY = 3
_ENGINE_START_S = 120.0
_DEAF_S = 7.0
_AFTER_THE_START_S = 4.0


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
            sandbox=list(sandbox.WALLS),
        )
        self._jobs_dir = settings.jobs_dir.absolute() / self.id
        self.checkpoints = Checkpoints(settings.checkpoints_dir.absolute())
        self._reaper = Reaper(self.store, self.id)
        self._held: Claim | tuple[str, str] | None = None
        self._deaf_since: float | None = None
        self._warm: Engine | None = None
        self._warm_lock = threading.Lock()

    def open(self) -> None:
        """Begin to beat, and find out (beside the first messages) what the engine can do."""
        self._remove_leftovers()
        self.checkpoints.sweep()
        with contextlib.suppress(StoreUnavailable):
            self.facts.started_at = iso(server_time(self.store.client)) or ""
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()
        threading.Thread(target=self._record_capabilities, daemon=True, name="capabilities").start()

    def close(self) -> None:
        """End the warm engine and leave the list of workers."""
        self.stopping.set()
        with self._warm_lock:
            if self._warm is not None:
                self._warm.end()
                self._warm = None
        shutil.rmtree(self._jobs_dir, ignore_errors=True)
        with contextlib.suppress(StoreUnavailable):
            self.store.capabilities.leave(self.id)

    def take_engine(self) -> Engine:
        """A fresh engine process for one job, the warm one where there is one. Who takes it ends it."""
        with self._warm_lock:
            engine, self._warm = self._warm, None
        if engine is not None and not engine.is_alive():
            engine.end()
            engine = None
        return engine or Engine(self.settings, self._jobs_dir)

    def warm_up(self) -> None:
        """Start the engine process of the next job, which then need not wait for the imports."""
        if not self.settings.warm_engine or self.stopping.is_set():
            return
        with self._warm_lock:
            if self._warm is None:
                self._warm = Engine(self.settings, self._jobs_dir)

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

    def _beat(self) -> None:
        tick = 0
        while not self.stopping.wait(_TICK_S):
            try:
                self._renew()
                if tick % _BEAT_EVERY == 0:
                    self.store.capabilities.beat(self.facts)
                    self._reaper.sweep()
                    self._hear()
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
                with self._warm_lock:
                    if self._warm is None:
                        self._warm = Engine(self.settings, self._jobs_dir)
                    facts = self._ask_capabilities(self._warm)
                self._write_capabilities(facts)
                return
            except QuantLensError as error:
                log.warning("what the engine can do is not known yet: %s", error.message)
                self.facts.problems = [error.message]
                with self._warm_lock:
                    if self._warm is not None:
                        self._warm.end()
                        self._warm = None
            self.stopping.wait(pause_s)
            pause_s = min(2 * pause_s, 60.0)

    def _ask_capabilities(self, engine: Engine) -> dict[str, object]:
        plugins = self.settings.plugins
        engine.send({"op": "capabilities", "plugins": None if plugins is None else str(plugins.absolute())})
        deadline = time.monotonic() + _ENGINE_START_S
        while time.monotonic() < deadline and not self.stopping.is_set():
            message = engine.receive(0.2)
            if message is not None and message["type"] == "capabilities":
                return message
        raise QuantLensError("the engine process did not answer in time")

    def _write_capabilities(self, message: dict[str, object]) -> None:
        devices, problems = message.get("devices"), message.get("problems")
        self.facts.devices = list(map(str, devices)) if isinstance(devices, list) else ["cpu"]
        self.facts.problems = list(map(str, problems)) if isinstance(problems, list) else []
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
                shutil.rmtree(old, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
