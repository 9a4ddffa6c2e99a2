"""Uploaded files: stored once under their SHA-256, through fsspec; what is known of them is in Redis."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from quant_lens_engine.schema import ErrorBody, Record
from worker.settings import Settings
from worker.store import keys
from worker.store.clock import iso, server_time
from worker.store.connection import Client
from worker.store.errors import Conflict, NotFound
from worker.store.jobs import Jobs

InspectionState = Literal["waiting", "running", "done", "failed"]


class FileRecord(Record):
    """An uploaded file. ``inspection`` is a ``CheckpointInspection`` or ``DataInspection`` once it is ``done``."""

    sha256: str
    size_bytes: int
    filename: str
    owner: str
    created_at: str
    inspection: dict[str, Any] | None = None
    inspection_state: InspectionState = "waiting"
    error: ErrorBody | None = None


class Files:
    """Every uploaded file of the server."""

    def __init__(self, client: Client, jobs: Jobs, settings: Settings) -> None:
        self._client = client
        self._jobs = jobs
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
        return _record(self._client.hgetall(keys.file(sha256)))

    def list(self, owner: str | None = None, kind: str | None = None) -> list[FileRecord]:
        """Files, newest first; ``kind`` is ``checkpoint`` or ``data``."""
        with self._client.pipeline(transaction=False) as pipe:
            for sha256 in self._client.zrevrange(keys.FILES, 0, -1):
                pipe.hgetall(keys.file(sha256))
            records = [record for record in map(_record, pipe.execute()) if record is not None]
        return [
            record
            for record in records
            if (owner is None or record.owner == owner)
            and (kind is None or (record.inspection or {}).get("kind") == kind)
        ]

    def used_bytes(self, owner: str) -> int:
        """What an owner's files take."""
        return sum(record.size_bytes for record in self.list(owner))

    def add(self, local_path: Path, sha256: str, filename: str, owner: str) -> FileRecord:
        """Move a file whose hash is known into the store. A file that is there already is kept, and so is its owner.

        The bytes are on the disk under their final name before the record says so.
        """
        if (present := self.find(sha256)) is not None and self._is_stored(sha256, present.size_bytes):
            local_path.unlink(missing_ok=True)
            return present
        size = local_path.stat().st_size
        self._move_in(local_path, sha256)
        now = server_time(self._client)
        fields = {
            "sha256": sha256,
            "size_bytes": str(size),
            "filename": filename,
            "owner": owner,
            "created_at": f"{now:.6f}",
            "inspection_state": "waiting",
        }
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(keys.file(sha256), mapping=fields)
            pipe.zadd(keys.FILES, {sha256: now})
            pipe.execute()
        return self.get(sha256)

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
        with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(keys.file(sha256))
            pipe.zrem(keys.FILES, sha256)
            pipe.execute()
        self._jobs.drop(f"inspect:{sha256}")
        if self._filesystem.exists(self._place(sha256)):
            self._filesystem.rm_file(self._place(sha256))
        (self._cache / sha256).unlink(missing_ok=True)

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


def _record(fields: Mapping[str, str]) -> FileRecord | None:
    if "sha256" not in fields:
        return None
    return FileRecord(
        sha256=fields["sha256"],
        size_bytes=int(fields["size_bytes"]),
        filename=fields["filename"],
        owner=fields["owner"],
        created_at=iso(fields["created_at"]) or "",
        inspection=json.loads(fields["inspection"]) if fields.get("inspection") else None,
        inspection_state=fields["inspection_state"],
        error=ErrorBody.model_validate_json(fields["error"]) if fields.get("error") else None,
    )
