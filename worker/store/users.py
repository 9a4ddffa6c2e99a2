"""Who may use the server, for ``QUANT_LENS_AUTH=token``. A token is shown once; only its SHA-256 is kept."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Any

from quant_lens_engine.errors import InputError
from quant_lens_engine.schema import Record
from worker.store import keys
from worker.store.clock import iso, server_time
from worker.store.connection import Client
from worker.store.errors import NotFound

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
TOKEN_PREFIX = "ql_"


class User(Record):
    """Someone with a token; an administrator may change what others own."""

    name: str
    admin: bool = False
    tokens: int = 0
    created_at: str = ""


class Users:
    """The users and their tokens."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create_token(self, name: str, admin: bool = False) -> str:
        """A new token for ``name``; the user is made with the first one. ``admin`` holds for all of a user's tokens.

        Raises:
            InputError: ``bad_user_name``.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name[:80]!r} cannot be a user's name", hint="letters, digits and . _ @ -", code="bad_user_name"
            )
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        known = self._client.hget(keys.USERS, name)
        user: dict[str, Any] = json.loads(known) if known else {"tokens": [], "created_at": server_time(self._client)}
        user["tokens"].append(_hash(token))
        user["admin"] = admin
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(keys.USERS, name, json.dumps(user))
            pipe.set(keys.token(_hash(token)), name)
            pipe.execute()
        return token

    def authenticate(self, token: str) -> User | None:
        """Whose token this is; None for a token that is not, or no longer, one of ours."""
        return self.find_by_token_hash(_hash(token))

    def find_by_token_hash(self, token_sha256: str) -> User | None:
        """Whose token has this SHA-256, or None once revoked: what a session cookie is checked against."""
        name = self._client.get(keys.token(token_sha256))
        return None if name is None else self.find(name)

    def find(self, name: str) -> User | None:
        """The user of that name, or None (also once revoked)."""
        known = self._client.hget(keys.USERS, name)
        return None if known is None else _user(name, known)

    def list(self) -> list[User]:
        """Everyone, by name."""
        return [_user(name, known) for name, known in sorted(self._client.hgetall(keys.USERS).items())]

    def revoke(self, name: str) -> None:
        """End all tokens of a user. What the user owns stays.

        Raises:
            NotFound: there is no such user.
        """
        known = self._client.hget(keys.USERS, name)
        if known is None:
            raise NotFound(f"there is no user {name[:80]!r}", code="user_not_found")
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hdel(keys.USERS, name)
            pipe.delete(*(keys.token(token_hash) for token_hash in json.loads(known)["tokens"]))
            pipe.execute()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _user(name: str, known: str) -> User:
    user = json.loads(known)
    return User(name=name, admin=user["admin"], tokens=len(user["tokens"]), created_at=iso(user["created_at"]) or "")
