"""A fetch: look, choose, ask whether there is room, download, make one file, store it; then it is like any upload."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from quant_lens_engine.errors import InputError, QuantLensError
from worker.hub.archive import one_file
from worker.hub.choice import chosen_files
from worker.hub.names import check_asked
from worker.hub.remote import HubUnreachable, Listing, download, look
from worker.queue import announce_job, inspect, take_in
from worker.small_job import hold
from worker.station import Station
from worker.store import FetchRecord, StoreUnavailable
from worker.store.room import check_room, is_disk_full
from worker.watch import OverLimit, Stopped, error_body

log = logging.getLogger(__name__)

_SAY_EVERY_S = 0.3
_PASSING = (HubUnreachable, OverLimit, StoreUnavailable)
_KEPT_S = 5 * 86400.0
"""Of what came of a fetch that was not finished."""


def fetch_model(station: Station, key: str) -> None:
    """Fetch a model, unless somebody does, or nobody wants it any more."""
    store, job = station.store, f"fetch:{key}"
    hold(station, job, lambda token: _Fetch(station, key, token).work(), lambda error: store.fetches.fail(key, error))
    record = store.fetches.find(key)
    if record is not None and record.state == "waiting" and store.jobs.add(job):  # asked again just before its end
        announce_job(store, job)


class _Fetch:
    """One fetch in this worker. Files come into ``hub/<key>/<commit>``, where the next worker finds them."""

    def __init__(self, station: Station, key: str, token: str) -> None:
        self._station, self._store, self._settings = station, station.store, station.settings
        self._key, self._token = key, token
        self._folder = self._settings.hub_dir.absolute() / key
        self._until = time.monotonic() + self._settings.hub_time_limit_s
        self._finished_bytes = 0
        self._said_at = 0.0

    def work(self) -> None:
        """All of it; how it ended is in the record."""
        self._sweep()
        record = self._store.fetches.find(self._key)
        if record is None or record.has_ended:
            return
        try:
            self._fetch(record)
            self._clear()
        except Stopped:
            if self._store.fetches.find(self._key) is None:
                self._clear()
            raise
        except QuantLensError as error:
            log.info("fetch of %s: %s", record.repo, error.message)
            if not isinstance(error, _PASSING):  # else the next try goes on with what is here
                self._clear()
            self._store.fetches.fail(self._key, error_body(error))

    def at(self, have_bytes: int) -> None:
        """So much of the file that is coming is here (see :class:`worker.hub.remote.Watcher`)."""
        self._look_on(self._finished_bytes + have_bytes)

    def pause(self, seconds: float) -> None:
        """Before another try."""
        self._station.stopping.wait(seconds)
        self._said_at = 0.0
        self._look_on(None)

    def _fetch(self, record: FetchRecord) -> None:
        fetches = self._store.fetches
        check_asked(self._settings, record.repo, record.revision)  # by this machine's settings and packages
        fetches.change(self._key, state="running")
        listing = look(record.repo, record.revision)
        fetches.change(self._key, commit=listing.commit)
        known = fetches.remembered(record.repo, listing.commit)
        file = None if known is None else self._store.files.find(known)
        if file is not None:
            self._store.files.need([file.sha256])
            if file.inspection_state == "failed":
                inspect(self._store, file.sha256)
            size, name, sha256 = file.size_bytes, file.filename, file.sha256
        else:
            size, name, sha256 = self._bring(record, listing)
            fetches.remember(record.repo, listing.commit, sha256)
        fetches.change(self._key, state="done", sha256=sha256, filename=name, bytes_done=size, bytes_total=size)

    def _bring(self, record: FetchRecord, listing: Listing) -> tuple[int, str, str]:
        names = chosen_files(listing.sizes)
        total = sum(listing.sizes[name] for name in names)
        self._check_room(record, total, disk_bytes=2 * total)  # the parts, and the file that is made of them
        self._store.fetches.change(self._key, bytes_total=total)
        with _telling_disk_full():
            folder = self._folder / listing.commit
            folder.mkdir(parents=True, exist_ok=True)
            self._download(record.repo, listing, names, folder)
            path, sha256 = one_file(folder, names, listing.sha256, lambda: self._look_on(None))
            self._check_room(record, path.stat().st_size, disk_bytes=1)  # others may have filled it meanwhile
            filename = _filename(record.repo, listing.commit, path.suffix)
            size = path.stat().st_size
            take_in(self._store, path, sha256, filename, record.owner)
        return size, filename, sha256

    def _download(self, repo: str, listing: Listing, names: Sequence[str], folder: Path) -> None:
        for name in names:
            size = listing.sizes[name]
            download(repo, listing.commit, name, size, folder / name, self)
            self._finished_bytes += size
        self._said_at = 0.0
        self._look_on(self._finished_bytes)

    def _check_room(self, record: FetchRecord, size: int, disk_bytes: int) -> None:
        check_room(
            self._store.files,
            self._settings,
            record.owner,
            size,
            lambda owner: self._store.fetches.on_the_way(owner, besides=self._key),
            disk_bytes,
        )

    def _look_on(self, done_bytes: int | None) -> None:
        """Say how far it is, a few times a second, and learn whether to go on.

        Raises:
            Stopped: the worker is to end, the fetch was cancelled, or another worker has it.
            OverLimit: ``time_limit``.
        """
        if self._station.stopping.is_set():
            raise Stopped
        now = time.monotonic()
        if now - self._said_at < _SAY_EVERY_S:
            return
        self._said_at = now
        if not self._store.jobs.renew(f"fetch:{self._key}", self._token, self._settings.lease_s):
            raise Stopped
        if now > self._until:
            raise OverLimit(
                "fetching took longer than this server allows",
                hint="fetch it again: what came is kept; or ask an administrator to raise QUANT_LENS_HUB_TIME_LIMIT_S",
                code="time_limit",
            )
        if done_bytes is not None:
            self._store.fetches.change(self._key, bytes_done=done_bytes)

    def _clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what came of fetches that nobody has gone on with for days."""
        limit = time.time() - _KEPT_S
        for folder in self._folder.parent.glob("*"):
            with suppress(FileNotFoundError):  # another worker is at it
                last = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
                if folder != self._folder and last < limit:
                    shutil.rmtree(folder, ignore_errors=True)


def _filename(repo: str, commit: str, suffix: str) -> str:
    """``owner--name@0123abcd.zip``."""
    return f"{repo.replace('/', '--')}@{commit[:8]}{suffix}"


@contextmanager
def _telling_disk_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise InputError(
            "the server's disk is full", hint="an administrator makes room; then fetch it again", code="disk_full"
        ) from None
