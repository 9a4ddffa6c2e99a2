"""A body that is held in memory has an end; uploads, which are not, have their own."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import Refusal, error_response

LIMIT_BYTES = 16 << 20


class BodyLimit:
    """ASGI middleware that refuses a body over the limit: by its announced length, or while it comes.

    Args:
        app: what reads the body.
        streamed: the folder of paths whose bodies are not held in memory.
        limit_bytes: of any other body.
    """

    def __init__(self, app: ASGIApp, streamed: str, limit_bytes: int = LIMIT_BYTES) -> None:
        self._app = app
        self._streamed = streamed
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass the request on."""
        if scope["type"] != "http" or scope["path"].startswith(self._streamed):
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced[:18]) > self._limit_bytes:
            await error_response(self._refusal().error)(scope, receive, send)
            return
        received, answering = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit_bytes:
                raise self._refusal()
            return message

        # What is inside may make an answer of its own of the refusal (Dash does): it is held back.
        async def watched(message: Message) -> None:
            nonlocal answering
            if answering or received <= self._limit_bytes:
                answering = True
                await send(message)

        try:
            await self._app(scope, counted, watched)
        except Refusal:
            if received <= self._limit_bytes:
                raise
        if received > self._limit_bytes and not answering:
            await error_response(self._refusal().error)(scope, receive, send)

    def _refusal(self) -> Refusal:
        return Refusal("too_large", f"the body has more than {self._limit_bytes:,} bytes", hint="files go to /uploads")
