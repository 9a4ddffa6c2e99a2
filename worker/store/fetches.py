"""Fetches from the hub: what is asked for, how far it is, what it has become. Kept for a day after the last news."""

from __future__ import annotations

from typing import Any, Literal

from quant_lens_engine.schema import ErrorBody, Record, digest
from worker.store import keys
from worker.store.connection import Client
from worker.store.errors import NotFound
from worker.store.jobs import Jobs

_KEPT_S = 86400
_COMMITS_KEPT_S = 90 * 86400


class FetchRecord(Record):
    """One model that comes from the hub.

    Attributes:
        key: the same for the same question of the same owner.
        repo: its id there, ``owner/name``.
        revision: the branch, tag or commit that was asked for.
        owner: who asked, and whose the file will be.
        commit: what the revision stands for; null until the hub has said it.
        bytes_done: of ``bytes_total`` that are here; the total is null until the hub has said it.
        filename: of the file that it becomes.
        sha256: that file, once it is ``done``.
        error: why it ``failed``.
    """

    key: str
    repo: str
    revision: str
    owner: str
    commit: str | None = None
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    bytes_done: int = 0
    bytes_total: int | None = None
    filename: str | None = None
    sha256: str | None = None
    error: ErrorBody | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.state in {"done", "failed"}


class Fetches:
    """Fetches by their key, and what commits have become."""

    def __init__(self, client: Client, jobs: Jobs) -> None:
        self._client = client
        self._jobs = jobs

    def begin(self, repo: str, revision: str, owner: str) -> FetchRecord:
        """The fetch of this question; a new one where there is none, or where the last one has ended."""
        key = digest({"fetch": repo, "revision": revision, "owner": owner})
        known = self.find(key)
        if known is not None and not known.has_ended:
            return known
        record = FetchRecord(key=key, repo=repo, revision=revision, owner=owner)
        self._client.set(keys.fetch(key), record.model_dump_json(), ex=_KEPT_S)
        return record

    def find(self, key: str) -> FetchRecord | None:
        """The fetch, or None."""
        known = self._client.get(keys.fetch(key))
        return None if known is None else FetchRecord.model_validate_json(known)

    def get(self, key: str) -> FetchRecord:
        """The fetch.

        Raises:
            NotFound: there is no such fetch, it was cancelled, or nothing has been heard of it for a day.
        """
        record = self.find(key)
        if record is None:
            raise NotFound(
                f"there is no fetch {key[:64]!r}", hint="it was cancelled, or is long over: ask for it again"
            )
        return record

    def change(self, key: str, **changes: Any) -> None:
        """Say how a fetch stands. One that was cancelled meanwhile stays cancelled."""
        record = self.find(key)
        if record is not None:
            changed = record.model_copy(update=changes)
            self._client.set(keys.fetch(key), changed.model_dump_json(), ex=_KEPT_S, xx=True)

    def fail(self, key: str, error: ErrorBody) -> None:
        """It has come to nothing."""
        self.change(key, state="failed", error=error)

    def remove(self, key: str) -> None:
        """Forget it."""
        self._client.delete(keys.fetch(key))

    def on_the_way(self, owner: str | None = None, besides: str = "") -> int:
        """Bytes of fetches under way, an owner's or everybody's, but for the fetch ``besides``."""
        unfinished = (job.partition(":") for job in self._jobs.unfinished())
        records = [self.find(key) for kind, _, key in unfinished if kind == "fetch" and key != besides]
        return sum(one.bytes_total or 0 for one in records if one is not None and owner in (None, one.owner))

    def remember(self, repo: str, commit: str, sha256: str) -> None:
        """What a commit has become, so that it need not come again."""
        self._client.set(keys.fetched(repo, commit), sha256, ex=_COMMITS_KEPT_S)

    def remembered(self, repo: str, commit: str) -> str | None:
        """The hash of the file that a commit has become; the file may be gone since."""
        known: str | None = self._client.get(keys.fetched(repo, commit))
        return known
