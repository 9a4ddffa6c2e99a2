"""The one gate: every request and websocket passes it, Dash's own routes and the uploads included.

In this order: is it asked under our own name, does it come from our own pages, who is asking. Outside of all other
middleware, so that nothing is read from a request that is refused; and every answer leaves with the security headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import quote

from redis.exceptions import RedisError
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import error_response, fault_response
from app.auth.headers import security_headers
from app.auth.identity import Sessions, authenticate
from app.auth.origin import refuse_foreign_origin, refuse_unknown_host
from quant_lens_engine.errors import InputError, QuantLensError
from worker.settings import Settings
from worker.store import Store

_OPEN_PATHS = frozenset({"/login", "/healthz", "/readyz", "/api/v1/healthz", "/api/v1/readyz"})
_OPEN_FOLDERS = ("/assets/",)
_MACHINE_FOLDERS = ("/api/", "/_dash-", "/metrics")


class Gate:
    """ASGI middleware that lets a request in, or answers it.

    Args:
        app: what is behind the gate.
        store: knows the users.
        settings: ``auth``, ``allow_open`` and ``allowed_hosts``.
        sessions: reads the cookies.
        script_hashes: hashes of the pages' inline scripts, asked for once the pages are complete.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: Store,
        settings: Settings,
        sessions: Sessions,
        script_hashes: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._app = app
        self._store = store
        self._settings = settings
        self._sessions = sessions
        self._script_hashes = script_hashes
        self._headers: dict[str, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        answered = _Answered(send, self._security_headers())
        try:
            refusal = await self._refusal(connection)
            if refusal is not None:
                await refusal(scope, receive, answered)
                return
            await self._app(scope, receive, answered)
        except Exception as error:
            if answered.started or scope["type"] != "http":
                raise
            await fault_response(error)(scope, receive, answered)

    async def _refusal(self, connection: HTTPConnection) -> Response | None:
        settings = self._settings
        if settings.auth == "none" and not settings.allow_open:
            unknown = refuse_unknown_host(connection.headers, (settings.host, *settings.allowed_hosts))
            if unknown is not None:
                return error_response(unknown)
        method = connection.scope.get("method", "WEBSOCKET")
        foreign = refuse_foreign_origin(method, connection.headers, settings.allowed_hosts)
        if foreign is not None:
            return error_response(foreign)
        if _is_open(connection.scope["path"]):
            return None
        try:
            user = await authenticate(connection, self._store, settings, self._sessions)
        except (QuantLensError, RedisError, OSError):
            away = InputError("The store does not answer.", code="store_unavailable", hint="try again in a few seconds")
            return error_response(away, headers={"Retry-After": "3"})
        connection.scope.setdefault("state", {})["user"] = user
        return _ask_to_sign_in(connection) if user is None else None

    def _security_headers(self) -> dict[str, str]:
        if self._headers is None:
            self._headers = security_headers(self._script_hashes())
        return self._headers


class _Answered:
    """A ``send`` that adds headers, and remembers whether an answer has begun."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send = send
        self._headers = headers
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)


def _is_open(path: str) -> bool:
    return path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS)


def _is_for_programs(connection: HTTPConnection) -> bool:
    path: str = connection.scope["path"]
    return connection.scope["type"] == "websocket" or path.startswith(_MACHINE_FOLDERS)


def _ask_to_sign_in(connection: HTTPConnection) -> Response:
    method = connection.scope.get("method")
    if method == "GET" and not _is_for_programs(connection):
        path = connection.scope["path"]
        query = connection.scope.get("query_string", b"").decode("latin-1")
        return RedirectResponse(f"/login?next={quote(f'{path}?{query}' if query else path)}", status_code=303)
    unauthenticated = InputError(
        "sign in first, or send a token that is valid",
        code="unauthenticated",
        hint="Authorization: Bearer TOKEN; an administrator makes one with `quant-lens token create NAME`",
    )
    return error_response(unauthenticated, headers={"WWW-Authenticate": "Bearer"})
