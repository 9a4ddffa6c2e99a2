"""Uploaded files: stored once under their SHA-256, through fsspec; what is known of them is in Redis."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from redis.exceptions import LockError
from redis.lock import Lock

from quant_lens_engine.schema import ErrorBody
from worker.settings import Settings
from worker.store import keys
from worker.store.clock import server_time
from worker.store.connection import Client, Scripts
from worker.store.errors import Conflict, NotFound, StoreUnavailable
from worker.store.file_record import FileRecord, InspectionState, file_record

_TURN_S, _PATIENCE_S = 120.0, 60.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MARK = ".store"
"""A file in the folder of all files: which store's they are."""

_SLOWEST_BYTES_PER_S = 1e6
"""Of a file that is copied into a store elsewhere."""


class Files:
    """Every uploaded file of the server."""

    def __init__(self, client: Client, scripts: Scripts, settings: Settings) -> None:
        self._client = client
        self._scripts = scripts
        url = settings.files_url or str(settings.files_dir.absolute())
        self._filesystem, self._root = fsspec.core.url_to_fs(url)
        self._cache = settings.data_dir.absolute() / "cache"

    def get(self, sha256: str) -> FileRecord:
        """The file's record.

        Raises:
            NotFound: there is no such file.
        """
        record = self.find(sha256)
        if record is None:
            raise NotFound(f"there is no file {sha256[:64]}", hint="upload it first", code="file_not_found")
        return record

    def find(self, sha256: str) -> FileRecord | None:
        """The file's record, or None."""
        return file_record(self._client.hgetall(keys.file(sha256)))

    def list(self, owner: str | None = None, kind: str | None = None) -> list[FileRecord]:
        """Files, newest first; ``kind`` is ``checkpoint`` or ``data``."""
        with self._client.pipeline(transaction=False) as pipe:
            for sha256 in self._client.zrevrange(keys.FILES, 0, -1):
                pipe.hgetall(keys.file(sha256))
            records = [record for record in map(file_record, pipe.execute()) if record is not None]
        return [
            record
            for record in records
            if (owner is None or record.owner == owner)
            and (kind is None or (record.inspection or {}).get("kind") == kind)
        ]

    def used_bytes(self, owner: str | None = None) -> int:
        """What an owner's files take, or everybody's."""
        return sum(sum(sizes) for whose, sizes in self.sizes().items() if owner is None or whose == owner)

    def sizes(self) -> Mapping[str, Sequence[int]]:
        """Bytes of each file, by owner; what is known of the files beyond that is not read."""
        with self._client.pipeline(transaction=False) as pipe:
            for sha256 in self._client.zrange(keys.FILES, 0, -1):
                pipe.hmget(keys.file(sha256), "size_bytes", "owner")
            found = pipe.execute()
        sizes: dict[str, list[int]] = {}
        for size, whose in found:
            if whose is not None:  # None: removed meanwhile
                sizes.setdefault(whose, []).append(int(size or 0))
        return sizes

    def add(self, local_path: Path, sha256: str, filename: str, owner: str) -> FileRecord:
        """Move a file whose hash is known into the store. A file that is there already is kept, and so is its owner.

        The bytes are on the disk under their final name before the record says so.
        """
        size = local_path.stat().st_size
        try:
            with self._turn(sha256, size):
                return self._add(local_path, sha256, size, filename, owner)
        except LockError as error:
            raise StoreUnavailable(
                f"file {sha256[:12]} is being stored or removed by somebody else", hint="try once more in a minute"
            ) from error

    def need(self, files: Sequence[str]) -> Sequence[str]:
        """Note that something needs these files now, so that their time of grace begins anew; those that are gone."""
        if not files:
            return []
        places = self._scripts.files("need", [keys.file(sha256) for sha256 in files])
        return [files[int(place) - 1] for place in places]

    def local_path(self, sha256: str) -> Path:
        """Where the bytes can be read on this machine; fetched first where files are kept elsewhere.

        Raises:
            NotFound: the bytes are not there.
        """
        place = self._place(sha256)
        if not self._filesystem.exists(place):
            raise NotFound(f"the bytes of file {sha256} are not in the store", code="file_not_found")
        if isinstance(self._filesystem, LocalFileSystem):
            return Path(place)
        cached = self._cache / sha256
        if not cached.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            partial = cached.with_name(f"{sha256}.{os.getpid()}.partial")
            self._filesystem.get(place, str(partial))
            partial.replace(cached)
        return cached

    def delete(self, sha256: str) -> None:
        """Remove a file and what is known of it.

        Raises:
            NotFound: there is no such file.
            Conflict: a run names it; ``details["runs"]`` says which.
        """
        self.get(sha256)
        runs = sorted(self._client.smembers(keys.file_uses(sha256)))
        if runs:
            raise Conflict(
                f"{len(runs)} run(s) need this file", hint="delete those runs first", details={"runs": runs[:20]}
            )
        if not self._remove(sha256, needed_before=math.inf, is_asked_for=True):
            raise Conflict("a run has begun to need this file", hint="delete that run first")

    def remove_unneeded(self, grace_s: float, busy: Collection[str] = ()) -> Sequence[str]:
        """Remove the files that no run names, and that nothing has needed for ``grace_s``; their hashes.

        What is being inspected, and ``busy``, stays. A run that is created meanwhile either finds the file and keeps
        it, or is told that it is gone.
        """
        limit = server_time(self._client) - grace_s
        with self._client.pipeline(transaction=False) as pipe:
            known = self._client.zrange(keys.FILES, 0, -1)
            for sha256 in known:
                pipe.hmget(keys.file(sha256), "needed_at", "created_at")
                pipe.exists(keys.file_uses(sha256))
            answers = pipe.execute()
        idle = [
            sha256
            for sha256, times, is_named in zip(known, answers[0::2], answers[1::2], strict=True)
            if not is_named and sha256 not in busy and 0 < float(times[0] or times[1] or 0) <= limit
        ]
        return [sha256 for sha256 in idle if self._remove(sha256, needed_before=limit, is_asked_for=False)]

    def remove_strays(self, older_than_s: float) -> int:
        """Remove bytes on this machine's disk that no record speaks of: somebody died between two steps. How many.

        Files of another store, or of one whose records are lost, stay: they may be all that is left.
        """
        folders = [self._cache]
        if isinstance(self._filesystem, LocalFileSystem) and self._is_ours(Path(self._root)):
            folders += [path for path in Path(self._root).glob("??") if path.is_dir()]
        limit, removed = time.time() - older_than_s, 0
        for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
            sha256 = path.name.removeprefix(".").partition(".")[0]
            if not _SHA256.fullmatch(sha256):
                continue  # not ours
            with contextlib.suppress(FileNotFoundError, LockError):
                if path.stat().st_mtime < limit and not self._client.exists(keys.file(sha256)):
                    with self._turn(sha256, 0, patience_s=0.0):
                        if not self._client.exists(keys.file(sha256)):
                            path.unlink()
                            removed += 1
        return removed

    def set_inspection(
        self,
        sha256: str,
        state: InspectionState,
        inspection: Mapping[str, Any] | None = None,
        error: ErrorBody | None = None,
    ) -> None:
        """What a worker found in the file, or why it found nothing. Nothing happens if the file is gone."""
        fields = {
            "inspection_state": state,
            "inspection": "" if inspection is None else json.dumps(inspection),
            "error": "" if error is None else error.model_dump_json(),
        }
        if self._client.exists(keys.file(sha256)):
            self._client.hset(keys.file(sha256), mapping=fields)

    def is_writable(self) -> bool:
        """Whether a file could be stored now."""
        try:
            self._filesystem.makedirs(self._root, exist_ok=True)
            probe = f"{self._root}/.probe-{os.getpid()}"
            self._filesystem.pipe_file(probe, b"")
            self._filesystem.rm_file(probe)
        except OSError:
            return False
        return True

    def _add(self, local_path: Path, sha256: str, size: int, filename: str, owner: str) -> FileRecord:
        if (present := self.find(sha256)) is not None and self._is_stored(sha256, present.size_bytes):
            local_path.unlink(missing_ok=True)
            self.need([sha256])
            return present
        self._move_in(local_path, sha256)
        now = server_time(self._client)
        fields = {
            "sha256": sha256,
            "size_bytes": str(size),
            "filename": filename,
            "owner": owner,
            "created_at": f"{now:.6f}",
            "needed_at": f"{now:.6f}",
            "inspection_state": "waiting",
        }
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(keys.file(sha256), mapping=fields)
            pipe.zadd(keys.FILES, {sha256: now})
            pipe.execute()
        return self.get(sha256)

    def _remove(self, sha256: str, *, needed_before: float, is_asked_for: bool) -> bool:
        """Record and bytes, in one turn: the same bytes that arrive again meanwhile wait for its end."""
        named = [keys.file(sha256), keys.file_uses(sha256), keys.FILES, keys.JOBS]
        try:
            with self._turn(sha256, 0, patience_s=_PATIENCE_S if is_asked_for else 0.0):
                if not self._scripts.files("forget", named, sha256, needed_before, str(int(is_asked_for))):
                    return False
                if self._filesystem.exists(self._place(sha256)):
                    self._filesystem.rm_file(self._place(sha256))
                (self._cache / sha256).unlink(missing_ok=True)
        except LockError:  # it is being stored
            return False
        return True

    def _is_ours(self, root: Path) -> bool:
        """Whether the folder is marked as this store's. One without a mark becomes so while the store knows a file."""
        mark = root / _MARK
        if mark.is_file():
            return bool(mark.read_text().strip() == self._client.get(keys.FILES_ID))
        if not self._client.zcard(keys.FILES):
            return False
        self._client.set(keys.FILES_ID, secrets.token_hex(16), nx=True)
        mark.write_text(f"{self._client.get(keys.FILES_ID)}\n")
        return True

    def _turn(self, sha256: str, size: int, patience_s: float = _PATIENCE_S) -> Lock:
        """Held by who stores or removes these bytes; it ends by itself when its holder has died.

        Raises:
            LockError: somebody else has it, and for longer than ``patience_s``.
        """
        held_s = _TURN_S + size / _SLOWEST_BYTES_PER_S
        turn: Lock = self._client.lock(
            keys.file_turn(sha256), timeout=held_s, blocking=patience_s > 0, blocking_timeout=patience_s or None
        )
        return turn

    def _place(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _is_stored(self, sha256: str, size: int) -> bool:
        place = self._place(sha256)
        return bool(self._filesystem.exists(place) and self._filesystem.size(place) == size)

    def _move_in(self, local_path: Path, sha256: str) -> None:
        place = self._place(sha256)
        self._filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
        if not isinstance(self._filesystem, LocalFileSystem):
            self._filesystem.put_file(str(local_path), place)
            local_path.unlink()
            return
        final = Path(place)
        partial = final.with_name(f".{sha256}.partial")
        shutil.move(local_path, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.chmod(0o440)
        partial.replace(final)
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
