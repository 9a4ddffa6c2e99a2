"""Small jobs that are not finished: each claimed by one worker at a time, with a lease."""

from __future__ import annotations

import json
from collections.abc import Mapping

from worker.store import keys
from worker.store.connection import Client, Scripts


class Jobs:
    """Unfinished small jobs, named ``inspect:<sha256>``, ``check:<key>`` or ``fetch:<key>``."""

    def __init__(self, client: Client, scripts: Scripts) -> None:
        self._client = client
        self._script = scripts.job

    def add(self, job: str) -> bool:
        """There is something to do; False where that was known."""
        return self._script("add", job)

    def claim(self, job: str, token: str, lease_s: float) -> bool:
        """Take the job; False where it is finished, unknown, or somebody else's."""
        return self._script("claim", job, token, lease_s)

    def renew(self, job: str, token: str, lease_s: float) -> bool:
        """Keep it for another lease."""
        return self._script("renew", job, token, lease_s)

    def release(self, job: str, token: str, *, crashed: bool) -> bool:
        """Give it back; a crash counts as an attempt."""
        return self._script("crash" if crashed else "release", job, token)

    def expire(self, job: str) -> bool:
        """Take it back from a holder whose lease has run out, which counts as an attempt; False where none has."""
        return self._script("expire", job)

    def finish(self, job: str, token: str) -> bool:
        """It is done."""
        return self._script("finish", job, token)

    def drop(self, job: str) -> None:
        """Nobody wants it any more, or its attempts are spent."""
        self._script("drop", job)

    def attempts(self, job: str) -> int:
        """How often a worker or an engine has died at it."""
        known = self._client.hget(keys.JOBS, job)
        return 0 if known is None else int(json.loads(known)["attempts"])

    def unfinished(self) -> Mapping[str, bool]:
        """All of them, and whether somebody holds each."""
        known = sorted(self._client.hgetall(keys.JOBS).items())
        return {job: bool(json.loads(facts)["token"]) for job, facts in known}
