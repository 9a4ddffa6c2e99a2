"""Requests that another site makes a browser send are refused before anything else looks at them.

Two attacks: a foreign page posts to this server with the user's cookie, or with nothing at all where there is no
sign-in (checked by ``Origin`` and ``Sec-Fetch-Site``); and a foreign page whose name is made to resolve to 127.0.0.1
reads from it (DNS rebinding, checked by ``Host``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from quant_lens_engine.errors import InputError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Whether a host name can only mean this machine.

    Example:
        >>> [is_loopback(name) for name in ("localhost", "127.0.0.5", "::1", "evil.example", "0.0.0.0")]
        [True, True, True, False, False]
    """
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def refuse_unknown_host(headers: Mapping[str, str], allowed: Collection[str] = ()) -> InputError | None:
    """The refusal of a ``Host`` that is not this machine's own name, for a server without sign-in."""
    given = headers.get("host", "")
    host = _host_name(f"//{given}")
    if is_loopback(host) or host in allowed:
        return None
    return InputError(
        f"this server answers on its own machine only, not as {given!r}",
        code="unknown_host",
        hint="open http://127.0.0.1, or set QUANT_LENS_AUTH=token to serve others",
    )


def refuse_foreign_origin(method: str, headers: Mapping[str, str], allowed: Collection[str] = ()) -> InputError | None:
    """The refusal of a request that changes something and comes from another site's page.

    Args:
        method: of the request; ``"WEBSOCKET"`` for a websocket. Safe methods pass, unless they name another one.
        headers: lower-case names.
        allowed: host names that are our own too: what a proxy that rewrites ``Host`` shows to browsers.

    Example:
        >>> refuse_foreign_origin("POST", {"host": "a:1", "origin": "http://b:1"}).code
        'foreign_origin'
    """
    if method in SAFE_METHODS and "x-http-method-override" not in headers:
        return None
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None:
        if _netloc(origin) == headers.get("host") or _host_name(origin) in allowed:
            return None
    elif site in (None, "same-origin", "none"):
        return None
    return InputError(
        f"a page of another site ({origin or site}) may not do this",
        code="foreign_origin",
        hint="use Quant Lens from its own address",
    )


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
