"""Resumable uploads: tus 1.0 by tuspyserver, behind a guard that refuses before any byte is written.

What a browser or script sends goes to :class:`app.upload_storage.UploadStorage`; when the last byte is there, the file
is moved into the store under its SHA-256 and a worker is asked to look at it.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from pathlib import PurePosixPath, PureWindowsPath

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tuspyserver import create_tus_router

from app.api.errors import Refusal
from app.auth import user_of
from app.upload_storage import UploadStorage
from quant_lens_engine.errors import InputError
from worker import queue
from worker.room import check_room
from worker.settings import Settings
from worker.store import Store
from worker.store.upload_sidecar import Sidecar

PATH = "/api/v1/uploads"
TUS_VERSION = "1.0.0"
SHA256_HEADER = "Quant-Lens-Sha256"
DAYS_KEPT = 5
_EXTENSIONS = "creation,expiration,termination"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255
_METADATA_HINT = (
    "send `filename BASE64,sha256 BASE64`: keys in ASCII, values in base64 of UTF-8; sha256 may be left out"
)


class Uploads:
    """The rules of an upload: who may, how much, under which name, and what becomes of it."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.storage = UploadStorage(settings.uploads_dir)
        self._store = store
        self.settings = settings
        self._creating = asyncio.Lock()

    async def guard(self, request: Request, response: Response) -> AsyncIterator[None]:
        """Everything that can be refused by headers, before the library reads a byte."""
        # Until an upload counts: two created in the same instant would both be given the last room.
        async with self._creating if request.method == "POST" else nullcontext():
            await self._guard(request, response)
            yield

    async def _guard(self, request: Request, response: Response) -> None:
        if request.method == "OPTIONS":
            return
        if request.headers.get("tus-resumable") != TUS_VERSION:
            raise Refusal(
                "tus_version",
                f"Tus-Resumable: {TUS_VERSION} is needed",
                hint="speak tus 1.0, or use the Python client",
                headers={"Tus-Version": TUS_VERSION},
            )
        if request.method == "POST":
            await self._guard_creation(request)
            return
        upload_id = request.path_params["uuid"]
        sidecar = await self._own_sidecar(request, upload_id)
        if request.method == "PATCH":
            self._guard_patch(request, upload_id, sidecar)
        elif request.method == "HEAD" and self.storage.received(upload_id) == sidecar.length:
            response.headers[SHA256_HEADER] = await self.finish(upload_id)

    async def finish(self, upload_id: str) -> str:
        """Move a complete upload into the store; its SHA-256. Done again it changes nothing.

        Raises:
            Refusal: ``hash_mismatch``: the bytes are not those that the client announced; or ``not_found``: the file
                that it became has been deleted. The upload is removed either way, so that the client begins anew.
        """
        async with self.storage.lock(upload_id):
            sidecar = self.storage.sidecar(upload_id) or Sidecar()
            part = self.storage.part_path(upload_id)
            if sidecar.sha256 and not part.exists():
                if await run_in_threadpool(self._store.files.find, sidecar.sha256) is None:
                    await self.storage.delete(upload_id)
                    raise _no_upload()
                return sidecar.sha256
            found = sidecar.sha256 or await self.storage.digest(upload_id)
            announced = sidecar.metadata.get("sha256", found)
            if announced != found:
                await self.storage.delete(upload_id)
                raise Refusal(
                    "hash_mismatch",
                    f"the bytes have SHA-256 {found}, not the announced {announced}",
                    hint="the file changed or was damaged on the way: upload it again",
                    details={"found": found, "announced": announced},
                )
            await self.storage.seal(upload_id, found)
            filename = display_name(sidecar.metadata.get("filename", ""))
            await run_in_threadpool(queue.take_in, self._store, part, found, filename, sidecar.owner)
            return found

    async def _guard_creation(self, request: Request) -> None:
        headers = request.headers
        for unsupported in ("upload-defer-length", "upload-concat"):
            if unsupported in headers:
                raise Refusal("bad_request", f"{unsupported} is not supported", hint="announce Upload-Length")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            raise Refusal("bad_request", "bytes are sent by PATCH, after the upload has been created")
        length = _whole_number(headers.get("upload-length"), "Upload-Length")
        metadata = read_metadata(headers.get("upload-metadata", ""))
        display_name(metadata.get("filename", ""))
        if not _SHA256.fullmatch(metadata.get("sha256", "0" * 64)):
            raise Refusal("bad_metadata", "sha256 is not 64 lower-case hexadecimal digits", hint=_METADATA_HINT)
        if length == 0:
            raise Refusal("empty_file", "the file is empty", hint="a checkpoint or data file has at least some bytes")
        await run_in_threadpool(self._guard_room, user_of(request).name, length)

    def _guard_room(self, owner: str, length: int) -> None:
        try:
            check_room(self._store, owner, length)
        except InputError as error:  # the library lets only its own exceptions pass
            raise Refusal(error.code, error.message, hint=error.hint, details=error.details) from None

    async def _own_sidecar(self, request: Request, upload_id: str) -> Sidecar:
        sidecar = await run_in_threadpool(self.storage.sidecar, upload_id)
        if sidecar is None or sidecar.owner != user_of(request).name:
            raise _no_upload()
        return sidecar

    def _guard_patch(self, request: Request, upload_id: str, sidecar: Sidecar) -> None:
        headers = request.headers
        if headers.get("content-type") != "application/offset+octet-stream":
            raise Refusal("bad_content_type", "Content-Type: application/offset+octet-stream is needed")
        if "content-length" not in headers:
            raise Refusal("length_required", "Content-Length is needed", hint="send the file in chunks of known length")
        chunk = _whole_number(headers["content-length"], "Content-Length")
        offset = _whole_number(headers.get("upload-offset"), "Upload-Offset")
        received = self.storage.received(upload_id)
        if offset != received:
            raise Refusal(
                "offset_mismatch",
                f"the chunk begins at byte {offset:,}, but {received:,} bytes have arrived",
                hint="ask for the offset with HEAD and go on from there",
                details={"offset": received},
            )
        if offset + chunk > sidecar.length:
            raise Refusal(
                "chunk_too_large",
                f"the chunk ends at byte {offset + chunk:,}, past the announced {sidecar.length:,}",
                hint="send no more than was announced",
            )


def uploads_router(uploads: Uploads) -> APIRouter:
    """``/api/v1/uploads``."""

    async def placing(request: Request) -> Callable[[dict[str, str]], dict[str, str] | None]:
        creates = request.method == "POST"
        return lambda _: {"uid": uploads.storage.begin(user_of(request).name)} if creates else None

    async def completing(response: Response) -> Callable[[str, dict[str, str]], Awaitable[None]]:
        async def complete(upload_id: str, _: dict[str, str]) -> None:
            response.headers[SHA256_HEADER] = await uploads.finish(upload_id)

        return complete

    router = APIRouter(tags=["uploads"])

    @router.options(PATH, status_code=204)
    @router.options(PATH + "/", status_code=204, include_in_schema=False)
    async def describe_uploads() -> Response:
        """Which tus, which of its extensions, and how large a file may be."""
        facts = {"Tus-Version": TUS_VERSION, "Tus-Resumable": TUS_VERSION, "Tus-Extension": _EXTENSIONS}
        size = {"Tus-Max-Size": str(uploads.settings.max_upload_bytes)}
        return Response(status_code=204, headers=facts | size)

    router.include_router(
        create_tus_router(
            prefix=PATH,
            max_size=uploads.settings.max_upload_bytes,
            days_to_keep=DAYS_KEPT,
            upload_complete_dep=completing,
            file_dep=placing,
            storage=uploads.storage,
            tags=["uploads"],
        ),
        dependencies=[Depends(uploads.guard)],
    )
    return router


async def sweep_uploads(uploads: Uploads, every_s: float = 3600.0) -> None:
    """Remove uploads on which nothing has happened for days; runs as long as the server does."""
    while True:
        await run_in_threadpool(uploads.storage.sweep, DAYS_KEPT * 86400.0)
        await asyncio.sleep(every_s)


def read_metadata(header: str) -> dict[str, str]:
    """``Upload-Metadata`` decoded.

    Raises:
        Refusal: ``bad_metadata``: a value that is not base64 of UTF-8.

    Example:
        >>> read_metadata("filename bW9kZWwucHQ=,private")
        {'filename': 'model.pt', 'private': ''}
    """
    pairs = (item.strip().partition(" ") for item in header.split(",") if item.strip())
    try:
        return {key: base64.b64decode(value.strip(), validate=True).decode() for key, _, value in pairs}
    except ValueError:  # not base64, not UTF-8, or a header that is no ASCII
        raise Refusal("bad_metadata", "Upload-Metadata is not base64 of UTF-8", hint=_METADATA_HINT) from None


def display_name(filename: str) -> str:
    """A file's name as it is shown: its last part. It never becomes part of a path here.

    Raises:
        Refusal: ``bad_filename``: empty, too long, or with control characters in it.

    Example:
        >>> display_name("../模型.pt")
        '模型.pt'
    """
    name = PurePosixPath(PureWindowsPath(filename).as_posix()).name
    if not name or name == "..":
        raise Refusal("bad_filename", "the file has no name", hint="send the filename in Upload-Metadata")
    if len(name) > _LONGEST_NAME:
        raise Refusal("bad_filename", f"the file's name has {len(name)} characters", hint=f"{_LONGEST_NAME} at most")
    if not name.isprintable():
        raise Refusal("bad_filename", "the file's name has control characters in it", hint="rename the file")
    return name


def _no_upload() -> Refusal:
    return Refusal("not_found", "there is no such upload", hint="it was finished and tidied away, or never begun")


def _whole_number(text: str | None, header: str) -> int:
    if text is None or len(text) > 18 or not (text.isascii() and text.isdigit()):
        raise Refusal("bad_request", f"{header} is missing or not a whole number")
    return int(text)


class RelativeLocation:
    """ASGI middleware: a new upload's ``Location`` is a path, right behind any proxy and whatever ``Host`` says."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back."""

        async def relative(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                _, found, upload_id = headers.get("location", "").rpartition(PATH + "/")
                if found:
                    headers["location"] = scope.get("root_path", "") + PATH + "/" + upload_id
            await send(message)

        inside = scope["type"] == "http" and scope["path"].startswith(PATH)
        await self._app(scope, receive, relative if inside else send)
