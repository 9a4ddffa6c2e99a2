"""Nothing is forgotten: what a dead worker held goes back, and what no message speaks of is announced again."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time

from quant_lens_engine.schema import ErrorBody
from worker.questions import give_up
from worker.queue import announce_job, announce_run
from worker.store import Store, keys
from worker.store.capabilities import FETCH_QUEUE, QUEUES

log = logging.getLogger(__name__)

_HELD_MS = 8000
_GRACE_S = 4.0
"""A message that a worker has taken from its queue is followed by a claim within milliseconds; this is much longer."""
_LOST = ErrorBody(
    code="worker_lost",
    message="workers died or fell silent again and again at this work",
    hint="look at the worker's log, then try again: what is finished is kept",
)


class Reaper:
    """One sweep every few seconds, by one worker at a time."""

    def __init__(self, store: Store, worker_id: str) -> None:
        self._store = store
        self._worker_id = worker_id
        self._idle_since: dict[str, float] = {}

    def sweep(self) -> None:
        """Look at every run and job that has not ended."""
        if not self._is_my_turn():
            return
        leases_count = self._leases_count()
        waiting = self._messages()
        seen: set[str] = set()
        idle_workers = self._has_idle_workers()
        for run_id in self._store.runs.active():
            retries, error = self._store.settings.retries, _LOST.model_dump_json()
            expired, held, free = self._store.scripts.run("sweep", run_id, int(leases_count), retries, error)
            if expired:
                log.warning("run %s: %d claim(s) of silent workers taken back", run_id, expired)
            if free and (not held or idle_workers) and run_id not in waiting:
                seen.add(run_id)
                if expired or self._has_long_been_idle(run_id):
                    announce_run(self._store, run_id)
        for job, is_held in self._store.jobs.unfinished().items() if leases_count else ():
            self._sweep_job(job, is_held, waiting, seen)
        self._idle_since = {subject: since for subject, since in self._idle_since.items() if subject in seen}

    def _sweep_job(self, job: str, is_held: bool, waiting: set[str], seen: set[str]) -> None:
        jobs = self._store.jobs
        expired = is_held and jobs.expire(job)
        if expired and jobs.attempts(job) > self._store.settings.retries:
            give_up(self._store, job, _LOST)
            jobs.drop(job)
        elif (expired or not is_held) and job.partition(":")[2] not in waiting:
            seen.add(job)
            if expired or self._has_long_been_idle(job):
                announce_job(self._store, job)

    def _has_long_been_idle(self, subject: str) -> bool:
        since = self._idle_since.setdefault(subject, time.monotonic())
        if time.monotonic() - since < _GRACE_S:
            return False
        self._idle_since[subject] = time.monotonic()
        return True

    def _is_my_turn(self) -> bool:
        client = self._store.client
        if client.set(keys.REAPER, self._worker_id, nx=True, px=_HELD_MS):
            return True
        if client.get(keys.REAPER) != self._worker_id:
            return False
        return bool(client.pexpire(keys.REAPER, _HELD_MS))

    def _leases_count(self) -> bool:
        """Not while Redis has just come back: nobody could renew a lease while it was away."""
        uptime_s = int(self._store.client.info("server")["uptime_in_seconds"])
        return uptime_s > self._store.settings.lease_s

    def _has_idle_workers(self) -> bool:
        workers = self._store.capabilities.workers()
        return any(worker.state == "idle" and "runs" in worker.queues for worker in workers)

    def _messages(self) -> set[str]:
        """What the messages in the queues speak of: run ids, file hashes, keys of checks and fetches."""
        with self._store.client.pipeline(transaction=False) as pipe:
            for queue in (*QUEUES, FETCH_QUEUE):
                pipe.lrange(queue, 0, -1)
            return {subject for messages in pipe.execute() for subject in map(_subject, messages) if subject}


def _subject(message: str) -> str | None:
    """The first argument of a Celery message as kombu keeps it in Redis: JSON around base64 of JSON."""
    try:
        arguments = json.loads(base64.b64decode(json.loads(message)["body"]))[0]
        return str(arguments[0])
    except (ValueError, KeyError, IndexError, TypeError, binascii.Error):
        return None
