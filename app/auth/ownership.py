"""Every member sees every run and finished file; only the owner or an administrator changes or deletes."""

from __future__ import annotations

from fastapi import Request

from quant_lens_engine.errors import InputError
from worker.store import User


def user_of(request: Request) -> User:
    """The user of the request, as the gate found them.

    Raises:
        InputError: ``unauthenticated``, where the gate let a request in without one.
    """
    user = request.scope.get("state", {}).get("user")
    if not isinstance(user, User):
        raise InputError("sign in first", code="unauthenticated", hint="send Authorization: Bearer TOKEN")
    return user


def require_owner(user: User, owner: str, what: str) -> None:
    """Let the owner and administrators pass.

    Args:
        user: who asks.
        owner: whose it is.
        what: named in the refusal, as in ``"run 4f2a"``.

    Raises:
        InputError: ``forbidden``.
    """
    if user.admin or user.name == owner:
        return
    raise InputError(
        f"{what} belongs to {owner}", code="forbidden", hint=f"ask {owner} or an administrator, or make your own run"
    )
