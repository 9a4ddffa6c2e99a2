"""From a request to the user who makes it: a Bearer token, a session cookie, or the one local user."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from worker.settings import Settings
from worker.store import Store, User

LOCAL_USER = User(name="local", admin=True)
"""Who everyone is on a server without sign-in."""

SESSION_COOKIE = "quant_lens_session"
SESSION_AGE_S = 14 * 24 * 3600


class Sessions:
    """Session cookies: signed, and good only as long as the token that they were given for.

    A cookie holds the SHA-256 of the token, as the store does: it cannot be turned back into the token, and a revoked
    token ends its sessions at once.
    """

    def __init__(self, secret_key: str) -> None:
        self._serializer = URLSafeTimedSerializer(secret_key, salt="quant-lens-session")

    def issue(self, token: str) -> str:
        """The cookie's value for a token that has been checked."""
        return self._serializer.dumps(hashlib.sha256(token.encode()).hexdigest())

    def token_sha256(self, cookies: Mapping[str, str]) -> str | None:
        """The token's hash from the cookie; None where there is none, or it is not ours, or too old."""
        cookie = cookies.get(SESSION_COOKIE)
        if not cookie:
            return None
        try:
            value = self._serializer.loads(cookie, max_age=SESSION_AGE_S)
        except BadSignature:
            return None
        return value if isinstance(value, str) else None


async def authenticate(connection: HTTPConnection, store: Store, settings: Settings, sessions: Sessions) -> User | None:
    """The user of a request or websocket; None where the credentials are missing or wrong.

    A Bearer token goes before the cookie, so that a script is never taken for its browser.
    """
    if settings.auth == "none":
        return LOCAL_USER
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return await run_in_threadpool(store.users.authenticate, token.strip())
    token_sha256 = sessions.token_sha256(connection.cookies)
    if token_sha256 is None:
        return None
    return await run_in_threadpool(store.users.find_by_token_hash, token_sha256)
