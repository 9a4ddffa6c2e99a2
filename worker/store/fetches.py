"""Fetches from the hub: what is asked for, how far it is, what it has become. Kept for a day after their end."""

from __future__ import annotations

from typing import Any, Literal

from quant_lens_engine.errors import InputError
from quant_lens_engine.schema import ErrorBody, Record, digest
from worker.store import keys
from worker.store.connection import Client
from worker.store.errors import NotFound

_KEPT_S = 86400
_COMMITS_KEPT_S = 90 * 86400
_MOST_AT_ONCE = 4
"""Of one owner: a worker brings one after the other, and others want theirs too."""


class FetchRecord(Record):
    """One model that comes from the hub.

    Attributes:
        key: the same for the same question of the same owner.
        repo: its id there, ``owner/name``.
        revision: the branch, tag or commit that was asked for.
        owner: who asked, and whose the file will be.
        commit: what the revision stands for; null until the hub has said it.
        bytes_done: of ``bytes_total`` that are here; the total is null until the hub has said it.
        bytes_kept: that stayed on the disk when it had ``failed``, for another try.
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
    bytes_kept: int = 0
    filename: str | None = None
    sha256: str | None = None
    error: ErrorBody | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.state in {"done", "failed"}

    @property
    def promised_bytes(self) -> int:
        """Room that is not to be given to anybody else: for what it brings, or for what is kept of it."""
        return max(self.bytes_kept, 0 if self.has_ended else self.bytes_total or 0)


class Fetches:
    """Fetches by their key, and what commits have become."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def begin(self, repo: str, revision: str, owner: str) -> FetchRecord:
        """The fetch of this question; a new one where there is none, or where the last one has ended.

        Raises:
            InputError: ``too_many_fetches``: the owner has as many under way as anybody may.
        """
        key = digest({"fetch": repo, "revision": revision, "owner": owner})
        known = self.find(key)
        if known is not None and not known.has_ended:
            return known
        under_way = sum(not one.has_ended for one in self.of(owner))
        if under_way >= _MOST_AT_ONCE:
            raise InputError(
                f"{owner} has {under_way} models on their way from the hub already",
                hint="wait until one of them is here, or cancel one",
                code="too_many_fetches",
            )
        kept = 0 if known is None else known.bytes_kept
        record = FetchRecord(key=key, repo=repo, revision=revision, owner=owner, bytes_kept=kept)
        self._client.sadd(keys.FETCHES, key)
        self._put(record)
        return record

    def of(self, owner: str | None = None) -> list[FetchRecord]:
        """The fetches of an owner, or everybody's, that are under way or not long over."""
        known = sorted(self._client.smembers(keys.FETCHES))
        if not known:
            return []
        texts = self._client.mget([keys.fetch(key) for key in known])
        gone = [key for key, text in zip(known, texts, strict=True) if text is None]
        if gone:
            self._client.srem(keys.FETCHES, *gone)
        records = [FetchRecord.model_validate_json(text) for text in texts if text is not None]
        return [one for one in records if owner in (None, one.owner)]

    def find(self, key: str) -> FetchRecord | None:
        """The fetch, or None."""
        known = self._client.get(keys.fetch(key))
        return None if known is None else FetchRecord.model_validate_json(known)

    def get(self, key: str, owner: str | None = None) -> FetchRecord:
        """The fetch.

        Args:
            key: its name.
            owner: of whom it must be; None: of anybody.

        Raises:
            NotFound: there is no such fetch of this owner, it was cancelled, or has been over for a day.
        """
        record = self.find(key)
        if record is None or owner not in {None, record.owner}:
            raise NotFound(
                f"there is no fetch {key[:64]!r}", hint="it was cancelled, or is long over: ask for it again"
            )
        return record

    def change(self, key: str, **changes: Any) -> None:
        """Say how a fetch stands. One that was cancelled meanwhile stays cancelled."""
        record = self.find(key)
        if record is not None:
            self._put(record.model_copy(update=changes), xx=True)

    def fail(self, key: str, error: ErrorBody, bytes_kept: int = 0) -> None:
        """It has come to nothing; so much of it is kept for another try."""
        self.change(key, state="failed", error=error, bytes_kept=bytes_kept)

    def remove(self, key: str) -> None:
        """Forget it."""
        self._client.delete(keys.fetch(key))

    def promised_bytes(self, owner: str | None = None, besides: str = "") -> int:
        """What fetches, an owner's or everybody's, have been promised room for, but for the fetch ``besides``."""
        return sum(one.promised_bytes for one in self.of(owner) if one.key != besides)

    def remember(self, source: str, commit: str, sha256: str) -> None:
        """What a commit has become, so that it need not come again; ``source``: the repository, and on which hub."""
        self._client.set(keys.fetched(source, commit), sha256, ex=_COMMITS_KEPT_S)

    def remembered(self, source: str, commit: str) -> str | None:
        """The hash of the file that a commit has become; the file may be gone since."""
        known: str | None = self._client.get(keys.fetched(source, commit))
        return known

    def _put(self, record: FetchRecord, xx: bool = False) -> None:
        """One that waits or comes is kept however long that takes."""
        kept_s = _KEPT_S if record.has_ended else None
        self._client.set(keys.fetch(record.key), record.model_dump_json(), ex=kept_s, xx=xx)
