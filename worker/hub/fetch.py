"""A fetch: look, choose, ask whether there is room, download, make one file, store it; then it is like any upload."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from quant_lens_engine.errors import InputError, InternalFault, QuantLensError
from worker.hub import leftovers
from worker.hub.archive import one_file
from worker.hub.choice import chosen_files
from worker.hub.download import download
from worker.hub.listing import HubFile, Listing, look
from worker.hub.names import check_asked
from worker.queue import announce_job, inspect, take_in
from worker.room import check_room, is_disk_full
from worker.small_job import hold
from worker.station import Station
from worker.store import FetchRecord, FileRecord
from worker.watch import OverLimit, Stopped, error_body

log = logging.getLogger(__name__)

_SAY_EVERY_S = 0.3
_NO_ROOM = {"too_large", "quota_exceeded", "disk_full"}
"""What ends so leaves nothing: it would only take the room that is missing. All else goes on where it was."""


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
        self._until = time.monotonic() + self._settings.hub_time_limit_s
        self._finished_bytes = 0
        self._said_at = 0.0

    def work(self) -> None:
        """All of it; how it ended is in the record."""
        record = self._store.fetches.find(self._key)
        if record is None or record.has_ended:
            return
        try:
            with leftovers.folder_of(self._settings, self._key, patience_s=self._settings.lease_s) as folder:
                self._work(record, folder)
        except Stopped:
            raise
        except leftovers.FolderBusy as error:
            self._store.fetches.fail(self._key, error_body(error))
        except Exception:  # a repository is as foreign as an upload: its worst is this fetch's end, not the worker's
            log.exception("fetch of %s", record.repo)
            fault = InternalFault("fetching ended by a fault of this server", hint="the log of its worker says more")
            self._store.fetches.fail(self._key, error_body(fault))

    def _work(self, record: FetchRecord, folder: Path) -> None:
        try:
            self._fetch(record, folder)
            shutil.rmtree(folder, ignore_errors=True)
        except Stopped:
            if self._store.fetches.find(self._key) is None:  # cancelled
                shutil.rmtree(folder, ignore_errors=True)
            raise
        except QuantLensError as error:
            log.info("fetch of %s: %s, %.300r", record.repo, error.code, error.message)
            kept = 0 if error.code in _NO_ROOM else leftovers.bytes_in(folder)
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)
            self._store.fetches.fail(self._key, error_body(error), kept)

    def at(self, have_bytes: int) -> None:
        """So much of the file that is coming is here (see :class:`worker.hub.download.Watcher`)."""
        self._look_on(self._finished_bytes + have_bytes)

    def pause(self, seconds: float) -> None:
        """Before another try."""
        self._station.stopping.wait(seconds)
        self._said_at = 0.0
        self._look_on(None)

    def _fetch(self, record: FetchRecord, folder: Path) -> None:
        fetches = self._store.fetches
        check_asked(self._settings, record.repo, record.revision)  # by this machine's settings and packages
        fetches.change(self._key, state="running")
        listing = look(record.repo, record.revision, lambda: self._look_on(None))
        fetches.change(self._key, commit=listing.commit)
        file = self._known(listing)
        if file is not None:
            size, name, sha256 = file.size_bytes, file.filename, file.sha256
        else:
            size, name, sha256 = self._bring(record, listing, folder / listing.commit)
            fetches.remember(listing.source, listing.commit, sha256)
        whole = {"bytes_done": size, "bytes_total": size, "bytes_kept": 0}
        fetches.change(self._key, state="done", sha256=sha256, filename=name, **whole)

    def _known(self, listing: Listing) -> FileRecord | None:
        """The file that this commit has become before, if it is here and stays."""
        sha256 = self._store.fetches.remembered(listing.source, listing.commit)
        file = None if sha256 is None else self._store.files.find(sha256)
        if file is None or self._store.files.need([file.sha256]):  # being removed
            return None
        if file.inspection_state == "failed":
            inspect(self._store, file.sha256)
        return file

    def _bring(self, record: FetchRecord, listing: Listing, folder: Path) -> tuple[int, str, str]:
        files = {name: listing.files[name] for name in chosen_files(listing.files)}
        total = sum(file.size for file in files.values())
        # The parts, and the file that is made of them, less what is here of an earlier try.
        self._check_room(record, total, max(0, 2 * total - leftovers.bytes_in(folder)))
        self._store.fetches.change(self._key, bytes_total=total)
        with _telling_disk_full():
            for old in set(folder.parent.glob("*")) - {folder}:  # of a commit that the revision stood for before
                shutil.rmtree(old, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._download(record.repo, listing.commit, files, folder)
            path, sha256 = one_file(folder, files, lambda: self._look_on(None))
            size = path.stat().st_size
            self._check_room(record, size, disk_bytes=0)  # others may have filled it meanwhile
            filename = _filename(record.repo, listing.commit, path.suffix)
            take_in(self._store, path, sha256, filename, record.owner)
        return size, filename, sha256

    def _download(self, repo: str, commit: str, files: Mapping[str, HubFile], folder: Path) -> None:
        for name, file in files.items():
            download(repo, commit, name, file.size, folder / name, self)
            self._finished_bytes += file.size
        self._said_at = 0.0
        self._look_on(self._finished_bytes)

    def _check_room(self, record: FetchRecord, size: int, disk_bytes: int) -> None:
        check_room(self._store, record.owner, size, besides=self._key, disk_bytes=disk_bytes)

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
