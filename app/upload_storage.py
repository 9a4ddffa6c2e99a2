"""Where tus uploads lie while they arrive: written, hashed and counted block by block, never held in memory.

An upload is two files, ``<id>.part`` with its bytes and ``<id>.json`` with its sidecar. The length of the first *is*
the offset, so that an upload resumes where it stopped whatever was killed. SHA-256 goes on from block to block in
memory; its state cannot be stored, so after a restart the prefix is hashed once more from the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from tuspyserver.lock import LockTimeoutError, acquire_upload_lock
from tuspyserver.storage import TusStorage

from app.api.errors import Refusal
from worker.room import is_disk_full
from worker.store.upload_sidecar import Sidecar, read_sidecar

BLOCK_BYTES = 1 << 20
_KEPT_HASHES = 256
_LOCK_PATIENCE_S = 5.0
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class _Arrival:
    """An upload in this process' memory: the block that is being filled, and the hash of what is on disk."""

    block: bytearray = field(default_factory=bytearray)
    sha256: Any = field(default_factory=hashlib.sha256)
    hashed_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class UploadStorage(TusStorage):  # type: ignore[misc]  # tuspyserver's base class is untyped to us
    """tuspyserver's storage on a local folder, with a running SHA-256.

    Args:
        folder: on the same file system as the finished files, so that moving in is a rename.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owners: dict[str, str] = {}
        self._arrivals: OrderedDict[str, _Arrival] = OrderedDict()

    def begin(self, owner: str) -> str:
        """The id of an upload that ``owner`` is about to create."""
        upload_id = uuid4().hex
        self._owners[upload_id] = owner
        return upload_id

    def sidecar(self, upload_id: str) -> Sidecar | None:
        """What is known of an upload; None where there is none of that id."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            return None
        return read_sidecar(self._sidecar_path(upload_id))

    def part_path(self, upload_id: str) -> Path:
        """The file with the bytes."""
        return self._folder / f"{upload_id}.part"

    def received(self, upload_id: str) -> int:
        """Bytes that have arrived and are kept: the offset."""
        try:
            return self.part_path(upload_id).stat().st_size
        except FileNotFoundError:
            sidecar = self.sidecar(upload_id)
            return sidecar.length if sidecar and sidecar.sha256 else 0

    async def digest(self, upload_id: str) -> str:
        """SHA-256 of what has arrived, in hexadecimal."""
        arrival = self._arrival(upload_id)
        await asyncio.to_thread(self._catch_up, upload_id, arrival)
        return str(arrival.sha256.hexdigest())

    async def seal(self, upload_id: str, sha256: str) -> None:
        """Note that all bytes are there; from here on the upload is the file of that hash."""
        sidecar = self.sidecar(upload_id) or Sidecar()
        await asyncio.to_thread(self._write_sidecar, upload_id, sidecar.model_copy(update={"sha256": sha256}))

    def sweep(self, older_than_s: float) -> int:
        """Remove uploads on which nothing has happened for so long; how many."""
        limit, removed = time.time() - older_than_s, 0
        for path in list(self._folder.glob("*.json")) + list(self._folder.glob("*.part")):
            paths = (self.part_path(path.stem), self._sidecar_path(path.stem))
            with contextlib.suppress(FileNotFoundError):
                if max(one.stat().st_mtime for one in paths if one.exists()) < limit:
                    self._remove(path.stem)
                    removed += 1
        return removed

    # What tuspyserver asks of a storage.

    async def create(self, uid: str) -> None:
        """An empty file for a new upload."""
        await asyncio.to_thread(self._create, uid)

    async def exists(self, uid: str) -> bool:
        """Whether there is such an upload."""
        return self.sidecar(uid) is not None

    async def size(self, uid: str) -> int:
        """The offset."""
        return self.received(uid)

    async def append(self, uid: str, chunk: bytes) -> None:
        """Take bytes in; each full block goes to disk and into the hash, off the event loop."""
        arrival = self._arrival(uid)
        arrival.block += chunk
        if len(arrival.block) >= BLOCK_BYTES:
            await asyncio.to_thread(self._write_block, uid, arrival)

    async def flush(self, uid: str) -> None:
        """Everything that has been appended is on disk when this returns."""
        await asyncio.to_thread(self._write_block, uid, self._arrival(uid), durable=True)

    async def finalize(self, uid: str) -> None:
        """Nothing: sealing is done with the hash, once it has been compared."""

    async def read(self, uid: str) -> bytes | None:  # noqa: ARG002  (the library's signature)
        """Nothing: an upload may be larger than memory."""
        return None

    async def delete(self, uid: str) -> None:
        """Remove the upload."""
        await asyncio.to_thread(self._remove, uid)

    async def read_info(self, uid: str) -> dict[str, Any] | None:
        """The library's sidecar, with the offset as it is and the metadata that HEAD insists on."""
        sidecar = self.sidecar(uid)
        if sidecar is None:
            return None
        return {**sidecar.info, "offset": self.received(uid), "metadata": sidecar.metadata}

    async def write_info(self, uid: str, data: dict[str, Any]) -> None:
        """Keep the library's sidecar within ours."""
        known = self.sidecar(uid) or Sidecar(owner=self._owners.pop(uid, ""))
        await asyncio.to_thread(self._write_sidecar, uid, known.model_copy(update={"info": data}))

    async def list_uids(self) -> list[str]:
        """Every upload's id."""
        return [path.stem for path in self._folder.glob("*.json")]

    def location(self, uid: str) -> str:
        """The upload's id: nothing outside needs to know a path."""
        return uid

    @contextlib.asynccontextmanager
    async def lock(self, uid: str) -> AsyncIterator[None]:
        """One writer at a time, in this process and among web processes that share the folder."""
        arrival = self._arrival(uid)
        take = partial(
            acquire_upload_lock, str(self.part_path(uid)), str(self._folder / ".locks"), timeout=_LOCK_PATIENCE_S
        )
        try:
            async with asyncio.timeout(_LOCK_PATIENCE_S):
                await arrival.lock.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            shared = take()
            try:
                await asyncio.to_thread(shared.__enter__)
            except LockTimeoutError:
                raise _busy() from None
            try:
                await asyncio.to_thread(self._catch_up, uid, arrival)
                yield
            finally:
                await asyncio.to_thread(shared.__exit__, None, None, None)
        finally:
            arrival.lock.release()

    # Blocking work, run in threads.

    def _create(self, upload_id: str) -> None:
        with _telling_disk_full():
            self._folder.mkdir(parents=True, exist_ok=True)
            self.part_path(upload_id).touch(mode=0o600, exist_ok=False)

    def _write_block(self, upload_id: str, arrival: _Arrival, durable: bool = False) -> None:
        block = bytes(arrival.block)
        arrival.block.clear()
        try:
            # Without O_CREAT: an upload that was deleted meanwhile does not come back.
            handle = os.open(self.part_path(upload_id), os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            raise Refusal("not_found", "there is no such upload (any more)") from None
        with _telling_disk_full(), os.fdopen(handle, "wb", buffering=0) as file:
            view = memoryview(block)
            while view:
                written = file.write(view)
                arrival.sha256.update(view[:written])
                arrival.hashed_bytes += written
                view = view[written:]
            if durable:
                os.fsync(file.fileno())

    def _catch_up(self, upload_id: str, arrival: _Arrival) -> None:
        """Hash what is on disk and not in the hash yet: after a restart, or after another process' PATCH."""
        arrival.block.clear()
        if not self.part_path(upload_id).exists():
            return
        size = self.received(upload_id)
        if size < arrival.hashed_bytes:
            arrival.sha256, arrival.hashed_bytes = hashlib.sha256(), 0
        with self.part_path(upload_id).open("rb") as file:
            file.seek(arrival.hashed_bytes)
            while block := file.read(BLOCK_BYTES):
                arrival.sha256.update(block)
                arrival.hashed_bytes += len(block)

    def _write_sidecar(self, upload_id: str, sidecar: Sidecar) -> None:
        path = self._sidecar_path(upload_id)
        temporary = path.with_suffix(f".{uuid4().hex[:8]}.tmp")
        with _telling_disk_full():
            try:
                with temporary.open("w") as file:
                    json.dump(sidecar.model_dump(mode="json"), file)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def _remove(self, upload_id: str) -> None:
        self._arrivals.pop(upload_id, None)
        self.part_path(upload_id).unlink(missing_ok=True)
        self._sidecar_path(upload_id).unlink(missing_ok=True)

    def _sidecar_path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.json"

    def _arrival(self, upload_id: str) -> _Arrival:
        arrival = self._arrivals.setdefault(upload_id, _Arrival())
        self._arrivals.move_to_end(upload_id)
        for old in list(self._arrivals)[: max(0, len(self._arrivals) - _KEPT_HASHES)]:
            if not self._arrivals[old].lock.locked():
                del self._arrivals[old]
        return arrival


def _busy() -> Refusal:
    return Refusal("upload_busy", "another request is writing this upload", hint="ask for the offset and try again")


@contextlib.contextmanager
def _telling_disk_full() -> Any:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise Refusal(
                "disk_full",
                "the server's disk is full",
                hint="nothing that arrived is lost; an administrator makes room",
            ) from error
        raise
